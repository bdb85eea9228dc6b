//! A secret from the configuration: readable only where it is asked for by name, wiped when dropped.
//! It must not know what it is for.

use std::fmt;

use zeroize::Zeroizing;

/// What is shown in place of a secret.
pub(crate) const MASK: &str = "********";

/// A secret text.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes a text out of sight.
    pub(crate) fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text itself.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}
