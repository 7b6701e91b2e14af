//! How much of requests' bodies may be in memory: those that are being read, and those whose answer waits for the store.
//!
//! A publisher is answered after the commit, so that bodies pile up while the store is slow. Whoever comes when there is no
//! room waits for a moment, and is then told to come again.

use std::{sync::Arc, time::Duration};

use http::HeaderMap;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{body::declared_length, error::ApiError};
use crate::clock::Clock;

/// The room, in KiB: four of the largest bulks.
const ROOM_KIB: u32 = 64 * 1024;

/// How long a request waits for room.
const PATIENCE: Duration = Duration::from_secs(2);

/// The room for bodies.
#[derive(Debug)]
pub struct Admission(Arc<Semaphore>);

impl Default for Admission {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(ROOM_KIB as usize)))
    }
}

/// A body's part of the room, until its request is answered.
pub type Admitted = OwnedSemaphorePermit;

impl Admission {
    /// Makes room for a body of the length that it declares, or else of the longest that is allowed.
    ///
    /// # Errors
    /// [`ApiError::Unavailable`] when there is none for a while.
    pub async fn admit(
        &self,
        headers: &HeaderMap,
        limit: usize,
        clock: &dyn Clock,
    ) -> Result<Admitted, ApiError> {
        // What is longer than the limit is refused before it is read.
        let length =
            declared_length(headers).map_or(limit as u64, |length| length.min(limit as u64));
        // A body that is larger than the room has it for itself.
        let kib = u32::try_from(length / 1024 + 1).unwrap_or(ROOM_KIB).min(ROOM_KIB);
        if let Ok(admitted) = self.0.clone().try_acquire_many_owned(kib) {
            return Ok(admitted);
        }
        tokio::select! {
            biased;
            Ok(admitted) = self.0.clone().acquire_many_owned(kib) => Ok(admitted),
            () = clock.sleep(PATIENCE) => Err(ApiError::Unavailable("too many large requests at once".into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use futures_util::poll;
    use http::{HeaderValue, header::CONTENT_LENGTH};
    use std::pin::pin;

    fn headers(length: u64) -> HeaderMap {
        HeaderMap::from_iter([(CONTENT_LENGTH, HeaderValue::from(length))])
    }

    #[tokio::test]
    async fn bodies_wait_for_room_in_the_order_in_which_they_came() {
        let (admission, clock) = (Admission::default(), SystemClock::new());
        let limit = 16 << 20;
        let mut bulks = Vec::new();
        for _ in 0..3 {
            bulks.push(admission.admit(&headers(16 << 20), limit, &clock).await.unwrap());
        }
        let (bulk, small) = (headers(16 << 20), headers(500));
        drop(admission.admit(&small, limit, &clock).await.expect("there is room for a small one"));
        let mut fourth = pin!(admission.admit(&bulk, limit, &clock));
        assert!(poll!(&mut fourth).is_pending(), "each takes a little more than it declares");
        let mut later = pin!(admission.admit(&small, limit, &clock));
        assert!(poll!(&mut later).is_pending(), "small ones don't starve a large one");
        let unknown = HeaderMap::new();
        let mut chunked = pin!(admission.admit(&unknown, limit, &clock));
        assert!(
            poll!(&mut chunked).is_pending(),
            "a body of unknown length may be as long as allowed"
        );
        bulks.clear();
        assert!(fourth.await.is_ok());
        assert!(later.await.is_ok());
        assert!(chunked.await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_too_long_is_told_to_come_again() {
        let (admission, clock) = (Admission::default(), SystemClock::new());
        let everything = admission.admit(&headers(1 << 40), 1 << 40, &clock).await.unwrap();
        let refused = admission.admit(&headers(0), 1, &clock).await;
        assert!(matches!(refused, Err(ApiError::Unavailable(_))));
        drop(everything);
        assert!(admission.admit(&headers(0), 1, &clock).await.is_ok());
    }
}
