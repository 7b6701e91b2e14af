//! Pages of an endpoint with a million attempts, over HTTP, each on a connection of its own.

use anyhow::bail;

use crate::{
    clock,
    figures::Figures,
    receiver::Manner,
    seed::{self, To},
    server::{Server, Setup},
    stage::{Stage, TENANT},
    stats::Sorted,
};

/// How often each page is asked for.
const TURNS: usize = 30;

/// A server's directory with an endpoint that has many attempts.
#[derive(Debug)]
pub struct Pages {
    stage: Stage,
    endpoint: i64,
    attempts: u32,
}

impl Pages {
    /// Writes that many attempts.
    ///
    /// # Errors
    /// A server that doesn't start, or the store's.
    pub fn prepare(setup: &Setup, attempts: u32) -> anyhow::Result<Self> {
        let stage = Stage::set(setup)?;
        let server = stage.serve(&[])?;
        let endpoint = server.create_endpoint(TENANT, &stage.receiver.target(0, Manner::Ok))?;
        server.stop()?;
        seed::attempt(&stage.data_dir(), To { tenant: TENANT, endpoint }, attempts)?;
        Ok(Self { stage, endpoint, attempts })
    }

    /// Starts a server on it, and measures.
    ///
    /// # Errors
    /// A server that fails, or a page that is not what it should be.
    pub fn run(&self) -> anyhow::Result<Figures> {
        let mut figures = Figures::default();
        let server = self.stage.serve(&[])?;
        let deep = u64::from(self.attempts) * 9 / 10;
        for (name, query) in [
            ("first page", String::new()),
            ("offset of nine tenths", format!("?offset={deep}")),
            ("offset of nine tenths, by next_retry", format!("?offset={deep}&ordering=next_retry")),
        ] {
            let times = self.ask(&server, &query)?;
            figures.put(format!("{name}, p50"), "ms", times.at_ms(500));
            figures.put(format!("{name}, slowest"), "ms", times.at_ms(1_000));
        }
        figures.put("RSS peak", "MiB", server.memory()?.peak);
        server.stop()?;
        Ok(figures)
    }

    fn ask(&self, server: &Server, query: &str) -> anyhow::Result<Sorted> {
        let path = format!("/api/v2/webhook/endpoint/{}/attempt/{query}", self.endpoint);
        let mut times = Vec::new();
        for _ in 0..TURNS {
            let started = clock::now();
            let page = server.get(&path)?;
            times.push(clock::now().since(started));
            let results = page["results"].as_array().map_or(0, Vec::len);
            if page["count"] != self.attempts || results == 0 {
                bail!("{path}: {results} results, and a count of {}", page["count"]);
            }
        }
        Ok(Sorted::new(times))
    }
}
