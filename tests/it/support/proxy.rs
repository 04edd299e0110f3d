//! Injects network faults: a proxy in front of a broker that parses Kafka's frames.
//!
//! Clients connect through [`ProxiedBroker::through`], and the broker advertises the proxy's address. Tests connect
//! with [`ProxiedBroker::direct`]. Every request passes, unless a rule exists for the next request of its API. A rule
//! holds the request, drops it, or drops its response. Each rule catches one request, on any connection. The rules of
//! an API apply in the order in which they were added.
//!
//! A connection has one thread per direction. A held request blocks later requests on its connection, as in a real
//! network. If its client disconnects, the connection to the broker stays open until the request is released and
//! answered. That simulates a delayed packet that ends the wrong transaction.
//!
//! Absent on purpose: time. A request is held until the test releases it.

mod frame;

use std::collections::{BTreeMap, VecDeque};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::broker::Broker;
use super::kafka::Kafka;
use super::wait::{Deadline, PATIENCE};
use frame::{Head, error_in, remove_brokers, set_error};

pub use frame::{Api, read_frame, write_frame};

/// Number of responses that are kept.
const MAX_ANSWERS: usize = 10_000;

/// A broker of its own, and the proxy in front of it.
pub struct ProxiedBroker {
    /// Dropped first, so that no held request blocks the broker's end.
    pub proxy: Proxy,
    pub broker: Broker,
}

impl ProxiedBroker {
    /// Starts broker and proxy.
    pub fn start() -> ProxiedBroker {
        ProxiedBroker::with(&[])
    }

    /// Starts broker and proxy, with additional lines in the broker's server.properties.
    pub fn with(properties: &[(&str, &str)]) -> ProxiedBroker {
        let proxy = Proxy::listen();
        let broker = Broker::advertised_at(proxy.port, properties);
        proxy.forward_to(&broker.address_behind());
        ProxiedBroker { proxy, broker }
    }

    /// Returns a client that does not use the proxy.
    pub fn direct(&self) -> Kafka {
        self.broker.kafka()
    }

    /// Returns a client that uses the proxy.
    pub fn through(&self) -> Kafka {
        Kafka::at(&format!("127.0.0.1:{}", self.proxy.port))
    }
}

/// The broker's code for too few replicas in sync.
pub const NOT_ENOUGH_REPLICAS: i16 = 19;
pub const CONCURRENT_TRANSACTIONS: i16 = 51;

/// What the client of a held request observes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientSees {
    /// No response. The client waits until its own timeout.
    Silence,
    /// A closed connection.
    Close,
}

/// What a rule does with its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RuleAction {
    Hold(ClientSees),
    /// Nothing. Later rules apply to later requests.
    Pass,
    /// Drops the request, and closes the connection.
    DropRequest,
    /// Forwards the request, and closes the connection when the broker responds.
    DropAnswer,
}

/// A response of the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answered {
    pub api: Api,
    /// The error code, 0 for success; `None` if the proxy does not parse responses of this API.
    pub error: Option<i16>,
}

/// The progress of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The request has not arrived yet.
    Armed,
    /// The request has arrived. If only the response is dropped, the request is forwarded.
    Caught,
    /// The test has released the request.
    Released,
    /// The broker has responded.
    Answered(Option<i16>),
    /// The request was dropped, or its connection ended without a response.
    Gone,
}

struct Rule {
    api: Api,
    action: RuleAction,
    stage: Stage,
    /// The index of the request among all caught requests.
    index: Option<usize>,
}

// ------------------------------------------------------------------------------------------------------------- proxy

/// Dropping the proxy closes every connection and ends all threads.
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    upstream: Option<String>,
    rules: Vec<Rule>,
    requests: BTreeMap<Api, usize>,
    answers: VecDeque<Answered>,
    /// The errors that replace those of all responses of these APIs.
    errors: BTreeMap<Api, i16>,
    /// How much later than they arrive requests of these APIs are forwarded.
    delays: BTreeMap<Api, Duration>,
    /// Whether metadata is answered as by a broker that counts as dead.
    hides_brokers: bool,
    /// Number of topics in such responses.
    topics_without_brokers: usize,
    /// Both streams of each open connection, so that they can be closed from outside.
    connections: BTreeMap<usize, [TcpStream; 2]>,
    is_over: bool,
}

impl Proxy {
    fn listen() -> Proxy {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port is free");
        let port = listener.local_addr().expect("the listener is bound").port();
        let shared = Arc::new(Shared::default());
        let acceptor = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        });
        Proxy { port, shared, acceptor: Some(acceptor) }
    }

    fn forward_to(&self, address: &str) {
        self.shared.lock().upstream = Some(address.to_owned());
    }

    /// Holds the next request of this API until the test releases it.
    pub fn hold(&self, api: Api, client: ClientSees) -> Caught {
        self.add_rule(api, RuleAction::Hold(client))
    }

    /// Lets the next request of this API pass, so that later rules apply to later requests.
    pub fn let_pass(&self, api: Api) -> Caught {
        self.add_rule(api, RuleAction::Pass)
    }

    /// Drops the next request of this API, and closes its connection.
    pub fn drop_request(&self, api: Api) -> Caught {
        self.add_rule(api, RuleAction::DropRequest)
    }

    /// Closes the connection of the next request of this API when the broker responds.
    pub fn drop_answer(&self, api: Api) -> Caught {
        self.add_rule(api, RuleAction::DropAnswer)
    }

    /// Replaces the error codes of all responses of this API, until it is called with `None`. The broker has done what
    /// was requested nevertheless; the client does not learn of it.
    pub fn refuse(&self, api: Api, error: Option<i16>) {
        let mut state = self.shared.lock();
        match error {
            Some(error) => drop(state.errors.insert(api, error)),
            None => drop(state.errors.remove(&api)),
        }
    }

    /// Forwards each request of this API later, with all that follows on its connection, like a slow broker.
    pub fn delay(&self, api: Api, delay: Duration) {
        self.shared.lock().delays.insert(api, delay);
    }

    /// Removes all brokers from the responses to metadata requests, until it is called with `false`: the broker counts
    /// itself as dead, as it does for a moment after it was suspended for longer than its session with the controller.
    pub fn hide_brokers(&self, hides: bool) {
        self.shared.lock().hides_brokers = hides;
    }

    /// Returns the number of topics in the responses whose brokers were removed.
    pub fn topics_without_brokers(&self) -> usize {
        self.shared.lock().topics_without_brokers
    }

    /// Closes every connection, like a broken network. New connections are accepted immediately.
    pub fn cut(&self) {
        for stream in self.shared.lock().connections.values().flatten() {
            // The connection may have ended already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Returns the number of requests of this API so far.
    pub fn requests(&self, api: Api) -> usize {
        self.shared.lock().requests.get(&api).copied().unwrap_or(0)
    }

    /// Returns the error codes of the responses of this API, the newest last.
    pub fn answers(&self, api: Api) -> Vec<Option<i16>> {
        self.shared.lock().answers.iter().filter(|answer| answer.api == api).map(|answer| answer.error).collect()
    }

    fn add_rule(&self, api: Api, action: RuleAction) -> Caught {
        let mut state = self.shared.lock();
        state.rules.push(Rule { api, action, stage: Stage::Armed, index: None });
        Caught { shared: Arc::clone(&self.shared), rule: state.rules.len() - 1 }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.change(|state| {
            state.is_over = true;
            for stream in state.connections.values().flatten() {
                // The connection may have ended already.
                let _ = stream.shutdown(Shutdown::Both);
            }
        });
        // Wakes the acceptor. This fails if the acceptor has ended.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
        if let Some(acceptor) = self.acceptor.take() {
            // A panic of the acceptor has been printed already.
            let _ = acceptor.join();
        }
    }
}

/// The request of a rule, whether it has arrived or not.
pub struct Caught {
    shared: Arc<Shared>,
    rule: usize,
}

impl Caught {
    /// Waits until the request has arrived.
    #[track_caller]
    pub fn wait(&self) {
        self.wait_for("the request", |stage| (stage != Stage::Armed).then_some(()));
    }

    /// Returns whether the request has arrived.
    pub fn has_come(&self) -> bool {
        self.shared.lock().rules[self.rule].stage != Stage::Armed
    }

    /// Returns whether both requests have arrived, this one first.
    pub fn came_before(&self, other: &Caught) -> bool {
        let state = self.shared.lock();
        let [this, other] = [self, other].map(|caught| state.rules[caught.rule].index);
        this.is_some_and(|this| other.is_some_and(|other| this < other))
    }

    /// Forwards the held request, and returns the error code of the response: 0 for success, `None` if the proxy does
    /// not parse responses of this API.
    #[track_caller]
    pub fn release(&self) -> Option<i16> {
        self.wait();
        self.shared.change(|state| {
            let stage = &mut state.rules[self.rule].stage;
            assert_eq!(*stage, Stage::Caught, "a request is released once, while it is held");
            *stage = Stage::Released;
        });
        self.answer()
    }

    /// Forwards the request if it is held, and removes the rule if the request has not arrived. Returns whether the
    /// request had arrived.
    pub fn release_or_cancel(&self) -> bool {
        self.shared.change(|state| {
            let stage = &mut state.rules[self.rule].stage;
            let had_come = *stage != Stage::Armed;
            *stage = match *stage {
                Stage::Armed => Stage::Gone,
                Stage::Caught => Stage::Released,
                Stage::Released | Stage::Answered(_) | Stage::Gone => *stage,
            };
            had_come
        })
    }

    /// Waits for the response, and returns its error code as [`Caught::release`] does.
    #[track_caller]
    pub fn answer(&self) -> Option<i16> {
        self.wait_for("the broker's response", |stage| match stage {
            Stage::Answered(error) => Some(error),
            Stage::Gone => panic!("the request got no response"),
            Stage::Armed | Stage::Caught | Stage::Released => None,
        })
    }

    #[track_caller]
    fn wait_for<T>(&self, what: &str, find: impl Fn(Stage) -> Option<T>) -> T {
        let deadline = Deadline::after(PATIENCE);
        let mut state = self.shared.lock();
        loop {
            let rule = &state.rules[self.rule];
            if let Some(found) = find(rule.stage) {
                return found;
            }
            assert!(!deadline.passed(), "timed out waiting for {what}: {:?} {:?}", rule.api, rule.stage);
            let waited = self.shared.changed.wait_timeout(state, deadline.left());
            (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A poisoned lock is valid: a failed assertion of a test leaves no partial change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.lock());
        self.changed.notify_all();
        result
    }

    /// Counts the request, and returns the rule that catches it.
    fn arrived(&self, api: Api) -> Option<(usize, RuleAction)> {
        self.change(|state| {
            *state.requests.entry(api).or_default() += 1;
            let caught = state.rules.iter().filter(|rule| rule.index.is_some()).count();
            let is_next = |rule: &Rule| rule.api == api && rule.stage == Stage::Armed;
            let position = state.rules.iter_mut().enumerate().find(|(_, rule)| is_next(rule));
            position.map(|(at, rule)| {
                rule.stage = Stage::Caught;
                rule.index = Some(caught);
                (at, rule.action)
            })
        })
    }

    /// Waits until the test releases the request; returns false if the proxy ends first.
    fn waits_for_release(&self, rule: usize) -> bool {
        let is_held = |state: &mut State| state.rules[rule].stage == Stage::Caught && !state.is_over;
        let state = self.changed.wait_while(self.lock(), is_held).unwrap_or_else(PoisonError::into_inner);
        state.rules[rule].stage == Stage::Released
    }

    /// Waits until the broker has responded, or can no longer respond.
    fn waits_for_answer(&self, rule: usize) {
        let is_open = |state: &mut State| state.rules[rule].stage == Stage::Released && !state.is_over;
        drop(self.changed.wait_while(self.lock(), is_open).unwrap_or_else(PoisonError::into_inner));
    }

    fn set_stage(&self, rule: usize, stage: Stage) {
        self.change(|state| state.rules[rule].stage = stage);
    }
}

// -------------------------------------------------------------------------------------------------------- connection

/// Accepts connections until the proxy ends, then waits for their threads.
fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    let mut threads = Vec::new();
    for (number, client) in listener.incoming().enumerate() {
        let upstream = {
            let state = shared.lock();
            if state.is_over {
                break;
            }
            state.upstream.clone()
        };
        // If the broker is unreachable, the client's connection is closed.
        let Ok(client) = client else { continue };
        let Some(Ok(broker)) = upstream.map(TcpStream::connect) else { continue };
        let Ok(connection) = Connection::new(number, client, broker, shared) else { continue };
        threads.extend(connection.run());
    }
    for thread in threads {
        // A panic of the thread has been printed already.
        let _ = thread.join();
    }
}

/// Requests without a response by correlation id, with the rule that caught them.
type Unanswered = BTreeMap<i32, (Head, Option<(usize, RuleAction)>)>;

/// A connection of a client, and the matching connection to the broker.
struct Connection {
    number: usize,
    client: TcpStream,
    broker: TcpStream,
    shared: Arc<Shared>,
    /// At most the number of requests that the client has in flight.
    unanswered: Mutex<Unanswered>,
}

impl Connection {
    fn new(number: usize, client: TcpStream, broker: TcpStream, shared: &Arc<Shared>) -> std::io::Result<Connection> {
        client.set_nodelay(true)?;
        broker.set_nodelay(true)?;
        let ends = [client.try_clone()?, broker.try_clone()?];
        let is_over = shared.change(|state| {
            state.connections.insert(number, ends);
            state.is_over
        });
        let connection =
            Connection { number, client, broker, shared: Arc::clone(shared), unanswered: Mutex::default() };
        if is_over {
            connection.end();
        }
        Ok(connection)
    }

    fn run(self) -> [JoinHandle<()>; 2] {
        let requests = Arc::new(self);
        let answers = Arc::clone(&requests);
        [
            std::thread::spawn(move || {
                requests.forward_requests();
                requests.end();
            }),
            std::thread::spawn(move || {
                answers.forward_answers();
                answers.end_unanswered();
                answers.end();
            }),
        ]
    }

    /// Forwards requests until the client disconnects, or a rule ends the connection.
    fn forward_requests(&self) {
        let mut held = None;
        while let Some(frame) = read_frame(&self.client) {
            let Some(head) = Head::of(&frame) else { return };
            let rule = self.shared.arrived(head.api);
            match rule {
                None | Some((_, RuleAction::Pass | RuleAction::DropAnswer)) => {}
                Some((rule, RuleAction::DropRequest)) => return self.shared.set_stage(rule, Stage::Gone),
                Some((rule, RuleAction::Hold(client))) => {
                    if client == ClientSees::Close {
                        self.close_client();
                    }
                    if !self.shared.waits_for_release(rule) {
                        return;
                    }
                    held = Some(rule);
                }
            }
            let delay = self.shared.lock().delays.get(&head.api).copied();
            std::thread::sleep(delay.unwrap_or_default());
            self.unanswered().insert(head.correlation, (head, rule));
            if write_frame(&self.broker, &frame).is_err() {
                return;
            }
        }
        if let Some(rule) = held {
            self.shared.waits_for_answer(rule);
        }
    }

    /// Forwards responses until the broker disconnects, or a rule ends the connection. Responses for a disconnected
    /// client are discarded.
    fn forward_answers(&self) {
        while let Some(mut frame) = read_frame(&self.broker) {
            let Some(correlation) = frame.first_chunk().map(|bytes| i32::from_be_bytes(*bytes)) else { return };
            // A response without a request is forwarded; the client has to handle it.
            if let Some((head, rule)) = self.unanswered().remove(&correlation) {
                let refusal = self.shared.lock().errors.get(&head.api).copied();
                if let Some(error) = refusal {
                    set_error(&mut frame, head, error);
                }
                if head.api == Api::METADATA && self.shared.lock().hides_brokers {
                    let topics = remove_brokers(&mut frame, head);
                    self.shared.change(|state| state.topics_without_brokers += topics);
                }
                let error = error_in(&frame, head);
                self.shared.change(|state| {
                    if let Some((rule, _)) = rule {
                        state.rules[rule].stage = Stage::Answered(error);
                    }
                    state.answers.push_back(Answered { api: head.api, error });
                    if state.answers.len() > MAX_ANSWERS {
                        state.answers.pop_front();
                    }
                });
                if let Some((_, RuleAction::DropAnswer)) = rule {
                    return;
                }
            }
            // The other direction detects a disconnected client.
            let _ = write_frame(&self.client, &frame);
        }
    }

    /// Ends the rules of requests that can no longer get a response.
    fn end_unanswered(&self) {
        for (_, rule) in std::mem::take(&mut *self.unanswered()).into_values() {
            if let Some((rule, _)) = rule {
                self.shared.set_stage(rule, Stage::Gone);
            }
        }
    }

    fn unanswered(&self) -> MutexGuard<'_, Unanswered> {
        self.unanswered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close_client(&self) {
        // The connection may have ended already.
        let _ = self.client.shutdown(Shutdown::Both);
    }

    fn end(&self) {
        self.close_client();
        // The connection may have ended already.
        let _ = self.broker.shutdown(Shutdown::Both);
        self.shared.change(|state| state.connections.remove(&self.number));
    }
}
