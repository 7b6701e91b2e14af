//! Master keys: where they are found, how a key is known by its fingerprint, and how a new one gets into the file.
//!
//! A key is the base64 of 32 bytes. Several stand one per line, the newest first, so that everybody can open what was
//! sealed under an older one while it is being sealed anew. What is sealed with them is not here.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use aws_lc_rs::{
    aead::{AES_256_GCM, LessSafeKey, UnboundKey},
    constant_time::verify_slices_are_equal,
    hmac,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

use super::{VaultError, replace_private, write_private};
use crate::clock::{Clock, entropy};

/// The environment variable that brings the master keys along, and the one that names their file.
pub const KEY_VARIABLE: &str = "POSTRIDER_MASTER_KEY";
/// See [`KEY_VARIABLE`].
pub const KEY_FILE_VARIABLE: &str = "POSTRIDER_MASTER_KEY_FILE";

/// The keys' file in the data directory, and their name among systemd's credentials.
pub const KEY_FILE: &str = "master.key";

/// What the check value is the HMAC of.
const CHECK_MESSAGE: &[u8] = b"postrider master key";

/// How many bytes a fingerprint has.
pub const FINGERPRINT_BYTES: usize = 8;

/// What a master key is known by: the beginning of its check value. It tells nothing of the key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub(super) [u8; FINGERPRINT_BYTES]);

impl Fingerprint {
    /// The fingerprint of the key that has this check value; `None` where it is too short to be one.
    pub fn of_check(check: &[u8]) -> Option<Self> {
        check.first_chunk().copied().map(Self)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

/// A key, ready to seal.
pub struct MasterKey {
    pub(super) key: LessSafeKey,
    /// What the store keeps of it.
    pub(super) check: Vec<u8>,
    /// What it is known by.
    pub(super) fingerprint: Fingerprint,
}

impl MasterKey {
    /// A key of 32 bytes; `None` for any other length.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, bytes).ok()?);
        let mac = hmac::Key::new(hmac::HMAC_SHA256, bytes);
        let check = hmac::sign(&mac, CHECK_MESSAGE).as_ref().to_vec();
        let fingerprint = Fingerprint::of_check(&check)?;
        Some(Self { key, check, fingerprint })
    }

    /// Whether the store's check value is of this key.
    pub(super) fn has_check(&self, check: &[u8]) -> bool {
        verify_slices_are_equal(&self.check, check).is_ok()
    }
}

/// Where the master keys come from.
#[derive(Clone)]
pub enum KeySource {
    /// The environment brings them along.
    Environment(Zeroizing<String>),
    /// A file that the operator looks after: named by the environment, or a credential of systemd's.
    File(PathBuf),
    /// The file in the data directory, which this service makes and changes.
    Own(PathBuf),
}

impl KeySource {
    /// Looks where the keys are: the environment wins over the file that it names, that over systemd's credential, and that
    /// over the data directory.
    pub fn find(data_dir: &Path) -> Self {
        let set = |name| std::env::var(name).ok().filter(|text| !text.trim().is_empty());
        if let Some(keys) = set(KEY_VARIABLE) {
            return Self::Environment(Zeroizing::new(keys));
        }
        if let Some(file) = set(KEY_FILE_VARIABLE) {
            return Self::File(file.into());
        }
        let credential = set("CREDENTIALS_DIRECTORY").map(|of| Path::new(&of).join(KEY_FILE));
        match credential.filter(|file| file.exists()) {
            Some(file) => Self::File(file),
            None => Self::Own(data_dir.join(KEY_FILE)),
        }
    }

    /// Reads the keys, the newest first; `None` where the file in the data directory isn't there.
    ///
    /// # Errors
    /// A file that can't be read, or something in it that is no key.
    pub fn read(&self) -> Result<Option<Vec<MasterKey>>, VaultError> {
        let (text, is_own) = match self {
            Self::Environment(keys) => (keys.clone(), false),
            Self::File(file) => (Zeroizing::new(read_file(file)?), false),
            Self::Own(file) => match std::fs::read_to_string(file) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                read => (Zeroizing::new(read.map_err(|error| in_file(file, error))?), true),
            },
        };
        let lines = text.split([',', '\n']).map(str::trim).filter(|line| !line.is_empty());
        let decode = |line: &str| {
            let bytes = STANDARD.decode(line).map(Zeroizing::new).ok()?;
            MasterKey::new(&bytes)
        };
        let keys: Option<Vec<_>> = lines.map(decode).collect();
        match keys {
            Some(keys) if !keys.is_empty() => Ok(Some(keys)),
            _ => Err(VaultError::Malformed { place: self.to_string(), is_own }),
        }
    }

    /// Makes the first key, in the data directory's file; whether it was made now, or another process was first.
    pub(super) fn make(&self, clock: &dyn Clock) -> Result<bool, VaultError> {
        let Self::Own(file) = self else { return Ok(false) };
        match write_private(file, new_key(clock).as_bytes()) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(in_file(file, error)),
        }
    }

    /// Puts a new key in front of the others, all of the file or none of it.
    ///
    /// # Errors
    /// Keys that the operator looks after; whatever the file system says.
    pub(super) fn add(&self, clock: &dyn Clock) -> Result<(), VaultError> {
        let Self::Own(file) = self else { return Err(VaultError::NotOurs(self.to_string())) };
        let before = Zeroizing::new(read_file(file)?);
        let keys = Zeroizing::new(format!("{}\n{}", &*new_key(clock), before.trim_end()));
        replace_private(file, keys.as_bytes()).map_err(|error| in_file(file, error))
    }
}

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment(_) => write!(f, "the environment ({KEY_VARIABLE})"),
            Self::File(file) | Self::Own(file) => write!(f, "{}", file.display()),
        }
    }
}

fn new_key(clock: &dyn Clock) -> Zeroizing<String> {
    Zeroizing::new(STANDARD.encode(*Zeroizing::new(entropy::<32>(clock))))
}

fn read_file(file: &Path) -> Result<String, VaultError> {
    std::fs::read_to_string(file).map_err(|error| in_file(file, error))
}

fn in_file(file: &Path, error: io::Error) -> VaultError {
    VaultError::Io(file.to_owned(), error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> String {
        STANDARD.encode([byte; 32])
    }

    fn fingerprints(text: &str) -> Option<Vec<String>> {
        let source = KeySource::Environment(Zeroizing::new(text.to_owned()));
        let keys = source.read().ok()??;
        Some(keys.iter().map(|key| key.fingerprint.to_string()).collect())
    }

    #[test]
    fn several_keys_are_read_newest_first() {
        let of = |byte| fingerprints(&key(byte)).unwrap().remove(0);
        assert_eq!(of(1).len(), 2 * FINGERPRINT_BYTES);
        assert_ne!(of(1), of(2));
        let both = Some(vec![of(2), of(1)]);
        for text in [format!("{}\n{}\n", key(2), key(1)), format!(" {}, {}", key(2), key(1))] {
            assert_eq!(fingerprints(&text), both, "{text}");
        }
        for bad in ["", "\n", "x", &key(1)[1..], &format!("{}\nx", key(1))] {
            assert_eq!(fingerprints(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_new_key_stands_before_the_old_one() {
        let directory = tempfile::tempdir().unwrap();
        let clock = crate::clock::SystemClock::new();
        let source = KeySource::Own(directory.path().join(KEY_FILE));
        assert!(source.read().unwrap().is_none());
        assert!(source.make(&clock).unwrap());
        assert!(!source.make(&clock).unwrap(), "a key that is there stays");
        let first = source.read().unwrap().unwrap().remove(0).fingerprint;
        source.add(&clock).unwrap();
        let keys = source.read().unwrap().unwrap();
        assert_eq!((keys.len(), keys[1].fingerprint), (2, first));
        assert_ne!(keys[0].fingerprint, first);
        let theirs = KeySource::Environment(Zeroizing::new(key(1)));
        assert!(matches!(theirs.add(&clock), Err(VaultError::NotOurs(_))));
    }
}
