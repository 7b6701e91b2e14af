//! What was accepted beside what came.

use std::collections::HashSet;

use anyhow::ensure;

use super::receiver::{Receipts, Receiver};

/// What a comparison found.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Events that got a 201.
    pub accepted: usize,
    /// Requests that were acknowledged though their event had been already.
    pub duplicates: usize,
    /// Events that came without a 201: it was on its way when the server went.
    pub unacknowledged: usize,
}

/// Holds what came to an endpoint against what was accepted.
///
/// # Errors
/// Something is missing, or came with other bytes.
pub fn settle(accepted: &[i64], receiver: &Receiver, path: &str) -> anyhow::Result<Tally> {
    let receipts = receiver.receipts();
    let missing = missing(accepted, &receipts, path);
    ensure!(
        missing.is_empty(),
        "{} of {} accepted events never came to {path}: {missing:?}",
        missing.len(),
        accepted.len()
    );
    ensure!(receiver.changed() == 0, "{} requests had other bytes than before", receiver.changed());
    let known: HashSet<i64> = accepted.iter().copied().collect();
    ensure!(known.len() == accepted.len(), "two events were given one id");
    let mut tally = Tally { accepted: accepted.len(), ..Tally::default() };
    for ((_, event), receipt) in receipts.iter().filter(|((one, _), _)| one == path) {
        tally.duplicates += receipt.acknowledged.saturating_sub(1);
        tally.unacknowledged += usize::from(!known.contains(event));
    }
    Ok(tally)
}

/// The accepted events that an endpoint has not acknowledged.
pub fn missing(accepted: &[i64], receipts: &Receipts, path: &str) -> Vec<i64> {
    let came = |event: &i64| {
        receipts.get(&(path.to_owned(), *event)).is_some_and(|receipt| receipt.acknowledged > 0)
    };
    accepted.iter().copied().filter(|event| !came(event)).collect()
}
