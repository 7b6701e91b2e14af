//! Publishes the events that standard input brings, one per line, in bulks, one after the other.
//!
//! A bulk is all or none. When the API refuses some of its lines, those are reported and the rest is sent again without
//! them. What surely was not kept is tried again: what did not reach the server, and what it could not take just then.
//!
//! A bulk whose answer was lost is another matter. Perhaps it was committed, and then sending it again would publish each
//! of its events twice. A bulk has no idempotency key; and keys for its lines, one by one, would not help now, since the
//! bulk left none behind that they could meet. So its lines are reported as of unknown fate, which they are, for somebody
//! to look; the rest goes on, and the exit code is 1. Who needs more publishes one by one, each with a key.

use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use postrider::clock::{Clock, SystemClock};
use serde_json::Value;

use super::{
    BULK_PATH, Client, advice,
    lines::{Bulk, Line, Lines},
    refusal, retry_after,
    tally::Tally,
};
use crate::cli::client::{Connection, NoAnswer, Reply};

/// How often a bulk is tried that doesn't reach the server.
const TRIES_MAX: u32 = 5;

/// How long a server is waited for that can't take events.
const BUSY_MAX: Duration = Duration::from_secs(300);

/// How long a connection may have been idle: a server that closes it at the very moment when the next bulk is written
/// would leave that one without an answer.
const IDLE_MAX: Duration = Duration::from_secs(5);

/// Publishes every line of standard input.
pub async fn publish(client: Client) -> anyhow::Result<Tally> {
    let clock = SystemClock::new();
    let (mut lines, mut tally) = (Lines::of_stdin(), Tally::new());
    let mut publisher = Publisher { client, clock, connection: None };
    while let Some(bulk) = lines.next_bulk().await? {
        let end = bulk.end;
        let published = publisher.publish(bulk, &mut tally).await;
        tally.show(end, publisher.clock.monotonic());
        if let Err(error) = published {
            tally.finish();
            return Err(error);
        }
    }
    tally.finish();
    Ok(tally)
}

struct Publisher {
    client: Client,
    clock: SystemClock,
    /// With the time when it was last used.
    connection: Option<(Connection, Duration)>,
}

/// What became of a bulk.
enum Verdict {
    Accepted,
    /// None of it was kept; for each line, what is wrong with it.
    Refused(Vec<Option<String>>),
    /// None of it was kept, since somebody on the way takes no such amount at once.
    TooLarge(String),
    /// Perhaps it was kept.
    Unknown(String),
}

impl Publisher {
    async fn publish(&mut self, bulk: Bulk, tally: &mut Tally) -> anyhow::Result<()> {
        for (line, reason) in bulk.unsound {
            tally.refuse(line, reason);
        }
        // What is still to be sent, the next part last.
        let mut parts = vec![bulk.lines];
        while let Some(mut part) = parts.pop() {
            let Some(first) = part.first().map(|line| line.number) else { continue };
            let sent = self.send(&part, tally).await;
            match sent.with_context(|| {
                let published = tally.published();
                format!("stopped at line {first}; {published} events were accepted until then")
            })? {
                Verdict::Accepted => tally.accept(&part),
                Verdict::Refused(reasons) => parts.push(without_refused(part, reasons, tally)),
                Verdict::TooLarge(reason) if part.len() == 1 => {
                    tally.refuse(first, reason);
                }
                Verdict::TooLarge(_) => {
                    let later = part.split_off(part.len() / 2);
                    parts.extend([later, part]);
                }
                Verdict::Unknown(reason) => tally.lose(&part, &reason),
            }
        }
        Ok(())
    }

    /// Sends a bulk until there is a verdict. It fails when no bulk would fare better.
    async fn send(&mut self, lines: &[Line], tally: &Tally) -> anyhow::Result<Verdict> {
        let body = body_of(lines);
        let (mut tries, mut waited) = (1, Duration::ZERO);
        loop {
            let wait = match self.try_once(&body).await {
                Ok(reply) => match verdict(&reply, lines.len())? {
                    Some(verdict) => return Ok(verdict),
                    None if waited >= BUSY_MAX => bail!(refusal(reply.status, &reply.text())),
                    None => {
                        let wait = retry_after(&reply.headers);
                        if waited.is_zero() {
                            tally.tell("the server can't take events right now; waiting for it");
                        }
                        waited += wait;
                        wait
                    }
                },
                Err(NoAnswer::Lost(error)) => {
                    return Ok(Verdict::Unknown(format!("the answer was lost ({error:#})")));
                }
                Err(NoAnswer::Unsent(error)) if tries == TRIES_MAX => return Err(error),
                Err(NoAnswer::Unsent(_)) => {
                    tries += 1;
                    Duration::from_millis(100 << tries)
                }
            };
            self.clock.sleep(wait).await;
        }
    }

    async fn try_once(&mut self, body: &Bytes) -> Result<Reply, NoAnswer> {
        let request = self.client.post(BULK_PATH, &HeaderMap::new(), body.clone());
        let request = request.map_err(NoAnswer::Unsent)?;
        let now = self.clock.monotonic();
        let mut connection = match self.connection.take() {
            Some((open, used)) if now.saturating_sub(used) < IDLE_MAX => open,
            _ => self.client.connect().await.map_err(NoAnswer::Unsent)?,
        };
        let reply = connection.send(request).await?;
        self.connection = Some((connection, self.clock.monotonic()));
        Ok(reply)
    }
}

/// What an answer says of a bulk; `None` when it asks to wait, and an error when it would say the same of every bulk.
fn verdict(reply: &Reply, lines: usize) -> anyhow::Result<Option<Verdict>> {
    let text = || refusal(reply.status, &reply.text());
    Ok(Some(match reply.status {
        StatusCode::CREATED => Verdict::Accepted,
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => return Ok(None),
        StatusCode::PAYLOAD_TOO_LARGE => Verdict::TooLarge(text()),
        StatusCode::BAD_REQUEST => match refused_lines(reply, lines) {
            Some(reasons) => Verdict::Refused(reasons),
            None => bail!(text()),
        },
        status if status.is_client_error() => bail!("{}{}", text(), advice(status)),
        // A gateway that gave up waiting, or a fault of the server's, says nothing of what was kept.
        _ => Verdict::Unknown(text()),
    }))
}

/// What is wrong with each line; `None` when the answer doesn't say so of any.
fn refused_lines(reply: &Reply, lines: usize) -> Option<Vec<Option<String>>> {
    let places: Vec<Value> = serde_json::from_slice(&reply.body).ok()?;
    let reason = |place: &Value| {
        let is_sound = place.as_object().is_some_and(serde_json::Map::is_empty);
        (!is_sound).then(|| refusal(reply.status, &place.to_string()))
    };
    let reasons: Vec<_> = places.iter().map(reason).collect();
    (reasons.len() == lines && reasons.iter().any(Option::is_some)).then_some(reasons)
}

/// The lines that nothing is wrong with; the others are reported.
fn without_refused(lines: Vec<Line>, reasons: Vec<Option<String>>, tally: &mut Tally) -> Vec<Line> {
    let mut rest = Vec::new();
    for (line, reason) in lines.into_iter().zip(reasons) {
        match reason {
            Some(reason) => tally.refuse(line.number, reason),
            None => rest.push(line),
        }
    }
    rest
}

/// The request's body: each line goes in as it was written.
fn body_of(lines: &[Line]) -> Bytes {
    let length: usize = lines.iter().map(|line| line.text.len() + 1).sum();
    let mut body = Vec::with_capacity(length + 1);
    for line in lines {
        body.push(if body.is_empty() { b'[' } else { b',' });
        body.extend_from_slice(&line.text);
    }
    body.push(b']');
    body.into()
}
