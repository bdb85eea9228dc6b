//! The values in effect, for people: with their origins, secrets masked.
//! It must not know what a value means.

use super::layers::Settings;
use super::reader::FILE_SUFFIX;
use super::secret::MASK;

/// One key as it may be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shown {
    /// Full name, as in `engine.threads`.
    pub(crate) key: String,
    /// As TOML; a secret that is set is masked.
    pub(crate) value: String,
    /// `default`, `file:line`, a variable or a flag.
    pub(crate) origin: String,
}

/// A key is a secret when it has a `_file` twin.
fn is_secret(settings: &Settings, key: &str) -> bool {
    settings.contains_key(&format!("{key}{FILE_SUFFIX}"))
}

/// A URL without its password, a secret as a mask, an empty one as it is.
fn mask(value: &toml::Value) -> String {
    let text = value.as_str().unwrap_or_default();
    let is_plain = text.is_empty() || (text.starts_with("sqlite://") && !text.contains(['@', '?']));
    if is_plain {
        value.to_string()
    } else {
        format!("{MASK:?}")
    }
}

/// Every key, ordered by name; those without a section first.
pub(super) fn show(settings: &Settings) -> Vec<Shown> {
    let mut shown: Vec<Shown> = settings
        .iter()
        .map(|(key, setting)| Shown {
            key: key.clone(),
            value: if is_secret(settings, key) {
                mask(&setting.value)
            } else {
                setting.value.to_string()
            },
            origin: setting.origin.to_string(),
        })
        .collect();
    shown.sort_by_key(|one| one.key.contains('.'));
    shown
}
