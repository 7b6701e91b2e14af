//! Encryption at rest: signing secrets and JWT secrets, under the instance's master key.
//!
//! AES-256-GCM. The authenticated data is the table, the tenant and the row's id, so that a ciphertext which was moved to
//! another row does not open. The key stands in a file of the data directory or in the environment; the store keeps only
//! a check value of it, by which a wrong key is recognised at start.

use std::{
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hmac,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use postrider_kernel::{
    SecretId, SigningKey, SigningSecret, TenantId, secret::InvalidSecret, signature::KeyedSecret,
    signing_key::InvalidKey,
};
use postrider_store::{Sealed, Store, StoreError, StoredSecret};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::clock::{Clock, entropy};

/// The environment variable that brings the master key along.
pub const KEY_VARIABLE: &str = "POSTRIDER_MASTER_KEY";

/// The key's file in the data directory.
pub const KEY_FILE: &str = "master.key";

/// What the check value is the HMAC of.
const CHECK_MESSAGE: &[u8] = b"postrider master key";

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

    fn authenticated_data(self) -> Aad<Vec<u8>> {
        Aad::from(format!("{}/{}/{}", self.table, self.tenant, self.id).into_bytes())
    }
}

/// Seals and opens what must not be read from the database file.
pub struct Vault {
    key: LessSafeKey,
    clock: Arc<dyn Clock>,
}

/// Why there is no vault.
#[derive(Debug, Error)]
pub enum VaultError {
    /// The key is not 32 bytes in base64.
    #[error(
        "the master key in {0} is not the base64 of 32 bytes; `openssl rand -base64 32` makes one for a new instance"
    )]
    Malformed(String),
    /// The database was encrypted under another key.
    #[error(
        "the master key in {0} is not the one that this database was encrypted with; put the right key there, from \
         your backup of the key, or set {KEY_VARIABLE} to it. Without it the signing secrets can't be read"
    )]
    WrongKey(String),
    /// The database is there, its key is not.
    #[error(
        "the database is encrypted, but its master key {0} is missing; restore that file from your backup, copy it from \
         the node that made the database, or set {KEY_VARIABLE} to its content. Without it the signing secrets can't be \
         read"
    )]
    Missing(PathBuf),
    /// The key's file can't be read or written.
    #[error("the master key {0} can't be used: {1}")]
    Io(PathBuf, std::io::Error),
    /// The check value can't be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A ciphertext that does not open: it was damaged, or belongs to another row.
#[derive(Debug, Error)]
#[error("a ciphertext of table {} can't be opened: it was damaged or moved", .0.table)]
pub struct Unopenable(Place);

/// A master key as text, and where it was found.
struct FoundKey {
    text: Zeroizing<String>,
    place: String,
    /// Whether it was made just now.
    is_new: bool,
}

impl Vault {
    /// Finds the master key, makes one for a new database, and checks it against the store.
    ///
    /// `from_environment` is the value of [`KEY_VARIABLE`], which wins over the file.
    pub async fn open(
        data_dir: &Path,
        from_environment: Option<String>,
        store: &dyn Store,
        database_is_new: bool,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, VaultError> {
        let file = data_dir.join(KEY_FILE);
        let found = match from_environment {
            Some(text) => FoundKey {
                text: Zeroizing::new(text),
                place: format!("the environment ({KEY_VARIABLE})"),
                is_new: false,
            },
            None => read_or_make(&file, database_is_new, &*clock)?,
        };
        let key = STANDARD.decode(found.text.trim()).map(Zeroizing::new);
        let key = key.map_err(|_| VaultError::Malformed(found.place.clone()))?;
        let vault = Self::with_key(&key, clock)
            .ok_or_else(|| VaultError::Malformed(found.place.clone()))?;
        let check =
            hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), CHECK_MESSAGE).as_ref().to_vec();
        if store.keep_key_check(check.clone()).await? == check {
            Ok(vault)
        } else if found.is_new {
            // Another node was first: its key is the one, and this one has sealed nothing.
            std::fs::remove_file(&file).map_err(|error| VaultError::Io(file.clone(), error))?;
            Err(VaultError::Missing(file))
        } else {
            Err(VaultError::WrongKey(found.place))
        }
    }

    /// A vault under a key of 32 bytes; `None` for any other length.
    pub fn with_key(key: &[u8], clock: Arc<dyn Clock>) -> Option<Self> {
        let key = UnboundKey::new(&AES_256_GCM, key).ok()?;
        Some(Self { key: LessSafeKey::new(key), clock })
    }

    /// Encrypts a text for a row.
    pub fn seal(&self, place: Place, text: &str) -> Sealed {
        let nonce: [u8; NONCE_LEN] = entropy(&*self.clock);
        let mut sealed = text.as_bytes().to_vec();
        self.key
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                place.authenticated_data(),
                &mut sealed,
            )
            // It fails on texts of gigabytes alone.
            .expect("a secret is short enough for AES-GCM");
        sealed.splice(..0, nonce);
        Sealed(sealed)
    }

    /// Decrypts what [`Vault::seal`] made for that row.
    pub fn open_sealed(
        &self,
        place: Place,
        sealed: &Sealed,
    ) -> Result<Zeroizing<String>, Unopenable> {
        let (nonce, ciphertext) = sealed.0.split_at_checked(NONCE_LEN).ok_or(Unopenable(place))?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| Unopenable(place))?;
        let mut bytes = Zeroizing::new(ciphertext.to_vec());
        let text = self
            .key
            .open_in_place(nonce, place.authenticated_data(), &mut bytes)
            .map_err(|_| Unopenable(place))?;
        String::from_utf8(text.to_vec()).map(Zeroizing::new).map_err(|_| Unopenable(place))
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

/// Reads the key's file; a new database gets a new key, an old one never does.
fn read_or_make(
    file: &Path,
    database_is_new: bool,
    clock: &dyn Clock,
) -> Result<FoundKey, VaultError> {
    let in_file = |error| VaultError::Io(file.to_owned(), error);
    let found = |text, is_new| FoundKey { text, place: file.display().to_string(), is_new };
    match std::fs::read_to_string(file) {
        Ok(text) => Ok(found(Zeroizing::new(text), false)),
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(in_file(error)),
        Err(_) if !database_is_new => Err(VaultError::Missing(file.to_owned())),
        Err(_) => {
            let text = Zeroizing::new(STANDARD.encode(entropy::<32>(clock)));
            match write_private(file, text.as_bytes()) {
                Ok(()) => Ok(found(text, true)),
                // Another process was first: its key is the one.
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                    let text = std::fs::read_to_string(file).map_err(in_file)?;
                    Ok(found(Zeroizing::new(text), false))
                }
                Err(error) => Err(in_file(error)),
            }
        }
    }
}

/// Writes a new file that its owner alone can read, to disk, all of it or none.
///
/// # Errors
/// `AlreadyExists` when the file is there; whatever the file system says.
pub fn write_private(file: &Path, content: &[u8]) -> std::io::Result<()> {
    let directory = file.parent().unwrap_or(Path::new("."));
    // A temporary file is private from the start, and gets its name only when its content is on disk.
    let mut temporary = tempfile::NamedTempFile::new_in(directory)?;
    temporary.write_all(content)?;
    temporary.write_all(b"\n")?;
    temporary.as_file().sync_all()?;
    temporary.persist_noclobber(file)?;
    std::fs::File::open(directory)?.sync_all()
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
