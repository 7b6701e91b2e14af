//! `cargo xtask ci`: everything that has to hold before a change lands. CI runs exactly this. Beside it, the faults that
//! are done to the release binary, in a short form for CI and a long one, and the
//! delivery engine in simulations, as many as one likes.
#![forbid(unsafe_code)]

mod ci;
mod egress;
mod faults;
mod interop;
mod sbom;
mod schema;
mod sim;
mod soak;
mod stage;
mod tools;

use std::{env, process::ExitCode};

fn main() -> ExitCode {
    let mut arguments = env::args().skip(1);
    let command = arguments.next();
    let arguments: Vec<String> = arguments.collect();
    let result = match command.as_deref() {
        Some("ci") => ci::run(&arguments),
        Some("sim") => sim::run(&arguments),
        Some("faults") => faults::run(&arguments),
        Some("soak") => soak::run(&arguments),
        _ => {
            let usages = [ci::USAGE, sim::USAGE, faults::USAGE, soak::USAGE];
            eprintln!("usage: {}", usages.join("\n       "));
            eprintln!("steps: {}", ci::step_names().join(" "));
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
