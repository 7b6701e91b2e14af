//! Identifiers for rows that are not there yet.
//!
//! A payload contains its event's id, and a ciphertext is bound to its row's, so ids are needed before the insert. What
//! is made often takes them from a block in memory; a block's rest is lost when the process ends, which leaves a gap.

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use postrider_store::{IdKind, Result, Store};
use tokio::sync::Mutex;

/// How many ids of what is made often are reserved at once.
const BLOCK: u32 = 4_096;

/// Hands out ids.
pub struct Ids {
    store: Arc<dyn Store>,
    event: Block,
    delivery: Block,
    attempt: Block,
}

/// What is left of a block. Tokio's mutex, since whoever finds it empty waits for the store while the others queue.
type Block = Mutex<Range<i64>>;

impl Ids {
    /// Hands out ids of that store.
    pub fn new(store: Arc<dyn Store>) -> Self {
        let empty = || Mutex::new(0..0);
        Self { store, event: empty(), delivery: empty(), attempt: empty() }
    }

    /// One id.
    pub async fn next(&self, kind: IdKind) -> Result<i64> {
        Ok(self.take(kind, 1).await?.start)
    }

    /// `count` consecutive ids.
    pub async fn take(&self, kind: IdKind, count: u32) -> Result<Range<i64>> {
        let block = match kind {
            IdKind::Event => &self.event,
            IdKind::Delivery => &self.delivery,
            IdKind::Attempt => &self.attempt,
            // What admins make is rare, and looks better without gaps.
            _ => return self.store.reserve_ids(kind, count).await,
        };
        if count == 0 {
            return Ok(0..0);
        }
        let mut block = block.lock().await;
        if block.end - block.start < i64::from(count) {
            *block = self.store.reserve_ids(kind, BLOCK.max(count)).await?;
        }
        let first = block.start;
        block.start += i64::from(count);
        Ok(first..block.start)
    }
}

/// The ids that are left, for whoever debugs.
impl std::fmt::Debug for Ids {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let left =
            |block: &Block| block.try_lock().map(|block| format!("{block:?}")).unwrap_or_default();
        let blocks =
            [("event", &self.event), ("delivery", &self.delivery), ("attempt", &self.attempt)];
        f.debug_map()
            .entries(
                blocks
                    .map(|(name, block)| (name, left(block)))
                    .into_iter()
                    .collect::<BTreeMap<_, _>>(),
            )
            .finish()
    }
}
