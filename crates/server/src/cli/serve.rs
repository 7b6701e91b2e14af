//! `postrider serve`: reads the configuration, opens the instance, and runs it.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use postrider::{
    clock::SystemClock,
    config::{self, Config, ConfigError, Form, NodeRole, SETTINGS, Setting, Sources},
    instance::Instance,
    serve, telemetry,
};
use tracing::level_filters::LevelFilter;

use super::output::{say, shell_word};

/// Runs API and delivery; on an empty data directory it makes all that it needs
#[derive(Args)]
pub struct Serve {
    #[command(flatten)]
    options: Options,
}

impl Serve {
    /// Serves until it is told to stop.
    pub async fn run(self) -> anyhow::Result<()> {
        let config = self.options.load()?;
        telemetry::init(config.log_format, LevelFilter::INFO);
        let instance = Instance::open_to_serve(&config, Arc::new(SystemClock::new())).await?;
        let token_file = instance.admin_token_file();
        let (data_dir, role) = (config.data_dir.clone(), config.role);
        let scheme = if config.tls_cert.is_some() { "https" } else { "http" };
        serve::run(config, instance, |address| {
            let text = match role {
                NodeRole::Worker => worker_announcement(scheme, address, &data_dir),
                NodeRole::All | NodeRole::Api if token_file.exists() => {
                    announcement(scheme, address, &data_dir, &token_file)
                }
                NodeRole::All | NodeRole::Api => node_announcement(scheme, address, &data_dir),
            };
            // A reader that has gone is no reason not to serve.
            let _ = say(&text);
        })
        .await
    }
}

fn absolute(path: &Path) -> String {
    std::path::absolute(path).unwrap_or(path.to_owned()).display().to_string()
}

/// What a node says that only delivers.
fn worker_announcement(scheme: &str, address: SocketAddr, data_dir: &Path) -> String {
    format!(
        "listening on {scheme}://{address}\n\
         data         {}\n\
         role         worker: it delivers, and answers /healthz and /readyz",
        absolute(data_dir)
    )
}

/// What a node says that didn't make the instance.
fn node_announcement(scheme: &str, address: SocketAddr, data_dir: &Path) -> String {
    format!(
        "listening on {scheme}://{address}\n\
         data         {}\n\
         admin token  with the node that made the database; `postrider token create --role operator` makes another",
        absolute(data_dir)
    )
}

/// What is printed once the API accepts connections. Programs read its first line.
fn announcement(scheme: &str, address: SocketAddr, data_dir: &Path, token_file: &Path) -> String {
    let token_file = absolute(token_file);
    format!(
        "listening on {scheme}://{address}\n\
         data         {}\n\
         admin token  {token_file}\n\
         try          curl -H \"Authorization: Bearer $(cat {})\" {scheme}://{}/api/v2/webhook/endpoint/event/",
        absolute(data_dir),
        shell_word(&token_file),
        reachable(address),
    )
}

/// The address by which this machine reaches a listener: one that listens everywhere is reached over loopback.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// The options of `serve`, made from the table of settings.
pub struct Options {
    file: Option<PathBuf>,
    given: HashMap<&'static str, String>,
}

impl Options {
    /// The whole configuration, from all its sources.
    pub fn load(&self) -> Result<Config, ConfigError> {
        let from_environment =
            |name: &str| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
        config::load(&Sources {
            option: &|key| self.given.get(key).cloned(),
            variable: &from_environment,
            file: self.file.clone().or_else(|| {
                from_environment("POSTRIDER_CONFIG")
                    .filter(|file| !file.is_empty())
                    .map(PathBuf::from)
            }),
        })
    }
}

impl Args for Options {
    fn augment_args(command: Command) -> Command {
        let file = Arg::new("config")
            .long("config")
            .value_name("FILE")
            .help("The configuration file [env: POSTRIDER_CONFIG] [default: postrider.toml where it exists]")
            .value_parser(clap::value_parser!(PathBuf));
        command.arg(file).args(SETTINGS.iter().map(argument))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

fn argument(setting: &Setting) -> Arg {
    let default = match setting.default {
        "" => String::new(),
        default => format!(" [default: {default}]"),
    };
    let argument = Arg::new(setting.key)
        .long(setting.option())
        .value_name(setting.value_name)
        .allow_negative_numbers(true)
        .help(format!("{} [env: {}]{default}", setting.help, setting.variable()));
    match setting.form {
        Form::Value | Form::Secret => argument,
        Form::List => argument.action(ArgAction::Append),
        Form::Switch => argument.num_args(0..=1).require_equals(true).default_missing_value("true"),
    }
}

impl FromArgMatches for Options {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = |setting: &'static Setting| {
            let values: Vec<&str> =
                matches.get_many::<String>(setting.key)?.map(String::as_str).collect();
            Some((setting.key, values.join(",")))
        };
        Ok(Self {
            file: matches.get_one::<PathBuf>("config").cloned(),
            given: SETTINGS.iter().filter_map(given).collect(),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_announcement_can_be_pasted() {
        let address = "0.0.0.0:8080".parse().unwrap();
        let text = announcement(
            "http",
            address,
            Path::new("/data dir"),
            Path::new("/data dir/admin.token"),
        );
        assert!(text.starts_with("listening on http://0.0.0.0:8080\n"));
        assert!(text.ends_with(
            "curl -H \"Authorization: Bearer $(cat '/data dir/admin.token')\" http://127.0.0.1:8080/api/v2/webhook/endpoint/event/"
        ));
    }
}
