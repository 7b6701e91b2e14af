//! Many attempts, one statement: their deliveries are settled, the attempts written and counted.

use std::collections::HashSet;

use deadpool_postgres::{GenericClient, Transaction};
use postrider_kernel::{AttemptId, Timestamp};
use tokio_postgres::{Error, Row, Statement};

use super::{
    deliveries::status_code,
    endpoints,
    events::trigger_code,
    query::{get, sql},
    version::Changes,
    writer::WRITERS,
};
use crate::{Actor, AttemptRecord, By, Lease, Recorded, Result};

/// How many slots of the counters nodes have: few enough that a sum over them is nothing, and many enough that two nodes
/// seldom wait for each other's commits.
const NODE_SLOTS: i64 = 5;

/// Where a writer of this node counts; the last of them are for what is written beside the writers.
pub(super) fn slot(writer: i16, lease: Lease) -> i16 {
    // The remainder of a division by so small a number fits.
    let node = i16::try_from(lease.0.rem_euclid(NODE_SLOTS)).unwrap_or(0);
    node * (WRITERS + 1) + writer
}

/// Attempts as columns, in the order of their deliveries: rows are locked in that order.
#[derive(Default)]
pub(super) struct Columns<'a> {
    id: Vec<i64>,
    tenant: Vec<i64>,
    endpoint: Vec<i64>,
    event: Vec<i64>,
    delivery: Vec<i64>,
    lease: Vec<i64>,
    attempt_number: Vec<i32>,
    trigger: Vec<i16>,
    sent_at: Vec<i64>,
    duration_us: Vec<i64>,
    next_retry: Vec<Option<i64>>,
    peer_address: Vec<Option<&'a str>>,
    signature: Vec<&'a str>,
    response_status: Vec<Option<i32>>,
    error_cause: Vec<Option<&'a str>>,
    error_detail: Vec<Option<&'a [u8]>>,
    response_body: Vec<Option<&'a [u8]>>,
    status: Vec<i16>,
    finished_at: Vec<Option<i64>>,
}

impl<'a> Columns<'a> {
    pub(super) fn of(attempts: impl Iterator<Item = &'a AttemptRecord>) -> Self {
        let mut attempts: Vec<_> = attempts.collect();
        attempts.sort_by_key(|attempt| (attempt.tenant, attempt.delivery));
        let mut columns = Self::default();
        attempts.into_iter().for_each(|attempt| columns.add(attempt));
        columns
    }

    fn add(&mut self, attempt: &'a AttemptRecord) {
        self.id.push(attempt.id.get());
        self.tenant.push(attempt.tenant.get());
        self.endpoint.push(attempt.endpoint.get());
        self.event.push(attempt.event.get());
        self.delivery.push(attempt.delivery.get());
        self.lease.push(attempt.lease.0);
        self.attempt_number.push(i32::try_from(attempt.attempt_number).unwrap_or(i32::MAX));
        self.trigger.push(trigger_code(attempt.trigger));
        self.sent_at.push(attempt.sent_at.as_micros());
        self.duration_us.push(i64::try_from(attempt.duration.as_micros()).unwrap_or(i64::MAX));
        self.peer_address.push(attempt.peer_address.as_deref());
        self.signature.push(&attempt.signature);
        self.add_response(attempt);
        self.add_settlement(attempt);
    }

    fn add_response(&mut self, attempt: &'a AttemptRecord) {
        let answer = attempt.response.as_ref().ok();
        let failure = attempt.response.as_ref().err();
        self.response_status.push(answer.map(|(status, _)| i32::from(*status)));
        self.response_body.push(answer.map(|(_, body)| &body[..]));
        self.error_cause.push(failure.map(|failure| failure.cause.as_str()));
        self.error_detail.push(failure.map(|failure| failure.detail.as_bytes()));
    }

    fn add_settlement(&mut self, attempt: &AttemptRecord) {
        self.status.push(status_code(attempt.status()));
        self.next_retry.push(attempt.next.retry_at().map(Timestamp::as_micros));
        self.finished_at.push(attempt.finished_at().map(Timestamp::as_micros));
    }
}

/// Writes what can be written, and counts it in a slot of that writer; answers the attempts that are written now, or were before: an
/// answer to a commit may have been lost on its way, and then the same attempt comes again.
pub(super) async fn write(
    client: &impl GenericClient,
    statement: &Statement,
    columns: &Columns<'_>,
    writer: i16,
) -> std::result::Result<Vec<Row>, Error> {
    let Some(&lease) = columns.lease.first() else { return Ok(Vec::new()) };
    let slot = slot(writer, Lease(lease));
    client.query(statement, &columns.parameters(&slot)).await
}

impl Columns<'_> {
    fn parameters<'p>(
        &'p self,
        slot: &'p i16,
    ) -> [&'p (dyn tokio_postgres::types::ToSql + Sync); 20] {
        [
            &self.id,
            &self.tenant,
            &self.endpoint,
            &self.event,
            &self.delivery,
            &self.lease,
            &self.attempt_number,
            &self.trigger,
            &self.sent_at,
            &self.duration_us,
            &self.next_retry,
            &self.peer_address,
            &self.signature,
            &self.response_status,
            &self.error_cause,
            &self.error_detail,
            &self.response_body,
            &self.status,
            &self.finished_at,
            slot,
        ]
    }
}

/// The identifiers of the attempts that are written.
pub(super) fn read(written: &[Row]) -> Result<HashSet<AttemptId>> {
    written.iter().map(|row| Ok(AttemptId::new(get(row, "id")?))).collect()
}

/// What became of each of these attempts.
pub(super) fn of(written: &HashSet<AttemptId>, attempts: &[AttemptRecord]) -> Vec<Recorded> {
    let verdict = |attempt: &AttemptRecord| match written.contains(&attempt.id) {
        true => Recorded::Done,
        false => Recorded::LeaseLost,
    };
    attempts.iter().map(verdict).collect()
}

/// What became of attempts of which one deactivates its endpoint; the directory changes only where that was active.
#[derive(Debug)]
pub(super) struct Deactivating {
    pub(super) recorded: Vec<Recorded>,
    deactivated: bool,
}

impl Changes for Deactivating {
    fn has_changed(&self) -> bool {
        self.deactivated
    }
}

/// Writes attempts, and deactivates the endpoints where they say so.
pub(super) async fn write_and_deactivate(
    transaction: &Transaction<'_>,
    attempts: &[AttemptRecord],
) -> Result<Deactivating> {
    let statement = transaction.prepare_cached(sql!("record")).await?;
    let columns = Columns::of(attempts.iter());
    let rows = write(transaction, &statement, &columns, WRITERS).await?;
    let recorded = of(&read(&rows)?, attempts);
    let mut deactivated = false;
    for (attempt, &recorded) in attempts.iter().zip(&recorded) {
        if recorded == Recorded::Done && attempt.deactivates_endpoint {
            let by = By { actor: Actor::Service, address: None, at: attempt.settled_at };
            deactivated |=
                endpoints::deactivate(transaction, attempt.tenant, attempt.endpoint, &by).await?;
        }
    }
    Ok(Deactivating { recorded, deactivated })
}
