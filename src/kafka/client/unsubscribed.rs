//! Owns consumers that are never subscribed: building them, and serving their callbacks. They read single partitions,
//! fetch committed offsets, or look at topics.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::KafkaError;

use crate::kafka::client::ffi::{serve_token, waiting_callbacks};

/// Builds a consumer that is never subscribed.
///
/// # Errors
/// The client's error: a property that does not exist, a file that cannot be read.
pub fn build<C: ConsumerContext>(config: &ClientConfig, context: C) -> Result<BaseConsumer<C>, KafkaError> {
    let consumer: BaseConsumer<C> = config.create_with_context(context)?;
    serve_token(consumer.client());
    Ok(consumer)
}

/// Serves the callbacks of a consumer without an assignment: errors, log lines, statistics, the refresh of access tokens.
/// All that wait are served, and none that come meanwhile: with the library's `debug` there is no end of log lines.
pub fn serve<C: ConsumerContext>(consumer: &BaseConsumer<C>) {
    serve_token(consumer.client());
    // Each poll serves at least one.
    for _ in 0..waiting_callbacks(consumer.client()) {
        // The context has the error already.
        drop(consumer.poll(Duration::ZERO));
    }
}
