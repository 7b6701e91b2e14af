//! The command line: which commands there are, and how they answer and fail. Each command's work is in its own file.

mod backup;
mod client;
mod completions;
mod data_dir;
mod demo;
mod doctor;
mod event;
mod jwt_secret;
mod key;
mod listen;
mod migrate;
mod openapi;
mod output;
mod receiver;
mod serve;
mod tenant;
mod token;
mod user;
mod verdict;
mod verify;

use std::{ffi::OsString, io, process::ExitCode};

use clap::{Parser, Subcommand};
use postrider::{config::ConfigError, config::LogFormat, telemetry};
use tracing::level_filters::LevelFilter;

/// A self-hosted webhook delivery service: accepts events, and carries each one, signed, to every endpoint that wants it.
#[derive(Parser)]
#[command(name = "postrider", version, arg_required_else_help = true, max_term_width = 120)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Serve(serve::Serve),
    Demo(demo::Demo),
    Listen(listen::Listen),
    Verify(verify::Verify),
    Event(event::Event),
    User(user::UserCommand),
    Token(token::TokenCommand),
    JwtSecret(jwt_secret::JwtSecretCommand),
    Tenant(tenant::TenantCommand),
    Key(key::KeyCommand),
    Backup(backup::Backup),
    Restore(backup::Restore),
    Migrate(migrate::Migrate),
    Doctor(doctor::Doctor),
    Openapi(openapi::Openapi),
    Completions(completions::Completions),
}

/// An environment variable, or what counts without it. An empty one counts as none, as it does for `serve`.
fn from_environment(variable: &str, otherwise: &str) -> OsString {
    std::env::var_os(variable).filter(|value| !value.is_empty()).unwrap_or_else(|| otherwise.into())
}

/// Where the data directory is, unless an option says so.
fn default_data_dir() -> OsString {
    from_environment("POSTRIDER_DATA_DIR", "./postrider-data")
}

/// The command line was wrong in a way that clap can't see: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct WrongUsage(String);

/// The command has said all there is to say, and it is bad news: exit code 1.
#[derive(Debug, thiserror::Error)]
#[error("it failed")]
struct Failed;

/// Runs the command that the arguments name.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return exit_code(Err(error.into())),
    };
    let result = runtime.block_on(run(cli.command));
    // A read of standard input may still hold a thread; nobody waits for it.
    runtime.shutdown_background();
    exit_code(result)
}

async fn run(command: Command) -> anyhow::Result<()> {
    if !matches!(command, Command::Serve(_) | Command::Demo(_)) {
        // `serve` and `demo` choose their own; of the others only what went wrong is worth a line.
        telemetry::init(LogFormat::fitting_stderr(), LevelFilter::WARN);
    }
    match command {
        Command::Serve(command) => command.run().await,
        Command::Demo(command) => command.run().await,
        Command::Listen(command) => command.run().await,
        Command::Verify(command) => command.run(),
        Command::Event(command) => command.run().await,
        Command::User(command) => command.run().await,
        Command::Token(command) => command.run().await,
        Command::JwtSecret(command) => command.run().await,
        Command::Tenant(command) => command.run().await,
        Command::Key(command) => command.run().await,
        Command::Backup(command) => command.run().await,
        Command::Restore(command) => command.run().await,
        Command::Migrate(command) => command.run().await,
        Command::Doctor(command) => command.run().await,
        Command::Openapi(command) => command.run(),
        Command::Completions(command) => command.run(),
    }
}

fn exit_code(result: anyhow::Result<()>) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    if error.is::<Failed>() {
        return ExitCode::FAILURE;
    }
    // Whoever reads has had enough: `postrider token list | head -1`.
    let is_closed_pipe = |cause: &io::Error| cause.kind() == io::ErrorKind::BrokenPipe;
    if error.downcast_ref::<io::Error>().is_some_and(is_closed_pipe) {
        return ExitCode::SUCCESS;
    }
    eprintln!("error: {error:#}");
    let is_usage = error.is::<WrongUsage>()
        || error.downcast_ref::<ConfigError>().is_some_and(ConfigError::is_wrong_usage);
    if is_usage { ExitCode::from(2) } else { ExitCode::FAILURE }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_commands_are_sound() {
        super::Cli::command().debug_assert();
    }
}
