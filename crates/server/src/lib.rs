//! Postrider: accepts events, and carries each one, signed, to every endpoint that wants it.
//!
//! This crate is the shell around the kernel's decisions: sockets, time and tasks. Its three seams are
//! [`postrider_store::Store`], [`transport::Transport`] and [`clock::Clock`].
#![forbid(unsafe_code)]

pub mod accounts;
pub mod admin;
pub mod api;
pub mod app;
pub mod budget;
mod catalogue;
pub mod clock;
pub mod config;
pub mod deliver;
pub mod directory;
pub mod disk;
pub mod dispatch;
pub mod egress;
pub mod gate;
pub mod identity;
pub mod ids;
pub mod instance;
pub mod lanes;
pub mod life;
pub mod listener;
pub mod metrics;
pub mod node;
mod pace;
pub mod permits;
pub mod proxy;
pub mod publish;
pub mod record;
pub mod rekey;
pub mod resolver;
pub mod serve;
pub mod shutdown;
pub mod telemetry;
pub mod tls;
pub mod transport;
pub mod upkeep;
pub mod vault;
