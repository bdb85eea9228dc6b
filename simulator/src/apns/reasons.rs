//! Every reason APNs documents, with its status, and the answers made of them. Knows nothing of why one is
//! given.
//!
//! From Apple's "Handling notification responses from APNs" and, for broadcasts, "Handling error responses
//! from APNs".

use serde_json::json;

use crate::http2::Answer;

macro_rules! reasons {
    ($($status:literal: $($name:ident)+;)+) => {
        /// A documented reason.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[allow(missing_docs)]
        pub enum Reason { $($($name,)+)+ }

        impl Reason {
            /// All of them.
            pub const ALL: &'static [Self] = &[$($(Self::$name,)+)+];

            /// As Apple writes it.
            pub fn name(self) -> &'static str {
                match self { $($(Self::$name => stringify!($name),)+)+ }
            }

            /// The status it comes with.
            pub fn status(self) -> u16 {
                match self { $($(Self::$name => $status,)+)+ }
            }
        }
    };
}

reasons! {
    400: BadCollapseId BadDeviceToken BadExpirationDate BadMessageId BadPriority BadTopic
        DeviceTokenNotForTopic DuplicateHeaders IdleTimeout InvalidPushType MissingDeviceToken MissingTopic
        PayloadEmpty TopicDisallowed FeatureNotEnabled MissingChannelId BadChannelId ChannelNotRegistered
        BadRequestParams BadRequestPayload MissingPushType CannotCreateChannelConfig;
    403: BadCertificate BadCertificateEnvironment ExpiredProviderToken Forbidden InvalidProviderToken
        MissingProviderToken UnrelatedKeyIdInToken BadEnvironmentKeyIdInToken BadEnvironmentKeyInToken
        TopicMismatch;
    404: BadPath;
    405: MethodNotAllowed;
    410: ExpiredToken Unregistered;
    413: PayloadTooLarge;
    429: TooManyProviderTokenUpdates TooManyRequests;
    500: InternalServerError;
    503: ServiceUnavailable Shutdown Service;
}

impl Reason {
    /// The reason of this name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|reason| reason.name() == name)
    }
}

/// An answer of any status: 200 is empty, everything else carries JSON with the reason, and 410 the time.
pub(crate) fn answer(status: u16, reason: &str, gone_ms: i64, apns_id: &str) -> Answer {
    let headers = vec![("apns-id", apns_id.to_owned())];
    let body = match status {
        200 => Vec::new(),
        410 => json!({ "reason": reason, "timestamp": gone_ms })
            .to_string()
            .into_bytes(),
        _ => json!({ "reason": reason }).to_string().into_bytes(),
    };
    Answer {
        status,
        headers,
        body,
    }
}
