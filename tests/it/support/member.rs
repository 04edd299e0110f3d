//! A member of a consumer group besides the code under test. Tests take a generation from it, or end a generation with
//! it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};

use super::kafka::Kafka;
use super::wait::{PATIENCE, wait_until};

/// A consumer that a thread polls until this is dropped.
pub struct Member {
    pub consumer: Arc<BaseConsumer>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Member {
    /// Joins the group, and returns once partitions are assigned.
    pub fn joins(kafka: &Kafka, group: &str, topic: &str) -> Member {
        let mut config = kafka.client_config();
        config
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("session.timeout.ms", "10000")
            .set("heartbeat.interval.ms", "300")
            .set("auto.offset.reset", "earliest");
        let consumer: Arc<BaseConsumer> = Arc::new(config.create().expect("the settings are constants"));
        consumer.subscribe(&[topic]).expect("a topic's name");
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let (consumer, stop) = (Arc::clone(&consumer), Arc::clone(&stop));
            move || {
                while !stop.load(Ordering::Acquire) {
                    drop(consumer.poll(Duration::from_millis(20)));
                }
            }
        });
        let member = Member { consumer, stop, thread: Some(thread) };
        wait_until("the member has partitions", PATIENCE, || {
            member.consumer.assignment().is_ok_and(|assignment| assignment.count() > 0)
        });
        member
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the poll thread does not panic");
        }
    }
}
