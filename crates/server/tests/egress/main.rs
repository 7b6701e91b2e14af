//! Where deliveries go, and where they don't: the egress policy, the proxy, TLS in both directions. `namespace.rs` needs a
//! network of its own, which `cargo xtask ci egress` makes.

mod https;
mod names;
mod namespace;
mod proxied;
#[path = "../support/mod.rs"]
mod support;
mod trust;
