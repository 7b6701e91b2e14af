//! Where values come from, and which one wins: the command line over the environment over the file over the default.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use thiserror::Error;

use super::{Config, Form, NodeRole, SETTINGS, Setting};

/// The file that is read where no other is named.
pub const DEFAULT_FILE: &str = "postrider.toml";

/// Where to look for values.
pub struct Sources<'a> {
    /// What the command line gave for the option of that key; a list's values separated by commas.
    pub option: &'a dyn Fn(&str) -> Option<String>,
    /// The environment variable of that name.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    /// The file that was named; without it [`DEFAULT_FILE`], where it exists.
    pub file: Option<PathBuf>,
}

/// Where a value was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The option of that name.
    Option(String),
    /// The environment variable of that name.
    Variable(String),
    /// The key of that file.
    File(PathBuf, String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Option(name) => write!(f, "--{name}"),
            Self::Variable(name) => write!(f, "the environment variable {name}"),
            Self::File(file, key) => write!(f, "{key} in {}", file.display()),
        }
    }
}

/// Why there is no configuration.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// A value is not what its option takes.
    #[error("{origin}: {text:?} can't be used: {reason}")]
    Value {
        /// Where it was found.
        origin: Origin,
        /// What was written.
        text: String,
        /// What a right value looks like.
        reason: String,
    },
    /// A connection could take longer than the try that it is part of.
    #[error(
        "--connect-timeout is {0} s, longer than --request-timeout, which is {1} s and covers both: lower the first or \
         raise the second"
    )]
    Timeouts(f64, f64),
    /// A node that does a part has nobody to do the rest.
    #[error(
        "--role is for nodes that share a Postgres: name it with --database-url, or leave the role away"
    )]
    LonelyRole,
    /// A certificate without its key, or the other way round.
    #[error("--tls-cert and --tls-key belong together: name both files, or neither")]
    HalfACertificate,
    /// What is said of a proxy that there isn't.
    #[error(
        "--egress-proxy-except and --egress-proxy-vets say something of the egress proxy: name it with --egress-proxy, or \
         leave them away"
    )]
    NoProxy,
    /// The file can't be read.
    #[error("the configuration file {0} can't be read: {1}; name another one with --config")]
    Unreadable(PathBuf, std::io::Error),
    /// The file is not TOML.
    #[error("the configuration file {0} is not valid TOML: {1}")]
    Malformed(PathBuf, Box<toml::de::Error>),
    /// The file has a key that means nothing.
    #[error(
        "the configuration file {0} has the key {1}, which means nothing here{hint}; postrider.example.toml lists every key",
        hint = .2.map(|key| format!(" (did you mean {key}?)")).unwrap_or_default()
    )]
    UnknownKey(PathBuf, String, Option<&'static str>),
}

impl ConfigError {
    /// Whether the command line itself was wrong.
    pub fn is_wrong_usage(&self) -> bool {
        matches!(self, Self::Value { origin: Origin::Option(_), .. })
    }
}

/// Reads and checks the configuration.
pub fn load(sources: &Sources<'_>) -> Result<Config, ConfigError> {
    let file = File::read(sources.file.as_deref())?;
    let mut config = Config::default();
    for setting in &SETTINGS {
        if let Some((origin, text)) = find(setting, sources, &file)? {
            setting
                .put(&mut config, &text)
                .map_err(|reason| wrong(setting, origin, text, reason))?;
        }
    }
    let (connect, request) = (config.connect_timeout, config.request_timeout);
    if connect > request {
        return Err(ConfigError::Timeouts(connect.as_secs_f64(), request.as_secs_f64()));
    }
    if config.role != NodeRole::All && config.database_url.is_none() {
        return Err(ConfigError::LonelyRole);
    }
    if config.tls_cert.is_some() != config.tls_key.is_some() {
        return Err(ConfigError::HalfACertificate);
    }
    let speaks_of_a_proxy = config.egress_proxy_vets || !config.egress_proxy_except.is_empty();
    if speaks_of_a_proxy && config.egress_proxy.is_none() {
        return Err(ConfigError::NoProxy);
    }
    Ok(config)
}

fn wrong(setting: &Setting, origin: Origin, text: String, reason: String) -> ConfigError {
    let text = if setting.form == Form::Secret { "(not shown)".to_owned() } else { text };
    ConfigError::Value { origin, text, reason }
}

/// The value that wins. An empty variable counts as none, since that is how compose files leave one out.
fn find(
    setting: &Setting,
    sources: &Sources<'_>,
    file: &File,
) -> Result<Option<(Origin, String)>, ConfigError> {
    if let Some(text) = (sources.option)(setting.key) {
        return Ok(Some((Origin::Option(setting.option()), text)));
    }
    if let Some(text) = (sources.variable)(&setting.variable()).filter(|text| !text.is_empty()) {
        return Ok(Some((Origin::Variable(setting.variable()), text)));
    }
    file.value(setting)
}

/// The configuration file, whose keys are all known.
#[derive(Default)]
struct File {
    path: PathBuf,
    table: toml::Table,
}

impl File {
    fn read(named: Option<&Path>) -> Result<Self, ConfigError> {
        let path = named.unwrap_or(Path::new(DEFAULT_FILE)).to_owned();
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            Err(error) => return Err(ConfigError::Unreadable(path, error)),
        };
        match text.parse::<toml::Table>() {
            Ok(table) => Self { path, table }.with_known_keys(),
            Err(error) => Err(ConfigError::Malformed(path, Box::new(error))),
        }
    }

    fn with_known_keys(self) -> Result<Self, ConfigError> {
        let unknown = self.table.keys().find(|key| SETTINGS.iter().all(|known| known.key != **key));
        let Some(key) = unknown else { return Ok(self) };
        // A dash for an underscore, or the plural of a list, is the usual slip.
        let plain = |text: &str| text.replace(['-', '_'], "").trim_end_matches('s').to_lowercase();
        let meant = SETTINGS.iter().map(|known| known.key).find(|known| plain(known) == plain(key));
        Err(ConfigError::UnknownKey(self.path, key.clone(), meant))
    }

    fn value(&self, setting: &Setting) -> Result<Option<(Origin, String)>, ConfigError> {
        let Some(value) = self.table.get(setting.key) else { return Ok(None) };
        let origin = Origin::File(self.path.clone(), setting.key.to_owned());
        let text = match value {
            toml::Value::Array(items) if setting.form == Form::List => {
                items.iter().map(scalar).collect::<Option<Vec<_>>>().map(|items| items.join(","))
            }
            value => scalar(value),
        };
        let reason = || match setting.form {
            Form::List => "expected an array".to_owned(),
            Form::Value | Form::Secret | Form::Switch => "expected one value".to_owned(),
        };
        match text {
            Some(text) => Ok(Some((origin, text))),
            None => Err(wrong(setting, origin, value.to_string(), reason())),
        }
    }
}

fn scalar(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Float(number) => Some(number.to_string()),
        toml::Value::Boolean(flag) => Some(flag.to_string()),
        toml::Value::Datetime(_) | toml::Value::Array(_) | toml::Value::Table(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Catalogue;

    fn load_with(
        options: &[(&str, &str)],
        variables: &[(&str, &str)],
        file: &str,
    ) -> Result<Config, ConfigError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("some.toml");
        std::fs::write(&path, file).unwrap();
        let look_up = |pairs: &[(&str, &str)], key: &str| {
            pairs.iter().find(|(name, _)| *name == key).map(|(_, value)| (*value).to_owned())
        };
        load(&Sources {
            option: &|key| look_up(options, key),
            variable: &|key| look_up(variables, key),
            file: Some(path),
        })
    }

    #[test]
    fn the_command_line_wins_over_the_environment_and_that_over_the_file() {
        let concurrency = |options: &[_], variables: &[_], file| {
            load_with(options, variables, file).unwrap().concurrency
        };
        let (option, variable) = (("concurrency", "1"), ("POSTRIDER_CONCURRENCY", "2"));
        assert_eq!(concurrency(&[option], &[variable], "concurrency = 3"), 1);
        assert_eq!(concurrency(&[], &[variable], "concurrency = 3"), 2);
        assert_eq!(concurrency(&[], &[("POSTRIDER_CONCURRENCY", "")], "concurrency = 3"), 3);
        assert_eq!(concurrency(&[], &[], ""), 1024);
    }

    #[test]
    fn lists_are_arrays_in_the_file_and_commas_elsewhere() {
        let file = "egress_allow = ['10.0.0.0/8', '::1/128']\nretry_schedule = [1, 0.5]";
        let config = load_with(&[], &[], file).unwrap();
        assert_eq!(config.egress.allowed.len(), 2);
        assert_eq!(config.retry_schedule.to_string(), "1,0.5");
        let config =
            load_with(&[], &[("POSTRIDER_EGRESS_ALLOW", "10.0.0.0/8,::1/128")], "").unwrap();
        assert_eq!(config.egress.allowed.len(), 2);
        assert_eq!(load_with(&[], &[], "catalogue = 'none'").unwrap().catalogue, Catalogue::Empty);
    }

    #[test]
    fn an_error_says_where_and_what_to_do() {
        let check = |options: &[_], variables: &[_], file, expected: &[&str]| {
            let error = load_with(options, variables, file).unwrap_err().to_string();
            for part in expected {
                assert!(error.contains(part), "{error}");
            }
        };
        check(&[("listen", "x")], &[], "", &["--listen", "\"x\"", "127.0.0.1:8080"]);
        check(&[], &[("POSTRIDER_LISTEN", "x")], "", &["variable POSTRIDER_LISTEN"]);
        check(&[], &[], "listen = 8080", &["listen in ", "some.toml"]);
        check(&[], &[], "listen = ['a']", &["expected one value"]);
        check(&[], &[], "egress_allow = {}", &["expected an array"]);
        check(&[("tls_cert", "cert.pem")], &[], "", &["--tls-cert and --tls-key belong together"]);
        check(&[("egress_proxy_vets", "true")], &[], "", &["name it with --egress-proxy"]);
        check(&[], &[], "Data-Dirs = 1", &["Data-Dirs", "did you mean data_dir?"]);
        check(&[], &[], "listen = ", &["some.toml", "not valid TOML", "line 1"]);
        check(&[("role", "api")], &[], "", &["--role", "--database-url"]);
        check(&[], &[], "connect_timeout = 30", &["--connect-timeout is 30 s", "20 s"]);
    }

    #[test]
    fn a_database_url_is_not_told() {
        for (options, file) in [
            (&[("database_url", "mysql://u:hush@h/d")][..], ""),
            (&[], "database_url = ['postgres://u:hush@h/d']"),
        ] {
            let error = load_with(options, &[], file).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hush"), "{error}");
        }
        let config = load_with(&[("database_url", "postgres://u:hush@h/d")], &[], "").unwrap();
        assert!(!format!("{config:?}").contains("hush"));
    }

    #[test]
    fn only_a_named_file_must_exist() {
        let load = |file: Option<&str>| {
            load(&Sources { option: &|_| None, variable: &|_| None, file: file.map(PathBuf::from) })
        };
        assert!(load(None).is_ok());
        let error = load(Some("no-such-file.toml")).unwrap_err();
        assert!(error.to_string().contains("no-such-file.toml"), "{error}");
    }

    #[test]
    fn the_example_file_lists_every_key_with_its_default() {
        let example = include_str!("../../../../postrider.example.toml");
        let is_key = |line: &&str| line.starts_with("# ") && line.contains(" = ");
        let keys: Vec<&str> = example.lines().filter(is_key).map(|line| &line[2..]).collect();
        assert_eq!(load_with(&[], &[], &keys.join("\n")).unwrap(), Config::default());
        let named: Vec<&str> =
            keys.iter().filter_map(|line| Some(line.split_once(" = ")?.0)).collect();
        let known: Vec<&str> = SETTINGS.iter().map(|setting| setting.key).collect();
        assert_eq!(named, known);
        let others = example.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        assert_eq!(others.count(), 0, "every key is commented out");
    }
}
