//! Google's error answers, for every row of FCM's error table and for Google's front ends. Knows nothing of
//! why one is given.
//!
//! From "ErrorCode" and "FCM error codes" in Firebase's reference, and google.rpc's error details.

use serde_json::{Value, json};

use crate::http2::Answer;

const FCM_ERROR: &str = "type.googleapis.com/google.firebase.fcm.v1.FcmError";
const BAD_REQUEST: &str = "type.googleapis.com/google.rpc.BadRequest";
const ERROR_INFO: &str = "type.googleapis.com/google.rpc.ErrorInfo";

/// Why a message was refused: what becomes of Google's error object.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Refusal {
    pub(crate) code: u16,
    pub(crate) status: &'static str,
    /// FcmError's `errorCode`; Google leaves it out where the push service itself was not reached.
    pub(crate) error_code: Option<&'static str>,
    pub(crate) message: String,
    /// Field and description.
    pub(crate) violation: Option<Box<(String, String)>>,
    /// ErrorInfo's reason.
    pub(crate) info: Option<&'static str>,
}

impl Refusal {
    fn new(code: u16, status: &'static str, message: &str) -> Self {
        let message = message.to_owned();
        Self {
            code,
            status,
            error_code: None,
            message,
            violation: None,
            info: None,
        }
    }

    fn fcm(mut self, error_code: &'static str) -> Self {
        self.error_code = Some(error_code);
        self
    }

    fn info(mut self, reason: &'static str) -> Self {
        self.info = Some(reason);
        self
    }

    /// What the log shows: the push service's code, or else Google's status.
    pub(crate) fn reason(&self) -> &'static str {
        self.error_code.unwrap_or(self.status)
    }

    /// A field that may not be there, or may not have its value.
    pub(crate) fn field(field: impl Into<String>, message: impl Into<String>) -> Self {
        let message = message.into();
        let violation = Some(Box::new((field.into(), message.clone())));
        Self {
            violation,
            ..Self::new(400, "INVALID_ARGUMENT", &message)
        }
    }

    /// A field whose value the push service itself refuses.
    pub(crate) fn argument(field: &str, message: &str) -> Self {
        Self::field(field, message).fcm("INVALID_ARGUMENT")
    }

    pub(crate) fn bad_json() -> Self {
        Self::new(
            400,
            "INVALID_ARGUMENT",
            "Invalid JSON payload received. Unexpected token.",
        )
    }

    pub(crate) fn bad_device_token() -> Self {
        let message = "The registration token is not a valid FCM registration token";
        Self::argument("message.token", message)
    }

    pub(crate) fn unauthenticated(info: &'static str) -> Self {
        let message = "Request had invalid authentication credentials. Expected OAuth 2 access token, login \
                       cookie or other valid authentication credential. See \
                       https://developers.google.com/identity/sign-in/web/devconsole-project.";
        Self::new(401, "UNAUTHENTICATED", message).info(info)
    }

    pub(crate) fn unknown_project() -> Self {
        Self::new(404, "NOT_FOUND", "Requested entity was not found.")
    }

    pub(crate) fn permission_denied(project: &str) -> Self {
        let message = format!(
            "Permission 'cloudmessaging.messages.create' denied on resource \
             '//cloudresourcemanager.googleapis.com/projects/{project}' (or it may not exist)."
        );
        Self::new(403, "PERMISSION_DENIED", &message).info("IAM_PERMISSION_DENIED")
    }

    /// The refusal a rule names: an FCM error code, or a status of Google's.
    pub(crate) fn by_name(name: &str) -> Option<Self> {
        let entry =
            |(code, status, message): (u16, &'static str, &str)| Self::new(code, status, message);
        let gone = (404, "NOT_FOUND", "Requested entity was not found.");
        let refusal = match name {
            "INVALID_ARGUMENT" => {
                Self::argument("message", "Request contains an invalid argument.")
            }
            "UNREGISTERED" => entry(gone).fcm("UNREGISTERED"),
            "SENDER_ID_MISMATCH" => {
                entry((403, "PERMISSION_DENIED", "SenderId mismatch")).fcm("SENDER_ID_MISMATCH")
            }
            "QUOTA_EXCEEDED" => {
                let message =
                    "Quota exceeded for quota metric 'Messages' and limit 'Messages per minute'.";
                entry((429, "RESOURCE_EXHAUSTED", message)).fcm("QUOTA_EXCEEDED")
            }
            "UNAVAILABLE" => entry((503, "UNAVAILABLE", "The service is currently unavailable."))
                .fcm("UNAVAILABLE"),
            "INTERNAL" => entry((500, "INTERNAL", "Internal error encountered.")).fcm("INTERNAL"),
            "THIRD_PARTY_AUTH_ERROR" => {
                let message = "Auth error from APNS or Web Push Service";
                entry((401, "UNAUTHENTICATED", message)).fcm("THIRD_PARTY_AUTH_ERROR")
            }
            "UNSPECIFIED_ERROR" => {
                entry((500, "UNKNOWN", "Unknown error.")).fcm("UNSPECIFIED_ERROR")
            }
            "UNAUTHENTICATED" => Self::unauthenticated("ACCESS_TOKEN_EXPIRED"),
            "PERMISSION_DENIED" => Self::permission_denied("-"),
            "SERVICE_DISABLED" => {
                let message = "Firebase Cloud Messaging API has not been used in project before or it is \
                               disabled.";
                entry((403, "PERMISSION_DENIED", message)).info("SERVICE_DISABLED")
            }
            "NOT_FOUND" => entry(gone),
            "RESOURCE_EXHAUSTED" => entry((
                429,
                "RESOURCE_EXHAUSTED",
                "Resource has been exhausted (e.g. check quota).",
            )),
            _ => return None,
        };
        Some(refusal)
    }

    /// The answer as Google writes it; `code` may differ from the refusal's own where a rule says so.
    pub(crate) fn answer(&self, code: u16) -> Answer {
        let mut details = Vec::new();
        if let Some(error_code) = self.error_code {
            details.push(json!({ "@type": FCM_ERROR, "errorCode": error_code }));
        }
        if let Some((field, description)) = self.violation.as_deref() {
            let violations = json!([{ "field": field, "description": description }]);
            details.push(json!({ "@type": BAD_REQUEST, "fieldViolations": violations }));
        }
        if let Some(reason) = self.info {
            details
                .push(json!({ "@type": ERROR_INFO, "reason": reason, "domain": "googleapis.com" }));
        }
        let mut error = json!({ "code": code, "message": self.message, "status": self.status });
        if !details.is_empty() {
            error["details"] = Value::Array(details);
        }
        json_answer(code, &json!({ "error": error }))
    }
}

/// An answer in JSON.
pub(crate) fn json_answer(status: u16, body: &Value) -> Answer {
    let headers = vec![("content-type", "application/json; charset=UTF-8".to_owned())];
    Answer {
        status,
        headers,
        body: body.to_string().into_bytes(),
    }
}

/// What Google's front ends say when the service behind them did not.
pub(crate) fn html_answer(status: u16) -> Answer {
    let headers = vec![("content-type", "text/html; charset=UTF-8".to_owned())];
    let body =
        format!("<!DOCTYPE html><title>Error {status}</title><p><b>{status}.</b> That's an error.");
    Answer {
        status,
        headers,
        body: body.into_bytes(),
    }
}
