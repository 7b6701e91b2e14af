//! Assembles the parts and runs them.

use std::net::SocketAddr;

use crate::{config::Config, instance::Instance};

/// Serves an instance until it is told to stop. `on_ready` is called once, when the API accepts connections.
///
/// # Errors
/// What keeps it from serving.
pub async fn run(
    config: Config,
    opened: Instance,
    on_ready: impl FnOnce(SocketAddr),
) -> anyhow::Result<()> {
    let _ = (config, opened, on_ready);
    anyhow::bail!("serving is not there yet")
}
