//! The history of a schema, whichever database has it. Each step is a file that never changes once it was released; the
//! database keeps which steps it has had, with their checksums, so that a file which did change is noticed before anything
//! is written. How a step is taken is the engines' business.
//!
//! An upgrade expands the schema first and contracts it later, so that old and new nodes serve side by side meanwhile. A
//! step that [`Change::Expands`] adds what older versions neither need nor notice: they go on, and start again, on a
//! database that has had it. One that [`Change::Contracts`] takes away what older versions use: it waits until none of
//! them is alive, and from then on they are refused. The database says which of its steps were which, because an older
//! version knows none of those that came after it.

use aws_lc_rs::digest::{SHA256, digest};

use crate::{Result, StoreError};

/// A step of the schema's history; its number is its place.
#[derive(Clone, Copy)]
pub(crate) struct Migration {
    pub(crate) name: &'static str,
    pub(crate) sql: &'static str,
    pub(crate) change: Change,
}

/// What a step means to versions that don't know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Nothing: they work on as before.
    Expands,
    /// Their end.
    Contracts,
}

/// A step that a database has had.
pub(crate) struct Taken {
    pub(crate) name: String,
    pub(crate) checksum: Vec<u8>,
    pub(crate) change: Change,
}

impl Migration {
    pub(crate) fn checksum(&self) -> Vec<u8> {
        digest(&SHA256, self.sql.as_bytes()).as_ref().to_vec()
    }
}

impl Change {
    /// As the database keeps it.
    pub(crate) fn expands(self) -> bool {
        self == Self::Expands
    }

    /// What the database kept.
    pub(crate) fn from_expands(expands: bool) -> Self {
        if expands { Self::Expands } else { Self::Contracts }
    }
}

/// Where a database stands, seen from this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    /// How many of this version's steps it has had.
    pub(crate) taken: usize,
    /// How many of this version's steps it lacks.
    pub(crate) missing: usize,
    /// How many steps it has had that this version doesn't know.
    pub(crate) beyond: usize,
}

/// Refuses a history that neither is the beginning of ours, nor goes on from ours by expansions alone. The steps that were
/// taken come oldest first.
pub(crate) fn check(migrations: &[Migration], taken: &[Taken]) -> Result<Standing> {
    for (place, taken) in taken.iter().enumerate() {
        match migrations.get(place) {
            Some(ours) if ours.name == taken.name && ours.checksum() == taken.checksum => {}
            Some(_) => return Err(changed(&taken.name)),
            None if taken.change == Change::Expands => {}
            None => return Err(too_new(&taken.name)),
        }
    }
    Ok(Standing {
        taken: taken.len().min(migrations.len()),
        missing: migrations.len().saturating_sub(taken.len()),
        beyond: taken.len().saturating_sub(migrations.len()),
    })
}

/// Whether what a database lacks can wait until no older version is alive: it would only take away. An expansion can't,
/// because this version relies on it.
///
/// # Errors
/// When one would have to: then this version can't serve beside those.
pub(crate) fn may_wait(missing: &[Migration]) -> Result<()> {
    match missing.iter().find(|step| step.change == Change::Expands) {
        None => Ok(()),
        Some(step) => Err(StoreError::Inconsistent(format!(
            "migration {} is needed, and can't be taken while nodes of a version run that is too old to serve beside this \
             one. Upgrade those to a version in between first, or stop them all before this one starts",
            step.name
        ))),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    const fn step(name: &'static str, change: Change) -> Migration {
        Migration { name, sql: name, change }
    }

    fn taken(steps: &[Migration]) -> Vec<Taken> {
        let take = |step: &Migration| Taken {
            name: step.name.into(),
            checksum: step.checksum(),
            change: step.change,
        };
        steps.iter().map(take).collect()
    }

    const HISTORY: [Migration; 4] = [
        step("1_base", Change::Contracts),
        step("2_more", Change::Expands),
        step("3_more", Change::Expands),
        step("4_less", Change::Contracts),
    ];

    #[test]
    fn an_older_version_works_until_something_is_taken_away() {
        let check =
            |ours: usize, theirs: usize| check(&HISTORY[..ours], &taken(&HISTORY[..theirs]));
        let standing = |taken, missing, beyond| Standing { taken, missing, beyond };
        assert_eq!(check(4, 0).unwrap(), standing(0, 4, 0));
        assert_eq!(check(4, 2).unwrap(), standing(2, 2, 0));
        assert_eq!(check(2, 2).unwrap(), standing(2, 0, 0));
        assert_eq!(check(1, 3).unwrap(), standing(1, 0, 2));
        for ours in 1..4 {
            let refused = check(ours, 4).unwrap_err().to_string();
            assert!(refused.contains("newer Postrider: it has migration 4_less"), "{refused}");
        }
    }

    #[test]
    fn an_altered_step_is_refused() {
        let mut altered = taken(&HISTORY);
        altered[2].checksum.push(0);
        let refused = check(&HISTORY, &altered).unwrap_err().to_string();
        assert!(refused.contains("migration 3_more in the database is not the one"), "{refused}");
    }

    #[test]
    fn what_takes_away_waits_and_what_is_needed_does_not() {
        may_wait(&HISTORY[3..]).unwrap();
        let refused = may_wait(&HISTORY[2..]).unwrap_err().to_string();
        assert!(refused.contains("migration 3_more is needed"), "{refused}");
    }
}
