//! What was seen from outside, by the receivers, the store, the publishers and the admins, and what of it can't be: each
//! promise is a check here. A check that fails is a violation; it doesn't end the run, so that all of them are told.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::Request;
use postrider::{
    clock::Clock, directory::Directory, lanes::Lanes, transport::Unsent, vault::Place as Row,
};
use postrider_kernel::{
    AttemptId, DeliveryId, EndpointId, EventId, Next, SigningSecret, TenantId, Timestamp,
    attempt::{Answer, Cause},
    delivery::Status,
    event,
    signature::{self, Tolerance},
};
use postrider_store::{
    AttemptRecord, Claim, Lease, NewSecret, Publication, PublishAnswer, Recorded,
    memory::DeliveryState,
};

use crate::{
    life::vault,
    plan::{EndpointPlan, Nature, PAYLOAD_MAX, Plan, TYPES},
    world::{SimClock, World},
};

/// The one tenant.
pub const TENANT: TenantId = TenantId::new(1);

/// A receiver's place: that of an endpoint, which moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Which endpoint, by its place in the plan.
    pub endpoint: usize,
    /// How often it had moved.
    pub generation: u32,
}

/// Whether the first byte of a request is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// It isn't.
    No,
    /// It is.
    Yes,
}

/// A request that was signed.
#[derive(Clone, Debug)]
pub struct Signed {
    /// From which node.
    pub node: usize,
    /// Under which lease.
    pub lease: Lease,
    /// Where to.
    pub place: Place,
    /// What.
    pub event: EventId,
    /// How often the right to sign had run out until then; it doesn't run out where a store isn't shared.
    lapses: Option<u64>,
}

/// Of a process, what the ledger looks into.
pub struct Parts {
    /// Its lanes.
    pub lanes: Arc<Lanes>,
    /// Its picture of the endpoints.
    pub directory: Arc<Directory>,
    /// The time that it goes by.
    pub clock: Arc<dyn Clock>,
}

/// What was seen of the process that a node runs.
#[derive(Default)]
struct Process {
    parts: Option<Parts>,
    in_flight: usize,
    to_endpoint: BTreeMap<usize, usize>,
    /// What was answered and is not recorded yet.
    unrecorded: BTreeSet<Owed>,
    /// What was signed since a record failed, until one succeeds.
    since_failure: Option<BTreeSet<Owed>>,
}

/// A promise that was broken: which, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The check that found it.
    pub check: &'static str,
    /// What it found.
    pub what: String,
}

/// What was seen.
pub struct Ledger {
    /// What was found wrong.
    pub violations: Vec<Violation>,
    processes: Vec<Process>,
    endpoints: Vec<Seen>,
    waits: Vec<Duration>,
    limits: Limits,
    /// Publications that the store was asked for, and those of them that it keeps.
    tried: BTreeSet<EventId>,
    kept: BTreeMap<EventId, Publication>,
    accepted: Vec<PublishAnswer>,
    by_key: BTreeMap<String, EventId>,
    /// Which arrivals are repeated, and the events that are kept of them.
    repeated: BTreeMap<usize, BTreeSet<EventId>>,
    /// The leases of the living, and who holds which delivery.
    leases: BTreeSet<Lease>,
    holders: BTreeMap<DeliveryId, Lease>,
    /// What was acknowledged under a lease, and how that attempt ended is not recorded yet.
    acknowledged: BTreeMap<(Owed, Lease), usize>,
    attempts: BTreeMap<AttemptId, DeliveryId>,
    tries: BTreeMap<DeliveryId, Vec<Next>>,
    owed: BTreeMap<Owed, Carried>,
    /// How often something happened, for the figures.
    pub counts: Counts,
}

/// Figures of a run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Requests that were signed.
    pub requests: u64,
    /// Events that were accepted.
    pub accepted: u64,
    /// Processes that were started.
    pub lives: u64,
    /// Requests that came again though the receiver had acknowledged.
    pub duplicates: u64,
    /// Records that were refused because their lease was lost.
    pub fenced: u64,
    /// Leases that ran out, of nodes that were dead, or frozen or cut off for too long.
    pub lost: u64,
}

impl Counts {
    /// Adds those of another run.
    pub fn add(&mut self, other: Self) {
        self.requests += other.requests;
        self.accepted += other.accepted;
        self.lives += other.lives;
        self.duplicates += other.duplicates;
        self.fenced += other.fenced;
        self.lost += other.lost;
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { requests, accepted, lives, duplicates, fenced, lost } = self;
        write!(
            f,
            "{accepted} events accepted, {requests} requests, {lives} lives, of which {lost} ran out, \
             {duplicates} requests again though the receiver had acknowledged, {fenced} records under a lost lease refused"
        )
    }
}

struct Limits {
    per_endpoint: usize,
    concurrency: usize,
    bytes: usize,
}

/// What is known of the endpoints at one moment.
pub struct Known(Vec<(Option<bool>, u64)>);

/// An event and an endpoint. Resends of it are not told apart.
type Owed = (EventId, usize);

/// What became of an event on its way to an endpoint.
#[derive(Default)]
struct Carried {
    in_flight: BTreeMap<Lease, usize>,
    /// How often the receiver acknowledged.
    acknowledged: usize,
    delivered: usize,
}

/// An endpoint, as its admin and its receiver see it.
struct Seen {
    secrets: Vec<Secret>,
    /// An admin was told that nothing is sent to it.
    is_closed: bool,
    /// Requests may go to places of these generations.
    generations: (u32, u32),
    /// Whether it is active, where an admin was told so and nothing has been done to it since.
    is_known_active: Option<bool>,
    /// How often an admin has begun to change it.
    changes: u64,
    /// Neither admins nor its receiver change anything about it.
    is_steady: bool,
    types: Vec<usize>,
}

/// A signing secret.
struct Secret {
    text: SigningSecret,
    /// The grace that the store keeps of it.
    grace_until: Option<Timestamp>,
    /// An admin was told that it signs no more, now or from then on.
    ends: Option<End>,
}

#[derive(Clone, Copy)]
enum End {
    Now,
    At(Timestamp),
}

impl Ledger {
    /// Nothing was seen yet.
    pub fn new(plan: &Plan) -> Self {
        let seen = |endpoint: &EndpointPlan| Seen {
            secrets: Vec::new(),
            is_closed: false,
            generations: (0, 0),
            is_known_active: Some(true).filter(|_| endpoint.nature != Nature::Leaving),
            changes: 0,
            is_steady: endpoint.changes.is_empty() && endpoint.nature != Nature::Leaving,
            types: endpoint.types.clone(),
        };
        Self {
            violations: Vec::new(),
            processes: (0..plan.nodes()).map(|_| Process::default()).collect(),
            endpoints: plan.endpoints.iter().map(seen).collect(),
            waits: plan.waits.clone(),
            limits: Limits {
                per_endpoint: plan.bounds.endpoint_concurrency as usize,
                concurrency: plan.concurrency,
                // One payload may be held beyond twice the bound, and one more by each claim that was under way.
                bytes: 2 * plan.bounds.bytes + (1 + plan.endpoints.len()) * PAYLOAD_MAX,
            },
            tried: BTreeSet::new(),
            kept: BTreeMap::new(),
            accepted: Vec::new(),
            by_key: BTreeMap::new(),
            repeated: plan
                .arrivals
                .iter()
                .enumerate()
                .filter(|(_, arrival)| arrival.repeats())
                .map(|(number, _)| (number, BTreeSet::new()))
                .collect(),
            leases: BTreeSet::new(),
            holders: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
            attempts: BTreeMap::new(),
            tries: BTreeMap::new(),
            owed: BTreeMap::new(),
            counts: Counts::default(),
        }
    }

    /// A promise is broken.
    pub fn violate(&mut self, check: &'static str, what: impl Into<String>) {
        self.violations.push(Violation { check, what: what.into() });
    }

    fn require(&mut self, holds: bool, check: &'static str, what: impl FnOnce() -> String) {
        if !holds {
            self.violate(check, what());
        }
    }

    // ---- what the store sees ----

    /// A process has come as far as to read the store.
    pub fn process_began(&mut self, node: usize, parts: Parts) {
        self.processes[node].parts = Some(parts);
    }

    /// A process has ended, and forgets.
    pub fn process_ended(&mut self, node: usize) {
        self.processes[node] = Process::default();
    }

    /// How many payload bytes wait in memory, on all nodes.
    pub fn bytes_held(&self) -> usize {
        let parts = self.processes.iter().filter_map(|process| process.parts.as_ref());
        parts.map(|parts| parts.lanes.bytes_held()).sum()
    }

    /// The pictures that the nodes have.
    pub fn directories(&self) -> Vec<Arc<Directory>> {
        let parts = self.processes.iter().filter_map(|process| process.parts.as_ref());
        parts.map(|parts| parts.directory.clone()).collect()
    }

    /// A life begins.
    pub fn lease_began(&mut self, lease: Lease) {
        self.counts.lives += 1;
        self.leases.insert(lease);
    }

    /// A life has ended.
    pub fn lease_ended(&mut self, lease: Lease) {
        self.leases.remove(&lease);
    }

    /// A life is taken for dead.
    pub fn lease_ran_out(&mut self, lease: Lease) {
        self.counts.lost += 1;
        self.lease_ended(lease);
    }

    /// The store is one process's alone, and another one begins: nobody holds anything any more.
    pub fn all_leases_ended(&mut self) {
        self.leases.clear();
        self.holders.clear();
    }

    /// The store makes deliveries pending that are leased so.
    pub fn freed(&mut self, deliveries: &[DeliveryId], lease: Lease) {
        for delivery in deliveries {
            if self.holders.get(delivery) == Some(&lease) {
                self.holders.remove(delivery);
            }
        }
    }

    fn leased(&mut self, delivery: DeliveryId, lease: Lease) {
        let holder = self.holders.insert(delivery, lease);
        self.require(holder.is_none(), "a delivery has one holder", || {
            format!("{delivery} is leased under {lease:?} and was under {holder:?}")
        });
    }

    /// A node heard whether its record was written.
    pub fn heard_of_record(&mut self, node: usize, is_written: bool) {
        let since_failure = &mut self.processes[node].since_failure;
        if is_written {
            *since_failure = None;
        } else {
            since_failure.get_or_insert_default();
        }
    }

    /// The store is asked to keep publications.
    pub fn tried_to_publish(&mut self, publications: &[Publication]) {
        self.tried.extend(publications.iter().map(|publication| publication.event));
    }

    /// The store keeps publications.
    pub fn published(&mut self, publications: &[Publication]) {
        for publication in publications {
            if let Some(idempotency) = &publication.idempotency {
                let earlier = self.by_key.insert(idempotency.key.clone(), publication.event);
                self.require(earlier.is_none(), "a key is kept once", || idempotency.key.clone());
            }
            for new in publication.deliveries.iter().filter(|new| new.leased) {
                self.leased(new.id, publication.lease);
            }
            let events = arrival_of(&publication.payload).and_then(|n| self.repeated.get_mut(&n));
            if let Some(events) = events {
                events.insert(publication.event);
                let events = events.clone();
                self.require(events.len() == 1, "a key is kept once", || format!("{events:?}"));
            }
            self.kept.insert(publication.event, publication.clone());
        }
    }

    /// The store leased deliveries that are due `now`; it never was later than `latest`.
    pub fn claimed(&mut self, claim: &Claim, lease: Lease, now: Timestamp, latest: Timestamp) {
        for delivery in &claim.deliveries {
            self.leased(delivery.id, lease);
            let Some(Next::Retry(due)) = self.tries.get(&delivery.id).and_then(|all| all.last())
            else {
                continue;
            };
            let due = *due;
            self.require(due <= now, "nothing is retried early", || {
                format!("delivery {} is due at {due} and was claimed at {now}", delivery.id)
            });
        }
        self.require(now <= latest, "nothing is retried early", || {
            format!("claims ask for {now}, and it never was later than {latest}")
        });
    }

    /// The store brings forward what waits, since the wall clock was set back.
    pub fn brought_forward(&mut self, now: Timestamp, by: Duration) {
        for next in self.tries.values_mut().filter_map(|all| all.last_mut()) {
            if let Next::Retry(due) = next
                && *due > now
            {
                *due = now.plus(now.until(*due).saturating_sub(by));
            }
        }
    }

    /// Whether an attempt is recorded already.
    pub fn is_recorded(&self, attempt: &AttemptRecord) -> bool {
        self.attempts.get(&attempt.id) == Some(&attempt.delivery)
    }

    /// The store wrote an attempt of a node, or refused to. Of a process that is dead it came late.
    pub fn recorded(
        &mut self,
        node: usize,
        is_late: bool,
        attempt: &AttemptRecord,
        recorded: Recorded,
    ) {
        let owed = (attempt.event, index(attempt.endpoint));
        if !is_late {
            self.processes[node].unrecorded.remove(&owed);
        }
        if attempt.next == Next::Delivered {
            let acknowledged = self.acknowledged.entry((owed, attempt.lease)).or_default();
            *acknowledged = acknowledged.saturating_sub(1);
        }
        if recorded == Recorded::LeaseLost {
            self.counts.fenced += u64::from(!self.leases.contains(&attempt.lease));
            return;
        }
        let holder = self.holders.remove(&attempt.delivery);
        let is_ours = holder == Some(attempt.lease);
        let delivery = attempt.delivery;
        self.require(is_ours, "a lost lease records nothing", || {
            format!("delivery {delivery} under {:?}, held under {holder:?}", attempt.lease)
        });
        self.attempts.insert(attempt.id, delivery);
        let tries = self.tries.entry(delivery).or_default();
        tries.push(attempt.next);
        let number = tries.len();
        self.require(attempt.attempt_number as usize == number, "tries are numbered", || {
            format!("try {number} of delivery {delivery} is numbered {}", attempt.attempt_number)
        });
        self.check_schedule(attempt);
        let carried = self.owed.entry(owed).or_default();
        carried.delivered += usize::from(attempt.next == Next::Delivered);
        let holds = carried.delivered <= carried.acknowledged;
        self.require(holds, "delivered means acknowledged", || format!("delivery {delivery}"));
    }

    /// Whether what follows an attempt is what the schedule says, computed anew.
    fn check_schedule(&mut self, attempt: &AttemptRecord) {
        let wait = self.waits.get(attempt.attempt_number as usize - 1);
        let asked = retry_after(attempt);
        let is_success = matches!(&attempt.response, Ok((200..=299, _)));
        let holds = match (attempt.next, wait) {
            (Next::Delivered, _) => is_success,
            (Next::Failed, wait) => !is_success && wait.is_none(),
            (Next::Retry(_), None) => false,
            (Next::Retry(due), Some(&wait)) => {
                let waits = attempt.settled_at.until(due);
                let most = wait.mul_f64(1.1).max(asked) + Duration::from_micros(1);
                !is_success && waits >= wait.max(asked) && waits <= most
            }
        };
        self.require(holds, "tries follow the schedule", || {
            format!(
                "try {} of delivery {}, {:?}, settled at {}: {:?}",
                attempt.attempt_number,
                attempt.delivery,
                attempt.response.as_ref().map(|(status, _)| status),
                attempt.settled_at,
                attempt.next
            )
        });
    }

    /// The secret that an endpoint began with.
    pub fn first_secret(&mut self, endpoint: EndpointId, text: SigningSecret) {
        self.endpoints[index(endpoint)].secrets.push(Secret {
            text,
            grace_until: None,
            ends: None,
        });
    }

    /// A secret was made for an endpoint, and the one before it signs until then.
    pub fn secret_was_made(
        &mut self,
        world: &Arc<World>,
        endpoint: EndpointId,
        secret: &NewSecret,
        grace_until: Option<Timestamp>,
    ) {
        let vault = vault(Arc::new(SimClock { world: world.clone(), node: 0 }));
        let text = vault.open_sealed(Row::secret(TENANT, secret.id), &secret.sealed);
        let text = SigningSecret::parse(&text.expect("it was sealed for its row"));
        let text = text.expect("it is a secret");
        let secrets = &mut self.endpoints[index(endpoint)].secrets;
        if let Some(before) = secrets.last_mut() {
            before.grace_until = grace_until;
        }
        secrets.push(Secret { text, grace_until: None, ends: None });
    }

    // ---- what publishers and admins are told ----

    /// An admin begins to change an endpoint.
    pub fn change_begins(&mut self, endpoint: usize) {
        let seen = &mut self.endpoints[endpoint];
        seen.changes += 1;
        seen.is_known_active = None;
    }

    /// An admin was told whether an endpoint is active, and nobody changes it meanwhile.
    pub fn is_known_active(&mut self, endpoint: usize, is_active: bool) {
        self.endpoints[endpoint].is_known_active = Some(is_active);
    }

    /// What is known of all endpoints: a publish that begins now, and ends before it changes, goes by that.
    pub fn known(&self) -> Known {
        let seen = self.endpoints.iter().map(|seen| (seen.is_known_active, seen.changes));
        Known(seen.collect())
    }

    /// Whether an event that was published, and accepted just now, is owed to those who were known to want it, and to none
    /// who were known not to.
    pub fn check_fan_out(&mut self, before: &Known, answer: &PublishAnswer) {
        let Some(kept) = self.kept.get(&answer.event) else { return };
        let owed: BTreeSet<usize> = kept.deliveries.iter().map(|new| index(new.endpoint)).collect();
        let now = self.known();
        let is_wrong = |endpoint: &usize| {
            let wants = self.endpoints[*endpoint]
                .types
                .iter()
                .any(|&t| TYPES[t] == answer.event_type.as_str());
            let (is_active, changes) = before.0[*endpoint];
            changes == now.0[*endpoint].1
                && is_active
                    .is_some_and(|is_active| (is_active && wants) != owed.contains(endpoint))
        };
        let wrong = (0..self.endpoints.len()).find(is_wrong);
        self.require(wrong.is_none(), "fan-out goes by what admins were told", || {
            format!("event {} is owed to {owed:?}; wrong: {wrong:?}", answer.event)
        });
    }

    /// A publisher was told that its event is accepted.
    pub fn accepted(&mut self, answer: PublishAnswer, key: Option<&str>) {
        if let Some(kept) = key.and_then(|key| self.by_key.get(key)).copied() {
            let event = answer.event;
            self.require(kept == event, "a key is kept once", || format!("{kept} and {event}"));
        }
        self.counts.accepted += 1;
        self.accepted.push(answer);
    }

    /// Some event that was accepted.
    pub fn some_accepted(&self, choice: u64) -> Option<EventId> {
        let events = self.accepted.len() as u64;
        let chosen = usize::try_from(choice.checked_rem(events)?).ok()?;
        self.accepted.get(chosen).map(|answer| answer.event)
    }

    /// An admin begins to activate an endpoint, or was told that it is closed.
    pub fn set_closed(&mut self, endpoint: usize, is_closed: bool) {
        self.endpoints[endpoint].is_closed = is_closed;
    }

    /// An admin begins to move an endpoint; answers where to.
    pub fn moves(&mut self, endpoint: usize) -> Place {
        let (_, newest) = &mut self.endpoints[endpoint].generations;
        *newest += 1;
        Place { endpoint, generation: *newest }
    }

    /// An admin was told that an endpoint has moved.
    pub fn moved(&mut self, place: Place) {
        self.endpoints[place.endpoint].generations.0 = place.generation;
    }

    /// An admin was told that an endpoint's older secrets sign no more, or only as long as their graces last.
    pub fn expired(&mut self, endpoint: usize, has_grace: bool) {
        let secrets = &mut self.endpoints[endpoint].secrets;
        let older = secrets.len().saturating_sub(1);
        for secret in &mut secrets[..older] {
            secret.ends = Some(match (secret.ends, secret.grace_until) {
                (Some(End::Now), _) | (_, None) => End::Now,
                (_, Some(_)) if !has_grace => End::Now,
                (_, Some(until)) => End::At(until),
            });
        }
    }

    // ---- what receivers see ----

    /// A request was signed, and is about to be written.
    pub fn signed(
        &mut self,
        world: &World,
        node: usize,
        lease: Lease,
        place: Place,
        request: &Request<Bytes>,
    ) -> Signed {
        self.counts.requests += 1;
        let name = header(request, signature::WEBHOOK_ID).to_owned();
        let lapses = world.nodes().unbroken(lease, world.elapsed());
        let signed = Signed { node, lease, place, event: event_of(&name), lapses };
        let owed = (signed.event, place.endpoint);
        self.check_limits(&signed);
        self.check_place(place, "signed");
        let now = self.processes[node].parts.as_ref().map(|parts| parts.clock.now());
        let now = now.expect("a process that signs has begun");
        self.check_signature(now, place, request, Written::No);
        self.check_right(world, &signed);
        self.check_is_owed(world, owed, lease);
        let is_payload = self.kept.get(&owed.0).is_some_and(|kept| kept.payload == *request.body());
        self.require(is_payload, "what is sent is what was published", || name);
        signed
    }

    fn check_limits(&mut self, signed: &Signed) {
        let (place, per_endpoint) = (signed.place, self.limits.per_endpoint);
        let process = &mut self.processes[signed.node];
        process.in_flight += 1;
        let to_endpoint = process.to_endpoint.entry(place.endpoint).or_default();
        *to_endpoint += 1;
        let to_endpoint = *to_endpoint;
        let (all, unrecorded) = (process.in_flight, process.unrecorded.len());
        let held = process.parts.as_ref().map_or(0, |parts| parts.lanes.bytes_held());
        let since_failure = process.since_failure.as_mut().map_or(0, |since| {
            since.insert((signed.event, place.endpoint));
            since.iter().filter(|(_, endpoint)| *endpoint == place.endpoint).count()
        });
        self.require(
            to_endpoint <= per_endpoint,
            "an endpoint's requests in flight are limited",
            || format!("{to_endpoint} of {per_endpoint} to {place:?}"),
        );
        let limit = self.limits.concurrency;
        self.require(all + unrecorded <= limit, "nothing runs ahead of the record", || {
            format!("{all} in flight and {unrecorded} unrecorded of {limit}")
        });
        // Each of its workers may have been on the way when the record failed.
        self.require(since_failure <= per_endpoint, "nothing is sent while records fail", || {
            format!("{since_failure} to {place:?} since a record failed")
        });
        let limit = self.limits.bytes;
        self.require(held <= limit, "memory is bounded", || format!("{held} bytes of {limit}"));
    }

    /// Whether a node that shares its store signs by the right that it has there.
    fn check_right(&mut self, world: &World, signed: &Signed) {
        let has_right = !world.plan.is_shared() || signed.lapses.is_some();
        self.require(has_right, "nobody signs without the right to", || format!("{signed:?}"));
    }

    fn check_place(&mut self, place: Place, when: &str) {
        let Seen { is_closed, generations: (oldest, newest), .. } = self.endpoints[place.endpoint];
        let is_open = !is_closed && (oldest..=newest).contains(&place.generation);
        self.require(is_open, "nothing is sent where an admin was told it isn't", || {
            format!("{when} for {place:?}; closed: {is_closed}, places from {oldest} to {newest}")
        });
    }

    fn check_signature(
        &mut self,
        now: Timestamp,
        place: Place,
        request: &Request<Bytes>,
        written: Written,
    ) {
        let signs: Vec<bool> = self.endpoints[place.endpoint]
            .secrets
            .iter()
            .map(|secret| is_signed_by(request, &secret.text, now, written))
            .collect();
        let ended = |secret: &Secret| match secret.ends {
            Some(End::Now) => true,
            // Until when a grace lasts is asked when a request is signed, and no later.
            Some(End::At(until)) => written == Written::No && until <= now,
            None => false,
        };
        let ended: Vec<bool> = self.endpoints[place.endpoint].secrets.iter().map(ended).collect();
        let old = signs.iter().zip(&ended).position(|(&signs, &ended)| signs && ended);
        self.require(old.is_none(), "an expired secret signs nothing after the answer", || {
            format!("secret {old:?} of {place:?}, written: {written:?}")
        });
        let is_valid = signs.iter().zip(&ended).any(|(&signs, &ended)| signs && !ended);
        self.require(is_valid, "every request is signed by a live secret", || {
            format!("{place:?}: {signs:?}")
        });
    }

    fn check_is_owed(&mut self, world: &World, owed: Owed, lease: Lease) {
        let deliveries = world.store.deliveries();
        let of_pair: Vec<_> = deliveries
            .iter()
            .filter(|delivery| (delivery.event, index(delivery.endpoint)) == owed)
            .collect();
        let all = of_pair.len();
        let open = of_pair.iter().filter(|delivery| !is_ended(delivery.status)).count();
        let unrecorded = self.acknowledged.get(&(owed, lease)).copied().unwrap_or_default();
        let carried = self.owed.entry(owed).or_default();
        *carried.in_flight.entry(lease).or_default() += 1;
        // Of a node that lost its lease something may still be in flight: that is what "at least once" is about.
        let living = carried.in_flight.iter().filter(|(lease, _)| self.leases.contains(lease));
        let in_flight: usize = living.map(|(_, count)| count).sum();
        self.counts.duplicates += u64::from(carried.acknowledged >= all);
        // What was owed to an endpoint that was deleted may be purged while it is in flight.
        if all == 0 {
            return;
        }
        self.require(in_flight <= open, "one at a time attempts a delivery", || {
            format!("{owed:?}: {in_flight} in flight, {open} of {all} open")
        });
        self.require(unrecorded < open, "what is known to be delivered is not sent again", || {
            format!("{owed:?}: {unrecorded} acknowledged, {open} of {all} open")
        });
    }

    /// The first bytes of a request are on their way. Those of a node whose right to sign has run out since it was signed,
    /// since it was frozen or cut off, may come after an admin's answer, signed with a time before it.
    pub fn written(&mut self, world: &World, signed: &Signed, request: &Request<Bytes>) {
        let is_unbroken = world.nodes().unbroken(signed.lease, world.elapsed()) == signed.lapses;
        if is_unbroken {
            self.check_place(signed.place, "written");
            let now = self.processes[signed.node].parts.as_ref().map(|parts| parts.clock.now());
            let now = now.expect("a process that writes has begun");
            self.check_signature(now, signed.place, request, Written::Yes);
        }
    }

    /// The engine hears what came of a request.
    pub fn answered(&mut self, signed: &Signed, sent: &Result<Answer, Unsent>) {
        let owed = (signed.event, signed.place.endpoint);
        let unrecorded = &mut self.processes[signed.node].unrecorded;
        match sent {
            Ok(answer) => {
                unrecorded.insert(owed);
                if (200..300).contains(&answer.status) {
                    self.owed.entry(owed).or_default().acknowledged += 1;
                    *self.acknowledged.entry((owed, signed.lease)).or_default() += 1;
                }
            }
            // Of these nothing is recorded, or not yet.
            Err(Unsent::GaveUp) => {}
            Err(Unsent::Failed { failure, written: false }) if failure.cause == Cause::Closed => {}
            Err(Unsent::Failed { .. }) => drop(unrecorded.insert(owed)),
        }
    }

    /// A request is over, or its process has died.
    pub fn landed(&mut self, signed: &Signed) {
        let process = &mut self.processes[signed.node];
        process.in_flight -= 1;
        *process.to_endpoint.entry(signed.place.endpoint).or_default() -= 1;
        let carried = self.owed.entry((signed.event, signed.place.endpoint)).or_default();
        *carried.in_flight.entry(signed.lease).or_default() -= 1;
    }

    /// Whether a receiver has acknowledged an event.
    pub fn has_acknowledged(&self, event: EventId, endpoint: usize) -> bool {
        self.owed.get(&(event, endpoint)).is_some_and(|carried| carried.acknowledged > 0)
    }

    // ---- the end ----

    /// What has to hold once all faults have ended and nothing moves any more.
    pub fn check_end(&mut self, world: &World, is_deleted: &[bool], is_active: &[bool]) {
        let deliveries = world.store.deliveries();
        let events: BTreeSet<EventId> = world.store.events().into_iter().collect();
        let mut owed_of: BTreeMap<EventId, BTreeSet<DeliveryId>> = BTreeMap::new();
        for delivery in &deliveries {
            owed_of.entry(delivery.event).or_default().insert(delivery.id);
            self.check_has_ended(delivery, is_deleted, is_active);
        }
        let none = BTreeSet::new();
        for event in self.tried.clone() {
            let owed = owed_of.get(&event).unwrap_or(&none);
            let is_whole = match self.kept.get(&event) {
                None => !events.contains(&event) && owed.is_empty(),
                Some(kept) => {
                    let is_there = |new: &postrider_store::NewDelivery| {
                        is_deleted[index(new.endpoint)] || owed.contains(&new.id)
                    };
                    events.contains(&event) && kept.deliveries.iter().all(is_there)
                }
            };
            self.require(is_whole, "an event is kept wholly or not at all", || event.to_string());
        }
        for answer in self.accepted.clone() {
            self.check_accepted(&answer);
        }
    }

    fn check_accepted(&mut self, answer: &PublishAnswer) {
        let Some(kept) = self.kept.get(&answer.event) else {
            return self.violate("nothing accepted is lost", format!("event {}", answer.event));
        };
        let endpoints: BTreeSet<usize> =
            kept.deliveries.iter().map(|new| index(new.endpoint)).collect();
        let count = kept.deliveries.len();
        let wants = |seen: &Seen| {
            seen.is_steady && seen.types.iter().any(|&t| TYPES[t] == answer.event_type.as_str())
        };
        let missing = (0..self.endpoints.len())
            .find(|index| wants(&self.endpoints[*index]) && !endpoints.contains(index));
        let holds = missing.is_none() && count == answer.endpoint_count as usize;
        self.require(holds, "an event is owed to all who want it", || {
            format!("event {} is owed to {endpoints:?}; missing: {missing:?}", answer.event)
        });
    }

    fn check_has_ended(
        &mut self,
        delivery: &DeliveryState,
        is_deleted: &[bool],
        is_active: &[bool],
    ) {
        let tries = self.tries.get(&delivery.id).map_or(0, Vec::len);
        let attempts_max = self.waits.len() + 1;
        let endpoint = index(delivery.endpoint);
        let holds = match delivery.status {
            Status::Delivered => tries > 0,
            Status::Failed => tries == attempts_max,
            Status::Pending if is_deleted[endpoint] || !is_active[endpoint] => true,
            Status::Pending | Status::Leased => is_deleted[endpoint],
            Status::Cancelled => false,
        };
        self.require(holds, "every delivery ends", || {
            format!("{delivery:?} after {tries} of {attempts_max} tries")
        });
    }
}

/// Whether nothing more is owed.
pub fn is_ended(status: Status) -> bool {
    matches!(status, Status::Delivered | Status::Failed | Status::Cancelled)
}

/// The endpoint at that place of the plan.
pub fn endpoint_id(index: usize) -> EndpointId {
    EndpointId::new(i64::try_from(index).expect("there are few") + 1)
}

/// The place of an endpoint in the plan.
pub fn index(endpoint: EndpointId) -> usize {
    usize::try_from(endpoint.get() - 1).expect("it was counted from one")
}

fn event_of(name: &str) -> EventId {
    let id = name.trim_start_matches(|c: char| !c.is_ascii_digit()).parse().map(EventId::new);
    let id = id.expect("its number is at the end");
    assert_eq!(event::webhook_id(id), name);
    id
}

/// Which arrival an event is of: its data says so.
fn arrival_of(payload: &[u8]) -> Option<usize> {
    let event: serde_json::Value = serde_json::from_slice(payload).ok()?;
    let arrival = event.get("data")?.get("arrival")?.as_u64()?;
    usize::try_from(arrival).ok()
}

fn header<'r>(request: &'r Request<Bytes>, name: &str) -> &'r str {
    request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// The signature's header in both dialects, held against a secret. While a request is being signed its time is now.
fn is_signed_by(
    request: &Request<Bytes>,
    secret: &SigningSecret,
    now: Timestamp,
    written: Written,
) -> bool {
    let allowed = if written == Written::No { Duration::ZERO } else { Duration::from_secs(3_600) };
    let (tolerance, body) = (Tolerance { now, allowed }, request.body());
    let list = header(request, "postrider-signature");
    let id = header(request, signature::WEBHOOK_ID);
    let timestamp = header(request, signature::WEBHOOK_TIMESTAMP);
    let standard = header(request, signature::WEBHOOK_SIGNATURE);
    let by_list = signature::verify_list(list, body, secret, tolerance).is_ok();
    let by_standard =
        signature::verify_standard(id, timestamp, standard, body, secret, tolerance).is_ok();
    by_list || by_standard
}

/// How long the receiver asked us to wait: it says so in the body too.
fn retry_after(attempt: &AttemptRecord) -> Duration {
    let Ok((429 | 503, body)) = &attempt.response else { return Duration::ZERO };
    let text = String::from_utf8_lossy(body);
    match (text.parse(), httpdate::parse_http_date(&text)) {
        (Ok(seconds), _) => Duration::from_secs(seconds),
        (_, Ok(date)) => {
            let since_epoch = date.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
            attempt.settled_at.until(Timestamp::from_micros(0).plus(since_epoch))
        }
        _ => Duration::ZERO,
    }
}
