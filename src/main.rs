//! The process.

use std::path::Path;

use steward::config::{Effective, environment};

fn main() {
    let path = std::env::args().skip_while(|argument| argument != "--config").nth(1);
    let effective = match Effective::load(path.as_deref().map(Path::new), environment()) {
        Ok(effective) => effective,
        Err(error) => {
            eprintln!("{error}");
            std::process::exit(3);
        }
    };
    std::process::exit(i32::from(steward::app::run(&effective).code()));
}
