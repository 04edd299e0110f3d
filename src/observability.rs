//! How the process is watched: the log catalogue, the subscriber, the numbers, the status, the watchdog and the heartbeat.

pub mod heartbeat;
pub mod heavy_hitters;
pub mod log_events;
pub mod log_throttle;
pub mod logging;
pub mod stats;
pub mod status;
pub mod watchdog;
