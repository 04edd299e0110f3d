//! Monitoring of the process: log catalogue, logging, numbers, status, watchdog and heartbeat.

pub mod heartbeat;
pub mod heavy_hitters;
pub mod log_events;
pub mod log_throttle;
pub mod logging;
pub mod open_transactions;
pub mod stats;
pub mod status;
pub mod watchdog;
