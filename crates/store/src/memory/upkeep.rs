//! What a purge drops from the model: everything that may go, at once, whatever the limit.

use postrider_kernel::{EndpointId, Timestamp, secret::Standing};

use super::State;
use crate::Purge;

impl State {
    pub(super) fn purge(&mut self, purge: &Purge) -> u64 {
        let before = self.len();
        self.attempts.retain(|_, attempt| attempt.sent_at >= purge.attempts_before);
        let long_deleted: Vec<EndpointId> = self
            .endpoints
            .iter()
            .filter(|(_, kept)| kept.deleted_at.is_some_and(|at| at < purge.deleted_before))
            .map(|(&id, _)| id)
            .collect();
        for endpoint in long_deleted {
            self.drop_endpoint(endpoint);
        }
        self.drop_ended(purge.attempts_before);
        self.idempotency.retain(|_, kept| kept.kept_at >= purge.idempotency_before);
        self.audit.retain(|(_, line)| line.at >= purge.audit_before);
        let dropped = before - self.len();
        dropped + self.wipe_after_grace(purge.grace_before)
    }

    fn len(&self) -> u64 {
        let rows = self.attempts.len()
            + self.endpoints.len()
            + self.secrets.len()
            + self.deliveries.len()
            + self.events.len()
            + self.idempotency.len()
            + self.audit.len();
        rows as u64
    }

    fn drop_endpoint(&mut self, id: EndpointId) {
        self.attempts.retain(|_, attempt| attempt.endpoint != id);
        self.deliveries.retain(|_, delivery| delivery.endpoint != id);
        self.secrets.retain(|_, secret| secret.endpoint != id);
        self.endpoints.remove(&id);
    }

    fn drop_ended(&mut self, before: Timestamp) {
        let is_kept = |finished_at: Option<Timestamp>| finished_at.is_none_or(|at| at >= before);
        self.deliveries.retain(|_, delivery| is_kept(delivery.finished_at));
        let deliveries = &self.deliveries;
        self.events.retain(|&id, event| {
            event.accepted_at >= before || deliveries.values().any(|owed| owed.event == id)
        });
    }

    fn wipe_after_grace(&mut self, before: Timestamp) -> u64 {
        let mut wiped = 0;
        for secret in self.secrets.values_mut() {
            if matches!(secret.standing, Standing::Grace { until } if until < before) {
                secret.change_standing(Standing::Expired);
                wiped += 1;
            }
        }
        wiped
    }
}
