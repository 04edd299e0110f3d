//! Owns consumers that are never subscribed: building them, and serving their callbacks. They read single partitions,
//! fetch committed offsets, or look at topics.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::KafkaError;

use crate::kafka::client::ffi::serve_token;

/// Callbacks that are served at a time. Log lines are among them; with the library's `debug` there are many.
pub(crate) const CALLBACKS_AT_A_TIME: usize = 256;

/// Builds a consumer that is never subscribed.
///
/// # Errors
/// The client's error: a property that does not exist, a file that cannot be read.
pub fn build<C: ConsumerContext>(config: &ClientConfig, context: C) -> Result<BaseConsumer<C>, KafkaError> {
    let consumer: BaseConsumer<C> = config.create_with_context(context)?;
    serve_token(consumer.client());
    Ok(consumer)
}

/// Serves the callbacks of a consumer without an assignment: errors, statistics, the refresh of access tokens. A poll
/// that returns nothing does not show whether the queue is empty or a callback was served; hence the fixed number of
/// polls.
pub fn serve<C: ConsumerContext>(consumer: &BaseConsumer<C>) {
    serve_token(consumer.client());
    for _ in 0..CALLBACKS_AT_A_TIME {
        // The context has the error already.
        drop(consumer.poll(Duration::ZERO));
    }
}
