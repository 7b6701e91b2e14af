//! What Prometheus reads: every metric that there is, with its help, and a handle for each, made once at start.
//!
//! Whoever has something to count holds the [`Metrics`] and uses its handles; nothing is looked up by name where events
//! pass. What is a state rather than a count, is asked for when Prometheus asks ([`render`]). Nothing here is labelled with
//! an endpoint, a tenant or a raw path, so that there are no more series however many of those there are. The paths under
//! which it is served are not here (`api/metrics.rs`).

use std::{sync::Arc, time::Duration};

use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{
    BuildError, Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};
use postrider_kernel::{EndpointId, Next, TenantId, Timestamp};
use postrider_store::{Published, Result};
use tokio_util::sync::CancellationToken;

use crate::{app::App, clock::Clock};

/// How often what histograms have gathered is added up, though nobody asks for it.
const GATHER_EVERY: Duration = Duration::from_secs(5);

/// The bounds of histograms of time, in seconds: from a commit on a fast disk to a receiver's whole timeout.
const SECONDS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0];

/// The bounds of the histogram of attempts that are written down together.
const ATTEMPTS: [f64; 10] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];

/// The classes of status codes that we answer, as labels.
const CLASSES: [&str; 3] = ["2xx", "4xx", "5xx"];

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only grows.
    Counter,
    /// It goes up and down.
    Gauge,
    /// How often it was in which range.
    Histogram,
}

/// Every metric: its name, what it is, and its help. `docs/operating.md` lists the same (a test compares them).
pub const METRICS: [(&str, Kind, &str); 12] = [
    (ACCEPTED, Kind::Counter, "Events that this node has accepted: they are on disk."),
    (DELIVERED, Kind::Counter, "Deliveries of this node that a receiver has acknowledged."),
    (FAILED, Kind::Counter, "Deliveries of this node that failed for good."),
    (RETRIED, Kind::Counter, "Attempts of this node that failed and will be retried."),
    (STORE_ERRORS, Kind::Counter, "Publishes and records of this node that the store failed."),
    (IN_FLIGHT, Kind::Gauge, "Requests of this node in flight, or answered and not on disk yet."),
    (LANE_DEPTH, Kind::Gauge, "Deliveries that wait in this node's memory, in all lanes together."),
    (OVERDUE, Kind::Gauge, "How long the oldest due delivery has waited in the store (all nodes)."),
    (ACK, Kind::Histogram, "How long attempts that were acknowledged took."),
    (PUBLISH, Kind::Histogram, "How long the store took to commit a publish, waiting included."),
    (RECORD, Kind::Histogram, "How long the store took to commit a batch of attempts."),
    (BATCH, Kind::Histogram, "Attempts that were handed to the store together."),
];

/// The one metric that has labels: the route's pattern, and the class of the status.
pub const REQUESTS: (&str, Kind, &str) =
    ("postrider_http_request_duration_seconds", Kind::Histogram, "How long requests took.");

const ACCEPTED: &str = "postrider_events_accepted_total";
const DELIVERED: &str = "postrider_deliveries_delivered_total";
const FAILED: &str = "postrider_deliveries_failed_total";
const RETRIED: &str = "postrider_attempts_retried_total";
const STORE_ERRORS: &str = "postrider_store_errors_total";
const IN_FLIGHT: &str = "postrider_attempts_in_flight";
const LANE_DEPTH: &str = "postrider_lane_depth";
const OVERDUE: &str = "postrider_oldest_pending_overdue_seconds";
const ACK: &str = "postrider_ack_duration_seconds";
const PUBLISH: &str = "postrider_publish_commit_duration_seconds";
const RECORD: &str = "postrider_record_commit_duration_seconds";
const BATCH: &str = "postrider_record_batch_attempts";

/// The handles.
pub struct Metrics {
    recorder: PrometheusRecorder,
    accepted: Counter,
    delivered: Counter,
    failed: Counter,
    retried: Counter,
    store_errors: Counter,
    in_flight: Gauge,
    lane_depth: Gauge,
    overdue: Gauge,
    ack: Histogram,
    publish: Histogram,
    record: Histogram,
    batch: Histogram,
}

/// How long the requests of one route took: a handle for each class of status.
pub struct RouteTimes([Histogram; 3]);

impl RouteTimes {
    /// A request was answered.
    pub fn took(&self, duration: Duration, status: http::StatusCode) {
        let [success, refusal, fault] = &self.0;
        let histogram = match status {
            status if status.is_server_error() => fault,
            status if status.is_client_error() => refusal,
            _ => success,
        };
        histogram.record(duration);
    }
}

impl Metrics {
    /// All of them at zero.
    ///
    /// # Errors
    /// Only if one of the tables above were empty.
    pub fn new() -> std::result::Result<Self, BuildError> {
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Full(BATCH.to_owned()), &ATTEMPTS)?
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)?
            .build_recorder();
        for (name, kind, help) in METRICS.into_iter().chain([REQUESTS]) {
            match kind {
                Kind::Counter => recorder.describe_counter(name.into(), None, help.into()),
                Kind::Gauge => recorder.describe_gauge(name.into(), None, help.into()),
                Kind::Histogram => recorder.describe_histogram(name.into(), None, help.into()),
            }
        }
        let counter = |name| recorder.register_counter(&Key::from_static_name(name), &METADATA);
        let gauge = |name| recorder.register_gauge(&Key::from_static_name(name), &METADATA);
        let histogram = |name| recorder.register_histogram(&Key::from_static_name(name), &METADATA);
        Ok(Self {
            accepted: counter(ACCEPTED),
            delivered: counter(DELIVERED),
            failed: counter(FAILED),
            retried: counter(RETRIED),
            store_errors: counter(STORE_ERRORS),
            in_flight: gauge(IN_FLIGHT),
            lane_depth: gauge(LANE_DEPTH),
            overdue: gauge(OVERDUE),
            ack: histogram(ACK),
            publish: histogram(PUBLISH),
            record: histogram(RECORD),
            batch: histogram(BATCH),
            recorder,
        })
    }

    /// The handles of a route, by its pattern.
    pub fn route(&self, pattern: &'static str) -> RouteTimes {
        RouteTimes(CLASSES.map(|class| {
            let labels = vec![
                Label::from_static_parts("route", pattern),
                Label::from_static_parts("status", class),
            ];
            self.recorder.register_histogram(&Key::from_parts(REQUESTS.0, labels), &METADATA)
        }))
    }

    /// Waits for a publish of so many events.
    pub async fn publish(
        &self,
        clock: &dyn Clock,
        events: usize,
        verb: impl Future<Output = Result<Published>>,
    ) -> Result<Published> {
        let published = self.time(&self.publish, clock, verb).await;
        if matches!(published, Ok(Published::Fresh)) {
            self.accepted.increment(u64::try_from(events).unwrap_or(u64::MAX));
        }
        published
    }

    /// Waits for a batch of attempts to be recorded.
    pub async fn record<T>(
        &self,
        clock: &dyn Clock,
        attempts: usize,
        verb: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        self.batch.record(attempts as f64);
        self.time(&self.record, clock, verb).await
    }

    async fn time<T>(
        &self,
        histogram: &Histogram,
        clock: &dyn Clock,
        verb: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let begun = clock.monotonic();
        let answer = verb.await;
        match &answer {
            Ok(_) => histogram.record(clock.monotonic().saturating_sub(begun)),
            Err(_) => self.store_errors.increment(1),
        }
        answer
    }

    /// An attempt that took so long is on disk, and this is what follows.
    pub fn attempted(&self, next: &Next, duration: Duration) {
        match next {
            Next::Delivered => {
                self.delivered.increment(1);
                self.ack.record(duration);
            }
            Next::Failed => self.failed.increment(1),
            Next::Retry(_) => self.retried.increment(1),
        }
    }

    fn handle(&self) -> PrometheusHandle {
        self.recorder.handle()
    }

    /// Adds up what histograms have gathered, until it is told to stop: else it would take memory until somebody asks.
    pub async fn gather(self: Arc<Self>, clock: Arc<dyn Clock>, stopping: CancellationToken) {
        let handle = self.handle();
        loop {
            tokio::select! {
                biased;
                () = stopping.cancelled() => return,
                () = clock.sleep(GATHER_EVERY) => handle.run_upkeep(),
            }
        }
    }
}

const METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, None);

/// All metrics as of now, in Prometheus' text format.
pub async fn render(app: &App) -> String {
    let deliverer = &app.publisher.deliverer;
    let metrics = &deliverer.metrics;
    metrics.in_flight.set(deliverer.permits.in_flight() as f64);
    metrics.lane_depth.set(app.publisher.lanes.depth() as f64);
    metrics.overdue.set(match app.store.earliest_due().await {
        Ok(earliest) => overdue(app, earliest).as_secs_f64(),
        // Nobody knows, and an old number would be a lie.
        Err(error) => {
            tracing::warn!("the oldest pending delivery can't be looked up: {error}");
            metrics.store_errors.increment(1);
            f64::NAN
        }
    });
    metrics.handle().render()
}

/// How long the oldest has been due, of what is owed to endpoints that can be delivered to: one whose admin has switched it
/// off may wait for ever.
fn overdue(app: &App, earliest: Vec<(TenantId, EndpointId, Timestamp)>) -> Duration {
    let snapshot = app.directory.snapshot();
    let is_deliverable = |tenant, endpoint| {
        snapshot.endpoint(tenant, endpoint).is_some_and(|endpoint| endpoint.is_deliverable())
    };
    let due = earliest
        .into_iter()
        .filter(|(tenant, endpoint, _)| is_deliverable(*tenant, *endpoint))
        .map(|(_, _, due)| due)
        .min();
    due.map_or(Duration::ZERO, |due| due.until(app.clock.now()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manual_lists_every_metric_with_its_help_and_no_other() {
        let manual = include_str!("../../../docs/operating.md");
        let listed: Vec<_> =
            manual.lines().filter(|line| line.starts_with("| `postrider_")).collect();
        let row = |(name, kind, help): (&str, Kind, &str)| {
            format!("| `{name}` | {} | {help} |", format!("{kind:?}").to_lowercase())
        };
        let known: Vec<_> = METRICS.into_iter().chain([REQUESTS]).map(row).collect();
        assert_eq!(listed, known);
    }

    #[test]
    fn every_metric_is_exported_with_its_help_and_its_kind() {
        let metrics = Metrics::new().unwrap();
        metrics.route("/x").took(Duration::from_millis(3), http::StatusCode::OK);
        for next in [Next::Delivered, Next::Failed, Next::Retry(Timestamp::from_micros(0))] {
            metrics.attempted(&next, Duration::from_millis(3));
        }
        for histogram in [&metrics.publish, &metrics.record, &metrics.batch] {
            histogram.record(1.0);
        }
        let text = metrics.handle().render();
        for (name, kind, help) in METRICS.into_iter().chain([REQUESTS]) {
            let kind = format!("{kind:?}").to_lowercase();
            assert!(
                text.contains(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n")),
                "{name}: {text}"
            );
        }
        assert!(text.contains("postrider_deliveries_delivered_total 1\n"), "{text}");
        assert!(text.contains("postrider_ack_duration_seconds_bucket{le=\"0.005\"} 1\n"), "{text}");
        assert!(text.contains("_bucket{route=\"/x\",status=\"2xx\",le=\"0.005\"} 1\n"), "{text}");
    }
}
