//! Publishers that go on whatever happens to the server, and remember what they were told.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{anyhow, bail};

use super::{client::event_id, now, pause, server::Door};

/// How long a publisher waits after it was refused or found nobody.
const AGAIN: Duration = Duration::from_millis(2);

/// What is published, and how fast.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// How many publish at once.
    pub publishers: usize,
    /// The type of the events.
    pub event_type: &'static str,
    /// How large an event's text is.
    pub bytes: usize,
    /// How often each publishes, where it isn't as often as it can; what was late is made up for.
    pub every: Duration,
}

/// Publishers at work.
#[derive(Debug)]
pub struct Publishers {
    told: Arc<Told>,
    threads: Vec<JoinHandle<anyhow::Result<Vec<i64>>>>,
}

#[derive(Debug, Default)]
struct Told {
    is_over: AtomicBool,
    accepted: AtomicUsize,
    refused: AtomicUsize,
    unanswered: AtomicUsize,
}

impl Publishers {
    /// Starts them.
    pub fn start(door: &Door, load: Load) -> Self {
        let told = Arc::<Told>::default();
        let publish = |_| {
            let (door, told) = (door.clone(), told.clone());
            std::thread::spawn(move || publish(&door, &told, load))
        };
        Self { threads: (0..load.publishers).map(publish).collect(), told }
    }

    /// How many events got a 201 so far.
    pub fn accepted(&self) -> usize {
        self.told.accepted.load(Ordering::SeqCst)
    }

    /// How many got a 503 so far.
    pub fn refused(&self) -> usize {
        self.told.refused.load(Ordering::SeqCst)
    }

    /// How many got no answer so far.
    pub fn unanswered(&self) -> usize {
        self.told.unanswered.load(Ordering::SeqCst)
    }

    /// Ends them, and answers every event that got a 201.
    pub fn finish(self) -> anyhow::Result<Vec<i64>> {
        self.told.is_over.store(true, Ordering::SeqCst);
        let mut accepted = Vec::new();
        for thread in self.threads {
            accepted.extend(thread.join().map_err(|_| anyhow!("a publisher panicked"))??);
        }
        Ok(accepted)
    }
}

fn publish(door: &Door, told: &Told, load: Load) -> anyhow::Result<Vec<i64>> {
    let mut client = door.client();
    let mut accepted = Vec::new();
    let (start, mut due) = (now(), Duration::ZERO);
    while !told.is_over.load(Ordering::SeqCst) {
        match client.publish(load.event_type, load.bytes) {
            Ok(answer) if answer.status == 201 => {
                accepted.push(event_id(&answer)?);
                told.accepted.fetch_add(1, Ordering::SeqCst);
                due += load.every;
                pause(due.saturating_sub(start.elapsed()));
            }
            Ok(answer) if answer.status == 503 => {
                told.refused.fetch_add(1, Ordering::SeqCst);
                pause(AGAIN);
                client = door.client();
            }
            Ok(answer) => bail!("a publish was answered {}: {}", answer.status, answer.text()),
            Err(_) => {
                told.unanswered.fetch_add(1, Ordering::SeqCst);
                pause(AGAIN);
                client = door.client();
            }
        }
    }
    Ok(accepted)
}
