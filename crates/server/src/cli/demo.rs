//! `postrider demo`: a whole instance in a temporary directory, with a receiver and a stream of events, to look at.
//!
//! Everything goes the way it goes in earnest: an endpoint is made over the API, events are published over the API, and
//! the receiver verifies what comes to it over a socket. Nothing of it is left when the demo ends.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, bail};
use clap::Args;
use http::{HeaderMap, StatusCode};
use postrider::{
    clock::{Clock, SystemClock, entropy},
    config::{Config, LogFormat},
    instance::Instance,
    serve::Service,
    shutdown::StopSignals,
    telemetry,
};
use postrider_kernel::{
    SigningSecret,
    egress::EgressPolicy,
    request::SIGNATURE_HEADER,
    signature::{Tolerance, WEBHOOK_ID},
};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tracing::level_filters::LevelFilter;
use url::Url;

use super::{
    client::{Client, Connection},
    output::say,
    receiver::{Manner, Received, Receiver},
    verdict::{Verdict, Verifier},
};

/// How often something happens in the community.
const PACE: Duration = Duration::from_millis(700);

/// How many of the receiver's answers are failures, in percent.
const FAIL_PERCENT: u8 = 25;

/// The waits between tries, short enough to watch.
const RETRY_SCHEDULE: &str = "1,2,4,8";

/// What happens in the community, again and again.
const SCENES: [(&str, &str); 6] = [
    ("user.created", r#"{"id":7,"name":"Zoë","profile":{"city":"Århus"}}"#),
    ("post.created", r#"{"id":31,"title":"What are you reading?","user":{"id":7}}"#),
    (
        "comment.created",
        r#"{"id":112,"post_id":31,"content":"The sea, again. ☕","user":{"id":9}}"#,
    ),
    ("vote.created", r#"{"id":640,"value":1,"user":{"id":9},"discussion":{"id":31}}"#),
    ("comment.updated", r#"{"id":112,"post_id":31,"content":"The sea, the sea.","user":{"id":9}}"#),
    ("post.updated", r#"{"id":31,"title":"What are you reading this week?","user":{"id":7}}"#),
];

/// A server, a receiver and a stream of events in a temporary directory, to watch until Ctrl-C
#[derive(Args)]
pub struct Demo {
    /// End by itself after so many events were delivered
    #[arg(long, value_name = "N")]
    events: Option<u64>,
    /// Where the API listens; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
}

impl Demo {
    /// Runs until Ctrl-C, or until enough was delivered.
    pub async fn run(self) -> anyhow::Result<()> {
        // Failures are part of the show, and are printed with the rest.
        telemetry::init(LogFormat::fitting_stderr(), LevelFilter::ERROR);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let mut signals = StopSignals::listen()?;
        let directory = tempfile::tempdir().context("no temporary directory")?;
        let (seen, mut deliveries) = mpsc::unbounded_channel();
        let receiver = receiver(clock.clone(), seen).await?;
        let target = format!("http://{}/hooks", receiver.address()?);

        let config = config(self.listen, directory.path())?;
        let instance = Instance::open_to_serve(&config, clock.clone()).await?;
        let token = std::fs::read_to_string(instance.admin_token_file())?;
        let service = Service::start(config, instance).await?;
        let url = Url::parse(&format!("http://{}", service.address))?;
        let community = Community::found(Client::new(&url, &token)?, clock, &target).await?;
        let verifier = community.verifier().await?;
        say(&introduction(&url, token.trim(), &target))?;

        let outcome = tokio::select! {
            error = receiver.run() => Err(error),
            error = community.live() => Err(error),
            told = tell(&verifier, &mut deliveries, self.events) => told,
            () = signals.next() => Ok(()),
        };
        // A second signal leaves at once; the directory goes either way.
        tokio::select! {
            () = service.stop() => {}
            () = signals.next() => {}
        }
        outcome
    }
}

async fn receiver(
    clock: Arc<dyn Clock>,
    seen: mpsc::UnboundedSender<Received>,
) -> anyhow::Result<Receiver> {
    let manner =
        Manner { status: StatusCode::OK, fail_percent: FAIL_PERCENT, delay: Duration::ZERO };
    let onlooker = Arc::new(move |received: Received| {
        seen.send(received).map_err(|_| anyhow::anyhow!("nobody looks on any more"))
    });
    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    Ok(Receiver::bind(loopback, manner, clock, onlooker).await?)
}

fn config(listen: SocketAddr, directory: &std::path::Path) -> anyhow::Result<Config> {
    Ok(Config {
        listen,
        data_dir: directory.join("data"),
        egress: EgressPolicy { allowed: vec!["127.0.0.0/8".parse()?], ..EgressPolicy::default() },
        retry_schedule: RETRY_SCHEDULE.parse()?,
        ..Config::default()
    })
}

fn introduction(url: &Url, token: &str, target: &str) -> String {
    format!(
        "API         {}\n\
         token       {token}\n\
         receiver    {target}, which fails {FAIL_PERCENT}% of the time\n\
         try         curl -H \"Authorization: Bearer {token}\" {url}api/v2/webhook/endpoint/\n",
        url.as_str().trim_end_matches('/'),
    )
}

/// Those who publish: the API, and the endpoint that hears of it.
struct Community {
    client: Client,
    clock: Arc<dyn Clock>,
    endpoint: i64,
}

impl Community {
    /// Makes the endpoint.
    async fn found(client: Client, clock: Arc<dyn Clock>, target: &str) -> anyhow::Result<Self> {
        let mut types: Vec<&str> = SCENES.iter().map(|(event_type, _)| *event_type).collect();
        types.sort_unstable();
        let events: Vec<Value> = types.iter().map(|name| json!({"type": name})).collect();
        let endpoint =
            json!({"target": target, "description": "The demo's own receiver", "events": events});
        let mut connection = client.connect().await?;
        let made =
            call(&client, &mut connection, "/api/v2/webhook/endpoint/", &endpoint.to_string())
                .await?;
        let endpoint = made["id"].as_i64().context("the API made no endpoint")?;
        Ok(Self { client, clock, endpoint })
    }

    /// What the receiver verifies with.
    async fn verifier(&self) -> anyhow::Result<Verifier> {
        let path = format!("/api/v2/webhook/endpoint/{}/secret/reveal/", self.endpoint);
        let mut connection = self.client.connect().await?;
        let revealed = call(&self.client, &mut connection, &path, "{}").await?;
        let secret = revealed["signing_secret"].as_str().context("the API revealed no secret")?;
        Ok(Verifier {
            secrets: vec![SigningSecret::parse(secret)?],
            public_keys: Vec::new(),
            list_header: SIGNATURE_HEADER.parse()?,
        })
    }

    /// Publishes one scene after another, until something breaks.
    async fn live(&self) -> anyhow::Error {
        let mut connection = match self.client.connect().await {
            Ok(connection) => connection,
            Err(error) => return error,
        };
        for (event_type, data) in SCENES.iter().cycle() {
            let event = format!(r#"{{"type":"{event_type}","data":{data}}}"#);
            let path = "/api/v2/webhook/event/";
            if let Err(error) = call(&self.client, &mut connection, path, &event).await {
                return error;
            }
            // Nobody lives by the beat of a clock: half the pace to one and a half times the pace.
            let share = u64::from_ne_bytes(entropy(&*self.clock)) % 100 + 50;
            self.clock.sleep(PACE.mul_f64(share as f64 / 100.0)).await;
        }
        anyhow::anyhow!("the scenes ran out")
    }
}

async fn call(
    client: &Client,
    connection: &mut Connection,
    path: &str,
    body: &str,
) -> anyhow::Result<Value> {
    let request = client.post(path, &HeaderMap::new(), body.to_owned().into())?;
    let reply = connection.send(request).await?;
    if !reply.status.is_success() {
        bail!("{path} answered {}: {}", reply.status, reply.text());
    }
    Ok(serde_json::from_slice(&reply.body)?)
}

/// Prints each try as it reaches the receiver; ends when enough have succeeded.
async fn tell(
    verifier: &Verifier,
    deliveries: &mut mpsc::UnboundedReceiver<Received>,
    enough: Option<u64>,
) -> anyhow::Result<()> {
    let mut delivered = 0;
    while enough.is_none_or(|enough| delivered < enough) {
        let Some(received) = deliveries.recv().await else { bail!("the receiver is gone") };
        let tolerance = Tolerance { now: received.at, allowed: Duration::from_secs(300) };
        let verdicts = verifier.judge(&received.headers, &received.body, tolerance);
        if let Some(wrong) = verdicts.iter().find(|verdict| !verdict.holds()) {
            bail!("a webhook did not verify: {wrong}");
        }
        delivered += u64::from(received.answer.is_success());
        say(&line(&received, &verdicts))?;
    }
    Ok(())
}

/// `12:00:01.123456Z  vote.created       evt_4     200 delivered  verified: timestamped list, Standard Webhooks`
fn line(received: &Received, verdicts: &[Verdict]) -> String {
    let event: Value = serde_json::from_slice(&received.body).unwrap_or_default();
    let at = received.at.to_string();
    let time = at.split_once('T').map_or(at.as_str(), |(_, time)| time);
    let id = received.headers.get(WEBHOOK_ID).and_then(|id| id.to_str().ok()).unwrap_or_default();
    let outcome = if received.answer.is_success() { "delivered" } else { "failed" };
    let dialects: Vec<String> =
        verdicts.iter().map(|verdict| verdict.dialect.to_string()).collect();
    format!(
        "{time:16}  {:16}  {id:8}  {} {outcome}  (verified: {})",
        event["type"].as_str().unwrap_or_default(),
        received.answer.as_u16(),
        dialects.join(", "),
    )
}
