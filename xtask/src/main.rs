//! `cargo xtask ci`: everything that has to hold before a change lands. CI runs exactly this.
//! `cargo xtask sim`: the delivery engine in simulations, as many as one likes.
#![forbid(unsafe_code)]

mod ci;
mod interop;
mod sim;
mod tools;

use std::{env, process::ExitCode};

fn main() -> ExitCode {
    let mut arguments = env::args().skip(1);
    let result = match arguments.next().as_deref() {
        Some("ci") => ci::run(&arguments.collect::<Vec<_>>()),
        Some("sim") => sim::run(&arguments.collect::<Vec<_>>()),
        _ => {
            let steps = ci::step_names().join(" ");
            eprintln!("usage: cargo xtask ci [STEP...]\n       {}\nsteps: {steps}", sim::USAGE);
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
