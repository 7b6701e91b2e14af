//! A past for a server to find: events, deliveries and attempts by the million, written while it is stopped.
//!
//! They are written through the store's own verbs (`Store::publish`, `Store::record`), so that every row, index and
//! counter is what a server would have left; only the HTTP around them is left out.

use std::path::Path;

use anyhow::{Context, bail};
use futures_util::future::try_join_all;
use postrider_kernel::{
    AttemptId, Created, DeliveryId, EndpointId, EventData, EventId, EventType, Next, TenantId,
    Timestamp, Trigger, event,
};
use postrider_store::{
    AttemptRecord, IdKind, Lease, NewDelivery, Publication, Recorded, Store, Version,
    group_commit::BATCH_MAX, sqlite::SqliteStore,
};
use serde_json::value::RawValue;

use crate::{body, clock};

/// How long the attempts of a past took.
const DURATION: std::time::Duration = std::time::Duration::from_millis(3);

/// Whom the past is of.
#[derive(Clone, Copy, Debug)]
pub struct To<'a> {
    /// The tenant's name.
    pub tenant: &'a str,
    /// The endpoint.
    pub endpoint: i64,
}

/// Owes that many deliveries, of an event each, to an endpoint; all are due.
///
/// # Errors
/// The store's.
pub fn owe(data_dir: &Path, to: To<'_>, count: u32) -> anyhow::Result<()> {
    write(data_dir, to, count, false)
}

/// Gives an endpoint that many attempts, each the successful one of a delivery of its own.
///
/// # Errors
/// The store's.
pub fn attempt(data_dir: &Path, to: To<'_>, count: u32) -> anyhow::Result<()> {
    write(data_dir, to, count, true)
}

fn write(data_dir: &Path, to: To<'_>, count: u32, attempted: bool) -> anyhow::Result<()> {
    let store = SqliteStore::open(&data_dir.join("postrider.db"))?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    runtime.block_on(async {
        let past = Past::begin(&store, to, count).await?;
        let mut turn = 0;
        while turn < i64::from(count) {
            let end = (turn + BATCH_MAX as i64).min(i64::from(count));
            try_join_all((turn..end).map(|turn| store.publish(past.publication(turn, attempted))))
                .await?;
            if attempted {
                let recorded =
                    try_join_all((turn..end).map(|turn| store.record(past.attempt(turn)))).await?;
                if recorded.contains(&Recorded::LeaseLost) {
                    bail!("somebody else works on these deliveries");
                }
            }
            turn = end;
        }
        Ok(())
    })
}

/// What all of them have in common. The turn of each, from 0, leads to its identifiers.
struct Past {
    tenant: TenantId,
    endpoint: EndpointId,
    lease: Lease,
    first_event: i64,
    first_delivery: i64,
    first_attempt: i64,
    event_type: EventType,
    data: Box<RawValue>,
    at: Timestamp,
}

impl Past {
    async fn begin(store: &SqliteStore, to: To<'_>, count: u32) -> anyhow::Result<Self> {
        let tenants = store.tenants().await?;
        let tenant = tenants.iter().find(|tenant| tenant.name == to.tenant);
        let published = body::published(500);
        Ok(Self {
            tenant: tenant.with_context(|| format!("there is no tenant {}", to.tenant))?.id,
            endpoint: EndpointId::new(to.endpoint),
            lease: store.begin_life().await?,
            first_event: store.reserve_ids(IdKind::Event, count).await?.start,
            first_delivery: store.reserve_ids(IdKind::Delivery, count).await?.start,
            first_attempt: store.reserve_ids(IdKind::Attempt, count).await?.start,
            event_type: EventType::parse(body::EVENT_TYPE)?,
            data: RawValue::from_string(body::data(&published).to_owned())?,
            at: clock::wall(),
        })
    }

    /// A microsecond apart, so that no order of them is a matter of taste.
    fn time(&self, turn: i64) -> Timestamp {
        Timestamp::from_micros(self.at.as_micros() - 60_000_000 + turn)
    }

    fn publication(&self, turn: i64, leased: bool) -> Publication {
        let event = EventId::new(self.first_event + turn);
        let created = Created::at(self.time(turn));
        // The body is an object by construction.
        let data = EventData::parse(&self.data).expect("data is an object");
        let delivery = DeliveryId::new(self.first_delivery + turn);
        Publication {
            event,
            tenant: self.tenant,
            event_type: self.event_type.clone(),
            created,
            accepted_at: self.time(turn),
            payload: event::payload(event, &self.event_type, created, data),
            deliveries: vec![NewDelivery { id: delivery, endpoint: self.endpoint, leased }],
            lease: self.lease,
            idempotency: None,
            directory: Version(0),
        }
    }

    fn attempt(&self, turn: i64) -> AttemptRecord {
        AttemptRecord {
            id: AttemptId::new(self.first_attempt + turn),
            tenant: self.tenant,
            endpoint: self.endpoint,
            event: EventId::new(self.first_event + turn),
            delivery: DeliveryId::new(self.first_delivery + turn),
            lease: self.lease,
            attempt_number: 1,
            trigger: Trigger::Schedule,
            sent_at: self.time(turn),
            duration: DURATION,
            peer_address: Some("127.0.0.1:9000".to_owned()),
            signature: format!("t=1625471209,v1={}", "0".repeat(64)),
            response: Ok((200, b"ok".to_vec())),
            settled_at: self.time(turn).plus(DURATION),
            next: Next::Delivered,
            deactivates_endpoint: false,
        }
    }
}
