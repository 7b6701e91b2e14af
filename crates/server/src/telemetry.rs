//! Logs: to standard error, so that standard output stays for what a command answers. `RUST_LOG` sets the level.
//!
//! What is logged never contains a payload, a secret or a token: their types don't print.

use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;

/// Begins to write logs. Called once, before anything is logged.
pub fn init(format: LogFormat) {
    let level = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let logs = tracing_subscriber::fmt().with_env_filter(level).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => logs.with_target(false).init(),
        LogFormat::Json => logs.json().flatten_event(true).init(),
    }
}
