//! What the command line remembers between calls: the default tenant, in a file of the user's own.
//! It must not hold credentials.

use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use clarion_auth::TenantId;
use serde::{Deserialize, Serialize};

use super::error::{Error, at, invalid};

/// What is remembered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Profile {
    /// The tenant that is meant where none is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tenant: Option<TenantId>,
}

/// `$XDG_CONFIG_HOME/clarion/client.toml`, or the same below `~/.config`.
pub(crate) fn default_path() -> Option<PathBuf> {
    let absolute = |name| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let base = absolute("XDG_CONFIG_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".config")))?;
    Some(base.join("clarion").join("client.toml"))
}

impl Profile {
    /// Reads a profile; an absent one is empty.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub(crate) fn load(path: Option<&Path>) -> Result<Self, Error> {
        let Some(path) = path else {
            return Ok(Self::default());
        };
        match std::fs::read_to_string(path) {
            Ok(text) => toml::from_str(&text).map_err(|error| {
                let advice = "correct it, or run `clarion tenant use` again after deleting it";
                invalid(
                    path.display().to_string(),
                    format!("{}: {advice}", error.message()),
                )
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(at(path)(error)),
        }
    }

    /// Writes it, for its owner's eyes only, whole or not at all.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn save(&self, path: &Path) -> Result<(), Error> {
        let text =
            toml::to_string(self).map_err(|error| invalid("client.toml", error.to_string()))?;
        if let Some(parent) = path.parent() {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(parent)
                .map_err(at(parent))?;
        }
        let beside = path.with_extension(format!("{}.new", std::process::id()));
        let write = || {
            let mut options = std::fs::OpenOptions::new();
            let mut file = options
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&beside)?;
            file.write_all(text.as_bytes())?;
            std::fs::rename(&beside, path)
        };
        write().map_err(at(path))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_is_saved_is_loaded_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("clarion/client.toml");
        assert_eq!(Profile::load(Some(&path)).unwrap(), Profile::default());
        let profile = Profile {
            tenant: Some("acme".parse().unwrap()),
        };
        profile.save(&path).unwrap();
        profile.save(&path).unwrap();
        assert_eq!(Profile::load(Some(&path)).unwrap(), profile);
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        std::fs::write(&path, "tenant = \"a b\"").unwrap();
        let error = Profile::load(Some(&path)).unwrap_err().to_string();
        assert!(
            error.contains("wrong character") && error.contains("correct it"),
            "{error}"
        );
    }
}
