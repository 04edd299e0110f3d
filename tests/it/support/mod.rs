//! The harness: what tests share.

pub mod capture;
