//! All scenarios, several times over, as one table.
//!
//! Runs are interleaved: each goes through every scenario, so that what else the machine does in a minute falls on one run
//! of each and not on all runs of one. Ratios are of figures of the same run.

use std::{fmt::Write, num::NonZero, time::Duration};

use serde::Serialize;

use crate::{
    figures::{Figures, shown},
    load::Pace,
    scenarios::{
        backlog::{self, Backlog},
        isolation, limit, nodes,
        pages::Pages,
        throughput,
    },
    server::Setup,
    stats::Spread,
    system,
};

mod goals;

use goals::Goal;

const SIZE: usize = 500;

const LIMIT: &str = "limit";
const LIMIT_APART: &str = "limit, the receiver apart";

/// How much of everything.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    /// How often.
    pub runs: usize,
    /// How long what is measured by time is measured.
    seconds: u64,
    /// How many events are published as fast as can be, and how many deliveries a fan-out has.
    events: u64,
    /// How many deliveries a backlog has, and how many attempts an endpoint with pages.
    millions: u32,
    /// How many of them another tenant has.
    other_backlog: u32,
}

impl Extent {
    /// What the goals speak of.
    pub fn full(runs: usize) -> Self {
        Self { runs, seconds: 10, events: 100_000, millions: 1_000_000, other_backlog: 200_000 }
    }

    /// What takes a few minutes; its figures are of smaller things.
    pub fn quick(runs: usize) -> Self {
        Self { runs, seconds: 4, events: 20_000, millions: 100_000, other_backlog: 50_000 }
    }
}

/// One endpoint, 64 publishers, one process with its file.
const SQLITE: &str = "throughput, 64 connections";

/// The same over so many nodes.
const NODES: [(&str, usize); 3] =
    [("one node on Postgres", 1), ("two nodes on Postgres", 2), ("four nodes on Postgres", 4)];

/// The name of a scenario, and what it measured.
type Measured = (&'static str, Figures);

/// What a report came to.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// What it ran on.
    pub machine: String,
    /// How much of everything.
    pub extent: String,
    /// Each measure over all runs.
    pub summary: Vec<Row>,
    /// What each run measured.
    pub runs: Vec<Vec<Measured>>,
    /// What went wrong.
    pub failures: Vec<String>,
}

/// One measure over all runs.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The scenario.
    pub scenario: &'static str,
    /// What was measured.
    pub name: String,
    /// Of what.
    pub unit: &'static str,
    /// The values.
    #[serde(flatten)]
    pub spread: Spread,
    /// What is aimed at, and whether the median is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub goal: Option<String>,
}

/// Runs everything. A scenario that fails is noted, and the others go on.
///
/// # Errors
/// That nothing could be prepared.
pub fn run(setup: &Setup, postgres: Option<&str>, extent: Extent) -> anyhow::Result<Report> {
    eprintln!("preparing a backlog of {} deliveries", extent.millions);
    let backlog = Backlog::prepare(setup, extent.millions)?;
    eprintln!("preparing an endpoint with {} attempts", extent.millions);
    let pages = Pages::prepare(setup, extent.millions)?;
    let mut report = Report {
        machine: machine(),
        extent: format!(
            "{} runs, {} events, {} s at each rate, a backlog and a list of {}",
            extent.runs, extent.events, extent.seconds, extent.millions
        ),
        ..Report::default()
    };
    for run in 1..=extent.runs {
        let mut measured = Vec::new();
        let of_one = scenarios(setup, extent, &backlog, &pages);
        for (scenario, measure) in of_one.into_iter().chain(on_postgres(setup, postgres, extent)) {
            eprintln!("run {run} of {}: {scenario}", extent.runs);
            match measure() {
                Ok(figures) => measured.push((scenario, figures)),
                Err(error) => {
                    let failure = format!("run {run}, {scenario}: {error:#}");
                    eprintln!("{failure}");
                    report.failures.push(failure);
                }
            }
        }
        measured.push(("ratios", ratios(&measured)));
        report.runs.push(measured);
    }
    report.summary = summarise(&report.runs);
    Ok(report)
}

type Measure<'a> = Box<dyn Fn() -> anyhow::Result<Figures> + 'a>;

fn scenarios<'a>(
    setup: &'a Setup,
    extent: Extent,
    backlog: &'a Backlog,
    pages: &'a Pages,
) -> Vec<(&'static str, Measure<'a>)> {
    let Extent { seconds, events, .. } = extent;
    let end_to_end =
        move |options| -> Measure<'a> { Box::new(move || throughput::run(setup, options)) };
    let closed = move |connections| {
        end_to_end(throughput::Options {
            events,
            connections,
            size: SIZE,
            endpoints: 1,
            pace: Pace::Closed,
        })
    };
    let latency = move |rate| end_to_end(throughput::Options::at_rate(rate, seconds, SIZE));
    let fan_out =
        move |endpoints| end_to_end(throughput::Options::fan_out(endpoints, events, SIZE));
    let duration = Duration::from_secs(seconds.min(5));
    let limit = move |apart| -> Measure<'a> {
        let options = limit::Options { connections: 64, duration, size: SIZE, apart };
        Box::new(move || limit::run(options))
    };
    let isolation = isolation::Options { rate: 100.0, seconds, backlog: extent.other_backlog };
    let after_start = backlog::Options { rate: 200.0, seconds };
    vec![
        ("disk", Box::new(move || disk(setup))),
        (LIMIT, limit(false)),
        (LIMIT_APART, limit(true)),
        (SQLITE, closed(64)),
        ("throughput, 256 connections", closed(256)),
        ("latency at 50/s", latency(50.0)),
        ("latency at 500/s", latency(500.0)),
        ("latency at 2,000/s", latency(2_000.0)),
        ("fan-out to 10", fan_out(10)),
        ("fan-out to 100", fan_out(100)),
        ("isolation", Box::new(move || isolation::run(setup, isolation))),
        ("backlog", Box::new(move || backlog.run(after_start))),
        ("pages", Box::new(move || pages.run())),
    ]
}

/// The same load as that of [`SQLITE`], over nodes on one Postgres, where there is one.
fn on_postgres<'a>(
    setup: &'a Setup,
    postgres: Option<&'a str>,
    extent: Extent,
) -> Vec<(&'static str, Measure<'a>)> {
    let over = |postgres: &'a str, nodes| -> Measure<'a> {
        let options = nodes::Options { events: extent.events, connections: 64, size: SIZE, nodes };
        Box::new(move || nodes::run(setup, postgres, options))
    };
    let of = |postgres| NODES.map(|(scenario, nodes)| (scenario, over(postgres, nodes)));
    postgres.into_iter().flat_map(of).collect()
}

/// What one durable page costs on this disk, at this moment.
pub fn disk(setup: &Setup) -> anyhow::Result<Figures> {
    let mut figures = Figures::default();
    figures.put_latency("fdatasync", &system::sync_times(&setup.parent)?);
    Ok(figures)
}

/// What follows from the figures of one run.
fn ratios(run: &[Measured]) -> Figures {
    let get = |scenario: &str, name: &str| {
        run.iter().find(|(measured, _)| *measured == scenario).and_then(|(_, f)| f.get(name))
    };
    let mut figures = Figures::default();
    for scenario in [
        "throughput, 64 connections",
        "throughput, 256 connections",
        "fan-out to 10",
        "fan-out to 100",
    ] {
        for limit in [LIMIT, LIMIT_APART] {
            if let (Some(delivered), Some(requests)) =
                (get(scenario, "delivered"), get(limit, "requests"))
            {
                figures.put(format!("{scenario}: delivered / {limit}"), "×", delivered / requests);
            }
        }
        let each = ["server CPU per delivery", "bench CPU per delivery"];
        if let (Some(server), Some(bench), Some(limit)) =
            (get(scenario, each[0]), get(scenario, each[1]), get(LIMIT, limit::CPU))
        {
            let name = format!("{scenario}: CPU of limit / CPU of all");
            figures.put(name, "×", limit / (server + bench));
        }
    }
    let of = [SQLITE, NODES[0].0];
    for (scenario, _) in NODES {
        for of in of.into_iter().filter(|of| *of != scenario) {
            if let (Some(delivered), Some(other)) =
                (get(scenario, "delivered"), get(of, "delivered"))
            {
                figures.put(format!("{scenario}: delivered / {of}"), "×", delivered / other);
            }
        }
    }
    if let (Some(acknowledged), Some(sync)) =
        (get("latency at 500/s", "acknowledgement p99"), get("disk", "fdatasync p99"))
    {
        figures.put("acknowledgement p99 at 500/s / fdatasync p99", "×", acknowledged / sync);
    }
    figures
}

/// Each measure's spread, in the order in which they first came.
fn summarise(runs: &[Vec<Measured>]) -> Vec<Row> {
    let mut rows: Vec<(Row, Vec<f64>)> = Vec::new();
    for (scenario, figures) in runs.iter().flatten() {
        for figure in &figures.0 {
            let known = rows
                .iter_mut()
                .find(|(row, _)| row.scenario == *scenario && row.name == figure.name);
            if let Some((_, values)) = known {
                values.push(figure.value);
                continue;
            }
            let (name, unit) = (figure.name.clone(), figure.unit);
            let spread = Spread { min: 0.0, median: 0.0, max: 0.0 };
            rows.push((Row { scenario, name, unit, spread, goal: None }, vec![figure.value]));
        }
    }
    rows.into_iter()
        .filter_map(|(row, values)| {
            let spread = Spread::of(&values)?;
            let goal = Goal::of(row.scenario, &row.name).map(|goal| goal.verdict(spread.median));
            Some(Row { spread, goal, ..row })
        })
        .collect()
}

fn machine() -> String {
    let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
    format!("{processors} processors, shared by server, load generator and receiver")
}

impl Report {
    /// The summary as Markdown.
    pub fn table(&self) -> String {
        let mut text = format!("{}; {}.\n", self.machine, self.extent);
        let mut scenario = "";
        for row in &self.summary {
            if row.scenario != scenario {
                scenario = row.scenario;
                let _ = write!(
                    text,
                    "\n| {scenario} | unit | min | median | max | goal |\n|---|---|--:|--:|--:|---|\n"
                );
            }
            let Spread { min, median, max } = row.spread;
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} | {} | {} |",
                row.name,
                row.unit,
                shown(min),
                shown(median),
                shown(max),
                row.goal.as_deref().unwrap_or_default()
            );
        }
        for failure in &self.failures {
            let _ = write!(text, "\nFailed: {failure}\n");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(limit: f64, delivered: f64) -> Vec<Measured> {
        let (mut one, mut other) = (Figures::default(), Figures::default());
        one.put("requests", "/s", limit);
        one.put(limit::CPU, "µs", 20.0);
        other.put("delivered", "/s", delivered);
        other.put("server CPU per delivery", "µs", 90.0);
        other.put("bench CPU per delivery", "µs", 10.0);
        let mut run = vec![(LIMIT, one), ("throughput, 64 connections", other)];
        run.push(("ratios", ratios(&run)));
        run
    }

    #[test]
    fn the_table_shows_spreads_and_ratios_of_the_same_run() {
        let runs = vec![
            measured(60_000.0, 6_000.0),
            measured(30_000.0, 9_000.0),
            measured(50_000.0, 10_000.0),
        ];
        let report = Report {
            machine: "2 processors".into(),
            extent: "3 runs".into(),
            summary: summarise(&runs),
            runs,
            failures: vec!["run 2, pages: gone".into()],
        };
        insta::assert_snapshot!(report.table(), @"
        2 processors; 3 runs.

        | limit | unit | min | median | max | goal |
        |---|---|--:|--:|--:|---|
        | requests | /s | 30,000 | 50,000 | 60,000 |  |
        | CPU per request, client and receiver | µs | 20.0 | 20.0 | 20.0 |  |

        | throughput, 64 connections | unit | min | median | max | goal |
        |---|---|--:|--:|--:|---|
        | delivered | /s | 6,000 | 9,000 | 10,000 |  |
        | server CPU per delivery | µs | 90.0 | 90.0 | 90.0 | ≤ 70.0 missed |
        | bench CPU per delivery | µs | 10.0 | 10.0 | 10.0 |  |

        | ratios | unit | min | median | max | goal |
        |---|---|--:|--:|--:|---|
        | throughput, 64 connections: delivered / limit | × | 0.100 | 0.200 | 0.300 | ≥ 0.250 missed |
        | throughput, 64 connections: CPU of limit / CPU of all | × | 0.200 | 0.200 | 0.200 |  |

        Failed: run 2, pages: gone
        ");
    }
}
