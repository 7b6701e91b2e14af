//! Publishes the events that standard input brings, one per line, several at once.
//!
//! A reader hands numbered lines to a few workers, each with a connection of its own. A line that the API refuses is
//! reported and the rest goes on. Each line has an idempotency key, so that one whose answer was lost is tried again
//! without becoming two events; when the server can't be reached at all, everything stops and says where.

use std::{
    io::{BufRead, IsTerminal},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use indicatif::{ProgressBar, ProgressStyle};
use postrider::clock::{Clock, SystemClock, entropy};
use serde_json::{Value, json};
use tokio::{
    sync::{Mutex, mpsc},
    task::JoinSet,
};

use super::{Client, PATH, refusal, retry_after};
use crate::cli::client::Connection;

/// How many requests are in flight at once: enough for the server to commit them together.
const WORKERS: usize = 32;

/// How often one line is tried.
const TRIES_MAX: u32 = 5;

/// What became of all lines.
#[derive(Default)]
pub struct Summary {
    /// How many were accepted.
    pub published: u64,
    /// Those that were not, by line.
    pub failures: Vec<Failure>,
}

/// A line that was not accepted.
pub struct Failure {
    /// Which line, from 1.
    pub line: u64,
    /// Why not.
    pub reason: String,
}

impl Failure {
    /// For programs.
    pub fn to_json(&self) -> Value {
        json!({"line": self.line, "reason": self.reason})
    }
}

struct Line {
    number: u64,
    text: Bytes,
}

/// How a line ended.
enum Outcome {
    Published,
    Refused(String),
}

/// Publishes every line of standard input.
pub async fn publish(client: Client) -> anyhow::Result<Summary> {
    let clock = SystemClock::new();
    let run = u128::from_ne_bytes(entropy(&clock));
    let shared = Arc::new(Shared { client, clock, key_prefix: format!("{run:032x}") });
    let (lines, waiting) = mpsc::channel(WORKERS * 4);
    let (report, mut reports) = mpsc::channel(WORKERS * 4);
    let reader = tokio::task::spawn_blocking(move || read_lines(&lines));
    let waiting = Arc::new(Mutex::new(waiting));
    let mut workers = JoinSet::new();
    for _ in 0..WORKERS {
        workers.spawn(shared.clone().work(waiting.clone(), report.clone()));
    }
    drop((report, waiting));

    let bar = progress_bar();
    let mut summary = Summary::default();
    loop {
        tokio::select! {
            biased;
            Some((number, outcome)) = reports.recv() => {
                bar.inc(1);
                if let Outcome::Refused(reason) = outcome {
                    bar.suspend(|| eprintln!("line {number}: {reason}"));
                    summary.failures.push(Failure { line: number, reason });
                } else {
                    summary.published += 1;
                }
            }
            Some(worked) = workers.join_next() => {
                let published = summary.published;
                worked?.with_context(|| format!("stopped; {published} events were accepted until then"))?;
            }
            else => break,
        }
    }
    bar.finish_and_clear();
    summary.failures.sort_by_key(|failure| failure.line);
    reader.await??;
    Ok(summary)
}

/// Hands out the lines of standard input, with their numbers; blank ones are passed over.
fn read_lines(lines: &mpsc::Sender<Line>) -> anyhow::Result<()> {
    let mut input = std::io::stdin().lock();
    for number in 1.. {
        let mut text = Vec::new();
        let length = input.read_until(b'\n', &mut text).context("standard input can't be read")?;
        if length == 0 {
            break;
        }
        let text = text.trim_ascii();
        let is_wanted = text.is_empty()
            || lines.blocking_send(Line { number, text: text.to_vec().into() }).is_ok();
        if !is_wanted {
            break;
        }
    }
    Ok(())
}

struct Shared {
    client: Client,
    clock: SystemClock,
    key_prefix: String,
}

impl Shared {
    /// Publishes lines until there are no more.
    async fn work(
        self: Arc<Self>,
        waiting: Arc<Mutex<mpsc::Receiver<Line>>>,
        report: mpsc::Sender<(u64, Outcome)>,
    ) -> anyhow::Result<()> {
        let mut connection = None;
        loop {
            let Some(line) = waiting.lock().await.recv().await else { return Ok(()) };
            match self.publish(&mut connection, &line).await {
                // The other end lives as long as any worker.
                Ok(outcome) => drop(report.send((line.number, outcome)).await),
                Err(error) => {
                    return Err(error.context(format!("line {} was not published", line.number)));
                }
            }
        }
    }

    /// Publishes one line, trying again what did not reach the server or could not be taken just then.
    async fn publish(
        &self,
        connection: &mut Option<Connection>,
        line: &Line,
    ) -> anyhow::Result<Outcome> {
        let mut tries = 1;
        loop {
            let wait = match self.try_once(connection, line).await {
                Ok(reply) => match reply.status {
                    StatusCode::CREATED => return Ok(Outcome::Published),
                    StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
                        if tries < TRIES_MAX =>
                    {
                        retry_after(&reply.headers)
                    }
                    status => return Ok(Outcome::Refused(refusal(status, &reply.text()))),
                },
                Err(error) if tries == TRIES_MAX => return Err(error),
                Err(_) => {
                    *connection = None;
                    Duration::from_millis(100 << tries)
                }
            };
            self.clock.sleep(wait).await;
            tries += 1;
        }
    }

    async fn try_once(
        &self,
        connection: &mut Option<Connection>,
        line: &Line,
    ) -> anyhow::Result<super::super::client::Reply> {
        let mut headers = HeaderMap::new();
        let key = format!("{}-{}", self.key_prefix, line.number);
        headers.insert("idempotency-key", HeaderValue::from_str(&key)?);
        let request = self.client.post(PATH, &headers, line.text.clone())?;
        let open = match connection {
            Some(open) => open,
            None => connection.insert(self.client.connect().await?),
        };
        open.send(request).await
    }
}

/// A counter on a terminal, nothing elsewhere. How many lines there will be, nobody knows.
fn progress_bar() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{spinner} {pos} events, {per_sec}, {elapsed}");
    let bar = ProgressBar::new_spinner();
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    bar
}
