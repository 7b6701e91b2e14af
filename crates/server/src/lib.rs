//! Postrider: accepts events, and carries each one, signed, to every endpoint that wants it.
//!
//! This crate is the shell around the kernel's decisions: sockets, time and tasks. Its three seams are
//! [`postrider_store::Store`], `transport::Transport` and [`clock::Clock`].
#![forbid(unsafe_code)]

pub mod accounts;
pub mod admin;
pub mod api;
pub mod app;
pub mod clock;
pub mod config;
pub mod directory;
pub mod ids;
pub mod publish;
pub mod vault;
