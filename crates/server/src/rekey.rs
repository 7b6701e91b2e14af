//! The master key's rotation: a new key seals from then on, and what was sealed under older ones is sealed anew, row by row,
//! beside everything else.
//!
//! Nothing is ever unreadable on the way: the file holds both keys before the store names the new one, and a ciphertext
//! says which key it is under. So a rotation that broke off goes on where it was, by whoever comes next: a node that
//! serves, or the command once more. Several may do it at once; each row is replaced only as it was read.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Context;
use postrider_store::{By, Store, StoreError};
use tokio_util::sync::CancellationToken;

use crate::{
    clock::Clock,
    instance::{Instance, hold_the_door},
    vault::{Fingerprint, Place, Vault, key_of},
};

/// Ciphertexts that are read at a time.
const PAGE: u32 = 200;

/// How often a node looks for what is sealed under an older key, and whether a key that it missed is there.
const SEAL_ANEW_EVERY: Duration = Duration::from_secs(300);
const LOOK_FOR_KEY_EVERY: Duration = Duration::from_millis(250);

/// What came of sealing anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resealed {
    /// Ciphertexts that were under another key, or didn't name theirs.
    pub moved: u64,
    /// Ciphertexts that don't open; they stay as they are.
    pub unopenable: u64,
}

/// What a rotation came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotation {
    /// Everything is under the new key.
    Done(Fingerprint, Resealed),
    /// An earlier rotation to that key had broken off, and is finished now.
    Finished(Fingerprint, Resealed),
    /// The new key is in this node's file and seals nothing yet: the other nodes need it first.
    Staged(Fingerprint),
}

/// Seals anew what isn't under the current key.
///
/// # Errors
/// The store's; what was done stays done.
pub async fn seal_anew(store: &dyn Store, vault: &Vault) -> Result<Resealed, StoreError> {
    let (mut resealed, mut after) = (Resealed::default(), None);
    if !vault.follow(store).await? {
        // By an older key this node would undo what others do.
        return Ok(resealed);
    }
    loop {
        let page = store.sealed_otherwise(vault.head(), after, PAGE).await?;
        let Some(&(last, _)) = page.last() else { return Ok(resealed) };
        after = Some(last);
        for (at, old) in page {
            let place = Place::at(at);
            match vault.open_sealed(place, &old) {
                Ok(text) => {
                    let new = vault.seal(place, &text);
                    resealed.moved += u64::from(store.reseal(at, old, new).await?);
                }
                Err(error) => {
                    tracing::error!("it stays under its old key: {error}");
                    resealed.unopenable += 1;
                }
            }
        }
    }
}

/// Rotates the key: takes the newest one that there is, or makes one where that seals already.
///
/// # Errors
/// Keys that aren't ours to change, another rotation at the same time, or the store's.
pub async fn rotate(instance: &Instance, by: By) -> anyhow::Result<Rotation> {
    // Nobody else makes a key here meanwhile.
    let _door = hold_the_door(&instance.data_dir).await?;
    let (vault, store) = (&instance.vault, &*instance.store);
    let is_staged = vault.fingerprints().first() != Some(&vault.current());
    if !is_staged {
        let counts = count(store).await?;
        let is_under_others =
            counts.keys().any(|key| key.is_some_and(|key| key != vault.current()));
        let unfinished = seal_anew(store, vault).await?;
        if is_under_others && unfinished.moved > 0 {
            return Ok(Rotation::Finished(vault.current(), unfinished));
        }
        let staged = vault.stage()?;
        if instance.is_shared {
            return Ok(Rotation::Staged(staged));
        }
    }
    let is_rotated = vault.rotate(store, by).await?;
    anyhow::ensure!(
        is_rotated,
        "the key was rotated by somebody else at the same time; look at `postrider key show`"
    );
    let resealed = seal_anew(store, vault)
        .await
        .context("the new key seals, and what is under the old one will be sealed anew")?;
    Ok(Rotation::Done(vault.current(), resealed))
}

/// How many ciphertexts there are under each key; those of the first version name none.
///
/// # Errors
/// The store's.
pub async fn count(store: &dyn Store) -> Result<BTreeMap<Option<Fingerprint>, u64>, StoreError> {
    let (mut counts, mut after) = (BTreeMap::new(), None);
    loop {
        let page = store.sealed_otherwise(Vec::new(), after, PAGE).await?;
        let Some(&(last, _)) = page.last() else { return Ok(counts) };
        after = Some(last);
        for (_, sealed) in &page {
            *counts.entry(key_of(sealed)).or_default() += 1;
        }
    }
}

/// What a node that serves does about it, until it stops: goes on with rotations that broke off, and calls `on_key` when a
/// key has come that it missed.
pub async fn run(
    store: &dyn Store,
    vault: &Vault,
    clock: &dyn Clock,
    stopping: &CancellationToken,
    on_key: impl Fn(),
) {
    let seals_anew = async {
        loop {
            match seal_anew(store, vault).await {
                Ok(Resealed { moved: 0, .. }) => {}
                Ok(Resealed { moved, .. }) => {
                    tracing::info!(
                        "{moved} secrets were sealed anew under the key {}",
                        vault.current()
                    );
                }
                Err(error) => {
                    tracing::warn!("secrets could not be sealed anew, and will be: {error}")
                }
            }
            clock.sleep(SEAL_ANEW_EVERY).await;
        }
    };
    let looks_for_key = async {
        loop {
            clock.sleep(LOOK_FOR_KEY_EVERY).await;
            if vault.finds_missing_key() {
                on_key();
            }
        }
    };
    tokio::select! {
        biased;
        () = stopping.cancelled() => {}
        () = seals_anew => {}
        () = looks_for_key => {}
    }
}

#[cfg(test)]
mod tests {
    use std::{path::Path, sync::Arc};

    use postrider_kernel::{
        EndpointId, SecretId, SigningKey, SigningSecret, Target, TenantId, Timestamp,
    };
    use postrider_store::{
        Actor, NewEndpoint, NewSecret, NewTenant, SealedAt, memory::MemoryStore,
    };

    use super::*;
    use crate::{
        clock::SystemClock,
        vault::{KEY_FILE, KeySource},
    };

    const TENANT: TenantId = TenantId::new(1);
    const SECRETS: u8 = 3;

    fn by() -> By {
        By { actor: Actor::CommandLine, address: None, at: Timestamp::from_micros(1) }
    }

    async fn open(directory: &Path, store: &MemoryStore) -> Vault {
        let source = KeySource::Own(directory.join(KEY_FILE));
        Vault::open(source, store, true, Arc::new(SystemClock::new())).await.unwrap()
    }

    /// A tenant, and endpoints with secrets and keys.
    async fn filled(vault: &Vault, store: &MemoryStore) {
        let jwt_secret = vault.seal(Place::tenant(TENANT), "jwt");
        let name = "default".to_owned();
        let tenant = NewTenant { id: TENANT, name, jwt_secret, catalogue: Vec::new() };
        assert!(store.create_tenant(tenant, by()).await.unwrap());
        for number in 1..=SECRETS {
            let id = SecretId::new(number.into());
            let (secret, key) = (
                SigningSecret::from_entropy(&[number; 32]),
                SigningKey::from_entropy(&[number; 32]),
            );
            let (sealed, sealed_key) = vault.seal_secret(TENANT, id, &secret, &key);
            let endpoint = NewEndpoint {
                id: EndpointId::new(number.into()),
                tenant: TENANT,
                is_active: true,
                target: Target::parse("https://their.example/").unwrap(),
                description: String::new(),
                event_types: Vec::new(),
                ssl_cert_verification: true,
                signature_algorithms: Default::default(),
                secret: NewSecret { id, sealed, sealed_key: Some(sealed_key), is_brought: false },
            };
            store.create_endpoint(endpoint, by()).await.unwrap();
        }
    }

    /// All texts, by their places.
    async fn texts(vault: &Vault, store: &MemoryStore) -> Vec<(SealedAt, String)> {
        let all = store.sealed_otherwise(Vec::new(), None, 100).await.unwrap();
        let open = |(at, sealed)| {
            let text = vault.open_sealed(Place::at(at), &sealed).unwrap();
            (at, text.to_string())
        };
        all.into_iter().map(open).collect()
    }

    #[tokio::test]
    async fn a_rotation_that_broke_off_anywhere_leaves_everything_readable_and_goes_on() {
        let rows = u64::from(SECRETS) * 2 + 1;
        for done in 0..=rows {
            let directory = tempfile::tempdir().unwrap();
            let store = MemoryStore::new();
            let vault = open(directory.path(), &store).await;
            filled(&vault, &store).await;
            let before = texts(&vault, &store).await;
            // Somebody who has the instance open all the while.
            let other = open(directory.path(), &store).await;

            let (old, new) = (vault.current(), vault.stage().unwrap());
            // Broken off with the new key in the file: it seals nothing.
            assert_eq!(open(directory.path(), &store).await.current(), old);
            assert!(vault.rotate(&store, by()).await.unwrap());
            assert_eq!(vault.current(), new);
            // Broken off after so many rows.
            let others = store.sealed_otherwise(vault.head(), None, 100).await.unwrap();
            for (at, sealed) in others.into_iter().take(usize::try_from(done).unwrap()) {
                let text = vault.open_sealed(Place::at(at), &sealed).unwrap();
                let anew = vault.seal(Place::at(at), &text);
                assert!(store.reseal(at, sealed, anew).await.unwrap());
            }
            for vault in [&other, &open(directory.path(), &store).await] {
                assert_eq!(texts(vault, &store).await, before, "after {done} rows");
            }
            let resealed = seal_anew(&store, &other).await.unwrap();
            assert_eq!(resealed, Resealed { moved: rows - done, unopenable: 0 });
            assert_eq!(count(&store).await.unwrap(), [(Some(new), rows)].into());
            assert_eq!(texts(&other, &store).await, before);
        }
    }

    #[tokio::test]
    async fn whoever_lacks_the_new_key_says_so_and_learns_it_from_its_file() {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let store = MemoryStore::new();
        let vault = open(here.path(), &store).await;
        filled(&vault, &store).await;
        let file = |directory: &tempfile::TempDir| directory.path().join(KEY_FILE);
        std::fs::copy(file(&here), file(&there)).unwrap();
        let other = open(there.path(), &store).await;
        let (old, new) = (vault.current(), vault.stage().unwrap());
        assert!(vault.rotate(&store, by()).await.unwrap());
        seal_anew(&store, &vault).await.unwrap();

        let all = store.sealed_otherwise(Vec::new(), None, 100).await.unwrap();
        let (at, sealed) = all[0].clone();
        let told = other.open_sealed(Place::at(at), &sealed).unwrap_err().to_string();
        for part in [new.to_string(), old.to_string(), file(&there).display().to_string()] {
            assert!(told.contains(&part), "{told}");
        }
        assert_eq!(seal_anew(&store, &other).await.unwrap(), Resealed::default());
        assert!(!other.finds_missing_key(), "nothing has changed");
        std::fs::copy(file(&here), file(&there)).unwrap();
        // Whoever comes upon it first keeps nobody from hearing of it.
        other.open_sealed(Place::at(at), &sealed).unwrap();
        assert!(other.finds_missing_key());
        assert!(!other.finds_missing_key(), "once is enough");
        assert!(other.follow(&store).await.unwrap());
        assert_eq!(other.current(), new);
        assert_eq!(texts(&other, &store).await, texts(&vault, &store).await);
    }
}
