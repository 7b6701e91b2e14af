//! What is measured: one file per scenario, each from options to figures.

pub mod backlog;
mod dead;
pub mod isolation;
pub mod limit;
pub mod nodes;
pub mod pages;
pub mod throughput;
