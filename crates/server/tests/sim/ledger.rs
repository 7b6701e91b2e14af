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
    lanes::Lanes,
    transport::Unsent,
    vault::{Place as Row, Vault},
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
    plan::{EndpointPlan, Nature, PAYLOAD_MAX, Plan, TYPES},
    world::World,
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
    /// The lanes and the vault of the process that works.
    pub life: Option<(Arc<Lanes>, Arc<Vault>)>,
    endpoints: Vec<Seen>,
    waits: Vec<Duration>,
    limits: Limits,
    /// Publications that the store was asked for, and those of them that it keeps.
    tried: BTreeSet<EventId>,
    kept: BTreeMap<EventId, Publication>,
    accepted: Vec<PublishAnswer>,
    by_key: BTreeMap<String, EventId>,
    lease: Option<Lease>,
    attempts: BTreeMap<AttemptId, DeliveryId>,
    tries: BTreeMap<DeliveryId, Vec<Next>>,
    owed: BTreeMap<Owed, Carried>,
    in_flight: usize,
    /// What was answered and is not recorded yet.
    unrecorded: BTreeSet<Owed>,
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
    /// Records of a dead process that were refused.
    pub fenced: u64,
}

impl Counts {
    /// Adds those of another run.
    pub fn add(&mut self, other: Self) {
        self.requests += other.requests;
        self.accepted += other.accepted;
        self.lives += other.lives;
        self.duplicates += other.duplicates;
        self.fenced += other.fenced;
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { requests, accepted, lives, duplicates, fenced } = self;
        write!(
            f,
            "{accepted} events accepted, {requests} requests, {lives} processes, {duplicates} requests again though the \
             receiver had acknowledged, {fenced} records of a dead process refused"
        )
    }
}

struct Limits {
    per_endpoint: usize,
    concurrency: usize,
    bytes: usize,
}

/// An event and an endpoint. Resends of it are not told apart.
type Owed = (EventId, usize);

/// What became of an event on its way to an endpoint.
#[derive(Default)]
struct Carried {
    in_flight: usize,
    /// How often the receiver acknowledged, and how often this process heard of it.
    acknowledged: usize,
    acknowledged_in_life: usize,
    /// Deliveries that had ended when this process began.
    ended_before: usize,
    delivered: usize,
}

/// An endpoint, as its admin and its receiver see it.
struct Seen {
    secrets: Vec<Secret>,
    /// An admin was told that nothing is sent to it.
    is_closed: bool,
    /// Requests may go to places of these generations.
    generations: (u32, u32),
    in_flight: usize,
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
            in_flight: 0,
            is_steady: endpoint.changes.is_empty() && endpoint.nature != Nature::Leaving,
            types: endpoint.types.clone(),
        };
        Self {
            violations: Vec::new(),
            life: None,
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
            lease: None,
            attempts: BTreeMap::new(),
            tries: BTreeMap::new(),
            owed: BTreeMap::new(),
            in_flight: 0,
            unrecorded: BTreeSet::new(),
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

    /// A process begins; what it finds ended is not to be sent again.
    pub fn life_began(&mut self, lease: Lease, deliveries: &[DeliveryState]) {
        self.counts.lives += 1;
        self.lease = Some(lease);
        self.unrecorded.clear();
        for carried in self.owed.values_mut() {
            (carried.acknowledged_in_life, carried.ended_before) = (0, 0);
        }
        for delivery in deliveries.iter().filter(|delivery| is_ended(delivery.status)) {
            let owed = (delivery.event, index(delivery.endpoint));
            self.owed.entry(owed).or_default().ended_before += 1;
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
            self.kept.insert(publication.event, publication.clone());
        }
    }

    /// The store leased deliveries that are due `now`; the wall clock never showed a later time than `latest`.
    pub fn claimed(&mut self, claim: &Claim, now: Timestamp, latest: Timestamp) {
        for delivery in &claim.deliveries {
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

    /// The store wrote an attempt, or refused to.
    pub fn recorded(&mut self, attempt: &AttemptRecord, recorded: Recorded) {
        let owed = (attempt.event, index(attempt.endpoint));
        let is_ours = self.lease == Some(attempt.lease);
        if is_ours {
            self.unrecorded.remove(&owed);
        }
        if recorded == Recorded::LeaseLost {
            self.counts.fenced += u64::from(!is_ours);
            return;
        }
        let delivery = attempt.delivery;
        self.require(is_ours, "a lost lease records nothing", || {
            format!("delivery {delivery} under {:?}", attempt.lease)
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
        endpoint: EndpointId,
        secret: &NewSecret,
        grace_until: Option<Timestamp>,
    ) {
        let Some((_, vault)) = &self.life else { return };
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

    /// A request was signed, and is about to be written; answers its name.
    pub fn signed(&mut self, world: &World, place: Place, request: &Request<Bytes>) -> String {
        self.counts.requests += 1;
        let name = header(request, signature::WEBHOOK_ID).to_owned();
        let owed = (event_of(&name), place.endpoint);
        self.in_flight += 1;
        let seen = &mut self.endpoints[place.endpoint];
        seen.in_flight += 1;
        let (in_flight, limit) = (seen.in_flight, self.limits.per_endpoint);
        self.require(in_flight <= limit, "an endpoint's requests in flight are limited", || {
            format!("{in_flight} of {limit} to {place:?}")
        });
        let (all, unrecorded) = (self.in_flight, self.unrecorded.len());
        let limit = self.limits.concurrency;
        self.require(all + unrecorded <= limit, "nothing runs ahead of the record", || {
            format!("{all} in flight and {unrecorded} unrecorded of {limit}")
        });
        let held = self.life.as_ref().map_or(0, |(lanes, _)| lanes.bytes_held());
        let limit = self.limits.bytes;
        self.require(held <= limit, "memory is bounded", || format!("{held} bytes of {limit}"));
        self.check_place(place, "signed");
        self.check_signature(world.wall(), place, request, Written::No);
        self.check_is_owed(world, owed);
        let is_payload = self.kept.get(&owed.0).is_some_and(|kept| kept.payload == *request.body());
        self.require(is_payload, "what is sent is what was published", || name.clone());
        name
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

    fn check_is_owed(&mut self, world: &World, owed: Owed) {
        let deliveries = world.store.deliveries();
        let of_pair: Vec<_> = deliveries
            .iter()
            .filter(|delivery| (delivery.event, index(delivery.endpoint)) == owed)
            .collect();
        let all = of_pair.len();
        let open = of_pair.iter().filter(|delivery| !is_ended(delivery.status)).count();
        let carried = self.owed.entry(owed).or_default();
        carried.in_flight += 1;
        let (in_flight, acknowledged) = (carried.in_flight, carried.acknowledged_in_life);
        let ended = carried.ended_before + acknowledged;
        self.counts.duplicates += u64::from(carried.acknowledged >= all);
        // What was owed to an endpoint that was deleted may be purged while it is in flight.
        if all == 0 {
            return;
        }
        self.require(in_flight <= open, "one at a time attempts a delivery", || {
            format!("{owed:?}: {in_flight} in flight, {open} of {all} open")
        });
        self.require(ended < all, "what is known to be delivered is not sent again", || {
            format!("{owed:?}: {ended} of {all} have ended")
        });
    }

    /// The first bytes of a request are on their way.
    pub fn written(&mut self, world: &World, place: Place, request: &Request<Bytes>) {
        self.check_place(place, "written");
        self.check_signature(world.wall(), place, request, Written::Yes);
    }

    /// The engine hears what came of a request.
    pub fn answered(&mut self, place: Place, name: &str, sent: &Result<Answer, Unsent>) {
        let owed = (event_of(name), place.endpoint);
        let carried = self.owed.entry(owed).or_default();
        match sent {
            Ok(answer) => {
                let is_success = (200..300).contains(&answer.status);
                carried.acknowledged += usize::from(is_success);
                carried.acknowledged_in_life += usize::from(is_success);
                self.unrecorded.insert(owed);
            }
            // Of these nothing is recorded, or not yet.
            Err(Unsent::GaveUp) => {}
            Err(Unsent::Failed { failure, written: false }) if failure.cause == Cause::Closed => {}
            Err(Unsent::Failed { .. }) => drop(self.unrecorded.insert(owed)),
        }
    }

    /// A request is over, or its process has died.
    pub fn landed(&mut self, place: Place, name: &str) {
        self.in_flight -= 1;
        self.endpoints[place.endpoint].in_flight -= 1;
        self.owed.entry((event_of(name), place.endpoint)).or_default().in_flight -= 1;
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
