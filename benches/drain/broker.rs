//! The Kafka that everything runs against: one that is there, or one that is started for it.

use crate::options::Options;
use crate::support::broker::Broker;
use crate::support::kafka::Kafka;

/// A Kafka, and its process where it may be looked at.
pub struct Ground {
    pub kafka: Kafka,
    pub pid: Option<u32>,
    /// Held so that it ends with this.
    _own: Option<Broker>,
}

impl Ground {
    /// Finds or starts it.
    ///
    /// # Panics
    /// When there is none to be had.
    pub fn of(options: &Options) -> Ground {
        if let Some(address) = &options.brokers {
            return Ground { kafka: Kafka::at(address), pid: options.broker_pid, _own: None };
        }
        eprintln!("starting a broker");
        let broker = Broker::at_full_speed();
        Ground { kafka: broker.kafka(), pid: broker.pid(), _own: Some(broker) }
    }
}
