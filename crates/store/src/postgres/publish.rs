//! Many publications, one statement: their events and deliveries go as columns of arrays, those with an idempotency key
//! wait there for an earlier request with the same key, and the directory's version is compared in the same moment.

use std::collections::{HashMap, HashSet};

use deadpool_postgres::ClientWrapper;
use postrider_kernel::{Created, EventId, Trigger, delivery::Status};
use tokio_postgres::{Error, Row, Statement};

use super::{
    catalogue,
    deliveries::status_code,
    events::trigger_code,
    query::{Parameters, corrupt, get, narrow, sql, text, wide},
};
use crate::{Publication, PublishAnswer, Published, Result, Version};

/// Publications as columns, in the order of their keys and identifiers: two batches that wait for each other's keys would
/// else do so forever.
#[derive(Default)]
pub(super) struct Columns<'a> {
    events: Events<'a>,
    keys: Keys<'a>,
    owed: Owed,
}

#[derive(Default)]
struct Events<'a> {
    tenant: Vec<i64>,
    id: Vec<i64>,
    event_type: Vec<&'a str>,
    created: Vec<f64>,
    accepted_at: Vec<i64>,
    payload: Vec<&'a [u8]>,
    directory: Vec<i64>,
}

/// Of every event, those without a key included.
#[derive(Default)]
struct Keys<'a> {
    key: Vec<Option<std::borrow::Cow<'a, str>>>,
    request_hash: Vec<Option<&'a [u8]>>,
    not_before: Vec<Option<i64>>,
    endpoint_count: Vec<i64>,
}

#[derive(Default)]
struct Owed {
    tenant: Vec<i64>,
    id: Vec<i64>,
    endpoint: Vec<i64>,
    event: Vec<i64>,
    status: Vec<i16>,
    lease: Vec<Option<i64>>,
    at: Vec<i64>,
    directory: Vec<i64>,
    has_key: Vec<bool>,
}

impl<'a> Columns<'a> {
    /// The columns of groups of publications: of each group all are kept, or none.
    pub(super) fn of(groups: impl Iterator<Item = &'a [Publication]>) -> Self {
        let mut all = Vec::new();
        for group in groups {
            let directory = group.iter().map(|publication| publication.directory).min();
            all.extend(group.iter().map(|publication| (publication, directory)));
        }
        all.sort_by_key(|(publication, _)| {
            let key = publication.idempotency.as_ref().map(|key| key.key.as_str());
            (publication.tenant, key, publication.event)
        });
        let mut columns = Self::default();
        for (publication, directory) in all {
            columns.add(publication, directory.unwrap_or(publication.directory));
        }
        columns
    }

    fn add(&mut self, publication: &'a Publication, Version(directory): Version) {
        let Self { events, keys, .. } = self;
        events.tenant.push(publication.tenant.get());
        events.id.push(publication.event.get());
        events.event_type.push(publication.event_type.as_str());
        events.created.push(publication.created.as_seconds());
        events.accepted_at.push(publication.accepted_at.as_micros());
        events.payload.push(&publication.payload);
        events.directory.push(directory);
        let key = publication.idempotency.as_ref();
        keys.key.push(key.map(|key| text(&key.key)));
        keys.request_hash.push(key.map(|key| &key.request_hash[..]));
        keys.not_before.push(key.map(|key| key.not_before.as_micros()));
        keys.endpoint_count.push(wide(publication.deliveries.len()));
        self.owed.add(publication, directory);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.events.id.is_empty()
    }

    pub(super) fn have_keys(&self) -> bool {
        self.keys.key.iter().any(Option::is_some)
    }
}

impl Owed {
    fn add(&mut self, publication: &Publication, directory: i64) {
        for delivery in &publication.deliveries {
            let status = if delivery.leased { Status::Leased } else { Status::Pending };
            self.tenant.push(publication.tenant.get());
            self.id.push(delivery.id.get());
            self.endpoint.push(delivery.endpoint.get());
            self.event.push(publication.event.get());
            self.status.push(status_code(status));
            self.lease.push(delivery.leased.then_some(publication.lease.0));
            self.at.push(publication.accepted_at.as_micros());
            self.directory.push(directory);
            self.has_key.push(publication.idempotency.is_some());
        }
    }
}

/// The statements of a publish, prepared.
pub(super) struct Statements {
    publish: Statement,
    earlier: Statement,
}

impl Statements {
    pub(super) async fn prepare(client: &ClientWrapper) -> std::result::Result<Self, Error> {
        Ok(Self {
            publish: client.prepare_cached(sql!("publish")).await?,
            earlier: client.prepare_cached(sql!("select_idempotency")).await?,
        })
    }
}

/// Keeps what can be kept; answers the events that were.
pub(super) async fn keep(
    client: &ClientWrapper,
    statements: &Statements,
    columns: &Columns<'_>,
) -> std::result::Result<Vec<Row>, Error> {
    if columns.is_empty() {
        return Ok(Vec::new());
    }
    let Columns { events, keys, owed } = columns;
    let parameters: Parameters<'_> = &[
        &events.tenant,
        &events.id,
        &events.event_type,
        &events.created,
        &events.accepted_at,
        &events.payload,
        &events.directory,
        &keys.key,
        &keys.request_hash,
        &keys.not_before,
        &keys.endpoint_count,
        &owed.tenant,
        &owed.id,
        &owed.endpoint,
        &owed.event,
        &owed.status,
        &owed.lease,
        &owed.at,
        &owed.directory,
        &owed.has_key,
        &trigger_code(Trigger::Schedule),
    ];
    client.query(&statements.publish, parameters).await
}

/// What stands under the keys of those that were not kept: by now, the earlier request that they waited for.
pub(super) async fn find_earlier(
    client: &ClientWrapper,
    statements: &Statements,
    columns: &Columns<'_>,
) -> std::result::Result<Vec<Row>, Error> {
    if !columns.have_keys() {
        return Ok(Vec::new());
    }
    let Columns { events, keys, .. } = columns;
    let parameters: Parameters<'_> =
        &[&events.tenant, &events.id, &keys.key, &keys.request_hash, &keys.not_before];
    client.query(&statements.earlier, parameters).await
}

/// What became of each publication of a batch.
pub(super) struct Verdicts {
    fresh: HashSet<EventId>,
    earlier: HashMap<EventId, Published>,
}

impl Verdicts {
    pub(super) fn read(kept: &[Row], earlier: &[Row]) -> Result<Self> {
        let fresh = kept.iter().map(|row| Ok(EventId::new(get(row, "id")?)));
        let earlier = earlier.iter().map(read_earlier);
        Ok(Self { fresh: fresh.collect::<Result<_>>()?, earlier: earlier.collect::<Result<_>>()? })
    }

    /// What became of a group. What was neither kept nor asked for before was refused by the directory's version.
    pub(super) fn of(&self, publications: &[Publication]) -> Published {
        let Some(first) = publications.first() else { return Published::Fresh };
        if self.fresh.contains(&first.event) {
            return Published::Fresh;
        }
        self.earlier.get(&first.event).cloned().unwrap_or(Published::Stale)
    }
}

fn read_earlier(row: &Row) -> Result<(EventId, Published)> {
    let asked = EventId::new(get(row, "asked_event")?);
    if !get::<bool>(row, "is_same")? {
        return Ok((asked, Published::KeyReused));
    }
    let created: f64 = get(row, "created")?;
    let answer = PublishAnswer {
        event: EventId::new(get(row, "event_id")?),
        event_type: catalogue::read_event_type(row, "event_type")?,
        created: Created::from_seconds(created).ok_or_else(|| corrupt("created", created))?,
        endpoint_count: narrow::<i64, _>(row, "endpoint_count")?,
    };
    Ok((asked, Published::Repeat(answer)))
}
