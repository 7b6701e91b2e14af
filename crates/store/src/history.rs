//! The history of a schema, whichever database has it. Each step is a file that never changes once it was released; the
//! database keeps which steps it has had, with their checksums, so that a file which did change is noticed before anything
//! is written. How a step is taken is the engines' business.

use aws_lc_rs::digest::{SHA256, digest};

use crate::{Result, StoreError};

/// A step of the schema's history; its number is its place.
pub(crate) struct Migration {
    pub(crate) name: &'static str,
    pub(crate) sql: &'static str,
}

impl Migration {
    pub(crate) fn checksum(&self) -> Vec<u8> {
        digest(&SHA256, self.sql.as_bytes()).as_ref().to_vec()
    }
}

/// Refuses a history that isn't the beginning of ours; answers how many steps it has had. Each step that was taken comes
/// with its name and checksum, oldest first.
pub(crate) fn check(migrations: &[Migration], taken: &[(String, Vec<u8>)]) -> Result<usize> {
    for (place, (name, checksum)) in taken.iter().enumerate() {
        let Some(migration) = migrations.get(place) else { return Err(too_new(name)) };
        if migration.name != name || migration.checksum() != *checksum {
            return Err(changed(name));
        }
    }
    Ok(taken.len())
}

fn too_new(name: &str) -> StoreError {
    StoreError::Inconsistent(format!(
        "the database was written by a newer Postrider: it has migration {name}, which this one does not know. \
         Start the newer version, or restore the backup that was made before the upgrade"
    ))
}

fn changed(name: &str) -> StoreError {
    StoreError::Inconsistent(format!(
        "migration {name} in the database is not the one that this Postrider has. Start the version that wrote the \
         database; if it is this one, its build was altered, so install a released build"
    ))
}
