//! A run: processes, on one node or several, until all faults have ended and nothing moves; and what publishers and admins do
//! meanwhile. What gives each process its turn is in `machine.rs`.

use std::{
    cell::Cell,
    panic,
    sync::{Arc, Mutex, Once},
    time::Duration,
};

use futures_util::FutureExt;
use postrider::{
    clock::entropy,
    publish::{Acceptance, NewEvent},
    vault::Place as Row,
};
use postrider_kernel::{EventData, EventId, EventType, SecretId, SigningSecret, delivery::Status};
use postrider_store::{
    Actor, By, EndpointChange, IdempotencyKey, NewEndpoint, NewSecret, NewTenant, Resent, Store,
    StoreError, memory::DeliveryState,
};
use serde_json::value::RawValue;
use tokio::task::JoinSet;

use crate::{
    ledger::{Counts, Place, TENANT, Violation, endpoint_id, index, is_ended},
    life::{Life, vault},
    machine,
    network::target,
    plan::{Arrival, Change, Nature, Plan, TYPES},
    world::{SimClock, World, lock},
};

/// How long what is owed may take to end once all faults have: longer than the longest schedule of the longest backlog.
const PATIENCE: Duration = Duration::from_secs(2 * 3_600);

/// How often is looked whether everything has ended.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How many events everybody gets at the end, while some receivers are dead.
const BURST: usize = 24;

/// How soon receivers that are well get what is published while others are dead.
const PROMPTLY: Duration = Duration::from_secs(2);

/// What a run came to.
pub struct Report {
    /// What was found wrong.
    pub violations: Vec<Violation>,
    /// The hash of everything that happened.
    pub hash: String,
    /// How many lines the trace has.
    pub steps: u64,
    /// The trace, where it was asked for.
    pub trace: String,
    /// Figures.
    pub counts: Counts,
}

/// How far publishers and admins are; they outlive the process.
pub struct Progress {
    published: Vec<bool>,
    changed: Vec<usize>,
    /// By node.
    stops: Vec<usize>,
}

thread_local! {
    static PANICS: Cell<u64> = const { Cell::new(0) };
}

/// Tokio swallows the panic of a task; here it counts.
fn count_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            PANICS.with(|panics| panics.set(panics.get() + 1));
            before(info);
        }));
    });
    PANICS.with(|panics| panics.set(0));
}

/// Runs what a seed decides.
pub fn run(seed: u64, keeps_trace: bool) -> Report {
    run_plan(seed, Plan::of(seed), keeps_trace)
}

/// Runs a plan; the seed decides what is drawn on the way.
pub fn run_plan(seed: u64, plan: Plan, keeps_trace: bool) -> Report {
    count_panics();
    let world = World::new(seed, plan, keeps_trace);
    set_up(&world);
    let progress = Arc::new(Mutex::new(Progress {
        published: vec![false; world.plan.arrivals.len()],
        changed: vec![0; world.plan.endpoints.len()],
        stops: vec![0; world.plan.nodes()],
    }));
    machine::drive(&world, &progress);
    let panics = PANICS.with(Cell::get);
    let mut ledger = world.ledger();
    if panics > 0 {
        ledger.violate("nothing panics", format!("{panics} times"));
    }
    let trace = lock(&world.trace);
    Report {
        violations: ledger.violations.clone(),
        hash: trace.hash(),
        steps: trace.len(),
        trace: trace.text(),
        counts: ledger.counts,
    }
}

/// What was there before the first process.
fn set_up(world: &Arc<World>) {
    let clock = Arc::new(SimClock { world: world.clone(), node: 0 });
    let vault = vault(clock.clone());
    let by = By { actor: Actor::CommandLine, address: None, at: world.wall(0) };
    let catalogue = TYPES.map(|name| (event_type(name), String::new())).to_vec();
    let jwt_secret = vault.seal(Row::tenant(TENANT), "not used");
    let tenant = NewTenant { id: TENANT, name: "default".into(), jwt_secret, catalogue };
    let made = world.store.create_tenant(tenant, by.clone()).now_or_never();
    assert!(made.expect("the model never waits").expect("nothing is there yet"));
    let mut made = Vec::new();
    for (index, endpoint) in world.plan.endpoints.iter().enumerate() {
        let id = world.store.reserve_ids(postrider_store::IdKind::Secret, 1).now_or_never();
        let id = id.expect("the model never waits").expect("there are ids").start;
        let text = SigningSecret::from_entropy(&entropy(&*clock));
        let sealed = vault.seal(Row::secret(TENANT, SecretId::new(id)), text.reveal());
        let secret =
            NewSecret { id: SecretId::new(id), sealed, sealed_key: None, is_brought: false };
        let new = NewEndpoint {
            id: endpoint_id(index),
            tenant: TENANT,
            is_active: true,
            target: target(Place { endpoint: index, generation: 0 }),
            description: String::new(),
            event_types: endpoint.types.iter().map(|&t| event_type(TYPES[t])).collect(),
            ssl_cert_verification: true,
            signature_algorithms: Default::default(),
            secret,
        };
        let created = world.store.create_endpoint(new, by.clone()).now_or_never();
        created.expect("the model never waits").expect("nothing is there yet");
        made.push((endpoint_id(index), text));
    }
    for (endpoint, text) in made {
        world.ledger().first_secret(endpoint, text);
    }
}

fn event_type(name: &str) -> EventType {
    EventType::parse(name).expect("it is a type")
}

/// One process of a node, from its start until it has stopped; it may be killed before.
pub async fn live(world: Arc<World>, progress: Arc<Mutex<Progress>>, node: usize, process: u64) {
    let life = match Life::start(&world, node, process).await {
        Ok(life) => Arc::new(life),
        Err(error) => return world.note(|| format!("node {node} could not start: {error}")),
    };
    let outer = Outer { world, life, progress, node };
    tokio::select! {
        biased;
        () = outer.stop_in_time() => {}
        () = outer.play() => {}
    }
    outer.world.note(|| format!("node {node} has stopped"));
}

/// Publishers and admins, with the process that they talk to.
#[derive(Clone)]
struct Outer {
    world: Arc<World>,
    life: Arc<Life>,
    progress: Arc<Mutex<Progress>>,
    node: usize,
}

impl Outer {
    async fn sleep(&self, duration: Duration) {
        self.world.sleep(self.node, duration).await;
    }

    async fn until(&self, moment: Duration) {
        self.world.until(self.node, moment).await;
    }

    /// Asks the process to stop, where that is planned, and waits until it has.
    async fn stop_in_time(&self) {
        let next = lock(&self.progress).stops[self.node];
        let mut stops = self.world.plan.stops.iter().filter(|(_, node)| *node == self.node);
        let Some(&(at, _)) = stops.nth(next) else { return std::future::pending().await };
        self.until(at).await;
        lock(&self.progress).stops[self.node] += 1;
        self.world.note(|| format!("node {} is asked to stop", self.node));
        self.life.stop().await;
    }

    /// Plays what is left of this node's part of the plan; the first node then waits for the others, and checks what has
    /// become of it.
    async fn play(&self) {
        let plan = &self.world.plan;
        let mut players = JoinSet::new();
        for (number, arrival) in plan.arrivals.iter().enumerate() {
            if arrival.node == self.node {
                players.spawn(self.clone().publishes(number));
            }
        }
        for endpoint in (self.node..plan.endpoints.len()).step_by(plan.nodes()) {
            players.spawn(self.clone().changes(endpoint));
        }
        self.until(plan.heals_at).await;
        while players.join_next().await.is_some() {}
        self.world.set_ready(self.node);
        if self.node == 0 {
            self.conclude().await;
        }
        while !self.world.is_over() {
            self.sleep(LOOK_EVERY).await;
        }
        self.life.stop().await;
    }

    /// Lets all faults end, and checks what has become of everything.
    async fn conclude(&self) {
        while !self.world.all_are_ready() {
            self.sleep(LOOK_EVERY).await;
        }
        self.world.note(|| "all faults have ended".into());
        self.reactivate_some().await;
        self.settle().await;
        self.check_isolation().await;
        self.settle().await;
        self.check_end();
        self.world.end();
    }

    // ---- publishers ----

    async fn publishes(self, number: usize) {
        let world = &self.world;
        let arrival = &world.plan.arrivals[number];
        if lock(&self.progress).published[number] {
            return;
        }
        self.until(arrival.at).await;
        let repeats = arrival.repeats();
        // One without a key is not repeated, whatever becomes of the process.
        lock(&self.progress).published[number] = !repeats;
        let mut patience = arrival.hangs_up_after.unwrap_or(Duration::MAX);
        loop {
            let publish = self.publish(number, arrival, repeats);
            let published = world.timeout(self.node, patience, publish).await;
            world.note(|| format!("publisher {number} heard {published:?}"));
            if matches!(published, Some(Ok(()))) || !repeats {
                break;
            }
            patience = Duration::MAX;
            self.sleep(Duration::from_secs(1)).await;
        }
        lock(&self.progress).published[number] = true;
    }

    async fn publish(
        &self,
        number: usize,
        arrival: &Arrival,
        has_key: bool,
    ) -> Result<(), StoreError> {
        let world = &self.world;
        let data =
            |bytes: usize| format!(r#"{{"arrival":{number},"text":"{}"}}"#, "x".repeat(bytes));
        let data = arrival.events.iter().map(|event| data(event.bytes.saturating_sub(30)));
        let data: Vec<Box<RawValue>> =
            data.map(|text| RawValue::from_string(text).expect("it is JSON")).collect();
        let mut events = Vec::new();
        for (event, data) in arrival.events.iter().zip(&data) {
            events.push(NewEvent {
                event_type: event_type(TYPES[event.event_type]),
                created: None,
                data: EventData::parse(data).expect("it is an object"),
            });
        }
        let snapshot = self.life.directory.snapshot();
        let tenant = snapshot.tenant(TENANT).expect("it is there from the beginning");
        let publisher = &self.life.publisher;
        let now = self.life.clock.now();
        world.note(|| format!("publisher {number} publishes"));
        let known = world.ledger().known();
        if events.len() > 1 {
            for answer in publisher.publish_all(tenant, events, now).await? {
                world.ledger().check_fan_out(&known, &answer);
                world.ledger().accepted(answer, None);
            }
            return Ok(());
        }
        let key = has_key.then(|| format!("key {number}"));
        let idempotency = key.clone().map(|key| IdempotencyKey {
            key,
            request_hash: [1; 32],
            not_before: now.minus(Duration::from_secs(86_400)),
        });
        let event = events.pop().expect("there is one");
        match publisher.publish(tenant, event, idempotency, now).await? {
            Acceptance::Accepted(answer) => {
                // With a key it may be the answer to an earlier request.
                if key.is_none() {
                    world.ledger().check_fan_out(&known, &answer);
                }
                world.ledger().accepted(answer, key.as_deref());
            }
            Acceptance::KeyReused => {
                world.ledger().violate("a key is kept once", "it is taken for another request's");
            }
        }
        Ok(())
    }

    // ---- admins ----

    async fn changes(self, endpoint: usize) {
        loop {
            let next = lock(&self.progress).changed[endpoint];
            let Some(&(at, change)) = self.world.plan.endpoints[endpoint].changes.get(next) else {
                return;
            };
            self.until(at).await;
            lock(&self.progress).changed[endpoint] += 1;
            // Some admins try again, and some go home.
            if !matches!(change, Change::Resend) {
                self.world.ledger().change_begins(endpoint);
            }
            let tries = self.world.network_chance().between(1, 3);
            for _ in 0..tries {
                let changed = self.change(endpoint, change).await;
                self.world.note(|| format!("admin of {endpoint}: {change:?} came to {changed:?}"));
                if changed.is_ok() {
                    break;
                }
                self.sleep(Duration::from_millis(300)).await;
            }
        }
    }

    async fn change(&self, endpoint: usize, change: Change) -> Result<(), String> {
        let (world, admin, id) = (&self.world, &self.life.admin, endpoint_id(endpoint));
        let by = By { actor: Actor::Service, address: None, at: self.life.clock.now() };
        let said = |error: postrider::admin::AdminError| error.to_string();
        world.note(|| format!("admin of {endpoint}: {change:?}"));
        match change {
            Change::Activate | Change::Deactivate => {
                let is_active = matches!(change, Change::Activate);
                if is_active && !self.is_deleted(endpoint) {
                    world.ledger().set_closed(endpoint, false);
                }
                let change = EndpointChange { is_active: Some(is_active), ..Default::default() };
                let changed = admin.update_endpoint(TENANT, id, change, by).await.map_err(said)?;
                if changed.is_some() && !is_active {
                    world.ledger().set_closed(endpoint, true);
                }
                if changed.is_some() && world.plan.endpoints[endpoint].nature != Nature::Leaving {
                    world.ledger().is_known_active(endpoint, is_active);
                }
            }
            Change::Retarget => {
                let place = world.ledger().moves(endpoint);
                let change = EndpointChange { target: Some(target(place)), ..Default::default() };
                let changed = admin.update_endpoint(TENANT, id, change, by).await.map_err(said)?;
                if changed.is_some() {
                    world.ledger().moved(place);
                }
            }
            Change::Expire(grace) => {
                let expired = admin.expire_secret(TENANT, id, grace, by).await.map_err(said)?;
                if expired.is_some() {
                    world.ledger().expired(endpoint, grace.is_some());
                }
            }
            Change::Delete => {
                if admin.delete_endpoint(TENANT, id, by).await.map_err(said)? {
                    world.ledger().set_closed(endpoint, true);
                    world.ledger().is_known_active(endpoint, false);
                }
            }
            Change::Resend => {
                let choice = world.network_chance().next();
                let Some(event) = world.ledger().some_accepted(choice) else { return Ok(()) };
                let resent = admin.resend(TENANT, id, vec![event], by).await.map_err(said)?;
                if let Resent::UnknownEvent(event) = resent {
                    world.ledger().violate("nothing accepted is lost", format!("event {event}"));
                }
            }
        }
        Ok(())
    }

    /// Activates some of the endpoints that are inactive now: what waited goes on.
    async fn reactivate_some(&self) {
        for endpoint in 0..self.world.plan.endpoints.len() {
            if self.is_deleted(endpoint) || self.is_active(endpoint) {
                continue;
            }
            if self.world.network_chance().percent(60) {
                self.world.ledger().change_begins(endpoint);
                let changed = self.change(endpoint, Change::Activate).await;
                changed.expect("nothing fails any more");
            }
        }
    }

    // ---- the end ----

    /// Waits until everything that is owed has ended; or too long.
    async fn settle(&self) {
        let deadline = self.world.elapsed() + PATIENCE;
        while !self.is_settled() && self.world.elapsed() < deadline {
            self.sleep(LOOK_EVERY).await;
        }
        if !self.is_settled() {
            let open: Vec<_> = self
                .world
                .store
                .deliveries()
                .into_iter()
                .filter(|d| !self.has_settled(d))
                .collect();
            self.world.ledger().violate("every delivery ends", format!("in time: {open:?}"));
        }
        let held = self.world.ledger().bytes_held();
        if held > 0 {
            self.world.ledger().violate("memory is given back", format!("{held} bytes are held"));
        }
        self.world.note(|| "settled".into());
    }

    fn is_settled(&self) -> bool {
        let deliveries = self.world.store.deliveries();
        deliveries.iter().all(|delivery| self.has_settled(delivery))
            && self.world.ledger().bytes_held() == 0
    }

    fn has_settled(&self, delivery: &DeliveryState) -> bool {
        let endpoint = index(delivery.endpoint);
        is_ended(delivery.status)
            || self.is_deleted(endpoint)
            || (delivery.status == Status::Pending && !self.is_active(endpoint))
    }

    fn is_deleted(&self, endpoint: usize) -> bool {
        let kept = self.world.store.endpoint(TENANT, endpoint_id(endpoint)).now_or_never();
        kept.expect("the model never waits").expect("it never fails").is_none()
    }

    fn is_active(&self, endpoint: usize) -> bool {
        let kept = self.world.store.endpoint(TENANT, endpoint_id(endpoint)).now_or_never();
        let kept = kept.expect("the model never waits").expect("it never fails");
        kept.is_some_and(|kept| kept.is_active)
    }

    /// A burst for everybody: receivers that are well get it at once, whoever else is dead.
    async fn check_isolation(&self) {
        if !self.world.plan.is_roomy() {
            return;
        }
        let mut events: Vec<(EventId, usize)> = Vec::new();
        for number in 0..BURST {
            let event_type_index = number % TYPES.len();
            let arrival = Arrival {
                at: Duration::ZERO,
                node: 0,
                events: vec![crate::plan::EventPlan { event_type: event_type_index, bytes: 100 }],
                has_key: false,
                hangs_up_after: None,
            };
            let before = self.world.ledger().counts.accepted;
            let number = self.world.plan.arrivals.len() + number;
            let published = self.publish(number, &arrival, false).await;
            published.expect("nothing fails any more");
            let event = self.world.ledger().some_accepted(before).expect("it was accepted");
            events.push((event, event_type_index));
        }
        self.sleep(PROMPTLY).await;
        for (endpoint, plan) in self.world.plan.endpoints.iter().enumerate() {
            if plan.nature.is_dead() || !self.is_active(endpoint) {
                continue;
            }
            for (event, event_type_index) in &events {
                let is_late = plan.types.contains(event_type_index)
                    && !self.world.ledger().has_acknowledged(*event, endpoint);
                if is_late {
                    let what = format!("event {event} to {endpoint}");
                    self.world.ledger().violate("a dead endpoint keeps nobody waiting", what);
                }
            }
        }
    }

    fn check_end(&self) {
        let endpoints = 0..self.world.plan.endpoints.len();
        let is_deleted: Vec<_> = endpoints.clone().map(|e| self.is_deleted(e)).collect();
        let is_active: Vec<_> = endpoints.clone().map(|e| self.is_active(e)).collect();
        let mut ledger = self.world.ledger();
        for (node, directory) in ledger.directories().into_iter().enumerate() {
            for endpoint in endpoints.clone() {
                let snapshot = directory.snapshot();
                let view = snapshot.endpoint(TENANT, endpoint_id(endpoint));
                let agrees = view.is_none() == is_deleted[endpoint]
                    && view.is_some_and(|view| view.is_deliverable()) == is_active[endpoint];
                if !agrees {
                    let what = format!("on {endpoint}, at node {node}");
                    ledger.violate("the directory agrees with the store", what);
                }
            }
        }
        ledger.check_end(&self.world, &is_deleted, &is_active);
    }
}
