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
    /// How far each node's wall clock is off, in seconds: one node has its store alone, several share one.
    pub wall_clocks: Vec<i64>,
    /// When a node is frozen, and for how long: none of its tasks runs, and time passes.
    pub freezes: Vec<(Duration, usize, Duration)>,
    /// When a node's process is killed, by the clock and by the number of commits.
    pub kills: Vec<(Duration, usize)>,
    /// See [`Plan::kills`].
    pub kills_after_commit: BTreeSet<u64>,
    /// The same, while the record of that number is on its way.
    pub kills_at_record: BTreeSet<u64>,
    /// When a node's process is asked to stop.
    pub stops: Vec<(Duration, usize)>,
    /// When a node's wall clock is set, by how many seconds.
    pub clock_jumps: Vec<(Duration, usize, i64)>,
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

/// Of so many seeds in a hundred several nodes share one store.
const SHARED_PERCENT: u64 = 40;

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
    /// Which node it talks to.
    pub node: usize,
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
#[derive(Clone)]
pub struct Spell {
    /// From when.
    pub from: Duration,
    /// Until when.
    pub until: Duration,
    /// For which node, where it isn't for all.
    pub node: Option<usize>,
    /// How.
    pub kind: SpellKind,
}

impl Arrival {
    /// Whether its publisher repeats it until it hears that it is accepted: then it is kept once.
    pub fn repeats(&self) -> bool {
        self.has_key && self.events.len() == 1
    }
}

impl Spell {
    /// Whether a node feels it now.
    pub fn is_felt(&self, node: usize, now: Duration) -> bool {
        (self.from..self.until).contains(&now) && self.node.is_none_or(|one| one == node)
    }
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
        let mut of_nodes = Rng::new(seed, "nodes");
        let nodes = if of_nodes.percent(SHARED_PERCENT) { of_nodes.size(2, 3) } else { 1 };
        // A lease has to run out before all faults end.
        let least = if nodes > 1 { 15_000 } else { 5_000 };
        let heals_at = rng.millis(least, 40_000);
        let endpoints: Vec<_> = (0..rng.size(1, 5)).map(|_| endpoint(&mut rng, heals_at)).collect();
        let waits = [&[500, 2_000][..], &[1_000, 3_000, 9_000], &[2_000], &[300, 300, 300, 5_000]];
        let waits = rng.pick(&waits).iter().map(|&wait| Duration::from_millis(wait)).collect();
        let bounds = Bounds {
            lane_capacity: *rng.pick(&[2, 4, 8, 64]),
            bytes: *rng.pick(&[1_000, 4_000, 100_000]),
            endpoint_concurrency: *rng.pick(&[1, 2, 4, 16]),
            processors: 2,
        };
        // A quarter is for first requests; those who hang must not have all of it.
        let concurrency = if rng.percent(30) { rng.size(1, 4) } else { 4 * endpoints.len() + 4 };
        let mut plan = Self {
            waits,
            request_timeout: rng.millis(1_000, 6_000),
            bounds,
            concurrency,
            arrivals: arrivals(&mut rng, heals_at),
            endpoints,
            weather: [weather(&mut rng, heals_at), cuts(&mut of_nodes, nodes, heals_at)].concat(),
            wall_clocks: (0..nodes).map(|_| wall_clock(&mut of_nodes, nodes)).collect(),
            freezes: freezes(&mut of_nodes, nodes, heals_at),
            kills: on_nodes(moments(&mut rng, heals_at, 40), &mut of_nodes, nodes),
            kills_after_commit: (0..rng.size(0, 2)).map(|_| rng.between(20, 400)).collect(),
            kills_at_record: (0..rng.size(0, 2)).map(|_| rng.between(1, 40)).collect(),
            stops: on_nodes(moments(&mut rng, heals_at, 20), &mut of_nodes, nodes),
            clock_jumps: on_nodes(moments(&mut rng, heals_at, 30), &mut of_nodes, nodes)
                .into_iter()
                .map(|(at, node)| (at, node, *rng.pick(&[-600, -60, -2, 2, 60, 600])))
                .collect(),
            script: Vec::new(),
            heals_at,
        };
        if plan.is_shared() {
            plan.spread(&mut of_nodes);
        }
        plan
    }

    /// Spreads what is published over the nodes, and publishes more where it matters: around each change of an endpoint, and
    /// just before a node is frozen or cut off.
    fn spread(&mut self, rng: &mut Rng) {
        for arrival in &mut self.arrivals {
            arrival.node = rng.size(0, self.wall_clocks.len() - 1);
        }
        let mut moments = Vec::new();
        for endpoint in &self.endpoints {
            for &(at, _) in &endpoint.changes {
                let event_type = *rng.pick(&endpoint.types);
                let burst = (0..rng.size(0, 6)).map(|_| {
                    let node = rng.size(0, self.wall_clocks.len() - 1);
                    (at + rng.millis(0, 1_800), Duration::from_millis(1_500), node, event_type)
                });
                moments.extend(burst);
            }
        }
        let cuts = self.weather.iter().filter_map(|spell| Some((spell.from, spell.node?)));
        let freezes = self.freezes.iter().map(|&(at, node, _)| (at, node));
        for (at, node) in cuts.chain(freezes) {
            let burst = (0..rng.size(0, 8)).map(|_| {
                let at = at + rng.millis(0, 60);
                (at, Duration::from_millis(60), node, rng.size(0, TYPES.len() - 1))
            });
            moments.extend(burst);
        }
        self.arrivals.extend(moments.into_iter().map(|(at, before, node, event_type)| Arrival {
            at: at.saturating_sub(before),
            node,
            events: vec![EventPlan { event_type, bytes: rng.size(20, DATA_MAX) }],
            has_key: rng.percent(20),
            hangs_up_after: None,
        }));
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
            wall_clocks: vec![0],
            freezes: Vec::new(),
            kills: Vec::new(),
            kills_after_commit: BTreeSet::new(),
            kills_at_record: BTreeSet::new(),
            stops: Vec::new(),
            clock_jumps: Vec::new(),
            script: Vec::new(),
            heals_at: Duration::from_secs(5),
        }
    }

    /// How many nodes there are.
    pub fn nodes(&self) -> usize {
        self.wall_clocks.len()
    }

    /// Whether several nodes share the store.
    pub fn is_shared(&self) -> bool {
        self.nodes() > 1
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
            node: 0,
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
            Spell { from, until: (from + rng.millis(100, 8_000)).min(heals_at), node: None, kind }
        })
        .collect()
}

/// Times in which one of several nodes is cut off from the store, or has a hard time reaching it.
fn cuts(rng: &mut Rng, nodes: usize, heals_at: Duration) -> Vec<Spell> {
    let moments = if nodes > 1 { moments(rng, heals_at, 60) } else { Vec::new() };
    moments
        .into_iter()
        .map(|from| {
            let flaky = rng.between(20, 90);
            let kind = *rng.pick(&[SpellKind::Stall, SpellKind::Outage, SpellKind::Flaky(flaky)]);
            let until = (from + pause(rng)).min(heals_at);
            Spell { from, until, node: Some(rng.size(0, nodes - 1)), kind }
        })
        .collect()
}

/// When nodes of several are frozen.
fn freezes(rng: &mut Rng, nodes: usize, heals_at: Duration) -> Vec<(Duration, usize, Duration)> {
    let moments = if nodes > 1 { moments(rng, heals_at, 60) } else { Vec::new() };
    let mut freezes: Vec<(Duration, usize, Duration)> = Vec::new();
    for at in moments {
        let (node, how_long) = (rng.size(0, nodes - 1), pause(rng));
        let is_free =
            |(from, of, lasts): &(Duration, usize, Duration)| *of != node || *from + *lasts < at;
        if freezes.iter().all(is_free) {
            freezes.push((at, node, how_long));
        }
    }
    freezes
}

/// Too short to lose anything, long enough to lose the right to sign, or long enough to lose the lease.
fn pause(rng: &mut Rng) -> Duration {
    let (least, most) = *rng.pick(&[(50, 900), (900, 4_000), (10_000, 16_000)]);
    rng.millis(least, most)
}

/// How far a wall clock is off: nobody notices where nodes share the store's time.
fn wall_clock(rng: &mut Rng, nodes: usize) -> i64 {
    if nodes > 1 { *rng.pick(&[0, -3_600, -2, 1, 86_400]) } else { 0 }
}

fn on_nodes(moments: Vec<Duration>, rng: &mut Rng, nodes: usize) -> Vec<(Duration, usize)> {
    moments.into_iter().map(|at| (at, rng.size(0, nodes - 1))).collect()
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
