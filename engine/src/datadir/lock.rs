//! The lock of a data directory: one process owns it, and everybody before that process is dead.
//! It must not know what lies in the directory.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// The file whose lock stands for the directory.
const LOCK_FILE: &str = "lock";

/// Why a data directory cannot be owned.
#[derive(Debug, Error)]
pub enum LockError {
    /// Another process has it.
    #[error(
        "another process uses the data directory {}; stop it, or configure another directory",
        path.display()
    )]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// It cannot be created or opened.
    #[error("the data directory {} cannot be used: check that it can be written", path.display())]
    Io {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A data directory that this process owns until the guard is dropped or the process ends, however it ends.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    // The operating system releases the lock with the descriptor.
    _lock: File,
}

impl DataDir {
    /// Creates the directory if need be (readable by its owner only) and takes its lock.
    ///
    /// # Errors
    /// [`LockError::Locked`] while another process, or another guard of this one, holds it;
    /// [`LockError::Io`].
    pub fn lock(path: &Path) -> Result<Self, LockError> {
        let io = |source| LockError::Io {
            path: path.to_owned(),
            source,
        };
        create_private(path).map_err(io)?;
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path.join(LOCK_FILE))
            .map_err(io)?;
        match file.try_lock() {
            Ok(()) => Ok(Self {
                path: path.to_owned(),
                _lock: file,
            }),
            Err(TryLockError::WouldBlock) => Err(LockError::Locked {
                path: path.to_owned(),
            }),
            Err(TryLockError::Error(source)) => Err(io(source)),
        }
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(unix)]
fn create_private(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
}

#[cfg(not(unix))]
fn create_private(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn a_second_owner_is_refused_until_the_first_lets_go() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        let first = DataDir::lock(&path).unwrap();
        let refused = DataDir::lock(&path).unwrap_err();
        assert!(matches!(refused, LockError::Locked { .. }));
        assert!(refused.to_string().contains("another process uses"));
        drop(first);
        assert_eq!(DataDir::lock(&path).unwrap().path(), path);
    }

    #[test]
    fn a_path_that_is_a_file_is_an_error_that_names_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, b"x").unwrap();
        let error = DataDir::lock(&path).unwrap_err();
        assert!(matches!(error, LockError::Io { .. }));
        assert!(error.to_string().contains("file"));
    }
}
