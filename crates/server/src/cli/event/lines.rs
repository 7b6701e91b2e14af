//! The lines of standard input, gathered into bulks.
//!
//! A thread reads ahead of the publisher, as far as one bulk goes. Whatever it has read when the publisher asks makes the
//! next bulk: a fast producer fills it while the one before is under way, and a slow one's events are not held back.

use std::{io::BufRead, sync::Arc};

use anyhow::Context;
use bytes::Bytes;
use serde_json::value::RawValue;
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinHandle,
};

/// How many events the API takes at once.
const BULK_MAX: usize = 1_000;

/// How many bytes are sent at once: far less than the 16 MiB that the API takes, since proxies in front of it often let
/// 1 MiB through, and a larger bulk would be no faster. A line that is larger makes a bulk of its own.
const BULK_BYTES_MAX: usize = 1_000_000;

/// A line that may be an event.
pub struct Line {
    /// Which one, from 1.
    pub number: u64,
    /// What it says: one JSON value.
    pub text: Bytes,
}

/// What is to be published at once.
#[derive(Default)]
pub struct Bulk {
    /// Its lines, in order.
    pub lines: Vec<Line>,
    /// The lines between them that are no JSON, and why.
    pub unsound: Vec<(u64, String)>,
    /// Where in the input it ends, in bytes.
    pub end: u64,
}

/// The lines that wait for the publisher.
pub struct Lines {
    waiting: mpsc::Receiver<Read>,
    reader: JoinHandle<anyhow::Result<()>>,
}

/// A line as it was read, and the room that it takes while it waits.
struct Read {
    number: u64,
    text: Result<Bytes, String>,
    end: u64,
    _room: OwnedSemaphorePermit,
}

impl Lines {
    /// Begins to read standard input.
    pub fn of_stdin() -> Self {
        let (sender, waiting) = mpsc::channel(BULK_MAX);
        let runtime = Handle::current();
        let reader = tokio::task::spawn_blocking(move || read(&runtime, &sender));
        Self { waiting, reader }
    }

    /// The lines that wait, as many as one bulk takes; waits for the first one, and for no other. None at the end.
    pub async fn next_bulk(&mut self) -> anyhow::Result<Option<Bulk>> {
        let Some(first) = self.waiting.recv().await else {
            (&mut self.reader).await??;
            return Ok(None);
        };
        // Each line keeps its room until the bulk is complete, so that a bulk has no more bytes than there is room.
        let mut gathered = vec![first];
        while gathered.len() < BULK_MAX
            && let Ok(line) = self.waiting.try_recv()
        {
            gathered.push(line);
        }
        let mut bulk = Bulk::default();
        for Read { number, text, end, .. } in gathered {
            match text {
                Ok(text) => bulk.lines.push(Line { number, text }),
                Err(reason) => bulk.unsound.push((number, reason)),
            }
            bulk.end = end;
        }
        Ok(Some(bulk))
    }
}

/// The reader's thread: passes on what it reads, as far as there is room.
fn read(runtime: &Handle, lines: &mpsc::Sender<Read>) -> anyhow::Result<()> {
    let room = Arc::new(Semaphore::new(BULK_BYTES_MAX));
    let mut input = std::io::stdin().lock();
    let mut end = 0;
    for number in 1.. {
        let mut text = Vec::new();
        let length = input.read_until(b'\n', &mut text).context("standard input can't be read")?;
        if length == 0 {
            break;
        }
        end += length as u64;
        let text = text.trim_ascii();
        if text.is_empty() {
            continue;
        }
        let bytes = u32::try_from(text.len().min(BULK_BYTES_MAX))?;
        let room = runtime.block_on(room.clone().acquire_many_owned(bytes))?;
        let line = Read { number, text: event_of(text), end, _room: room };
        if lines.blocking_send(line).is_err() {
            break;
        }
    }
    Ok(())
}

/// Looks whether a line is one JSON value. In a bulk anything else would be more than the business of its own line.
fn event_of(text: &[u8]) -> Result<Bytes, String> {
    match serde_json::from_slice::<&RawValue>(text) {
        Ok(_) => Ok(Bytes::copy_from_slice(text)),
        Err(error) => Err(format!("it is not valid JSON: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_json_value() {
        let check = |line: &str, is_one: bool| {
            assert_eq!(event_of(line.as_bytes()).is_ok(), is_one, "{line}");
        };
        check(r#"{"type":"a","data":{"a":"\ud800"}}"#, true);
        check("[]", true);
        check(r#"{"type":"a","data":{}},{"type":"b","data":{}}"#, false);
        check("{} {}", false);
        check("]", false);
        check("{", false);
        check(&"[".repeat(1_000_000), false);
        assert!(event_of(b"\"\xff\"").is_err());
    }
}
