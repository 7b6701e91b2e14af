//! `postrider completions`: what a shell needs to complete the rest.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{Cli, output::say};

/// Prints completions for a shell
#[derive(Args)]
pub struct Completions {
    /// Which shell
    shell: Shell,
}

impl Completions {
    /// Prints them.
    pub fn run(self) -> anyhow::Result<()> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "postrider", &mut script);
        say(String::from_utf8(script)?.trim_end())
    }
}
