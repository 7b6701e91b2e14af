//! The disk's reserve: while the disk is nearly full, nothing new is accepted, so that what was accepted can still be
//! recorded.

use std::{
    io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

/// What is kept in reserve, in bytes; on a small disk it is a tenth.
const RESERVE_BYTES: u64 = 64 * 1024 * 1024;

/// The reserve of the disk on which the data directory is.
#[derive(Debug)]
pub struct Reserve {
    /// The data directory; none where the database is elsewhere.
    data_dir: Option<PathBuf>,
    is_reached: AtomicBool,
}

impl Reserve {
    /// The reserve of that directory's disk, which is looked at for the first time by [`Reserve::look`].
    pub fn new(data_dir: &Path) -> Self {
        Self { data_dir: Some(data_dir.to_owned()), is_reached: AtomicBool::new(false) }
    }

    /// None to keep: the database is on another machine's disk.
    pub fn elsewhere() -> Self {
        Self { data_dir: None, is_reached: AtomicBool::new(false) }
    }

    /// Whether only the reserve is left.
    pub fn is_reached(&self) -> bool {
        self.is_reached.load(Ordering::Relaxed)
    }

    /// Looks at the disk. Costs one system call.
    pub fn look(&self) {
        let Some(data_dir) = &self.data_dir else { return };
        let is_reached = match space(data_dir) {
            Ok(space) => space.free_bytes < RESERVE_BYTES.min(space.all_bytes / 10),
            // What can't be looked at can perhaps still be written; the store will tell.
            Err(_) => false,
        };
        if self.is_reached.swap(is_reached, Ordering::Relaxed) != is_reached {
            let place = data_dir.display();
            if is_reached {
                tracing::error!(
                    "the disk of {place} is nearly full: nothing is accepted until there is room"
                );
            } else {
                tracing::info!("the disk of {place} has room again");
            }
        }
    }
}

/// The room on a disk.
#[derive(Clone, Copy, Debug)]
pub struct Space {
    /// What we may still write.
    pub free_bytes: u64,
    /// What there is in all.
    pub all_bytes: u64,
}

/// The room on the disk of a path.
///
/// # Errors
/// When the path is not there, or its file system doesn't tell.
pub fn space(path: &Path) -> io::Result<Space> {
    let told = rustix::fs::statvfs(path)?;
    let bytes = |blocks: u64| blocks.saturating_mul(told.f_frsize);
    Ok(Space { free_bytes: bytes(told.f_bavail), all_bytes: bytes(told.f_blocks) })
}
