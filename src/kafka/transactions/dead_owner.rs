//! The requests that end the open transaction of a dead owner: a look at the members of the group, and the registration
//! of the owner's transactional id. `engine::dead_owners` decides whether and when.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::config::Config;
use crate::engine::foreign_members::GroupLook;
use crate::kafka::client::context::{ClientEvents, ClientRole, ReportingContext};
use crate::kafka::client::describe_group::look_at_group;
use crate::kafka::client::settings::{ProducerIdentity, admin, transactional_producer};
use crate::kafka::client::unsubscribed::RequestClient;
use crate::kafka::transactions::transaction::{Producer, ProducerParts};
use crate::ports::Clock;

/// Limit of a registration.
const REGISTER_LIMIT: Duration = Duration::from_secs(10);

/// The requests, which block for some seconds at most. A trait, so that tests need no broker.
pub trait OwnerRequests: Send + Sync {
    /// Looks at the members of the group.
    fn members(&self) -> GroupLook;

    fn transactional_id(&self, instance: &str) -> String;

    /// Registers the transactional id of the instance, which ends its open transaction and fences it.
    ///
    /// # Errors
    /// The cause, as text.
    fn end_transaction_of(&self, instance: &str) -> Result<(), String>;
}

pub struct KafkaOwnerRequests {
    config: Config,
    /// Transactional id and default client id of this process's own producer.
    own_id: String,
    clock: Arc<dyn Clock>,
    events: Arc<dyn ClientEvents>,
    /// Looks at the group.
    observer: Mutex<RequestClient<ReportingContext>>,
}

impl KafkaOwnerRequests {
    pub fn new(config: &Config, own_id: &str, clock: Arc<dyn Clock>, events: Arc<dyn ClientEvents>) -> Self {
        let context = ReportingContext::new(config, ClientRole::Admin, Arc::clone(&events));
        let observer = Mutex::new(RequestClient::new(admin(config), context));
        let (config, own_id) = (config.clone(), own_id.to_owned());
        KafkaOwnerRequests { config, own_id, clock, events, observer }
    }
}

impl OwnerRequests for KafkaOwnerRequests {
    fn members(&self) -> GroupLook {
        // A panic leaves the client usable.
        let mut observer = self.observer.lock().unwrap_or_else(PoisonError::into_inner);
        look_at_group(&mut observer, &self.config.kafka.group_id, &self.config.kafka.topic)
    }

    fn transactional_id(&self, instance: &str) -> String {
        self.config.kafka.transactional_id(instance)
    }

    fn end_transaction_of(&self, instance: &str) -> Result<(), String> {
        let transactional_id = self.transactional_id(instance);
        let identity = ProducerIdentity { transactional_id: &transactional_id, client_id: &self.own_id };
        let parts = ProducerParts {
            config: transactional_producer(&self.config, identity, None),
            context: ReportingContext::new(&self.config, ClientRole::Producer, Arc::clone(&self.events)),
            clock: Arc::clone(&self.clock),
            transaction_timeout: Duration::from_millis(self.config.kafka.transaction_timeout_ms),
            earlier: Arc::default(),
        };
        // The producer begins no transaction, and is dropped.
        Producer::register(&parts, REGISTER_LIMIT).map(drop).map_err(|failure| failure.cause().to_string())
    }
}
