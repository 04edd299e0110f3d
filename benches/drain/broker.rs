//! The Kafka that all measurements use: an existing one, or one that is started for them.

use crate::options::Options;
use crate::support::broker::Broker;
use crate::support::kafka::Kafka;

pub struct BenchBroker {
    pub kafka: Kafka,
    /// The broker's process, if it can be observed.
    pub pid: Option<u32>,
    /// Ends the broker on drop.
    _started: Option<Broker>,
}

impl BenchBroker {
    /// Takes the broker that the options name, or starts one.
    ///
    /// # Panics
    /// If no broker can be started.
    pub fn of(options: &Options) -> BenchBroker {
        if let Some(address) = &options.brokers {
            return BenchBroker { kafka: Kafka::at(address), pid: options.broker_pid, _started: None };
        }
        eprintln!("starting a broker");
        let broker = Broker::at_full_speed();
        BenchBroker { kafka: broker.kafka(), pid: broker.pid(), _started: Some(broker) }
    }
}
