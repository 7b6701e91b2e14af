//! A run: processes, one after the other, until all faults have ended and nothing moves; and what publishers and admins do
//! meanwhile.

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
use tokio::{task::JoinSet, time::timeout};

use crate::{
    ledger::{Counts, Place, TENANT, Violation, endpoint_id, index, is_ended},
    life::{Life, vault},
    network::target,
    plan::{Arrival, Change, Plan, TYPES},
    world::{SimClock, World, lock},
};

/// How long what is owed may take to end once all faults have: longer than the longest schedule of the longest backlog.
const PATIENCE: Duration = Duration::from_secs(2 * 3_600);

/// How often is looked whether everything has ended.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How soon receivers that are well get what is published while others are dead.
const PROMPTLY: Duration = Duration::from_secs(5);

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
struct Progress {
    published: Vec<bool>,
    changed: Vec<usize>,
    clock_jumps: usize,
    stops: usize,
    kills: usize,
}

/// Why a process ended.
enum End {
    Killed,
    Restarts,
    Done,
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
        clock_jumps: 0,
        stops: 0,
        kills: 0,
    }));
    loop {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime needs nothing of the system");
        let end = runtime.block_on(async {
            let end = live(&world, &progress).await;
            let downtime = world.network_chance().millis(0, 3_000);
            world.end_life(downtime);
            end
        });
        // With it goes everything that the process had in memory.
        drop(runtime);
        world.ledger().life = None;
        if matches!(end, End::Done) {
            break;
        }
    }
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
    let clock = Arc::new(SimClock(world.clone()));
    let vault = vault(clock.clone());
    let by = By { actor: Actor::CommandLine, address: None, at: world.wall() };
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

/// One process, from its start to its end.
async fn live(world: &Arc<World>, progress: &Arc<Mutex<Progress>>) -> End {
    world.begin_life();
    let started = tokio::select! {
        biased;
        () = death(world, progress) => return End::Killed,
        started = Life::start(world) => started,
    };
    let life = match started {
        Ok(life) => Arc::new(life),
        Err(error) => {
            world.note(|| format!("the process could not start: {error}"));
            return End::Restarts;
        }
    };
    for late in world.take_late() {
        let after = world.store_chance().millis(0, 500);
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            late();
        });
    }
    let outer = Outer { world: world.clone(), life, progress: progress.clone() };
    tokio::select! {
        biased;
        () = death(world, progress) => End::Killed,
        () = outer.stop_in_time() => {
            world.note(|| "stopped".into());
            End::Restarts
        }
        () = outer.play() => End::Done,
    }
}

/// Waits for the process's death.
async fn death(world: &World, progress: &Mutex<Progress>) {
    let planned = async {
        let next = lock(progress).kills;
        let Some(&at) = world.plan.kills.get(next) else { return std::future::pending().await };
        world.until(at).await;
        lock(progress).kills += 1;
        world.kill("planned");
    };
    tokio::select! {
        biased;
        () = world.killed.notified() => {}
        () = planned => world.killed.notified().await,
    }
}

/// Publishers, admins and whoever sets the clock, with the process that they talk to.
#[derive(Clone)]
struct Outer {
    world: Arc<World>,
    life: Arc<Life>,
    progress: Arc<Mutex<Progress>>,
}

impl Outer {
    /// Asks the process to stop, where that is planned, and waits until it has.
    async fn stop_in_time(&self) {
        let next = lock(&self.progress).stops;
        let Some(&at) = self.world.plan.stops.get(next) else {
            return std::future::pending().await;
        };
        self.world.until(at).await;
        lock(&self.progress).stops += 1;
        self.world.note(|| "asked to stop".into());
        self.life.stop().await;
    }

    /// Plays what is left of the plan, lets all faults end, and checks what has become of it.
    async fn play(&self) {
        let mut players = JoinSet::new();
        for arrival in 0..self.world.plan.arrivals.len() {
            players.spawn(self.clone().publishes(arrival));
        }
        for endpoint in 0..self.world.plan.endpoints.len() {
            players.spawn(self.clone().changes(endpoint));
        }
        players.spawn(self.clone().sets_the_clock());
        self.world.until(self.world.plan.heals_at).await;
        while players.join_next().await.is_some() {}
        self.world.note(|| "all faults have ended".into());
        self.reactivate_some().await;
        self.settle().await;
        self.check_isolation().await;
        self.settle().await;
        self.check_end().await;
        self.life.stop().await;
    }

    // ---- publishers ----

    async fn publishes(self, number: usize) {
        let world = &self.world;
        let arrival = &world.plan.arrivals[number];
        if lock(&self.progress).published[number] {
            return;
        }
        world.until(arrival.at).await;
        let repeats = arrival.has_key && arrival.events.len() == 1;
        // One without a key is not repeated, whatever becomes of the process.
        lock(&self.progress).published[number] = !repeats;
        let mut patience = arrival.hangs_up_after.unwrap_or(Duration::MAX);
        loop {
            let published = timeout(patience, self.publish(number, arrival, repeats)).await;
            world.note(|| format!("publisher {number} heard {published:?}"));
            if matches!(published, Ok(Ok(()))) || !repeats {
                break;
            }
            patience = Duration::MAX;
            tokio::time::sleep(Duration::from_secs(1)).await;
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
        let data = |bytes: usize| format!(r#"{{"text":"{}"}}"#, "x".repeat(bytes));
        let data = arrival.events.iter().map(|event| data(event.bytes.saturating_sub(11)));
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
        let now = world.wall();
        world.note(|| format!("publisher {number} publishes"));
        if events.len() > 1 {
            for answer in publisher.publish_all(tenant, events, now).await? {
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
            Acceptance::Accepted(answer) => world.ledger().accepted(answer, key.as_deref()),
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
            self.world.until(at).await;
            lock(&self.progress).changed[endpoint] += 1;
            // Some admins try again, and some go home.
            let tries = self.world.network_chance().between(1, 3);
            for _ in 0..tries {
                let changed = self.change(endpoint, change).await;
                self.world.note(|| format!("admin of {endpoint}: {change:?} came to {changed:?}"));
                if changed.is_ok() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
        }
    }

    async fn change(&self, endpoint: usize, change: Change) -> Result<(), String> {
        let (world, admin, id) = (&self.world, &self.life.admin, endpoint_id(endpoint));
        let by = By { actor: Actor::Service, address: None, at: world.wall() };
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
                let changed = self.change(endpoint, Change::Activate).await;
                changed.expect("nothing fails any more");
            }
        }
    }

    async fn sets_the_clock(self) {
        loop {
            let next = lock(&self.progress).clock_jumps;
            let Some(&(at, by_seconds)) = self.world.plan.clock_jumps.get(next) else { return };
            self.world.until(at).await;
            lock(&self.progress).clock_jumps += 1;
            self.world.set_wall(by_seconds);
        }
    }

    // ---- the end ----

    /// Waits until everything that is owed has ended; or too long.
    async fn settle(&self) {
        let deadline = self.world.elapsed() + PATIENCE;
        while !self.is_settled() && self.world.elapsed() < deadline {
            tokio::time::sleep(LOOK_EVERY).await;
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
        let held = self.life.lanes.bytes_held();
        if held > 0 {
            self.world.ledger().violate("memory is given back", format!("{held} bytes are held"));
        }
        self.world.note(|| "settled".into());
    }

    fn is_settled(&self) -> bool {
        let deliveries = self.world.store.deliveries();
        deliveries.iter().all(|delivery| self.has_settled(delivery))
            && self.life.lanes.bytes_held() == 0
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
        for number in 0..8 {
            let event_type_index = number % TYPES.len();
            let arrival = Arrival {
                at: Duration::ZERO,
                events: vec![crate::plan::EventPlan { event_type: event_type_index, bytes: 100 }],
                has_key: false,
                hangs_up_after: None,
            };
            let before = self.world.ledger().counts.accepted;
            let published = self.publish(number, &arrival, false).await;
            published.expect("nothing fails any more");
            let event = self.world.ledger().some_accepted(before).expect("it was accepted");
            events.push((event, event_type_index));
        }
        tokio::time::sleep(PROMPTLY).await;
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

    async fn check_end(&self) {
        let endpoints = 0..self.world.plan.endpoints.len();
        let is_deleted: Vec<_> = endpoints.clone().map(|e| self.is_deleted(e)).collect();
        let is_active: Vec<_> = endpoints.clone().map(|e| self.is_active(e)).collect();
        let snapshot = self.life.directory.snapshot();
        let mut ledger = self.world.ledger();
        for endpoint in endpoints {
            let view = snapshot.endpoint(TENANT, endpoint_id(endpoint));
            let agrees = view.is_none() == is_deleted[endpoint]
                && view.is_some_and(|view| view.is_deliverable()) == is_active[endpoint];
            if !agrees {
                ledger.violate("the directory agrees with the store", format!("on {endpoint}"));
            }
        }
        ledger.check_end(&self.world, &is_deleted, &is_active);
    }
}
