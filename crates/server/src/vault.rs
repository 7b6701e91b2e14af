//! Encryption at rest: signing secrets, their keys, and JWT secrets, under the instance's master key.
//!
//! AES-256-GCM. The authenticated data is the table, the tenant and the row's id, so that a ciphertext which was moved to
//! another row does not open. A ciphertext says which master key it was sealed under, so that there can be several: while
//! the key is being rotated, all of them open, and the one whose check value the store keeps seals. Which keys there are,
//! and where they come from, is in `keys`.

mod keys;

use std::{
    io::Write,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use arc_swap::ArcSwap;
use aws_lc_rs::aead::{Aad, LessSafeKey, NONCE_LEN, Nonce};
use postrider_kernel::{
    SecretId, SigningKey, SigningSecret, TenantId, secret::InvalidSecret, signature::KeyedSecret,
    signing_key::InvalidKey,
};
use postrider_store::{Sealed, SealedAt, SealedKind, Store, StoreError, StoredSecret};
use thiserror::Error;
use zeroize::Zeroizing;

use self::keys::FINGERPRINT_BYTES;
pub use self::keys::{
    Fingerprint, KEY_FILE, KEY_FILE_VARIABLE, KEY_VARIABLE, KeySource, MasterKey,
};
use crate::clock::{Clock, entropy};

/// What a ciphertext begins with that names its key. Those of the first version begin with their nonce, which is random:
/// one in four billion looks the same, and is told apart by what opens.
const MARK: &[u8; 4] = b"PRK1";

/// A mark, and the fingerprint of the key.
const HEAD_BYTES: usize = MARK.len() + FINGERPRINT_BYTES;

/// Which row a ciphertext belongs to.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// The table.
    pub table: &'static str,
    /// The row's tenant.
    pub tenant: TenantId,
    /// The row's id.
    pub id: i64,
}

impl Place {
    /// The row of a signing secret.
    pub fn secret(tenant: TenantId, id: SecretId) -> Self {
        Self { table: "secret", tenant, id: id.get() }
    }

    /// The Ed25519 key in the row of a signing secret.
    pub fn key(tenant: TenantId, id: SecretId) -> Self {
        Self { table: "secret.key", tenant, id: id.get() }
    }

    /// The row of a tenant, which holds its JWT secret.
    pub fn tenant(tenant: TenantId) -> Self {
        Self { table: "tenant", tenant, id: tenant.get() }
    }

    /// The place of a ciphertext that the store lists.
    pub fn at(at: SealedAt) -> Self {
        match at.kind {
            SealedKind::JwtSecret => Self::tenant(at.tenant),
            SealedKind::Secret => Self::secret(at.tenant, SecretId::new(at.id)),
            SealedKind::Key => Self::key(at.tenant, SecretId::new(at.id)),
        }
    }

    fn authenticated_data(self) -> Aad<Vec<u8>> {
        Aad::from(format!("{}/{}/{}", self.table, self.tenant, self.id).into_bytes())
    }
}

/// Seals and opens what must not be read from the database file.
pub struct Vault {
    source: Option<KeySource>,
    ring: ArcSwap<Ring>,
    /// A ciphertext was met whose key isn't there.
    misses_a_key: AtomicBool,
    /// Keys have come that whoever missed one has not heard of yet.
    has_learned: AtomicBool,
    /// Held by whoever changes the ring, from the look at it on.
    changing: Mutex<()>,
    clock: Arc<dyn Clock>,
}

/// The keys that there are, the newest first, and the place of the one that seals.
struct Ring {
    keys: Vec<Arc<MasterKey>>,
    current: usize,
}

impl Ring {
    fn new(keys: Vec<MasterKey>, current: usize) -> Self {
        Self { keys: keys.into_iter().map(Arc::new).collect(), current }
    }

    fn current(&self) -> &MasterKey {
        &self.keys[self.current]
    }

    fn find(&self, fingerprint: Fingerprint) -> Option<&Arc<MasterKey>> {
        self.keys.iter().find(|key| key.fingerprint == fingerprint)
    }

    fn place_of(&self, check: &[u8]) -> Option<usize> {
        self.keys.iter().position(|key| key.has_check(check))
    }

    fn fingerprints(&self) -> String {
        in_words(self.keys.iter().map(|key| &**key))
    }
}

fn in_words<'a>(keys: impl IntoIterator<Item = &'a MasterKey>) -> String {
    let names = keys.into_iter().map(|key| key.fingerprint.to_string());
    names.collect::<Vec<_>>().join(", ")
}

/// Why there is no vault.
#[derive(Debug, Error)]
pub enum VaultError {
    /// A key is not 32 bytes in base64.
    #[error(
        "the master key in {place} is not the base64 of 32 bytes{}",
        if *is_own { "; put it back from your backup of the key" } else { ", or one of several, each on a line of its own; `openssl rand -base64 32` makes one for a new instance" }
    )]
    Malformed {
        /// Where it was found.
        place: String,
        /// Whether this service made the file.
        is_own: bool,
    },
    /// The database was encrypted under another key.
    #[error(
        "the master key in {place} is not the one that this database was encrypted with: that has the fingerprint \
         {wanted}, and the one there has {found}; put the right key there, from your backup of the key, or set \
         {KEY_VARIABLE} to it. Without it the signing secrets can't be read"
    )]
    WrongKey {
        /// Where keys were found.
        place: String,
        /// Which was needed.
        wanted: String,
        /// Which were there.
        found: String,
    },
    /// The database is there, its key is not.
    #[error(
        "the database is encrypted, but its master key {0} is missing; restore that file from your backup, copy it from \
         the node that made the database, or set {KEY_VARIABLE} to its content. Without it the signing secrets can't be \
         read"
    )]
    Missing(PathBuf),
    /// The keys are the operator's to change.
    #[error(
        "the master key comes from {0}, which isn't ours to change: put a new key in front of it there (`openssl rand \
         -base64 32` makes one, each stands on a line of its own), restart every node, and run this again"
    )]
    NotOurs(String),
    /// The key's file can't be read or written.
    #[error("the master key {0} can't be used: {1}")]
    Io(PathBuf, std::io::Error),
    /// The check value can't be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A ciphertext that does not open.
#[derive(Debug, Error)]
pub enum Unopenable {
    /// It was damaged, or belongs to another row.
    #[error("a ciphertext of table {} can't be opened: it was damaged or moved", .0.table)]
    Damaged(Place),
    /// Its key isn't here.
    #[error(
        "a ciphertext of table {} was sealed under the master key {}, which this node doesn't have: in {} there are {}. \
         Copy the file of the node that rotated the key; it is read again as soon as it has changed",
        .0.table, .1, .2, .3
    )]
    UnknownKey(Place, Fingerprint, String, String),
}

impl Vault {
    /// Reads the master keys, makes one for a new database, and checks them against the store.
    ///
    /// # Errors
    /// No key, a wrong or malformed one, or a store that can't be read.
    pub async fn open(
        source: KeySource,
        store: &dyn Store,
        database_is_new: bool,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, VaultError> {
        let mut is_made = false;
        let keys = match (source.read()?, &source) {
            (Some(keys), _) => keys,
            (None, KeySource::Own(file)) if !database_is_new => {
                return Err(VaultError::Missing(file.clone()));
            }
            (None, _) => {
                is_made = source.make(&*clock)?;
                source.read()?.unwrap_or_default()
            }
        };
        let newest = keys.first().map(|key| key.check.clone()).unwrap_or_default();
        let kept = store.keep_key_check(newest).await?;
        let Some(current) = keys.iter().position(|key| key.has_check(&kept)) else {
            if is_made && let KeySource::Own(file) = source {
                // Another node was first: its key is the one, and this one has sealed nothing.
                let removed = std::fs::remove_file(&file);
                removed.map_err(|error| VaultError::Io(file.clone(), error))?;
                return Err(VaultError::Missing(file));
            }
            return Err(wrong_key(&source, &keys, &kept));
        };
        let ring = ArcSwap::from_pointee(Ring::new(keys, current));
        Ok(Self::around(Some(source), ring, clock))
    }

    /// A vault under a key of 32 bytes, which is never rotated; `None` for any other length.
    pub fn with_key(key: &[u8], clock: Arc<dyn Clock>) -> Option<Self> {
        let ring = ArcSwap::from_pointee(Ring::new(vec![MasterKey::new(key)?], 0));
        Some(Self::around(None, ring, clock))
    }

    fn around(source: Option<KeySource>, ring: ArcSwap<Ring>, clock: Arc<dyn Clock>) -> Self {
        let (misses_a_key, has_learned, changing) = Default::default();
        Self { source, ring, misses_a_key, has_learned, changing, clock }
    }

    /// Where the keys come from.
    pub fn source(&self) -> Option<&KeySource> {
        self.source.as_ref()
    }

    /// The fingerprints of all keys that are here, the newest first.
    pub fn fingerprints(&self) -> Vec<Fingerprint> {
        self.ring.load().keys.iter().map(|key| key.fingerprint).collect()
    }

    /// The fingerprint of the key that seals.
    pub fn current(&self) -> Fingerprint {
        self.ring.load().current().fingerprint
    }

    /// What a ciphertext under the current key begins with.
    pub fn head(&self) -> Vec<u8> {
        head_of(self.current())
    }

    /// Seals under the key whose check value the store keeps, since another process may have rotated it. The keys are read
    /// anew for that if need be; where it isn't among them, the one before goes on sealing, and the answer is `false`.
    ///
    /// # Errors
    /// The store's.
    pub async fn follow(&self, store: &dyn Store) -> Result<bool, StoreError> {
        let Some(check) = store.key_check().await? else { return Ok(true) };
        if self.ring.load().current().has_check(&check) {
            return Ok(true);
        }
        if self.ring.load().place_of(&check).is_none() {
            self.read_again();
        }
        let is_there = self.turn_to(&check);
        if !is_there {
            self.misses_a_key.store(true, Ordering::Release);
        }
        Ok(is_there)
    }

    /// Seals under the key of that check value from now on, if it is here.
    fn turn_to(&self, check: &[u8]) -> bool {
        let _alone = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let ring = self.ring.load();
        let Some(current) = ring.place_of(check) else { return false };
        self.ring.store(Arc::new(Ring { keys: ring.keys.clone(), current }));
        true
    }

    /// Whether a key that was missing may be there now. Somebody else may have come upon it first.
    pub fn finds_missing_key(&self) -> bool {
        if self.misses_a_key.load(Ordering::Acquire) {
            self.read_again();
        }
        self.has_learned.swap(false, Ordering::AcqRel)
    }

    /// Reads the keys anew; whether there were some that weren't known. What can't be read leaves the keys as they are.
    fn read_again(&self) -> bool {
        let _alone = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(Ok(Some(keys))) = self.source.as_ref().map(KeySource::read) else { return false };
        let before = self.ring.load();
        let known = |key: &MasterKey| before.find(key.fingerprint).is_some();
        if keys.iter().all(known) {
            return false;
        }
        let check = &before.current().check;
        let mut ring = Ring::new(keys, 0);
        match ring.place_of(check) {
            Some(current) => ring.current = current,
            // The key that seals is gone from the file, but not from here: what it sealed may not be sealed anew yet.
            None => {
                ring.keys.push(before.keys[before.current].clone());
                ring.current = ring.keys.len() - 1;
            }
        }
        self.ring.store(Arc::new(ring));
        if self.misses_a_key.swap(false, Ordering::AcqRel) {
            self.has_learned.store(true, Ordering::Release);
        }
        true
    }

    /// Puts a new key in front of the others, in the file of the data directory. It seals nothing yet.
    ///
    /// # Errors
    /// Keys that the operator looks after; whatever the file system says.
    pub fn stage(&self) -> Result<Fingerprint, VaultError> {
        let fixed = || VaultError::NotOurs("a fixed key".to_owned());
        self.source.as_ref().ok_or_else(fixed)?.add(&*self.clock)?;
        self.read_again();
        Ok(self.ring.load().keys[0].fingerprint)
    }

    /// Has the store keep the check value of the newest key instead of the current one's, and seals under it from then on;
    /// `false` when another process was quicker.
    ///
    /// # Errors
    /// The store's.
    pub async fn rotate(
        &self,
        store: &dyn Store,
        by: postrider_store::By,
    ) -> Result<bool, StoreError> {
        let ring = self.ring.load_full();
        let (old, new) = (ring.current().check.clone(), ring.keys[0].check.clone());
        let is_rotated = store.replace_key_check(old, new, by).await?;
        self.follow(store).await?;
        Ok(is_rotated)
    }

    /// Encrypts a text for a row.
    pub fn seal(&self, place: Place, text: &str) -> Sealed {
        let ring = self.ring.load();
        let key = ring.current();
        let nonce: [u8; NONCE_LEN] = entropy(&*self.clock);
        let mut ciphertext = text.as_bytes().to_vec();
        key.key
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                place.authenticated_data(),
                &mut ciphertext,
            )
            // It fails on texts of gigabytes alone.
            .expect("a secret is short enough for AES-GCM");
        Sealed([head_of(key.fingerprint), nonce.to_vec(), ciphertext].concat())
    }

    /// Decrypts what [`Vault::seal`] made for that row, under whichever of the keys.
    pub fn open_sealed(
        &self,
        place: Place,
        sealed: &Sealed,
    ) -> Result<Zeroizing<String>, Unopenable> {
        let Some(fingerprint) = key_of(sealed) else { return self.open_unmarked(place, sealed) };
        if self.ring.load().find(fingerprint).is_none() {
            self.read_again();
        }
        let ring = self.ring.load();
        let Some(key) = ring.find(fingerprint) else {
            return self.open_unmarked(place, sealed).map_err(|_| {
                self.misses_a_key.store(true, Ordering::Release);
                let source = self.source.as_ref().map(KeySource::to_string).unwrap_or_default();
                Unopenable::UnknownKey(place, fingerprint, source, ring.fingerprints())
            });
        };
        open(&key.key, place, &sealed.0[HEAD_BYTES..])
            .map_or_else(|| self.open_unmarked(place, sealed), Ok)
    }

    /// Opens what was sealed before ciphertexts named their key.
    fn open_unmarked(
        &self,
        place: Place,
        sealed: &Sealed,
    ) -> Result<Zeroizing<String>, Unopenable> {
        let ring = self.ring.load();
        let opened = ring.keys.iter().find_map(|key| open(&key.key, place, &sealed.0));
        opened.ok_or(Unopenable::Damaged(place))
    }
}

fn open(key: &LessSafeKey, place: Place, sealed: &[u8]) -> Option<Zeroizing<String>> {
    let (nonce, ciphertext) = sealed.split_at_checked(NONCE_LEN)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    let mut bytes = Zeroizing::new(ciphertext.to_vec());
    let text = key.open_in_place(nonce, place.authenticated_data(), &mut bytes).ok()?;
    String::from_utf8(text.to_vec()).ok().map(Zeroizing::new)
}

fn head_of(fingerprint: Fingerprint) -> Vec<u8> {
    [&MARK[..], &fingerprint.0].concat()
}

/// The key that a ciphertext names.
pub fn key_of(sealed: &Sealed) -> Option<Fingerprint> {
    let named = sealed.0.strip_prefix(MARK)?;
    Fingerprint::of_check(named)
}

/// That none of these keys is the one of a check value.
fn wrong_key(source: &KeySource, keys: &[MasterKey], check: &[u8]) -> VaultError {
    let wanted = Fingerprint::of_check(check).map(|wanted| wanted.to_string());
    VaultError::WrongKey {
        place: source.to_string(),
        wanted: wanted.unwrap_or_default(),
        found: in_words(keys),
    }
}

/// Refuses keys that are not those of a backup, by the check value in it. A file that isn't there yet refuses nothing.
///
/// # Errors
/// As it says, with both fingerprints; or keys that can't be read.
pub fn check_fits(source: &KeySource, check: &[u8]) -> Result<(), VaultError> {
    match source.read()? {
        Some(keys) if !keys.iter().any(|key| key.has_check(check)) => {
            Err(wrong_key(source, &keys, check))
        }
        _ => Ok(()),
    }
}

/// A stored secret that can't be used: it, or the key beside it, does not open, or is none.
#[derive(Debug, Error)]
pub enum UnusableSecret {
    /// It does not open.
    #[error(transparent)]
    Unopenable(#[from] Unopenable),
    /// What was decrypted is no signing secret.
    #[error("a stored secret is malformed: {0}")]
    Secret(#[from] InvalidSecret),
    /// What was decrypted is no key.
    #[error("a stored key is malformed: {0}")]
    Key(#[from] InvalidKey),
}

impl Vault {
    /// Seals a secret and its key for a row.
    pub fn seal_secret(
        &self,
        tenant: TenantId,
        id: SecretId,
        secret: &SigningSecret,
        key: &SigningKey,
    ) -> (Sealed, Sealed) {
        let secret = self.seal(Place::secret(tenant, id), secret.reveal());
        (secret, self.seal(Place::key(tenant, id), key.reveal()))
    }

    /// Opens a stored secret and its key.
    pub fn open_secret(
        &self,
        tenant: TenantId,
        stored: &StoredSecret,
    ) -> Result<KeyedSecret, UnusableSecret> {
        let text = self.open_sealed(Place::secret(tenant, stored.id), &stored.sealed)?;
        let secret = SigningSecret::parse(&text)?;
        let key = match &stored.sealed_key {
            None => None,
            Some(sealed) => {
                let text = self.open_sealed(Place::key(tenant, stored.id), sealed)?;
                Some(SigningKey::parse(&text)?)
            }
        };
        Ok(KeyedSecret { secret, key, standing: stored.standing })
    }
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Vault(…)")
    }
}

/// Writes a new file that its owner alone can read, to disk, all of it or none.
///
/// # Errors
/// `AlreadyExists` when the file is there; whatever the file system says.
pub fn write_private(file: &Path, content: &[u8]) -> std::io::Result<()> {
    private_beside(file, content)?.persist_noclobber(file)?;
    sync_directory_of(file)
}

/// The same, in the place of a file that is there.
fn replace_private(file: &Path, content: &[u8]) -> std::io::Result<()> {
    private_beside(file, content)?.persist(file)?;
    sync_directory_of(file)
}

/// A temporary file is private from the start, and gets its name only when its content is on disk.
fn private_beside(file: &Path, content: &[u8]) -> std::io::Result<tempfile::NamedTempFile> {
    let mut temporary = tempfile::NamedTempFile::new_in(directory_of(file))?;
    temporary.write_all(content)?;
    temporary.write_all(b"\n")?;
    temporary.as_file().sync_all()?;
    Ok(temporary)
}

fn directory_of(file: &Path) -> &Path {
    file.parent().unwrap_or(Path::new("."))
}

fn sync_directory_of(file: &Path) -> std::io::Result<()> {
    std::fs::File::open(directory_of(file))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    fn vault(byte: u8) -> Vault {
        Vault::with_key(&[byte; 32], Arc::new(SystemClock::new())).unwrap()
    }

    #[test]
    fn a_ciphertext_opens_in_its_own_row_alone() {
        let place = |tenant, id| Place::secret(TenantId::new(tenant), SecretId::new(id));
        let sealed = vault(1).seal(place(1, 7), "whsec_x");
        assert!(!sealed.0.windows(6).any(|window| window == b"whsec_"));
        assert_eq!(vault(1).open_sealed(place(1, 7), &sealed).unwrap().as_str(), "whsec_x");
        for elsewhere in [place(1, 8), place(2, 7), Place { table: "tenant", ..place(1, 7) }] {
            assert!(vault(1).open_sealed(elsewhere, &sealed).is_err());
        }
        assert!(vault(2).open_sealed(place(1, 7), &sealed).is_err());
        assert!(vault(1).open_sealed(place(1, 7), &Sealed(vec![0; 5])).is_err());
        assert_ne!(vault(1).seal(place(1, 7), "whsec_x"), sealed, "each has a nonce of its own");
    }

    #[test]
    fn a_ciphertext_names_its_key_and_one_of_the_first_version_opens_too() {
        let place = Place::secret(TenantId::new(1), SecretId::new(7));
        let sealed = vault(1).seal(place, "whsec_x");
        assert_eq!(key_of(&sealed), Some(vault(1).current()));
        let unmarked = Sealed(sealed.0[HEAD_BYTES..].to_vec());
        assert_eq!(vault(1).open_sealed(place, &unmarked).unwrap().as_str(), "whsec_x");
        let missing = vault(2).open_sealed(place, &sealed).unwrap_err().to_string();
        for vault in [vault(1), vault(2)] {
            assert!(missing.contains(&vault.current().to_string()), "{missing}");
        }
    }

    #[test]
    fn a_private_file_is_written_once() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("key");
        write_private(&file, b"one").unwrap();
        assert_eq!(
            write_private(&file, b"two").unwrap_err().kind(),
            std::io::ErrorKind::AlreadyExists
        );
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "one\n");
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
