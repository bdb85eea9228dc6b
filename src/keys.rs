//! The deployment's own keys: from the configuration, else generated once in the data directory.
//! It must not know what is signed or sealed with them.

use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use clarion_auth::MasterKey;
use clarion_auth::seal::SealError;
use clarion_auth::token::{AccessTokenError, SigningKey};
use thiserror::Error;

use crate::config::Config;

/// The generated signing key: PKCS#8 PEM.
const SIGNING_KEY_FILE: &str = "signing-key.pem";
/// The generated master key: 32 bytes in base64.
const MASTER_KEY_FILE: &str = "master-key";
/// Only the owner may read a key.
const KEY_MODE: u32 = 0o600;
/// Only the owner may look into the data directory.
const DIRECTORY_MODE: u32 = 0o700;

/// Why a key could not be had.
#[derive(Debug, Error)]
pub(crate) enum KeyError {
    /// The file could not be read or made.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Somebody else may read it.
    #[error("{}: others may read it (mode {mode:o}): replace this key, and chmod 600 it", path.display())]
    Exposed {
        /// Which.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It is no signing key.
    #[error("auth.signing_key: {0}")]
    Signing(#[from] AccessTokenError),
    /// It is no master key.
    #[error("auth.master_key: {0}")]
    Master(#[from] SealError),
}

/// Access to both keys.
#[derive(Debug)]
pub(crate) struct Keys;

impl Keys {
    /// The key that signs access tokens.
    ///
    /// # Errors
    /// [`KeyError`].
    pub(crate) fn signing(config: &Config) -> Result<SigningKey, KeyError> {
        if let Some(key) = &config.auth.signing_key {
            return Ok(SigningKey::from_pem(key.reveal())?);
        }
        let path = config.data_dir.join(SIGNING_KEY_FILE);
        let text = read_or_create(&path, || {
            Ok(SigningKey::generate()?.reveal_pem().to_string())
        })?;
        Ok(SigningKey::from_pem(&text)?)
    }

    /// The key that seals provider credentials and marks ids.
    ///
    /// # Errors
    /// [`KeyError`].
    pub(crate) fn master(config: &Config) -> Result<MasterKey, KeyError> {
        if let Some(key) = &config.auth.master_key {
            return Ok(MasterKey::from_base64(key.reveal())?);
        }
        let path = config.data_dir.join(MASTER_KEY_FILE);
        let text = read_or_create(&path, || {
            Ok(MasterKey::generate()?.reveal_base64().to_string())
        })?;
        Ok(MasterKey::from_base64(text.trim())?)
    }
}

/// The file's text; made by whoever comes first, complete before it has its name, and never replaced.
fn read_or_create(
    path: &Path,
    generate: impl Fn() -> Result<String, KeyError>,
) -> Result<zeroize::Zeroizing<String>, KeyError> {
    let failed = |source| KeyError::File {
        path: path.to_path_buf(),
        source,
    };
    match read_private(path) {
        Err(KeyError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
        read => return read,
    }
    let text = zeroize::Zeroizing::new(generate()?);
    create_directory(path).map_err(failed)?;
    let beside = path.with_extension(format!("{}.new", std::process::id()));
    let create = || {
        let mut options = std::fs::OpenOptions::new();
        let mut file = options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(KEY_MODE)
            .open(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        let linked = std::fs::hard_link(&beside, path);
        std::fs::remove_file(&beside)?;
        match linked {
            // Another process was first: its key counts.
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => sync_directory(path),
        }
    };
    create().map_err(failed)?;
    read_private(path)
}

fn create_directory(path: &Path) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(DIRECTORY_MODE)
        .create(directory)
}

fn sync_directory(path: &Path) -> io::Result<()> {
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    std::fs::File::open(directory)?.sync_all()
}

fn read_private(path: &Path) -> Result<zeroize::Zeroizing<String>, KeyError> {
    let failed = |source| KeyError::File {
        path: path.to_path_buf(),
        source,
    };
    let mode = std::fs::metadata(path)
        .map_err(failed)?
        .permissions()
        .mode()
        & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyError::Exposed {
            path: path.to_path_buf(),
            mode,
        });
    }
    std::fs::read_to_string(path)
        .map(zeroize::Zeroizing::new)
        .map_err(failed)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::Sources;

    fn config(dir: &Path) -> Config {
        let sources = Sources {
            file: Some("/dev/null".into()),
            ..Sources::default()
        };
        let data_dir = dir.join("data").to_string_lossy().into_owned();
        Config::load(&sources.with_flag("data_dir", data_dir, "--data-dir")).unwrap()
    }

    #[test]
    fn keys_are_generated_once_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        let first = Keys::signing(&config).unwrap();
        assert_eq!(Keys::signing(&config).unwrap().public(), first.public());
        let master = Keys::master(&config).unwrap();
        assert_eq!(Keys::master(&config).unwrap().id(), master.id());
        for name in [SIGNING_KEY_FILE, MASTER_KEY_FILE] {
            let found = std::fs::metadata(config.data_dir.join(name)).unwrap();
            assert_eq!(found.permissions().mode() & 0o777, KEY_MODE);
        }
        let names = std::fs::read_dir(&config.data_dir).unwrap().count();
        assert_eq!(names, 2, "nothing is left beside the keys");
    }

    #[test]
    fn a_key_that_others_may_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        Keys::signing(&config).unwrap();
        let path = config.data_dir.join(SIGNING_KEY_FILE);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let error = Keys::signing(&config).unwrap_err().to_string();
        assert!(error.contains("others may read it (mode 644)"), "{error}");
    }

    #[test]
    fn a_configured_key_is_used_and_a_bad_one_is_named_without_being_shown() {
        let dir = tempfile::tempdir().unwrap();
        let generated = MasterKey::generate().unwrap();
        let with = |key: &str, text: &str| {
            let environment = vec![(format!("CLARION__AUTH__{key}"), text.to_string())];
            Config::load(&Sources {
                file: Some("/dev/null".into()),
                environment,
                flags: Vec::new(),
            })
            .unwrap()
        };
        let config = with("MASTER_KEY", &generated.reveal_base64());
        assert_eq!(Keys::master(&config).unwrap().id(), generated.id());
        assert!(!dir.path().join("data").is_dir());
        let error = Keys::master(&with("MASTER_KEY", "hunter2"))
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("auth.master_key: ") && !error.contains("hunter2"),
            "{error}"
        );
        let error = Keys::signing(&with("SIGNING_KEY", "hunter2"))
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("auth.signing_key: ") && !error.contains("hunter2"),
            "{error}"
        );
    }
}
