//! What many nodes share beside the model: who lives and who may sign, which version the directory has, and what they tell
//! each other. It is what `postgres/nodes.rs`, `version.rs` and `news.rs` do in SQL, with the database's clock for the time,
//! in the same order; where those lock, here a verb is one step.

use std::{
    collections::{BTreeMap, BTreeSet},
    task::{Poll, Waker},
    time::Duration,
};

use postrider_kernel::{EndpointId, TenantId};
use postrider_store::{LEASE, Lease, News, SIGNING, Version};

/// The rows of the nodes, the directory's version, and each node's news.
pub struct Nodes {
    version: Version,
    rows: BTreeMap<Lease, Row>,
    inboxes: Vec<Inbox>,
}

struct Row {
    lease_until: Duration,
    signs_until: Duration,
    applied: Version,
    /// How often its right to sign had run out when it was renewed.
    lapses: u64,
}

#[derive(Default)]
struct Inbox {
    looks_again: bool,
    directory: bool,
    due: BTreeSet<(TenantId, EndpointId)>,
    listener: Option<Waker>,
}

impl Nodes {
    /// Nobody lives yet.
    pub fn new(nodes: usize) -> Self {
        let inboxes = (0..nodes).map(|_| Inbox::default()).collect();
        Self { version: Version(1), rows: BTreeMap::new(), inboxes }
    }

    // ---- lives ----

    /// A life begins. It may not sign yet.
    pub fn begin(&mut self, lease: Lease, now: Duration) {
        let row =
            Row { lease_until: now + LEASE, signs_until: now, applied: Version(0), lapses: 0 };
        self.rows.insert(lease, row);
    }

    /// Renews a lease, and the right to sign where it hasn't run out or the node knows the current version; answers whether
    /// it may sign, and `None` where the lease is lost.
    pub fn renew(&mut self, lease: Lease, applied: Version, now: Duration) -> Option<bool> {
        let row = self.rows.get_mut(&lease).filter(|row| row.lease_until > now)?;
        let signs = row.signs_until > now;
        let may_sign = signs || applied >= self.version;
        row.lapses += u64::from(!signs);
        row.lease_until = now + LEASE;
        if may_sign {
            row.signs_until = now + SIGNING;
        }
        row.applied = applied;
        Some(may_sign)
    }

    /// Whether every other node that may sign has applied a version.
    pub fn is_applied_elsewhere(&self, version: Version, except: Lease, now: Duration) -> bool {
        let lags = |(lease, row): (&Lease, &Row)| {
            *lease != except && row.signs_until > now && row.applied < version
        };
        !self.rows.iter().any(lags)
    }

    /// A life ends.
    pub fn end(&mut self, lease: Lease) {
        self.rows.remove(&lease);
    }

    /// Drops the rows of the dead; answers their leases.
    pub fn bury(&mut self, now: Duration) -> Vec<Lease> {
        let dead = self.rows.extract_if(.., |_, row| row.lease_until < now);
        dead.map(|(lease, _)| lease).collect()
    }

    /// Whether a lease has a row.
    pub fn has_row(&self, lease: Lease) -> bool {
        self.rows.contains_key(&lease)
    }

    /// How often the right of a life to sign has run out by now; `None` where it has run out just now, or was never given.
    pub fn unbroken(&self, lease: Lease, now: Duration) -> Option<u64> {
        self.rows.get(&lease).filter(|row| row.signs_until > now).map(|row| row.lapses)
    }

    // ---- the directory ----

    /// Its version.
    pub fn version(&self) -> Version {
        self.version
    }

    /// It was changed.
    pub fn change(&mut self) {
        self.version = Version(self.version.0 + 1);
    }

    // ---- news ----

    /// News arrive at a node; answers who waits for them.
    pub fn deliver(&mut self, node: usize, news: News) -> Option<Waker> {
        let inbox = &mut self.inboxes[node];
        match news {
            News::Directory => inbox.directory = true,
            News::Due(endpoints) => inbox.due.extend(endpoints),
            News::LookAgain => inbox.looks_again = true,
        }
        inbox.listener.take()
    }

    /// The next news of a node.
    pub fn poll_news(&mut self, node: usize, listener: &Waker) -> Poll<News> {
        let inbox = &mut self.inboxes[node];
        if std::mem::take(&mut inbox.looks_again) {
            return Poll::Ready(News::LookAgain);
        }
        if std::mem::take(&mut inbox.directory) {
            return Poll::Ready(News::Directory);
        }
        let due = std::mem::take(&mut inbox.due);
        if due.is_empty() {
            inbox.listener = Some(listener.clone());
            return Poll::Pending;
        }
        Poll::Ready(News::Due(due.into_iter().collect()))
    }

    /// A process begins, which has heard nothing.
    pub fn forget_news(&mut self, node: usize) {
        self.inboxes[node] = Inbox::default();
    }
}
