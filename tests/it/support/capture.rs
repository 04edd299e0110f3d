//! Captures the log of a test: records lines, waits for an event, and fails the test on an ERROR that it did not
//! announce.
//!
//! There are two sources. [`Capture::here`] records the events of this thread, and [`Capture::dispatch`] those of
//! threads that the test starts. [`Capture::of_process`] reads the JSON lines of a child process.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::subscriber::DefaultGuard;
use tracing::{Dispatch, Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};

/// Longest wait for a line.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Keeps a second subscriber alive.
///
/// With a single subscriber, `tracing` caches for all threads the interest of the first thread that reaches a log
/// statement. If that thread belongs to a test without a subscriber, the statement is disabled for all tests. With two
/// subscribers `tracing` asks both.
fn keep_interest_alive() {
    static SECOND: OnceLock<Dispatch> = OnceLock::new();
    SECOND.get_or_init(|| Dispatch::new(tracing_subscriber::registry()));
}

/// A line of the log.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// The field `event`; empty for a line of a library.
    pub name: String,
    pub level: Level,
    pub message: String,
    /// All other fields.
    pub fields: BTreeMap<String, Value>,
}

impl Line {
    /// Returns a field as text; numbers in their JSON form. Fails the test if the field is missing.
    #[track_caller]
    pub fn text(&self, field: &str) -> String {
        match self.fields.get(field) {
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
            None => panic!("{} has no field {field}: {self:?}", self.name),
        }
    }

    /// Returns an integer field. Fails the test if the field is missing.
    #[track_caller]
    pub fn integer(&self, field: &str) -> i64 {
        let found = self.fields.get(field).and_then(Value::as_i64);
        found.unwrap_or_else(|| panic!("{} has no integer {field}: {self:?}", self.name))
    }
}

/// The log of one test. When it is dropped, an ERROR that was not announced fails the test.
pub struct Capture {
    log: Arc<Log>,
    dispatch: Option<Dispatch>,
    _here: Option<DefaultGuard>,
}

#[derive(Default)]
struct Log {
    content: Mutex<Content>,
    grew: Condvar,
    grew_async: tokio::sync::Notify,
}

#[derive(Default)]
struct Content {
    lines: Vec<Line>,
    announced: Vec<&'static str>,
    /// The test looks at the ERRORs itself.
    permits_errors: bool,
    /// Lines of a child process that are not log lines.
    noise: Vec<String>,
    /// No further line can follow.
    ended: bool,
}

impl Capture {
    /// Records the events of this thread until the capture is dropped.
    #[must_use]
    pub fn here() -> Capture {
        let mut capture = Capture::elsewhere();
        capture._here = capture.dispatch.as_ref().map(tracing::dispatcher::set_default);
        capture
    }

    /// Records the events of threads that use [`Capture::dispatch`].
    #[must_use]
    pub fn elsewhere() -> Capture {
        keep_interest_alive();
        let log = Arc::new(Log::default());
        let dispatch = Dispatch::new(tracing_subscriber::registry().with(Recorder(log.clone())));
        Capture { log, dispatch: Some(dispatch), _here: None }
    }

    /// Reads the JSON lines of a process on another thread, until they end.
    #[must_use]
    pub fn of_process(stdout: impl Read + Send + 'static) -> Capture {
        let log = Arc::new(Log::default());
        let reading = log.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                match parse(&line) {
                    Some(line) => reading.push(line),
                    None => reading.lock().noise.push(line),
                }
            }
            reading.lock().ended = true;
            reading.grew.notify_all();
        });
        Capture { log, dispatch: None, _here: None }
    }

    /// Returns the subscriber for a thread that the test starts: `let _guard =
    /// tracing::dispatcher::set_default(&dispatch);` on it.
    #[must_use]
    pub fn dispatch(&self) -> Dispatch {
        self.dispatch.clone().expect("the lines of a child process come from its standard output")
    }

    /// Announces an ERROR, which then does not fail the test.
    pub fn announce(&self, name: &'static str) {
        self.log.lock().announced.push(name);
    }

    /// No ERROR fails the test by itself: it looks at them.
    pub fn permit_errors(&self) {
        self.log.lock().permits_errors = true;
    }

    /// Returns all lines so far, in order.
    #[must_use]
    pub fn all(&self) -> Vec<Line> {
        self.log.lock().lines.clone()
    }

    /// Returns all lines of this name so far.
    #[must_use]
    pub fn lines(&self, name: &str) -> Vec<Line> {
        self.log.lock().lines.iter().filter(|line| line.name == name).cloned().collect()
    }

    /// Returns the lines of a child process that are not log lines. Complete once the process has ended.
    #[must_use]
    pub fn noise(&self) -> Vec<String> {
        self.log.lock().noise.clone()
    }

    /// Waits for a line of this name, and returns the first one. Fails the test after [`PATIENCE`], or when no further
    /// line can follow.
    #[track_caller]
    pub fn wait_for(&self, name: &str) -> Line {
        self.wait_for_match(name, |_| true)
    }

    /// Waits for a line of this name that `matches`, and returns the first one.
    #[track_caller]
    pub fn wait_for_match(&self, name: &str, matches: impl Fn(&Line) -> bool) -> Line {
        let found = |content: &Content| content.lines.iter().find(|line| line.name == name && matches(line)).cloned();
        let content = self.log.lock();
        let waited = self
            .log
            .grew
            .wait_timeout_while(content, PATIENCE, |content| found(content).is_none() && !content.ended)
            .unwrap_or_else(PoisonError::into_inner);
        let found = found(&waited.0);
        drop(waited);
        found.unwrap_or_else(|| panic!("no {name} came; the log was\n{self:?}"))
    }

    /// [`Capture::wait_for`] for a test on one thread: other tasks continue, and a paused clock advances.
    pub async fn appears(&self, name: &str) -> Line {
        let first = async {
            loop {
                let grew = self.log.grew_async.notified();
                if let Some(line) = self.lines(name).into_iter().next() {
                    return line;
                }
                grew.await;
            }
        };
        let found = tokio::time::timeout(PATIENCE, first).await;
        found.unwrap_or_else(|_| panic!("no {name} came; the log was\n{self:?}"))
    }

    fn unannounced(&self) -> Vec<Line> {
        let content = self.log.lock();
        let failed = content.lines.iter().filter(|line| line.level == Level::ERROR);
        failed
            .filter(|line| !content.permits_errors && !content.announced.contains(&line.name.as_str()))
            .cloned()
            .collect()
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        let unannounced = self.unannounced();
        if !unannounced.is_empty() && !std::thread::panicking() {
            panic!("the log has an ERROR that the test did not announce: {unannounced:#?}");
        }
    }
}

impl fmt::Debug for Capture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.log.lock().lines {
            writeln!(f, "{} {} {:?}", line.level, line.name, line.fields)?;
        }
        Ok(())
    }
}

impl Log {
    fn lock(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, line: Line) {
        self.lock().lines.push(line);
        self.grew.notify_all();
        self.grew_async.notify_waiters();
    }
}

/// Parses a JSON line; returns `None` if it is not a log line.
#[must_use]
pub fn parse(line: &str) -> Option<Line> {
    let Value::Object(object) = serde_json::from_str(line).ok()? else { return None };
    let mut fields: BTreeMap<String, Value> = object.into_iter().collect();
    let mut take = |name: &str| fields.remove(name).and_then(|value| value.as_str().map(str::to_owned));
    let (name, level, message) = (take("event")?, take("level")?.parse().ok()?, take("message")?);
    take("timestamp")?;
    take("target")?;
    Some(Line { name, level, message, fields })
}

struct Recorder(Arc<Log>);

impl<S: Subscriber> Layer<S> for Recorder {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let mut text = |name: &str| match fields.0.remove(name) {
            Some(Value::String(text)) => text,
            _ => String::new(),
        };
        let (name, message) = (text("event"), text("message"));
        self.0.push(Line { name, level: *event.metadata().level(), message, fields: fields.0 });
    }
}

#[derive(Default)]
struct Fields(BTreeMap<String, Value>);

impl Fields {
    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value);
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}"));
    }
}
