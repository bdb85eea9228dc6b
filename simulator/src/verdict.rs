//! What a strict provider says to one request, before any rule has its word. Knows nothing of providers'
//! details.

use std::borrow::Cow;

use crate::http2::Answer;
use crate::receipt::Provider;

/// The judgement of one request.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) provider: Provider,
    pub(crate) device_token: String,
    pub(crate) id: String,
    pub(crate) topic: String,
    pub(crate) collapse_id: String,
    pub(crate) status: u16,
    /// Empty for a success.
    pub(crate) reason: Cow<'static, str>,
    pub(crate) answer: Answer,
    /// The request was signed with an APNs provider token never seen before.
    pub(crate) fresh_provider_token: bool,
    /// A push: it is written to the receive log.
    pub(crate) logged: bool,
}

impl Verdict {
    pub(crate) fn success(&self) -> bool {
        self.status == 200
    }
}

/// Text from a header, whatever is in it.
pub(crate) fn text(value: Option<&[u8]>) -> String {
    value
        .map(|value| String::from_utf8_lossy(value).into_owned())
        .unwrap_or_default()
}
