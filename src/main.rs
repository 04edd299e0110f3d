//! The process. What it does stands in [`steward::cli`].

fn main() -> std::process::ExitCode {
    steward::cli::main()
}
