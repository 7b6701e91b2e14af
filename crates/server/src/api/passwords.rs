//! Passwords that a client gives along with a request, and how often a wrong one may be tried.
//!
//! Five wrong ones in a row lock a user's password for 30 seconds, and each further one doubles that, up to 15 minutes.
//! A try is counted before it is checked, because checking takes tens of milliseconds and tries may come side by side.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use postrider_kernel::UserId;
use postrider_store::{Action, By};
use tokio::{sync::Semaphore, task};

use super::error::ApiError;
use crate::{accounts, app::App};

/// How many wrong passwords in a row lock.
const WRONG_MAX: u32 = 5;

/// The first lock.
const LOCK_MIN: Duration = Duration::from_secs(30);

/// The longest lock.
const LOCK_MAX: Duration = Duration::from_secs(15 * 60);

/// How many users' wrong passwords are remembered.
const REMEMBERED_MAX: usize = 10_000;

/// How many passwords are checked at once: each check takes 19 MiB.
const CHECKS_MAX: usize = 4;

/// Counts wrong passwords.
#[derive(Debug)]
pub struct Passwords {
    tries: Mutex<HashMap<UserId, Tries>>,
    checks: Arc<Semaphore>,
}

/// A user's tries since its last right password.
#[derive(Clone, Copy, Debug, Default)]
struct Tries {
    count: u32,
    // On the monotonic clock.
    locked_until: Duration,
}

impl Default for Passwords {
    fn default() -> Self {
        Self { tries: Mutex::default(), checks: Arc::new(Semaphore::new(CHECKS_MAX)) }
    }
}

impl Passwords {
    /// Checks a user's password; a wrong one is counted, and too many are throttled.
    pub async fn check(
        &self,
        app: &App,
        user: UserId,
        password: &str,
        by: By,
    ) -> Result<(), ApiError> {
        app.throttle.count_unknown(by.address)?;
        self.count_try(user, app.clock.monotonic()).map_err(ApiError::Throttled)?;
        let user = app.store.user(user).await?.ok_or(ApiError::BadCredential)?;
        let (password, hash) = (password.to_owned(), user.password_hash.clone());
        // The semaphore is never closed.
        let permit = Arc::clone(&self.checks).acquire_owned().await;
        let check = task::spawn_blocking(move || {
            let _permit = permit;
            accounts::verify_password(&password, &hash)
        });
        let is_right = check.await.map_err(|error| ApiError::Internal(error.to_string()))?;
        if is_right {
            self.tries().remove(&user.id);
            app.throttle.held(by.address);
            Ok(())
        } else {
            // The lock keeps them few.
            let subject = format!("user:{}", user.id);
            app.store.write_audit(user.tenant, Action::LoginFailed, subject, by).await?;
            Err(ApiError::of_field("password", "Incorrect password."))
        }
    }

    /// Hashes a new password, on a thread of its own; no more at once than are checked.
    pub async fn hash(&self, app: &App, password: String) -> Result<String, ApiError> {
        let clock = app.clock.clone();
        let permit = Arc::clone(&self.checks).acquire_owned().await;
        let hashing = task::spawn_blocking(move || {
            let _permit = permit;
            accounts::hash_password(&password, &*clock)
        });
        let hashed = hashing.await.map_err(|error| ApiError::Internal(error.to_string()))?;
        hashed.map_err(|error| ApiError::Internal(error.to_string()))
    }

    /// Counts a try, or says how long the user has to wait.
    fn count_try(&self, user: UserId, now: Duration) -> Result<(), Duration> {
        let mut all = self.tries();
        if all.len() >= REMEMBERED_MAX && !all.contains_key(&user) {
            all.retain(|_, tries| tries.locked_until > now);
        }
        let tries = all.entry(user).or_default();
        if tries.locked_until > now {
            return Err(tries.locked_until - now);
        }
        tries.count += 1;
        if tries.count >= WRONG_MAX {
            let doublings = (tries.count - WRONG_MAX).min(10);
            tries.locked_until = now + (LOCK_MIN * 2_u32.pow(doublings)).min(LOCK_MAX);
        }
        Ok(())
    }

    fn tries(&self) -> std::sync::MutexGuard<'_, HashMap<UserId, Tries>> {
        // Whoever panicked while it held the lock has left a count, which is good enough.
        self.tries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_passwords_lock_for_longer_and_longer() {
        let passwords = Passwords::default();
        let user = UserId::new(1);
        let mut now = Duration::from_secs(1000);
        for _ in 0..5 {
            assert_eq!(passwords.count_try(user, now), Ok(()));
        }
        let mut waits = Vec::new();
        for _ in 0..8 {
            let wait = passwords.count_try(user, now).unwrap_err();
            waits.push(wait.as_secs());
            now += wait;
            assert_eq!(passwords.count_try(user, now), Ok(()));
        }
        assert_eq!(waits, [30, 60, 120, 240, 480, 900, 900, 900]);
        assert_eq!(passwords.count_try(UserId::new(2), now), Ok(()), "others are not locked");
    }

    #[test]
    fn memory_is_bounded_and_locks_survive() {
        let passwords = Passwords::default();
        let now = Duration::from_secs(1);
        for _ in 0..5 {
            passwords.count_try(UserId::new(0), now).unwrap();
        }
        for user in 1..30_000 {
            passwords.count_try(UserId::new(user), now).unwrap();
        }
        assert!(passwords.tries().len() <= REMEMBERED_MAX);
        assert!(passwords.count_try(UserId::new(0), now).is_err());
    }
}
