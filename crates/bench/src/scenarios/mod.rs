//! What is measured: one file per scenario, each a function from options to figures.

pub mod limit;
pub mod throughput;
