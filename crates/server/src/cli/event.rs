//! `postrider event publish`: one event from the arguments, or many from standard input (`bulk`).

mod bulk;
mod lines;
mod tally;

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, bail};
use bytes::Bytes;
use clap::{Args, Subcommand};
use http::{HeaderMap, HeaderValue, StatusCode};
use postrider::instance::ADMIN_TOKEN_FILE;
use serde_json::{Value, value::RawValue};
use url::Url;

use super::{
    WrongUsage,
    client::{Client, parse_base},
    default_data_dir, from_environment,
    output::Answer,
};

/// Where events are published, one by one and many at once.
const PATH: &str = "/api/v2/webhook/event/";
const BULK_PATH: &str = "/api/v2/webhook/event/bulk/";

/// Where the API is, unless somebody says otherwise.
const LOCAL: &str = "http://127.0.0.1:8080";

/// Events: what endpoints are told
#[derive(Args)]
pub struct Event {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    Publish(Publish),
}

/// Publishes one event, or with `-` those that standard input brings
#[derive(Args)]
struct Publish {
    /// The event's type, such as post.created; `-` reads one {"type", "data"} per line from standard input, and sends them in bulks
    #[arg(value_name = "TYPE")]
    event_type: String,
    /// The event's data, a JSON object; it reaches receivers byte for byte
    #[arg(long, value_name = "JSON", conflicts_with = "data_file")]
    data: Option<String>,
    /// A file with the event's data
    #[arg(long, value_name = "FILE")]
    data_file: Option<PathBuf>,
    /// When it happened, in seconds since the epoch; now, where it is left out
    #[arg(long, value_name = "SECONDS")]
    created: Option<f64>,
    /// Makes a repeat harmless: the same key answers with the first result for a day
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    #[command(flatten)]
    api: Api,
    /// Answer with one JSON document
    #[arg(long)]
    json: bool,
}

/// Where the API is, and what proves who asks.
#[derive(Args)]
struct Api {
    /// Where the API is [env: POSTRIDER_URL]
    #[arg(long, value_name = "URL", default_value = from_environment("POSTRIDER_URL", LOCAL), value_parser = parse_base)]
    url: Url,
    /// An API token; without it, the admin token of the data directory [env: POSTRIDER_TOKEN]
    #[arg(long, value_name = "TOKEN", default_value = from_environment("POSTRIDER_TOKEN", ""), hide_default_value = true)]
    token: String,
    /// The data directory whose admin token is used where no token is given [env: POSTRIDER_DATA_DIR]
    #[arg(long, value_name = "DIR", default_value = default_data_dir())]
    data_dir: PathBuf,
}

impl Event {
    /// Does it.
    pub async fn run(self) -> anyhow::Result<()> {
        let Action::Publish(publish) = self.action;
        if publish.event_type == "-" { publish.run_bulk().await } else { publish.run_one().await }
    }
}

impl Api {
    fn client(&self) -> anyhow::Result<Client> {
        if !self.token.is_empty() {
            return Client::new(&self.url, &self.token);
        }
        let file = self.data_dir.join(ADMIN_TOKEN_FILE);
        let token = std::fs::read_to_string(&file).with_context(|| {
            format!(
                "no token: {} can't be read; give --token or POSTRIDER_TOKEN, or name the data directory with --data-dir",
                file.display()
            )
        })?;
        Client::new(&self.url, &token)
    }
}

impl Publish {
    async fn run_one(&self) -> anyhow::Result<()> {
        let body = self.body()?;
        let mut headers = HeaderMap::new();
        if let Some(key) = &self.idempotency_key {
            let value = HeaderValue::from_str(key)
                .map_err(|_| WrongUsage("--idempotency-key can't stand in a header".to_owned()))?;
            headers.insert("idempotency-key", value);
        }
        let client = self.api.client()?;
        let request = client.post(PATH, &headers, body)?;
        let reply = client.connect().await?.send(request).await?;
        if reply.status != StatusCode::CREATED {
            bail!("{}{}", refusal(reply.status, &reply.text()), advice(reply.status));
        }
        let event: Value = serde_json::from_slice(&reply.body)
            .context("the answer is no JSON; is a Postrider at that URL?")?;
        let text = format!(
            "event {}, {}, owed to {} endpoints",
            event["event_id"], self.event_type, event["endpoint_count"]
        );
        Answer { text, json: event }.print(self.json)
    }

    /// The request's body: the data goes in as it was written.
    fn body(&self) -> anyhow::Result<Bytes> {
        let data = match (&self.data, &self.data_file) {
            (Some(data), _) => data.clone(),
            (None, Some(file)) => std::fs::read_to_string(file)
                .with_context(|| format!("--data-file {} can't be read", file.display()))?,
            (None, None) => {
                let text =
                    "give the event's data with --data or --data-file; --data '{}' is an empty one";
                return Err(WrongUsage(text.to_owned()).into());
            }
        };
        let data: Box<RawValue> = serde_json::from_str(&data)
            .map_err(|error| WrongUsage(format!("the data is not valid JSON: {error}")))?;
        let created = match self.created {
            Some(created) => format!(",\"created\":{created}"),
            None => String::new(),
        };
        let event_type = Value::from(self.event_type.as_str());
        Ok(format!("{{\"type\":{event_type}{created},\"data\":{}}}", data.get()).into())
    }

    async fn run_bulk(&self) -> anyhow::Result<()> {
        let is_for_one = [
            (self.data.is_some(), "--data"),
            (self.data_file.is_some(), "--data-file"),
            (self.created.is_some(), "--created"),
            (self.idempotency_key.is_some(), "--idempotency-key"),
        ];
        if let Some((_, option)) = is_for_one.iter().find(|(is_given, _)| *is_given) {
            let text = format!("{option} is for one event; with - each line says it itself");
            return Err(WrongUsage(text).into());
        }
        let summary = bulk::publish(self.api.client()?).await?;
        summary.answer().print(self.json)?;
        if summary.is_flawless() { Ok(()) } else { Err(super::Failed.into()) }
    }
}

/// What the API said against an event.
fn refusal(status: StatusCode, text: &str) -> String {
    format!("the API answered {}: {}", status.as_u16(), text.trim())
}

fn advice(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => {
            "; check --token: does it belong to this server, and is it still listed by `postrider token list`?"
        }
        StatusCode::FORBIDDEN => "; publishing needs a token with the role publisher or admin",
        StatusCode::NOT_FOUND => "; is --url the address of a Postrider?",
        _ => "",
    }
}

/// How long to wait before trying again what could not be taken: what the server asks for, within reason.
fn retry_after(headers: &HeaderMap) -> Duration {
    let asked = headers.get(http::header::RETRY_AFTER).and_then(|value| value.to_str().ok());
    let seconds = asked.and_then(|text| text.parse().ok()).unwrap_or(1);
    Duration::from_secs(u64::clamp(seconds, 1, 30))
}
