//! The `postrider` binary: a command line around the library.
#![forbid(unsafe_code)]

mod cli;

use std::process::ExitCode;

/// Many small allocations of many threads, freed on others: what the system's allocator does worst.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::main()
}
