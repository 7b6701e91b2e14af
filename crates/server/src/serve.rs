//! Puts the parts together and runs them: first everything that answers for what is owed, then the door for requests;
//! and in the opposite order when it stops.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower_http::add_extension::AddExtension;

use crate::{
    admin::{self, Admin},
    api,
    app::{ApiOptions, App},
    config::{Config, NodeRole},
    deliver::Deliverer,
    directory::{Composing, Directory},
    disk::Reserve,
    dispatch::{Dispatch, Notes},
    egress::Egress,
    ids::Ids,
    instance::Instance,
    lanes::{Bounds, Lanes},
    life::Life,
    listener::Https,
    metrics::Metrics,
    node::{self, Node},
    permits::Permits,
    publish::Publisher,
    record::{Recorder, RecordingState, Records},
    rekey,
    shutdown::StopSignals,
    transport::Network,
    upkeep::Upkeep,
};

/// Who we say we are.
const USER_AGENT: &str = concat!("Postrider/", env!("CARGO_PKG_VERSION"));

/// Deliveries that wait in one lane, and payload bytes that wait in all of them, at most.
const LANE_CAPACITY: usize = 1_024;
const LANES_BYTES: usize = 32 * 1024 * 1024;

/// How long an idempotency key counts.
const IDEMPOTENCY_WINDOW: Duration = Duration::from_secs(24 * 60 * 60);

/// How long a client may take to send a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// How long what is in flight may take to finish when the service stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// How long to wait when the system has no more sockets to accept with.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Serves an instance until it is told to stop. `on_ready` is called once, when the API accepts connections.
///
/// # Errors
/// What keeps it from serving, or from going on.
pub async fn run(
    config: Config,
    opened: Instance,
    on_ready: impl FnOnce(SocketAddr),
) -> anyhow::Result<()> {
    let mut signals = StopSignals::listen()?;
    let service = tokio::select! {
        started = Service::start(config, opened) => started?,
        () = signals.next() => return Ok(()),
    };
    on_ready(service.address);
    let store = service.instance.store.clone();
    tokio::select! {
        () = signals.next() => {}
        // Nothing is finished first: whatever would be written now may be on disk or not.
        broken = store.broke() => return Err(broken.into()),
    }
    tracing::info!("stopping: finishing what is in flight; a second signal leaves at once");
    tokio::select! {
        () = service.stop() => tracing::info!("stopped"),
        () = signals.next() => tracing::warn!("leaving at once; what is in flight is attempted again at the next start"),
    }
    Ok(())
}

/// Takes as many open files as the system allows us, and answers how many that are: each connection is one, and the
/// usual limit is no more than the requests in flight that are allowed.
fn raise_open_files_limit() -> usize {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let before = getrlimit(Resource::Nofile);
    let raised = rustix::process::Rlimit { current: before.maximum, ..before };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!("the limit of open files could not be raised: {error}");
    }
    let limit = getrlimit(Resource::Nofile).current;
    limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX)
}

/// How many processors this process may use.
fn processors() -> u32 {
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    u32::try_from(processors).unwrap_or(u32::MAX)
}

/// The permits that fit both the configuration and the limit of open files, of which the API and the store need a part.
fn permits(concurrency: u32) -> anyhow::Result<Permits> {
    let (wanted, open_files) = (usize::try_from(concurrency)?, raise_open_files_limit());
    let in_flight = wanted.min((open_files / 8 * 3).max(1));
    if in_flight < wanted {
        tracing::warn!(
            "{wanted} requests in flight do not fit the limit of {open_files} open files: it will be {in_flight}; \
             `ulimit -n {}` allows all of them",
            wanted * 3
        );
    }
    Ok(Permits::new(in_flight, wanted.min(open_files / 4)))
}

/// A service that runs.
pub struct Service {
    /// Where the API listens.
    pub address: SocketAddr,
    /// What the API is made of.
    pub app: Arc<App>,
    /// Ends the accepting of requests.
    closing: CancellationToken,
    /// Ends the loops and the workers.
    stopping: CancellationToken,
    doors: TaskTracker,
    loops: TaskTracker,
    workers: TaskTracker,
    /// Ends the recording, once nobody hands in attempts any more.
    recorded: CancellationToken,
    recorders: TaskTracker,
    /// Ends what a node of many does, once nothing is signed or recorded any more.
    ended: CancellationToken,
    nodes: TaskTracker,
    life: Arc<Life>,
    clock: Arc<dyn crate::clock::Clock>,
    /// Keeps the data directory locked.
    instance: Instance,
}

impl Service {
    /// Starts everything; requests are accepted when it answers.
    ///
    /// # Errors
    /// What keeps it from serving: an address in use, a store that can't be read.
    pub async fn start(config: Config, instance: Instance) -> anyhow::Result<Self> {
        let https = config.certificate().map(Https::new).transpose();
        let https = https.context("the certificate of --tls-cert can't be used")?;
        let listener = TcpListener::bind(config.listen).await.with_context(|| {
            format!("can't listen on {}; --listen chooses another address", config.listen)
        })?;
        let address = listener.local_addr()?;
        let metrics_listener = match config.metrics_listen {
            Some(address) => Some(TcpListener::bind(address).await.with_context(|| {
                format!("can't listen on {address}; --metrics-listen chooses another address")
            })?),
            None => None,
        };
        let (stopping, loops, workers) =
            (CancellationToken::new(), TaskTracker::new(), TaskTracker::new());

        let directory = Arc::new(Directory::new(Composing {
            signature_header: config.signature_header.clone(),
            user_agent: http::HeaderValue::from_static(USER_AGENT),
        }));
        directory.refresh_all(&*instance.store, &instance.vault).await?;
        let (life, shared_clock) =
            node::begin_life(&*instance.store, &instance.clock, &directory).await?;
        let clock = match &shared_clock {
            Some(shared) => shared.clone(),
            None => instance.clock.clone(),
        };
        let egress = Arc::new(Egress::new(&config));
        let (notes, heard) = Notes::channel();
        let ids = Arc::new(Ids::new(instance.store.clone()));
        let lanes = Arc::new(Lanes::new(Bounds {
            // Without room in any lane, whatever is owed begins pending, and is another node's to deliver.
            lane_capacity: if config.role == NodeRole::Api { 0 } else { LANE_CAPACITY },
            bytes: LANES_BYTES,
            endpoint_concurrency: config.endpoint_concurrency,
            processors: processors(),
        }));
        let (records, finished) = Records::channel();
        let recording = Arc::<RecordingState>::default();
        let metrics = Arc::new(Metrics::new()?);
        loops.spawn(metrics.clone().gather(clock.clone(), stopping.clone()));
        let recorder = Arc::new(Recorder {
            metrics: metrics.clone(),
            store: instance.store.clone(),
            directory: directory.clone(),
            vault: instance.vault.clone(),
            clock: clock.clone(),
            ids: ids.clone(),
            notes: notes.clone(),
            state: recording.clone(),
            stopping: stopping.clone(),
        });
        let deliverer = Arc::new(Deliverer {
            metrics,
            store: instance.store.clone(),
            directory: directory.clone(),
            transport: Arc::new(Network::new(&config, egress.clone())?),
            clock: clock.clone(),
            ids: ids.clone(),
            notes: notes.clone(),
            permits: permits(config.concurrency)?,
            life: life.clone(),
            schedule: config.retry_schedule.clone(),
            request_timeout: config.request_timeout,
            workers: workers.clone(),
            stopping: stopping.clone(),
            records,
            recording,
        });
        let (recorded, recorders) = (CancellationToken::new(), TaskTracker::new());
        recorders.spawn(recorder.run(finished, recorded.clone()));
        if config.role != NodeRole::Api {
            let dispatch = Dispatch::new(deliverer.clone(), lanes.clone(), heard).await?;
            loops.spawn(dispatch.run());
        }

        let reserve = Arc::new(match instance.is_shared {
            true => Reserve::elsewhere(),
            false => Reserve::new(&config.data_dir),
        });
        let credentials = Arc::new(api::auth::Credentials::default());
        let admin = Admin::new(admin::Parts {
            store: instance.store.clone(),
            vault: instance.vault.clone(),
            directory: directory.clone(),
            clock: clock.clone(),
            ids,
            lanes: lanes.clone(),
            notes: notes.clone(),
            life: life.clone(),
            credentials: credentials.clone(),
        });
        let app = Arc::new(App {
            store: instance.store.clone(),
            clock: clock.clone(),
            directory: directory.clone(),
            publisher: Publisher {
                deliverer,
                lanes: lanes.clone(),
                reserve: reserve.clone(),
                vault: instance.vault.clone(),
            },
            admin,
            egress,
            options: ApiOptions {
                public_url: config.public_url.clone(),
                is_https: config.tls_cert.is_some(),
                trusted_proxies: config.trusted_proxies.clone(),
                body_limit: config.body_limit,
                require_password: config.require_password,
                idempotency_window: IDEMPOTENCY_WINDOW,
            },
            credentials,
            admission: api::admission::Admission::default(),
            readiness: api::health::Readiness::default(),
        });
        let forgetful = app.clone();
        let on_change = Box::new(move || forgetful.credentials.forget_all());
        let (ended, nodes) = (CancellationToken::new(), TaskTracker::new());
        let looks_around = match shared_clock {
            None => Some(on_change),
            Some(clock) => {
                let node = Node::new(node::Parts {
                    store: instance.store.clone(),
                    vault: instance.vault.clone(),
                    directory: directory.clone(),
                    lanes,
                    clock,
                    notes: notes.clone(),
                    life: life.clone(),
                    on_change,
                });
                node.run(&nodes, &ended);
                None
            }
        };
        loops.spawn(go_on_rotating(&instance, directory.clone(), clock.clone(), &stopping));
        let upkeep = Upkeep {
            store: instance.store.clone(),
            vault: instance.vault.clone(),
            directory,
            clock: clock.clone(),
            notes,
            reserve,
            retention: config.retention,
            idempotency_window: IDEMPOTENCY_WINDOW,
            on_change: looks_around.map(|on_change| on_change as Box<dyn Fn() + Send + Sync>),
            stopping: stopping.clone(),
        };
        loops.spawn(upkeep.run());

        let (closing, doors) = (CancellationToken::new(), TaskTracker::new());
        let acceptor = https.as_ref().map(Https::acceptor).transpose()?;
        if let Some(https) = https {
            loops.spawn(https.renew(clock.clone(), stopping.clone()));
        }
        if let Some(listener) = metrics_listener {
            tracing::info!("metrics at http://{}/metrics", listener.local_addr()?);
            let router = api::metrics::open_router(app.clone());
            doors.spawn(accept(listener, None, router, closing.clone(), clock.clone()));
        }
        doors.spawn(accept(
            listener,
            acceptor,
            api::router(app.clone(), config.role),
            closing.clone(),
            clock.clone(),
        ));
        Ok(Self {
            address,
            app,
            closing,
            stopping,
            doors,
            loops,
            workers,
            recorded,
            recorders,
            ended,
            nodes,
            life,
            clock,
            instance,
        })
    }

    /// Stops: no more requests, then no more attempts, then the last commits. Takes 30 s at most.
    pub async fn stop(self) {
        self.app.readiness.drain();
        self.closing.cancel();
        self.stopping.cancel();
        let finish = async {
            for tracker in [&self.doors, &self.loops, &self.workers] {
                tracker.close();
                tracker.wait().await;
            }
            self.recorded.cancel();
            self.recorders.close();
            self.recorders.wait().await;
            self.ended.cancel();
            self.nodes.close();
            self.nodes.wait().await;
            // Nobody has to wait for this life any more, and what it held is others' at once.
            if let Err(error) = self.instance.store.end_life(self.life.lease()).await {
                tracing::debug!("this life could not be ended, and ends by itself: {error}");
            }
        };
        tokio::select! {
            () = finish => {}
            () = self.clock.sleep(STOP_TIMEOUT) => {
                tracing::warn!("not everything in flight has finished; it is attempted again at the next start");
            }
        }
    }
}

/// Takes connections until told to stop, and then waits for the requests that were begun.
async fn accept(
    listener: TcpListener,
    acceptor: Option<TlsAcceptor>,
    router: axum::Router,
    closing: CancellationToken,
    clock: Arc<dyn crate::clock::Clock>,
) {
    let graceful = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            () = closing.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                // An answer is one write: nothing is gained by holding small packets back.
                let _ = stream.set_nodelay(true);
                let (watcher, router) = (graceful.watcher(), router.clone());
                let secured = secure(acceptor.clone(), stream, closing.clone(), clock.clone());
                tokio::spawn(async move {
                    let served = match secured.await {
                        Secured::Plainly(stream) => {
                            watcher.watch(serve_connection(stream, peer, router)).await
                        }
                        Secured::Tls(stream) => {
                            watcher.watch(serve_connection(stream, peer, router)).await
                        }
                        Secured::Not => return,
                    };
                    if let Err(error) = served {
                        // A client that hangs up or speaks no HTTP is its own business.
                        tracing::debug!(%peer, "a connection ended: {error}");
                    }
                });
            }
            Err(error) => {
                tracing::warn!("a connection could not be accepted: {error}");
                clock.sleep(ACCEPT_AGAIN).await;
            }
        }
    }
    drop(listener);
    graceful.shutdown().await;
}

/// Goes on with rotations of the master key, and reads the directory anew when a key has come that was missing.
fn go_on_rotating(
    instance: &Instance,
    directory: Arc<Directory>,
    clock: Arc<dyn crate::clock::Clock>,
    stopping: &CancellationToken,
) -> impl Future<Output = ()> + Send + 'static {
    let (store, vault, stopping) =
        (instance.store.clone(), instance.vault.clone(), stopping.clone());
    async move {
        let on_key = || directory.doubt();
        rekey::run(&*store, &vault, &*clock, &stopping, on_key).await;
    }
}

/// A client's connection, as it came or over TLS.
enum Secured {
    Plainly(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    /// It came to nothing in time, or in HTTP where https is served.
    Not,
}

async fn secure(
    acceptor: Option<TlsAcceptor>,
    stream: TcpStream,
    closing: CancellationToken,
    clock: Arc<dyn crate::clock::Clock>,
) -> Secured {
    let Some(acceptor) = acceptor else { return Secured::Plainly(stream) };
    tokio::select! {
        biased;
        () = closing.cancelled() => Secured::Not,
        () = clock.sleep(HEAD_TIMEOUT) => Secured::Not,
        accepted = acceptor.accept(stream) => match accepted {
            Ok(stream) => Secured::Tls(Box::new(stream)),
            Err(error) => {
                tracing::debug!("a client's handshake failed: {error}");
                Secured::Not
            }
        },
    }
}

type Connection<S> = http1::Connection<
    TokioIo<S>,
    TowerToHyperService<AddExtension<axum::Router, axum::extract::ConnectInfo<SocketAddr>>>,
>;

fn serve_connection<S>(stream: S, peer: SocketAddr, router: axum::Router) -> Connection<S>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let service = AddExtension::new(router, axum::extract::ConnectInfo(peer));
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service))
}
