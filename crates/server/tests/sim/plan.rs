//! What a seed decides beforehand: the instance, its endpoints and their receivers, what is published and changed when,
//! and the faults. What is decided on the way (how long this call takes, what that request meets) is drawn there.

use std::{collections::BTreeSet, time::Duration};

use postrider::lanes::Bounds;

use crate::{rng::Rng, store::Fate};

/// One run.
pub struct Plan {
    /// The waits between tries.
    pub waits: Vec<Duration>,
    /// How long a whole try may take.
    pub request_timeout: Duration,
    /// What lanes may hold.
    pub bounds: Bounds,
    /// Requests in flight, at most.
    pub concurrency: usize,
    /// To whom events go.
    pub endpoints: Vec<EndpointPlan>,
    /// What is published.
    pub arrivals: Vec<Arrival>,
    /// When the store is out of order, and how.
    pub weather: Vec<Spell>,
    /// When the process is killed, by the clock and by the number of commits.
    pub kills: Vec<Duration>,
    /// See [`Plan::kills`].
    pub kills_after_commit: BTreeSet<u64>,
    /// The same, while the record of that number is on its way.
    pub kills_at_record: BTreeSet<u64>,
    /// When the process is asked to stop.
    pub stops: Vec<Duration>,
    /// When the wall clock is set, by how many seconds.
    pub clock_jumps: Vec<(Duration, i64)>,
    /// How the next calls of these verbs fare, whatever the weather.
    pub script: Vec<(&'static str, Fate)>,
    /// When all faults end.
    pub heals_at: Duration,
}

/// An endpoint, its receiver, and what an admin does to it.
pub struct EndpointPlan {
    /// Which event types it enables, as places in [`TYPES`].
    pub types: Vec<usize>,
    /// How its receiver fares until all faults end.
    pub nature: Nature,
    /// What an admin does, one after the other.
    pub changes: Vec<(Duration, Change)>,
}

/// The catalogue.
pub const TYPES: [&str; 2] = ["comment.created", "post.created"];

/// How a receiver fares. Only a dead one stays so once the faults have ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nature {
    /// It answers 200, soon.
    Healthy,
    /// It does whatever a receiver can do, 410 aside.
    Moody,
    /// The same, and now and then 410.
    Leaving,
    /// It takes connections, and never answers.
    Hanging,
    /// It refuses connections.
    Absent,
    /// It answers 500.
    Broken,
}

impl Nature {
    /// Whether it is dead, for ever.
    pub fn is_dead(self) -> bool {
        matches!(self, Self::Hanging | Self::Absent | Self::Broken)
    }
}

/// What an admin does to an endpoint.
#[derive(Clone, Copy, Debug)]
pub enum Change {
    /// Deactivates it.
    Deactivate,
    /// Activates it.
    Activate,
    /// Gives it another target.
    Retarget,
    /// Expires its secret, with a grace or without.
    Expire(Option<Duration>),
    /// Owes an event once more.
    Resend,
    /// Deletes it.
    Delete,
}

/// What one publisher does.
#[derive(Clone)]
pub struct Arrival {
    /// When.
    pub at: Duration,
    /// One event, or many at once.
    pub events: Vec<EventPlan>,
    /// Whether it repeats what got no answer, with an idempotency key.
    pub has_key: bool,
    /// How long it waits for the answer before it hangs up.
    pub hangs_up_after: Option<Duration>,
}

/// One event.
#[derive(Clone)]
pub struct EventPlan {
    /// A place in [`TYPES`].
    pub event_type: usize,
    /// How many bytes of data it has, about.
    pub bytes: usize,
}

/// The largest `data` that is published, and more than what the envelope around it takes.
pub const DATA_MAX: usize = 600;
const ENVELOPE_MAX: usize = 200;
/// No payload is larger.
pub const PAYLOAD_MAX: usize = DATA_MAX + ENVELOPE_MAX;

/// A time in which the store is out of order.
pub struct Spell {
    /// From when.
    pub from: Duration,
    /// Until when.
    pub until: Duration,
    /// How.
    pub kind: SpellKind,
}

/// How a store can be out of order.
#[derive(Clone, Copy, Debug)]
pub enum SpellKind {
    /// Nothing gets an answer before it is over.
    Stall,
    /// Everything fails.
    Outage,
    /// So many of a hundred calls fail, before their commit or after it.
    Flaky(u64),
}

impl Plan {
    /// What that seed decides.
    pub fn of(seed: u64) -> Self {
        let mut rng = Rng::new(seed, "plan");
        let heals_at = rng.millis(5_000, 40_000);
        let endpoints: Vec<_> = (0..rng.size(1, 5)).map(|_| endpoint(&mut rng, heals_at)).collect();
        let waits = [&[500, 2_000][..], &[1_000, 3_000, 9_000], &[2_000], &[300, 300, 300, 5_000]];
        let waits = rng.pick(&waits).iter().map(|&wait| Duration::from_millis(wait)).collect();
        let bounds = Bounds {
            lane_capacity: *rng.pick(&[2, 4, 8, 64]),
            bytes: *rng.pick(&[1_000, 4_000, 100_000]),
            endpoint_concurrency: *rng.pick(&[1, 2, 4]),
            processors: 2,
        };
        // A quarter is for first requests; those who hang must not have all of it.
        let concurrency = if rng.percent(30) { rng.size(1, 4) } else { 4 * endpoints.len() + 4 };
        Self {
            waits,
            request_timeout: rng.millis(1_000, 6_000),
            bounds,
            concurrency,
            arrivals: arrivals(&mut rng, heals_at),
            endpoints,
            weather: weather(&mut rng, heals_at),
            kills: moments(&mut rng, heals_at, 40),
            kills_after_commit: (0..rng.size(0, 2)).map(|_| rng.between(20, 400)).collect(),
            kills_at_record: (0..rng.size(0, 2)).map(|_| rng.between(1, 40)).collect(),
            stops: moments(&mut rng, heals_at, 20),
            clock_jumps: moments(&mut rng, heals_at, 30)
                .into_iter()
                .map(|at| (at, *rng.pick(&[-600, -60, -2, 2, 60, 600])))
                .collect(),
            script: Vec::new(),
            heals_at,
        }
    }

    /// One endpoint whose receiver is well, and nothing else: what is to happen is added.
    pub fn calm() -> Self {
        Self {
            waits: vec![Duration::from_secs(1)],
            request_timeout: Duration::from_secs(2),
            bounds: Bounds {
                lane_capacity: 8,
                bytes: 100_000,
                endpoint_concurrency: 4,
                processors: 2,
            },
            concurrency: 8,
            endpoints: vec![EndpointPlan {
                types: vec![0],
                nature: Nature::Healthy,
                changes: Vec::new(),
            }],
            arrivals: Vec::new(),
            weather: Vec::new(),
            kills: Vec::new(),
            kills_after_commit: BTreeSet::new(),
            kills_at_record: BTreeSet::new(),
            stops: Vec::new(),
            clock_jumps: Vec::new(),
            script: Vec::new(),
            heals_at: Duration::from_secs(5),
        }
    }

    /// Whether every endpoint can have its first request in flight, whatever the others do.
    pub fn is_roomy(&self) -> bool {
        self.concurrency > 4 * self.endpoints.len()
    }
}

fn endpoint(rng: &mut Rng, heals_at: Duration) -> EndpointPlan {
    use Nature::{Absent, Broken, Hanging, Healthy, Leaving, Moody};
    let nature =
        *rng.pick(&[Healthy, Healthy, Moody, Moody, Moody, Leaving, Hanging, Absent, Broken]);
    let mut changes = Vec::new();
    if rng.percent(60) {
        for at in moments(rng, heals_at, 90) {
            changes.push((at, change(rng)));
        }
    }
    let types = rng.pick(&[&[0][..], &[1], &[0, 1]]).to_vec();
    EndpointPlan { types, nature, changes }
}

fn change(rng: &mut Rng) -> Change {
    let grace = rng.millis(500, 20_000);
    let is_deleted = rng.percent(30);
    *rng.pick(&[
        Change::Deactivate,
        Change::Deactivate,
        Change::Activate,
        Change::Activate,
        Change::Retarget,
        Change::Expire(None),
        Change::Expire(None),
        Change::Expire(Some(grace)),
        Change::Resend,
        Change::Resend,
        if is_deleted { Change::Delete } else { Change::Expire(None) },
    ])
}

fn arrivals(rng: &mut Rng, heals_at: Duration) -> Vec<Arrival> {
    let count = rng.size(1, 25);
    let is_burst = rng.percent(30);
    let span = if is_burst { 200 } else { millis(heals_at) };
    let from = rng.between(0, millis(heals_at) - span.min(millis(heals_at)));
    let mut arrivals: Vec<_> = (0..count)
        .map(|_| Arrival {
            at: rng.millis(from, from + span),
            events: (0..if rng.percent(15) { rng.size(2, 6) } else { 1 })
                .map(|_| EventPlan { event_type: rng.size(0, 1), bytes: rng.size(20, DATA_MAX) })
                .collect(),
            has_key: rng.percent(40),
            hangs_up_after: rng.percent(15).then(|| rng.millis(0, 30)),
        })
        .collect();
    arrivals.sort_by_key(|arrival| arrival.at);
    arrivals
}

fn weather(rng: &mut Rng, heals_at: Duration) -> Vec<Spell> {
    moments(rng, heals_at, 60)
        .into_iter()
        .map(|from| {
            let flaky = rng.between(5, 60);
            let kind = *rng.pick(&[SpellKind::Stall, SpellKind::Outage, SpellKind::Flaky(flaky)]);
            Spell { from, until: (from + rng.millis(100, 8_000)).min(heals_at), kind }
        })
        .collect()
}

/// Up to five moments before `end`, in order; each further one comes with that chance.
fn moments(rng: &mut Rng, end: Duration, chance: u64) -> Vec<Duration> {
    let mut moments = Vec::new();
    while moments.len() < 5 && rng.percent(chance) {
        moments.push(rng.millis(0, millis(end)));
    }
    moments.sort();
    moments
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
