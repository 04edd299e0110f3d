//! Runs the preflight checks of the topics on a thread of their own, so that the control loop receives signals
//! meanwhile.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use std::{io, thread};

use crate::app::SystemClock;
use crate::config::Config;
use crate::kafka::admin::access::ClientMessages;
use crate::kafka::admin::preflight::{StartRefusal, StartWarning};
use crate::kafka::admin::topics::{CreatedTopic, LeftOutSettings, TopicInspector, Topics};
use crate::kafka::client::context::{ClientEvents, ClientRole, ReportingContext};
use crate::observability::log_events::{
    LogEvent, PreflightCheck, PreflightRefused, PreflightUnchecked, TopicAwaited, TopicCreated, TopicSettingAdvised,
    TopicSettingsLeftOut, TopicsChecked, millis,
};

/// How often it is logged that the topics are still awaited.
const LOG_INTERVAL: Duration = Duration::from_secs(5);

pub(super) type InspectionResult = Result<Topics, StartRefusal>;

/// Starts the inspection. Every request of it has a limit, so `done` is called in any case. The inspection ends early if
/// the returned flag is set.
///
/// # Errors
/// The thread cannot be started.
pub(super) fn start(
    config: &Config,
    clock: SystemClock,
    events: Arc<dyn ClientEvents>,
    done: impl FnOnce(InspectionResult) + Send + 'static,
) -> io::Result<Arc<AtomicBool>> {
    let is_interrupted = Arc::new(AtomicBool::new(false));
    let (config, flag) = (config.clone(), Arc::clone(&is_interrupted));
    let run = move || done(inspect(&config, &clock, events, &flag));
    thread::Builder::new().name("topics".to_owned()).spawn(run)?;
    Ok(is_interrupted)
}

fn inspect(
    config: &Config,
    clock: &SystemClock,
    events: Arc<dyn ClientEvents>,
    is_interrupted: &AtomicBool,
) -> InspectionResult {
    let messages = ClientMessages::passing_to(events);
    let context = ReportingContext::new(config, ClientRole::Admin, Arc::clone(&messages) as Arc<dyn ClientEvents>);
    let inspector = TopicInspector::new(config, &context, clock)?;
    let mut next_log = Duration::ZERO;
    let mut result = inspector.inspect(&mut |waiting| {
        if waiting.waited >= next_log {
            next_log = waiting.waited + LOG_INTERVAL;
            // If the brokers do not respond, the client's last error says more.
            let cause = match &waiting.cause {
                Some(cause) => messages.last().unwrap_or_else(|| cause.clone()),
                None => "the topic does not exist".to_owned(),
            };
            let (waited_ms, limit_ms) = (millis(waiting.waited), millis(waiting.limit));
            TopicAwaited { topic: &waiting.topic, cause: &cause, waited_ms, limit_ms }.emit();
        }
        if is_interrupted.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    if let Err(StartRefusal::BrokersUnreachable { cause, .. }) = &mut result {
        // The request's own error is only that no response came.
        *cause = messages.last().unwrap_or_else(|| cause.clone());
    }
    result
}

fn log_warning(warning: &StartWarning) {
    let check = PreflightCheck::ConfigurationReadable;
    match warning {
        StartWarning::Unchecked { topic, command } => {
            PreflightUnchecked { check, topic, acl: Some(command), settings: None }.emit();
        }
        StartWarning::NotReported { topic, names } => {
            PreflightUnchecked { check, topic, acl: None, settings: Some(names) }.emit();
        }
        StartWarning::Advised { topic, setting, found, why, command } => {
            TopicSettingAdvised { topic, setting, found: *found, why, command }.emit();
        }
    }
}

pub(super) fn log(result: &InspectionResult, took: Duration) {
    match result {
        Ok(topics) => {
            let Topics { partitions, replication, .. } = *topics;
            for CreatedTopic { name: topic, left_out } in &topics.created {
                TopicCreated { topic, partitions, replication }.emit();
                if let Some(LeftOutSettings { names, cause }) = left_out {
                    TopicSettingsLeftOut { topic, settings: names, cause }.emit();
                }
            }
            topics.warnings.iter().for_each(log_warning);
            TopicsChecked { partitions, took_ms: millis(took) }.emit();
        }
        Err(refusal) => {
            if let Some(check) = refusal.check() {
                PreflightRefused { check, problem: &refusal.to_string() }.emit();
            }
        }
    }
}
