//! `cargo xtask ci`: everything that has to hold before a change lands. CI runs exactly this.
#![forbid(unsafe_code)]

mod ci;
mod interop;
mod tools;

use std::{env, process::ExitCode};

const USAGE: &str = "usage: cargo xtask ci [STEP...]";

fn main() -> ExitCode {
    let mut arguments = env::args().skip(1);
    let result = match arguments.next().as_deref() {
        Some("ci") => ci::run(&arguments.collect::<Vec<_>>()),
        _ => {
            eprintln!("{USAGE}\nsteps: {}", ci::step_names().join(" "));
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
