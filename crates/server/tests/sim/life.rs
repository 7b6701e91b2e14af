//! One process of a node: the engine's own parts, put together as `serve.rs` does, on the simulated store, network and clock.

use std::{path::Path, sync::Arc, time::Duration};

use http::{HeaderName, HeaderValue};
use postrider::{
    admin::{Admin, Parts},
    clock::Clock,
    deliver::Deliverer,
    directory::{Composing, Directory},
    disk::Reserve,
    dispatch::{Dispatch, Notes},
    ids::Ids,
    lanes::Lanes,
    life,
    metrics::Metrics,
    node::{self, Node},
    permits::Permits,
    publish::Publisher,
    record::{Recorder, RecordingState, Records},
    upkeep::Upkeep,
    vault::Vault,
};
use postrider_kernel::RetrySchedule;
use postrider_store::{Result, Store};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    ledger::Parts as Seen,
    network::SimNetwork,
    store::SimStore,
    world::{SimClock, World},
};

/// How long events are kept, and how long an idempotency key counts: longer than any run.
const RETENTION: Duration = Duration::from_secs(30 * 86_400);
const IDEMPOTENCY_WINDOW: Duration = Duration::from_secs(86_400);

/// How long what is in flight may take to finish when the process is asked to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// A process that works.
pub struct Life {
    /// Accepts events.
    pub publisher: Publisher,
    /// Changes endpoints.
    pub admin: Admin,
    /// The picture that fan-out reads.
    pub directory: Arc<Directory>,
    /// The time that it goes by: its own, or that of the store that it shares.
    pub clock: Arc<dyn Clock>,
    world: Arc<World>,
    node: usize,
    store: Arc<dyn Store>,
    life: Arc<life::Life>,
    stopping: CancellationToken,
    loops: TaskTracker,
    workers: TaskTracker,
    recorded: CancellationToken,
    recorders: TaskTracker,
    ended: CancellationToken,
    nodes: TaskTracker,
}

impl Life {
    /// Starts everything, on a node.
    pub async fn start(world: &Arc<World>, node: usize, process: u64) -> Result<Self> {
        let own: Arc<dyn Clock> = Arc::new(SimClock { world: world.clone(), node });
        let store: Arc<dyn Store> = Arc::new(SimStore::new(world.clone(), node, process));
        let vault = Arc::new(vault(own.clone()));
        let plan = &world.plan;
        let (stopping, loops, workers) =
            (CancellationToken::new(), TaskTracker::new(), TaskTracker::new());
        let directory = Arc::new(Directory::new(Composing {
            signature_header: HeaderName::from_static("postrider-signature"),
            user_agent: HeaderValue::from_static("Postrider"),
        }));
        directory.refresh_all(&*store, &vault).await?;
        let (notes, heard) = Notes::channel();
        let ids = Arc::new(Ids::new(store.clone()));
        let lanes = Arc::new(Lanes::new(plan.bounds));
        let (records, finished) = Records::channel();
        let recording = Arc::<RecordingState>::default();
        let (life, shared_clock) = node::begin_life(&*store, &own, &directory).await?;
        let clock: Arc<dyn Clock> = match &shared_clock {
            Some(shared) => shared.clone(),
            None => own,
        };
        let seen =
            Seen { lanes: lanes.clone(), directory: directory.clone(), clock: clock.clone() };
        world.ledger().process_began(node, seen);
        let metrics = Arc::new(Metrics::new().expect("its tables are not empty"));
        let recorder = Arc::new(Recorder {
            metrics: metrics.clone(),
            store: store.clone(),
            directory: directory.clone(),
            vault: vault.clone(),
            clock: clock.clone(),
            ids: ids.clone(),
            notes: notes.clone(),
            state: recording.clone(),
            stopping: stopping.clone(),
        });
        let waits: Vec<_> = plan.waits.iter().map(|wait| wait.as_secs_f64().to_string()).collect();
        let schedule: RetrySchedule = waits.join(",").parse().expect("it is a schedule");
        let deliverer = Arc::new(Deliverer {
            metrics,
            store: store.clone(),
            directory: directory.clone(),
            transport: Arc::new(SimNetwork { world: world.clone(), node, life: life.clone() }),
            clock: clock.clone(),
            ids: ids.clone(),
            notes: notes.clone(),
            permits: Permits::new(plan.concurrency, plan.concurrency),
            life: life.clone(),
            schedule,
            request_timeout: plan.request_timeout,
            workers: workers.clone(),
            stopping: stopping.clone(),
            records,
            recording,
        });
        let (recorded, recorders) = (CancellationToken::new(), TaskTracker::new());
        recorders.spawn(recorder.run(finished, recorded.clone()));
        let dispatch = Dispatch::new(deliverer.clone(), lanes.clone(), heard).await?;
        loops.spawn(dispatch.run());
        // A path that isn't there: the disk of the machine that simulates has no part in it.
        let reserve = Arc::new(match world.plan.is_shared() {
            true => Reserve::elsewhere(),
            false => Reserve::new(Path::new("/nonexistent/simulated")),
        });
        let admin = Admin::new(Parts {
            store: store.clone(),
            vault: vault.clone(),
            directory: directory.clone(),
            clock: clock.clone(),
            ids,
            lanes: lanes.clone(),
            notes: notes.clone(),
            life: life.clone(),
            // Nobody signs in.
            credentials: Arc::default(),
        });
        let (ended, nodes) = (CancellationToken::new(), TaskTracker::new());
        let forgets_nothing = || {};
        if let Some(clock) = &shared_clock {
            let parts = node::Parts {
                store: store.clone(),
                vault: vault.clone(),
                directory: directory.clone(),
                lanes: lanes.clone(),
                clock: clock.clone(),
                notes: notes.clone(),
                life: life.clone(),
                on_change: Box::new(forgets_nothing),
            };
            Node::new(parts).run(&nodes, &ended);
        }
        let upkeep = Upkeep {
            store: store.clone(),
            vault: vault.clone(),
            directory: directory.clone(),
            clock: clock.clone(),
            notes,
            reserve: reserve.clone(),
            retention: RETENTION,
            idempotency_window: IDEMPOTENCY_WINDOW,
            on_change: shared_clock.is_none().then(|| Box::new(forgets_nothing) as _),
            stopping: stopping.clone(),
        };
        loops.spawn(upkeep.run());
        let publisher = Publisher { deliverer, lanes: lanes.clone(), reserve, vault };
        Ok(Self {
            publisher,
            admin,
            directory,
            clock,
            world: world.clone(),
            node,
            store,
            life,
            stopping,
            loops,
            workers,
            recorded,
            recorders,
            ended,
            nodes,
        })
    }

    /// Stops as the service does.
    pub async fn stop(&self) {
        self.stopping.cancel();
        let finish = async {
            for tracker in [&self.loops, &self.workers] {
                tracker.close();
                tracker.wait().await;
            }
            self.recorded.cancel();
            self.recorders.close();
            self.recorders.wait().await;
            self.ended.cancel();
            self.nodes.close();
            self.nodes.wait().await;
            // Where that fails, the life ends by itself.
            let _ = self.store.end_life(self.life.lease()).await;
        };
        self.world.timeout(self.node, STOP_TIMEOUT, finish).await;
    }
}

/// The vault of every process.
pub fn vault(clock: Arc<dyn Clock>) -> Vault {
    Vault::with_key(&[7; 32], clock).expect("the key has 32 bytes")
}
