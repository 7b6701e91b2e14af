//! Logs: to standard error, so that standard output stays for what a command answers. `RUST_LOG` sets the level.
//!
//! What is logged never contains a payload, a secret or a token: their types don't print.

use std::io::IsTerminal;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;

/// Begins to write logs, from that level on unless `RUST_LOG` says otherwise. Called once, before anything is logged.
pub fn init(format: LogFormat, level: LevelFilter) {
    let filter = EnvFilter::builder().with_default_directive(level.into()).from_env_lossy();
    // The module's path would stand under `target`, which is an endpoint's URL everywhere else.
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal());
    match format {
        LogFormat::Text => logs.init(),
        LogFormat::Json => logs.json().flatten_event(true).init(),
    }
}
