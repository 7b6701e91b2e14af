//! What was published beside what was received: nothing lost, nothing doubled, and how long each took.

use std::collections::HashMap;

use anyhow::bail;

use crate::{clock::Nanos, load::Load, receiver::Receipt, stats::Sorted};

/// What a comparison found.
#[derive(Debug)]
pub struct Ledger {
    /// From when each event was due until it was received, for every endpoint.
    pub latency: Sorted,
    /// When the last one was received.
    pub last: Nanos,
    /// How many deliveries there were.
    pub deliveries: u64,
}

impl Ledger {
    /// Holds what came to these endpoints (the numbers in their paths) against what was published.
    ///
    /// # Errors
    /// That something is missing, came twice, or was never published.
    pub fn settle(load: &Load, receipts: &[Receipt], endpoints: &[u32]) -> anyhow::Result<Self> {
        // Each event's due time, and how often it came to each endpoint.
        let mut events: HashMap<u64, (Nanos, Vec<u32>)> = load
            .sent
            .iter()
            .map(|sent| (sent.event, (sent.due, vec![0; endpoints.len()])))
            .collect();
        let mut latencies = Vec::with_capacity(receipts.len());
        let (mut last, mut strangers) = (Nanos::default(), 0_u64);
        for receipt in receipts {
            let Some(place) = endpoints.iter().position(|&number| number == receipt.endpoint)
            else {
                continue;
            };
            let Some((due, came)) = events.get_mut(&receipt.event) else {
                strangers += 1;
                continue;
            };
            came[place] += 1;
            if came[place] == 1 {
                latencies.push(receipt.at.since(*due));
            }
            last = last.max(receipt.at);
        }
        let counts = || events.values().flat_map(|(_, came)| came);
        let lost = counts().filter(|&&count| count == 0).count();
        let doubled = counts().filter(|&&count| count > 1).count();
        let repeated_ids = load.sent.len() - events.len();
        if lost + doubled + repeated_ids > 0 || strangers > 0 {
            bail!(
                "{lost} deliveries were lost, {doubled} came twice, {strangers} were never published, \
                 {repeated_ids} events had another one's id"
            );
        }
        Ok(Self { deliveries: latencies.len() as u64, latency: Sorted::new(latencies), last })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::load::Sent;

    fn settle(events: &[u64], received: &[(u32, u64)]) -> anyhow::Result<Ledger> {
        let sent = |&event| Sent { event, due: Nanos(event), acknowledged: Nanos(event) };
        let load = Load { sent: events.iter().map(sent).collect(), pushed_back: 0 };
        let receipt = |&(endpoint, event)| Receipt { endpoint, event, at: Nanos(event + 5) };
        let receipts: Vec<_> = received.iter().map(receipt).collect();
        Ledger::settle(&load, &receipts, &[1, 2])
    }

    #[test]
    fn what_came_once_to_each_endpoint_is_settled() {
        // Endpoint 3 is one of the bad ones, of which nothing is expected.
        let ledger = settle(&[10, 20], &[(1, 20), (2, 10), (3, 10), (2, 20), (1, 10)]).unwrap();
        assert_eq!((ledger.deliveries, ledger.last), (4, Nanos(25)));
        assert_eq!(ledger.latency.at(1_000), Duration::from_nanos(5));
    }

    #[test]
    fn what_did_not_is_named() {
        let check = |sent: &[u64], received: &[(u32, u64)], expected: &str| {
            let text = settle(sent, received).unwrap_err().to_string();
            assert!(text.contains(expected), "{text}");
        };
        check(&[10], &[(1, 10)], "1 deliveries were lost");
        check(&[10], &[(1, 10), (2, 10), (2, 10)], "1 came twice");
        check(&[10], &[(1, 10), (2, 10), (2, 11)], "1 were never published");
        check(&[10, 10], &[(1, 10), (2, 10)], "1 events had another one's id");
    }
}
