//! Owns consumers that are never subscribed: building them, and serving their callbacks. They read single partitions,
//! fetch committed offsets, or look at topics.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};

use crate::kafka::client::errors::ErrorClass;
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

/// A consumer for single requests, built for the first one. After a request without a response the next one has a new
/// client. The old one may have forgotten all brokers, and then finds none by itself (librdkafka#5301).
pub struct RequestClient<C: ConsumerContext + 'static> {
    settings: ClientConfig,
    context: C,
    /// `None` before the first request, and after one without a response.
    client: Option<BaseConsumer<C>>,
}

impl<C: ConsumerContext + Clone + 'static> RequestClient<C> {
    pub fn new(settings: ClientConfig, context: C) -> RequestClient<C> {
        RequestClient { settings, context, client: None }
    }

    /// Builds the client if there is none, so that it connects before the first request.
    ///
    /// # Errors
    /// See [`build`].
    pub fn prepare(&mut self) -> KafkaResult<&BaseConsumer<C>> {
        match &mut self.client {
            Some(client) => Ok(client),
            none => Ok(none.insert(build(&self.settings, self.context.clone())?)),
        }
    }

    /// Serves the client's callbacks, and makes a request.
    ///
    /// # Errors
    /// The client cannot be built, or the error of the request.
    pub fn request<T>(&mut self, request: impl FnOnce(&BaseConsumer<C>) -> KafkaResult<T>) -> KafkaResult<T> {
        let client = self.prepare()?;
        serve(client);
        let response = request(client);
        if response.as_ref().is_err_and(|error| ErrorClass::of(error).is_unreachable())
            && let Some(client) = self.client.take()
        {
            // The errors that explain it.
            serve(&client);
            close(client);
        }
        response
    }

    pub fn serve(&self) {
        self.client.iter().for_each(serve);
    }
}

/// Destroys clients on a thread of their own: with brokers that are away, that can take a while.
pub fn close(clients: impl Send + 'static) {
    // Without a thread they are destroyed here, with the closure.
    drop(std::thread::Builder::new().name("client-close".to_owned()).spawn(move || drop(clients)));
}
