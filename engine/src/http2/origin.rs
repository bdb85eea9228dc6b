//! Where a connection goes: scheme, host and port.
//! It must not know which provider lives there.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use http::uri::{Authority, Uri};

/// Default port of https.
const HTTPS_PORT: u16 = 443;

/// Why a text is not an origin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OriginError {
    /// It does not parse as a URL.
    #[error("not a URL: write https://host or https://host:port")]
    Malformed,
    /// Providers are only spoken to over TLS.
    #[error("the scheme must be https")]
    Scheme,
    /// It has a path, a query or user information.
    #[error("only scheme, host and port are wanted: remove the rest")]
    Extra,
}

/// An https origin.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    host: Arc<str>,
    port: u16,
    authority: Authority,
}

impl Origin {
    /// The host name or address, for name resolution and certificate verification.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The TCP port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What `:authority` says; the port only if it is not 443.
    #[must_use]
    pub fn authority(&self) -> &Authority {
        &self.authority
    }
}

impl FromStr for Origin {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Self, OriginError> {
        let uri: Uri = text.parse().map_err(|_| OriginError::Malformed)?;
        if uri.scheme_str() != Some("https") {
            return Err(OriginError::Scheme);
        }
        let given = uri.authority().ok_or(OriginError::Malformed)?;
        let bare = matches!(uri.path(), "" | "/") && uri.query().is_none();
        if !bare || given.as_str().contains('@') {
            return Err(OriginError::Extra);
        }
        let port = given.port_u16().unwrap_or(HTTPS_PORT);
        let text = match port {
            HTTPS_PORT => given.host().to_owned(),
            port => format!("{}:{port}", given.host()),
        };
        let host = given.host().trim_start_matches('[').trim_end_matches(']');
        Ok(Self {
            host: Arc::from(host),
            port,
            authority: text.parse().map_err(|_| OriginError::Malformed)?,
        })
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}", self.authority)
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let plain: Origin = "https://api.push.apple.com".parse().unwrap();
        assert_eq!((plain.host(), plain.port()), ("api.push.apple.com", 443));
        assert_eq!(plain.authority().as_str(), "api.push.apple.com");
        let local: Origin = "https://[::1]:2197/".parse().unwrap();
        assert_eq!((local.host(), local.port()), ("::1", 2197));
        assert_eq!(local.authority().as_str(), "[::1]:2197");
        let default_port: Origin = "https://a.example:443".parse().unwrap();
        assert_eq!(default_port.authority().as_str(), "a.example");
    }

    #[test]
    fn everything_else_is_refused() {
        let cases = [
            ("http://a.example", OriginError::Scheme),
            ("a.example:443", OriginError::Scheme),
            ("https://a.example/path", OriginError::Extra),
            ("https://a.example?x", OriginError::Extra),
            ("https://me@a.example", OriginError::Extra),
            ("", OriginError::Malformed),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse::<Origin>().unwrap_err(), expected, "{text}");
        }
    }
}
