//! Backups. An archive is an SQLite file of the newest schema, whichever engine it was made of: it can be looked into with
//! any SQLite, and either engine is made of it again, with the same identifiers. Secrets are in it as they are kept, as
//! ciphertexts; the key is not.
//!
//! This file knows which columns there are, and how a file comes to stand at its place; each engine's `archive.rs` reads
//! and writes them.

use std::{
    fs::{self, File},
    io::ErrorKind,
    path::{Path, PathBuf},
};

use crate::{Result, StoreError};

/// What a column holds, in either engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Integers of 64, 32 and 16 bits.
    Long,
    Int,
    Short,
    /// SQLite has 0 and 1.
    Bool,
    Double,
    Text,
    Bytes,
    /// Somebody's own words: text in SQLite, and bytes in Postgres, whose text holds no NUL.
    Words,
}

/// A table whose rows are carried over.
pub(crate) struct Table {
    /// As a statement has it.
    pub(crate) name: &'static str,
    pub(crate) columns: &'static [(&'static str, Kind)],
}

use Kind::{Bool, Bytes, Double, Int, Long, Short, Text, Words};

/// Every table but those that tell of processes, and the counters, which are counted anew. Who refers to others comes
/// after them.
pub(crate) const TABLES: &[Table] = &[
    Table { name: "meta", columns: &[("name", Text), ("value", Bytes)] },
    Table {
        name: "tenant",
        columns: &[("id", Long), ("name", Text), ("jwt_secret", Bytes), ("created_at", Long)],
    },
    Table {
        name: "\"user\"",
        columns: &[
            ("tenant_id", Long),
            ("id", Long),
            ("name", Text),
            ("role", Text),
            ("password_hash", Text),
            ("is_active", Bool),
            ("created_at", Long),
        ],
    },
    Table {
        name: "token",
        columns: &[
            ("tenant_id", Long),
            ("id", Long),
            ("user_id", Long),
            ("name", Text),
            ("role", Text),
            ("hash", Bytes),
            ("created_at", Long),
            ("expires_at", Long),
            ("revoked_at", Long),
        ],
    },
    Table {
        name: "event_type",
        columns: &[
            ("tenant_id", Long),
            ("name", Text),
            ("position", Long),
            ("description", Words),
            ("created_at", Long),
            ("retired_at", Long),
        ],
    },
    Table {
        name: "endpoint",
        columns: &[
            ("tenant_id", Long),
            ("id", Long),
            ("created_at", Long),
            ("updated_at", Long),
            ("deleted_at", Long),
            ("is_active", Bool),
            ("ssl_cert_verification", Bool),
            ("target", Text),
            ("description", Words),
            ("signature_algorithms", Text),
        ],
    },
    Table {
        name: "subscription",
        columns: &[
            ("tenant_id", Long),
            ("endpoint_id", Long),
            ("event_type", Text),
            ("position", Long),
            ("added_at", Long),
        ],
    },
    Table {
        name: "secret",
        columns: &[
            ("tenant_id", Long),
            ("id", Long),
            ("endpoint_id", Long),
            ("standing", Short),
            ("grace_until", Long),
            ("sealed", Bytes),
            ("sealed_key", Bytes),
            ("created_at", Long),
        ],
    },
    Table {
        name: "event",
        columns: &[
            ("tenant_id", Long),
            ("id", Long),
            ("event_type", Text),
            ("created", Double),
            ("accepted_at", Long),
            ("payload", Bytes),
        ],
    },
    Table {
        name: "delivery",
        columns: &[
            ("tenant_id", Long),
            ("id", Long),
            ("endpoint_id", Long),
            ("event_id", Long),
            ("trigger", Short),
            ("status", Short),
            ("attempts_made", Int),
            ("due_at", Long),
            ("created_at", Long),
            ("finished_at", Long),
        ],
    },
    Table {
        name: "attempt",
        columns: &[
            ("tenant_id", Long),
            ("id", Long),
            ("endpoint_id", Long),
            ("event_id", Long),
            ("delivery_id", Long),
            ("attempt_number", Int),
            ("trigger", Short),
            ("sent_at", Long),
            ("duration_us", Long),
            ("next_retry", Long),
            ("peer_address", Text),
            ("signature", Text),
            ("response_status", Int),
            ("error_cause", Text),
            ("error_detail", Words),
            ("response_body", Bytes),
        ],
    },
    Table {
        name: "idempotency",
        columns: &[
            ("tenant_id", Long),
            ("key", Text),
            ("request_hash", Bytes),
            ("event_id", Long),
            ("event_type", Text),
            ("created", Double),
            ("endpoint_count", Long),
            ("kept_at", Long),
        ],
    },
    Table {
        name: "audit",
        columns: &[
            ("tenant_id", Long),
            ("id", Long),
            ("at", Long),
            ("actor", Text),
            ("address", Text),
            ("action", Text),
            ("subject", Text),
        ],
    },
];

impl Table {
    /// The statement that reads it. A lease is a living process's, and a backup is not: what was leased is pending.
    pub(crate) fn select(&self, tenant_of_subscription: &'static str) -> String {
        let value = |&(column, _): &(&'static str, Kind)| match (self.name, column) {
            ("delivery", "status") => "CAST(CASE status WHEN 1 THEN 0 ELSE status END AS smallint)",
            ("subscription", "tenant_id") => tenant_of_subscription,
            _ => column,
        };
        let values: Vec<_> = self.columns.iter().map(value).collect();
        format!("SELECT {} FROM {}", values.join(", "), self.name)
    }

    /// Its columns, as a list.
    pub(crate) fn list(&self) -> String {
        let names: Vec<_> = self.columns.iter().map(|&(name, _)| name).collect();
        names.join(", ")
    }
}

/// A file on its way to its place. Dropped before that, it is gone.
pub(crate) struct Draft {
    path: PathBuf,
    place: PathBuf,
}

impl Draft {
    /// Begins a file that will stand at that place.
    ///
    /// # Errors
    /// When something stands there already, or the directory can't be written.
    pub(crate) fn begin(place: &Path) -> Result<Self> {
        refuse_to_overwrite(place)?;
        let mut name = place.file_name().unwrap_or_default().to_owned();
        name.push(".partial");
        let path = place.with_file_name(name);
        match fs::remove_file(&path) {
            // Of an attempt that broke off.
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(cannot_write(&path, &error)),
        }
        Ok(Self { path, place: place.to_owned() })
    }

    /// Where it is meanwhile.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Puts it at its place, with all that is in it on disk.
    pub(crate) fn finish(self) -> Result<()> {
        refuse_to_overwrite(&self.place)?;
        let directory = match self.place.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        let finished = File::open(&self.path)
            .and_then(|file| file.sync_all())
            .and_then(|()| fs::rename(&self.path, &self.place))
            .and_then(|()| File::open(directory)?.sync_all());
        finished.map_err(|error| cannot_write(&self.place, &error))
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // After it was finished there is nothing left to remove.
        let _ = fs::remove_file(&self.path);
    }
}

/// Answers an error where a file stands.
fn refuse_to_overwrite(place: &Path) -> Result<()> {
    if place.symlink_metadata().is_ok() {
        let path = place.display();
        return Err(StoreError::Unavailable(format!("{path} is there, and is not overwritten")));
    }
    Ok(())
}

pub(crate) fn cannot_write(path: &Path, error: &std::io::Error) -> StoreError {
    StoreError::Unavailable(format!("{} can't be written: {error}", path.display()))
}
