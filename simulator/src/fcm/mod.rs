//! Google's push service and its token endpoint: judges requests as strictly as Google documents. Knows
//! nothing of frames, rules or logs.
//!
//! Unlike at APNs a request carries its own authorisation, so a connection remembers nothing but how to
//! number messages.

mod errors;
mod oauth;
mod schema;

use std::borrow::Cow;

use serde_json::json;

use crate::http2::{Headers, Incoming};
use crate::receipt::Provider;
use crate::rules::Action;
use crate::verdict::{Verdict, text};
use crate::world::World;

use errors::{Refusal, html_answer, json_answer};

/// One connection's memory.
#[derive(Debug)]
pub(crate) struct Session {
    connection: u64,
    messages: u64,
}

/// A refusal, or Google's page for an address that does not exist.
enum Fault {
    Refusal(Refusal),
    NoSuchPage,
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        Self::Refusal(refusal)
    }
}

impl Session {
    pub(crate) fn new(connection: u64) -> Self {
        Self {
            connection,
            messages: 0,
        }
    }

    pub(crate) fn judge(&mut self, request: &Incoming, world: &World, now_ms: i64) -> Verdict {
        let headers = &request.headers;
        let post = headers.get(b":method") == Some(b"POST");
        if post && headers.get(b":path") == Some(b"/token") {
            return oauth::judge(request, world, now_ms);
        }
        let mut verdict = Verdict {
            provider: Provider::Fcm,
            device_token: String::new(),
            id: text(headers.get(b"x-request-id")),
            topic: String::new(),
            collapse_id: String::new(),
            status: 200,
            reason: Cow::Borrowed(""),
            answer: Default::default(),
            fresh_provider_token: false,
            logged: true,
        };
        match check(request, world, now_ms, &mut verdict) {
            Ok(()) => {
                self.messages += 1;
                let (project, connection, nth) = (&verdict.topic, self.connection, self.messages);
                let name = if verdict.logged {
                    format!("projects/{project}/messages/0:{now_ms}%{connection:08x}{nth:08x}")
                } else {
                    format!("projects/{project}/messages/fake_message_id")
                };
                verdict.answer = json_answer(200, &json!({ "name": name }));
            }
            Err(Fault::Refusal(refusal)) => refuse(&mut verdict, &refusal, refusal.code),
            Err(Fault::NoSuchPage) => {
                verdict.status = 404;
                verdict.reason = Cow::Borrowed("no such page");
                verdict.answer = html_answer(404);
            }
        }
        verdict
    }

    /// Replaces a success by what a rule says: an error code, a status of Google's, or a bare HTTP status.
    pub(crate) fn script(verdict: &mut Verdict, action: &Action) {
        if verdict.provider == Provider::Oauth {
            return oauth::script(verdict, action);
        }
        let name = action.reason.as_deref().unwrap_or_default();
        match (Refusal::by_name(name), action.status) {
            (Some(refusal), status) => refuse(verdict, &refusal, status.unwrap_or(refusal.code)),
            (None, status) => {
                let status = status.unwrap_or(500);
                verdict.status = status;
                verdict.reason = Cow::Owned(name.to_owned());
                let error = json!({ "code": status, "message": name, "status": name });
                verdict.answer = match status {
                    502 | 504 => html_answer(status),
                    _ => json_answer(status, &json!({ "error": error })),
                };
            }
        }
    }
}

fn refuse(verdict: &mut Verdict, refusal: &Refusal, code: u16) {
    verdict.status = code;
    verdict.reason = Cow::Borrowed(refusal.reason());
    verdict.answer = refusal.answer(code);
}

fn check(
    request: &Incoming,
    world: &World,
    now_ms: i64,
    verdict: &mut Verdict,
) -> Result<(), Fault> {
    let headers = &request.headers;
    let project = project(headers).ok_or(Fault::NoSuchPage)?;
    verdict.topic = project.to_owned();
    // Read before it is authorised, so that rules and the log know whom it was for.
    let (message, checked) = match request.oversized {
        true => (
            schema::Message::default(),
            Err(Refusal::argument("message", "Request is too big")),
        ),
        false => schema::read(&request.body),
    };
    verdict.device_token.clone_from(&message.target);
    verdict.collapse_id = message.collapse;
    verdict.logged = !message.validate_only;
    authorise(headers, project, world, now_ms)?;
    checked?;
    if message.to_device
        && let Some(home) = world.registry().device_project(&message.target)
        && home != project
        && let Some(refusal) = Refusal::by_name("SENDER_ID_MISMATCH")
    {
        return Err(refusal.into());
    }
    Ok(())
}

/// The project in the path of a request to send.
fn project(headers: &Headers) -> Option<&str> {
    let path = std::str::from_utf8(headers.get(b":path")?).ok()?;
    let path = path.split_once('?').map_or(path, |(path, _)| path);
    let project = path
        .strip_prefix("/v1/projects/")?
        .strip_suffix("/messages:send")?;
    let good =
        headers.get(b":method") == Some(b"POST") && !project.is_empty() && !project.contains('/');
    good.then_some(project)
}

fn authorise(headers: &Headers, project: &str, world: &World, now_ms: i64) -> Result<(), Refusal> {
    let authorization = headers
        .get(b"authorization")
        .and_then(|value| std::str::from_utf8(value).ok())
        .ok_or_else(|| Refusal::unauthenticated("CREDENTIALS_MISSING"))?;
    let access_token = match authorization.split_once(' ') {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("bearer") && !rest.is_empty() => rest,
        _ => return Err(Refusal::unauthenticated("CREDENTIALS_MISSING")),
    };
    let registry = world.registry();
    let granted = registry.granted(access_token);
    let any = world.options().accept_any_credential;
    let granted_project = match granted {
        Some(grant) if grant.expires_ms > now_ms => grant.project.as_deref(),
        None if any => None,
        _ => return Err(Refusal::unauthenticated("ACCESS_TOKEN_EXPIRED")),
    };
    if !any && !registry.knows_project(project) {
        return Err(Refusal::unknown_project());
    }
    if granted_project.is_some_and(|granted| granted != project) {
        return Err(Refusal::permission_denied(project));
    }
    Ok(())
}
