//! Owns the current consumer of this process. The poll thread replaces it if the group has given its membership to another
//! member: the client library does not continue with such a consumer.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::config::Config;
use crate::engine::ownership::Ownership;
use crate::kafka::client::context::{ClientEvents, ClientRole, ReportingContext};
use crate::kafka::client::settings::{SettingsError, group_member};
use crate::kafka::consumer::rebalance::{GroupConsumer, GroupConsumerContext};
use crate::ports::Clock;

/// Pause before it is checked again whether another thread still reads the metadata of a consumer that was replaced.
const CLOSE_PAUSE: Duration = Duration::from_millis(10);

/// Shared by the poll thread, which replaces the consumer, and the commit thread and the control loop, which read the
/// group's metadata from it. Clones share it.
#[derive(Clone)]
pub struct CurrentConsumer(Arc<Mutex<Arc<GroupConsumer>>>);

impl CurrentConsumer {
    pub(super) fn new(consumer: Arc<GroupConsumer>) -> CurrentConsumer {
        CurrentConsumer(Arc::new(Mutex::new(consumer)))
    }

    /// The caller must not poll it, nor keep it.
    pub fn get(&self) -> Arc<GroupConsumer> {
        Arc::clone(&self.lock())
    }

    /// Replaces the consumer, and closes the old one on a thread of its own.
    pub(super) fn replace(&self, consumer: Arc<GroupConsumer>) {
        let mut old = std::mem::replace(&mut *self.lock(), consumer);
        let close = move || {
            while let Err(shared) = Arc::try_unwrap(old) {
                old = shared;
                thread::sleep(CLOSE_PAUSE);
            }
        };
        // Without a thread the client is closed here, with the closure.
        drop(thread::Builder::new().name("consumer-close".to_owned()).spawn(close));
    }

    fn lock(&self) -> MutexGuard<'_, Arc<GroupConsumer>> {
        // A panic cannot leave a half-done exchange.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a source needs from its caller.
#[derive(Clone)]
pub struct ConsumerParts {
    /// The name of this process within its group.
    pub instance: String,
    /// Partitions of the input at the start. More of them later are a reason to stop.
    pub partition_count: i32,
    /// Shared with the actors and the commit thread. The poll thread writes it when ownership begins or ends.
    pub ownership: Arc<Ownership>,
    pub clock: Arc<dyn Clock>,
    /// Receives errors, log lines and statistics of the client.
    pub events: Arc<dyn ClientEvents>,
}

impl ConsumerParts {
    /// Builds a consumer, which is not subscribed yet.
    ///
    /// # Errors
    /// The client refuses the settings.
    pub(super) fn build(&self, config: &Config) -> Result<Arc<GroupConsumer>, SettingsError> {
        let reporting = ReportingContext::new(config, ClientRole::Consumer, Arc::clone(&self.events));
        let context = GroupConsumerContext::new(reporting, Arc::clone(&self.ownership));
        let built = group_member(config, &self.instance).create_with_context(context);
        built.map(Arc::new).map_err(|error| SettingsError::of(&error, config))
    }
}
