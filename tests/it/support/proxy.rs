//! A network that misbehaves on request: a proxy before a broker, which knows Kafka's frames.
//!
//! Clients reach the broker by [`ProxiedBroker::through`] and are told to go on that way; tests speak to it by
//! [`ProxiedBroker::direct`]. Every request passes, until a rule is laid for the next one of an API: it is held back,
//! thrown away, or robbed of its answer. Each rule catches one request, the rules of an API in the order in which they
//! were laid, on whatever connection it comes.
//!
//! A connection has one thread for each direction. A held request stands in the way of what comes behind it on its
//! connection, as it would in a network. When its client has gone meanwhile, the connection to the broker stays open
//! until the request is released and answered: that is the delayed packet which ends the wrong transaction.
//!
//! Absent on purpose: time. A request is late for as long as the test says.

mod frame;

use std::collections::{BTreeMap, VecDeque};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use super::broker::Broker;
use super::kafka::Kafka;
use super::wait::{Deadline, PATIENCE};
use frame::{Head, error_in, read_frame, write_frame};

pub use frame::Api;

/// How many answers are remembered.
const REMEMBERED: usize = 10_000;

/// A broker of the test's own, and the proxy before it.
pub struct ProxiedBroker {
    /// Ends first, so that nobody is held up by it.
    pub proxy: Proxy,
    /// The broker.
    pub broker: Broker,
}

impl ProxiedBroker {
    /// Starts both.
    pub fn start() -> ProxiedBroker {
        ProxiedBroker::with(&[])
    }

    /// Starts both; the broker has further, or other, lines in its server.properties.
    pub fn with(properties: &[(&str, &str)]) -> ProxiedBroker {
        let proxy = Proxy::listen();
        let broker = Broker::advertised_at(proxy.port, properties);
        proxy.forward_to(&broker.address_behind());
        ProxiedBroker { proxy, broker }
    }

    /// Past the proxy.
    pub fn direct(&self) -> Kafka {
        self.broker.kafka()
    }

    /// By way of the proxy.
    pub fn through(&self) -> Kafka {
        Kafka::at(&format!("127.0.0.1:{}", self.proxy.port))
    }
}

/// What the client of a held request sees of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientSees {
    /// Nothing: it waits, until its own limit.
    Silence,
    /// The end of its connection.
    Close,
}

/// What a rule does with the request that it catches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Hold(ClientSees),
    /// Nothing: rules behind this one are for later requests.
    Pass,
    /// It never reaches the broker, and the connection ends.
    DropRequest,
    /// It reaches the broker; its answer ends the connection.
    DropAnswer,
}

/// An answer of the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answered {
    /// The API of the request.
    pub api: Api,
    /// The error code, 0 for success; `None` where the proxy does not read this API's answers.
    pub error: Option<i16>,
}

/// How far a rule has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Its request has not come yet.
    Armed,
    /// Its request is here, or on its way to the broker where only the answer is dropped.
    Caught,
    /// The test has let it go.
    Released,
    /// The broker has answered.
    Answered(Option<i16>),
    /// The request was thrown away, or its connection ended without an answer.
    Gone,
}

struct Rule {
    api: Api,
    fate: Fate,
    stage: Stage,
    /// The place of its request among all that were caught.
    place: Option<usize>,
}

// ------------------------------------------------------------------------------------------------------------- proxy

/// See the module. Dropped, it ends every connection and all of its threads.
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
    /// Both ends of each open connection, to end them from outside.
    connections: BTreeMap<usize, [TcpStream; 2]>,
    is_over: bool,
}

impl Proxy {
    fn listen() -> Proxy {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("the system has a port to give");
        let port = listener.local_addr().expect("it is bound").port();
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

    /// Holds the next request of this API, until it is released.
    pub fn hold(&self, api: Api, client: ClientSees) -> Caught {
        self.lay(api, Fate::Hold(client))
    }

    /// Lets the next request of this API pass, so that further rules are for those behind it.
    pub fn let_pass(&self, api: Api) -> Caught {
        self.lay(api, Fate::Pass)
    }

    /// Throws the next request of this API away, and ends its connection.
    pub fn drop_request(&self, api: Api) -> Caught {
        self.lay(api, Fate::DropRequest)
    }

    /// Ends the connection of the next request of this API when the broker answers it.
    pub fn drop_answer(&self, api: Api) -> Caught {
        self.lay(api, Fate::DropAnswer)
    }

    /// Ends every connection, as a network that breaks does. New ones are taken at once.
    pub fn cut(&self) {
        for stream in self.shared.lock().connections.values().flatten() {
            // It may have ended by itself.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// How many requests of this API have come so far.
    pub fn requests(&self, api: Api) -> usize {
        self.shared.lock().requests.get(&api).copied().unwrap_or(0)
    }

    /// The broker's answers to requests of this API, the newest last.
    pub fn answers(&self, api: Api) -> Vec<Option<i16>> {
        self.shared.lock().answers.iter().filter(|answer| answer.api == api).map(|answer| answer.error).collect()
    }

    fn lay(&self, api: Api, fate: Fate) -> Caught {
        let mut state = self.shared.lock();
        state.rules.push(Rule { api, fate, stage: Stage::Armed, place: None });
        Caught { shared: Arc::clone(&self.shared), rule: state.rules.len() - 1 }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.change(|state| {
            state.is_over = true;
            for stream in state.connections.values().flatten() {
                // It may have ended by itself.
                let _ = stream.shutdown(Shutdown::Both);
            }
        });
        // Wakes the acceptor; where that fails, it has ended.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
        if let Some(acceptor) = self.acceptor.take() {
            // A panic of a connection's thread has been printed; the test judges by what it sees.
            let _ = acceptor.join();
        }
    }
}

/// The request that a rule waits for, or has caught.
pub struct Caught {
    shared: Arc<Shared>,
    rule: usize,
}

impl Caught {
    /// Waits until the request is there.
    #[track_caller]
    pub fn wait(&self) {
        self.wait_for("the request to come", |stage| (stage != Stage::Armed).then_some(()));
    }

    /// Whether the request is there.
    pub fn has_come(&self) -> bool {
        self.shared.lock().rules[self.rule].stage != Stage::Armed
    }

    /// Whether this request and the other one are there, and this one came first.
    pub fn came_before(&self, other: &Caught) -> bool {
        let state = self.shared.lock();
        let [this, other] = [self, other].map(|caught| state.rules[caught.rule].place);
        this.is_some_and(|this| other.is_some_and(|other| this < other))
    }

    /// Lets the held request go on to the broker, and returns the error code of the answer: 0 for success, `None` where
    /// the proxy does not read this API's answers.
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

    /// Lets the request go on to the broker if it is held, and takes the rule back if it has caught nothing. True if it
    /// had caught its request.
    pub fn let_go(&self) -> bool {
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

    /// Waits for the broker's answer, and returns its error code as [`Caught::release`] does.
    #[track_caller]
    pub fn answer(&self) -> Option<i16> {
        self.wait_for("the broker's answer", |stage| match stage {
            Stage::Answered(error) => Some(error),
            Stage::Gone => panic!("the request went without an answer"),
            Stage::Armed | Stage::Caught | Stage::Released => None,
        })
    }

    #[track_caller]
    fn wait_for<T>(&self, what: &str, look: impl Fn(Stage) -> Option<T>) -> T {
        let deadline = Deadline::after(PATIENCE);
        let mut state = self.shared.lock();
        loop {
            let rule = &state.rules[self.rule];
            if let Some(found) = look(rule.stage) {
                return found;
            }
            assert!(!deadline.passed(), "waited in vain for {what}: {:?} {:?}", rule.api, rule.stage);
            let waited = self.shared.changed.wait_timeout(state, deadline.left());
            (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A failed assertion of a test leaves nothing half done behind it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.lock());
        self.changed.notify_all();
        result
    }

    /// Counts the request, and finds the rule that catches it.
    fn arrived(&self, api: Api) -> Option<(usize, Fate)> {
        self.change(|state| {
            *state.requests.entry(api).or_default() += 1;
            let caught = state.rules.iter().filter(|rule| rule.place.is_some()).count();
            let is_next = |rule: &Rule| rule.api == api && rule.stage == Stage::Armed;
            let position = state.rules.iter_mut().enumerate().find(|(_, rule)| is_next(rule));
            position.map(|(index, rule)| {
                rule.stage = Stage::Caught;
                rule.place = Some(caught);
                (index, rule.fate)
            })
        })
    }

    /// Waits until the test releases the request; false when it never will.
    fn waits_for_release(&self, rule: usize) -> bool {
        let is_held = |state: &mut State| state.rules[rule].stage == Stage::Caught && !state.is_over;
        let state = self.changed.wait_while(self.lock(), is_held).unwrap_or_else(PoisonError::into_inner);
        state.rules[rule].stage == Stage::Released
    }

    /// Waits until the broker has answered the request, or cannot any more.
    fn waits_for_answer(&self, rule: usize) {
        let is_open = |state: &mut State| state.rules[rule].stage == Stage::Released && !state.is_over;
        drop(self.changed.wait_while(self.lock(), is_open).unwrap_or_else(PoisonError::into_inner));
    }

    fn reach(&self, rule: usize, stage: Stage) {
        self.change(|state| state.rules[rule].stage = stage);
    }
}

// -------------------------------------------------------------------------------------------------------- connection

/// Takes connections until the proxy ends, then waits for their threads.
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
        // Where the broker is away, its client sees the end of the connection.
        let Ok(client) = client else { continue };
        let Some(Ok(broker)) = upstream.map(TcpStream::connect) else { continue };
        let Ok(connection) = Connection::new(number, client, broker, shared) else { continue };
        threads.extend(connection.run());
    }
    for thread in threads {
        // Its panic has been printed.
        let _ = thread.join();
    }
}

/// Requests by their correlation id, with the rule that has caught them.
type Unanswered = BTreeMap<i32, (Head, Option<(usize, Fate)>)>;

/// One client's connection, and the broker's that belongs to it.
struct Connection {
    number: usize,
    client: TcpStream,
    broker: TcpStream,
    shared: Arc<Shared>,
    /// The requests that the broker has not answered, by correlation id: as many as the client has in flight.
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
                requests.carry_requests();
                requests.end();
            }),
            std::thread::spawn(move || {
                answers.carry_answers();
                answers.leave_unanswered();
                answers.end();
            }),
        ]
    }

    /// Until the client goes, or a rule ends it.
    fn carry_requests(&self) {
        let mut held = None;
        while let Some(frame) = read_frame(&self.client) {
            let Some(head) = Head::of(&frame) else { return };
            let rule = self.shared.arrived(head.api);
            match rule {
                None | Some((_, Fate::Pass | Fate::DropAnswer)) => {}
                Some((rule, Fate::DropRequest)) => return self.shared.reach(rule, Stage::Gone),
                Some((rule, Fate::Hold(client))) => {
                    if client == ClientSees::Close {
                        self.close_client();
                    }
                    if !self.shared.waits_for_release(rule) {
                        return;
                    }
                    held = Some(rule);
                }
            }
            self.unanswered().insert(head.correlation, (head, rule));
            if write_frame(&self.broker, &frame).is_err() {
                return;
            }
        }
        if let Some(rule) = held {
            self.shared.waits_for_answer(rule);
        }
    }

    /// Until the broker goes, or a rule ends it. A client that has gone misses its answers.
    fn carry_answers(&self) {
        while let Some(frame) = read_frame(&self.broker) {
            let Some(correlation) = frame.first_chunk().map(|bytes| i32::from_be_bytes(*bytes)) else { return };
            // Only an answer to nothing is not there, which the client may judge.
            if let Some((head, rule)) = self.unanswered().remove(&correlation) {
                let error = error_in(&frame, head);
                self.shared.change(|state| {
                    if let Some((rule, _)) = rule {
                        state.rules[rule].stage = Stage::Answered(error);
                    }
                    state.answers.push_back(Answered { api: head.api, error });
                    if state.answers.len() > REMEMBERED {
                        state.answers.pop_front();
                    }
                });
                if let Some((_, Fate::DropAnswer)) = rule {
                    return;
                }
            }
            // The other direction notices that the client has gone.
            let _ = write_frame(&self.client, &frame);
        }
    }

    /// Whoever waits for an answer that cannot come any more is told.
    fn leave_unanswered(&self) {
        for (_, rule) in std::mem::take(&mut *self.unanswered()).into_values() {
            if let Some((rule, _)) = rule {
                self.shared.reach(rule, Stage::Gone);
            }
        }
    }

    fn unanswered(&self) -> MutexGuard<'_, Unanswered> {
        self.unanswered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close_client(&self) {
        // It may have gone by itself.
        let _ = self.client.shutdown(Shutdown::Both);
    }

    fn end(&self) {
        self.close_client();
        // It may have gone by itself.
        let _ = self.broker.shutdown(Shutdown::Both);
        self.shared.change(|state| state.connections.remove(&self.number));
    }
}
