//! The values in effect, for people: with their origins, secrets masked.
//! It must not know what a value means.

use super::layers::{Setting, Settings};
use super::reader::FILE_SUFFIX;
use super::secret::MASK;

/// One key as it may be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shown {
    /// Full name, as in `engine.threads`.
    pub(crate) key: String,
    /// As TOML; a secret that is set is masked.
    pub(crate) value: String,
    /// The same as JSON.
    pub(crate) json: serde_json::Value,
    /// `default`, `file:line`, a variable or a flag.
    pub(crate) origin: String,
}

/// A key is a secret when it has a `_file` twin.
fn is_secret(settings: &Settings, key: &str) -> bool {
    settings.contains_key(&format!("{key}{FILE_SUFFIX}"))
}

/// A secret as a mask; nothing is hidden of an empty one, nor of the path of an embedded database.
fn mask(value: &toml::Value) -> toml::Value {
    let text = value.as_str().unwrap_or_default();
    let is_plain = text.is_empty() || (text.starts_with("sqlite://") && !text.contains(['@', '?']));
    if is_plain {
        value.clone()
    } else {
        toml::Value::from(MASK)
    }
}

/// Every key, ordered by name; those without a section first.
pub(super) fn show(settings: &Settings) -> Vec<Shown> {
    let one = |key: &String, setting: &Setting| {
        let value = if is_secret(settings, key) {
            mask(&setting.value)
        } else {
            setting.value.clone()
        };
        Shown {
            key: key.clone(),
            value: value.to_string(),
            json: serde_json::to_value(value).unwrap_or_default(),
            origin: setting.origin.to_string(),
        }
    };
    let mut shown: Vec<Shown> = settings
        .iter()
        .map(|(key, setting)| one(key, setting))
        .collect();
    shown.sort_by_key(|one| one.key.contains('.'));
    shown
}
