//! The refusals of every face, as the API's description tells them: which statuses a route can answer with, and their body.
//! It must not know why a request is refused.

use http::Method;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa::openapi::path::{Operation, Parameter, ParameterIn};
use utoipa::openapi::{
    Content, Header, ObjectBuilder, Ref, RefOr, Response, ResponseBuilder, Type,
};

use crate::routes::Line;

/// A refusal.
#[derive(ToSchema)]
#[schema(as = Problem)]
#[expect(
    dead_code,
    reason = "described only: refusals are rendered where they are made"
)]
pub(super) struct ProblemBody {
    /// `urn:clarion:problem:` and the title in lower case, with dashes.
    #[schema(rename = "type")]
    kind: String,
    title: String,
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// A sentence; with status 422 a list of what is wrong.
    detail: ProblemDetail,
    /// Under which the log knows the request.
    request_id: String,
}

/// What is wrong, in words or field by field.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "described only")]
pub(super) enum ProblemDetail {
    #[schema(title = "sentence")]
    Sentence(String),
    #[schema(title = "fields")]
    Fields(Vec<FieldProblem>),
}

/// One field that breaks a rule.
#[derive(Serialize, ToSchema)]
pub(super) struct FieldProblem {
    /// `body`, `query`, `path` or `header`, then the way to the field.
    loc: Vec<FieldStep>,
    msg: String,
    #[schema(rename = "type")]
    kind: String,
}

/// The name of a member, or the place in a list.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "described only")]
pub(super) enum FieldStep {
    #[schema(title = "name")]
    Name(String),
    #[schema(title = "place")]
    Place(u64),
}

/// What a status says on any route.
const SAYINGS: [(&str, &str); 11] = [
    (
        "400",
        "A device token or a provider credential that cannot be right.",
    ),
    ("401", "No credential, an unknown or an expired one."),
    ("403", "The credential may not do this."),
    ("404", "There is no such thing."),
    ("408", "The request did not arrive in time."),
    (
        "409",
        "Something else is there, or the first request with this Idempotency-Key is still running.",
    ),
    (
        "413",
        "The body, or what would be sent, is larger than it may be.",
    ),
    ("415", "The body is not JSON."),
    ("422", "Fields break rules; each is named."),
    (
        "429",
        "A limit of the tenant is reached; nothing was stored.",
    ),
    (
        "503",
        "It cannot be taken now; it may have been stored if the request sends something.",
    ),
];

/// Adds every refusal that a route of the native face can answer with and does not describe itself.
pub(super) fn add(operation: &mut Operation, line: &Line) {
    for status in statuses(operation, line) {
        let known = &mut operation.responses.responses;
        known
            .entry(status.to_owned())
            .or_insert_with(|| RefOr::T(refusal(status, "Problem")));
    }
}

/// A refusal of the IBM Push face.
#[derive(ToSchema)]
#[schema(as = PushProblem)]
#[expect(dead_code, reason = "described only")]
pub(super) struct PushProblemBody {
    /// A sentence.
    message: String,
    /// `FPWSE` and a number, as IBM lists them; a word where IBM has none.
    #[schema(example = "FPWSE0001E")]
    code: String,
}

/// Adds every refusal that a route of the IBM Push face can answer with and does not describe itself. API Connect's refusals of
/// an application's pair have its own shape.
pub(super) fn add_push(operation: &mut Operation, line: &Line) {
    let mut statuses = vec!["400", "401", "403", "404", "408", "429", "503"];
    if line.operation == Some(clarion_auth::permission::Operation::ReadDevice) {
        // Published clients could not tell: whoever cannot be known is known by the application's id.
        statuses = vec!["400", "401", "403", "404", "408", "500"];
    }
    if line.method != Method::GET {
        statuses.extend(["409", "413", "415"]);
    }
    for status in statuses {
        let saying = SAYINGS.iter().find(|(known, _)| *known == status);
        let saying = match status {
            "400" => "The request breaks a rule; the code says which.",
            "500" => "It cannot be answered now: try again.",
            _ => saying.map_or("", |(_, saying)| saying),
        };
        let body = Content::new(Some(Ref::from_schema_name("PushProblem")));
        // API Connect's body in place of ours.
        let body = if status == "401" {
            Content::default()
        } else {
            body
        };
        let response = ResponseBuilder::new()
            .description(saying)
            .content("application/json", body);
        let known = &mut operation.responses.responses;
        let entry = known.entry(status.to_owned());
        entry.or_insert_with(|| RefOr::T(response.build()));
    }
}

/// A refusal of the management of service IDs and keys.
#[derive(ToSchema)]
#[schema(as = IamProblem)]
#[expect(dead_code, reason = "described only")]
pub(super) struct IamProblemBody {
    /// Under which the log knows the request.
    trace: String,
    /// One.
    errors: Vec<IamProblemError>,
    #[schema(minimum = 400, maximum = 599)]
    status_code: u16,
}

/// What is wrong.
#[derive(ToSchema)]
#[expect(dead_code, reason = "described only")]
pub(super) struct IamProblemError {
    #[schema(example = "invalid_access_token")]
    code: String,
    /// A sentence.
    message: String,
}

/// A refusal of the exchange of keys for access tokens.
#[derive(ToSchema)]
#[schema(as = TokenProblem)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "described only")]
pub(super) struct TokenProblemBody {
    /// `BXNIM` and a number, as IBM lists them.
    #[schema(example = "BXNIM0415E")]
    error_code: String,
    /// A sentence.
    error_message: String,
    context: TokenProblemContext,
}

/// Where it was refused.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "described only")]
pub(super) struct TokenProblemContext {
    /// Under which the log knows the request.
    request_id: String,
    url: String,
}

/// Adds every refusal that a route of IBM's identity management can answer with. Like its other faces it knows no 422.
pub(super) fn add_iam(operation: &mut Operation, line: &Line) {
    let mut statuses = vec!["400", "401", "403", "404", "408", "429", "503"];
    if line.method != Method::GET {
        statuses.extend(["409", "413", "415"]);
    }
    describe(operation, &statuses, "IamProblem");
}

/// The same of the exchange of keys, where a refused key is a wrong value and not a missing credential.
pub(super) fn add_token(operation: &mut Operation) {
    describe(operation, &["400", "408", "413", "503"], "TokenProblem");
}

/// Adds refusals of a face that says with 400 what others say with 422.
fn describe(operation: &mut Operation, statuses: &[&'static str], schema: &str) {
    for status in statuses {
        let mut response = refusal(status, schema);
        if *status == "400" {
            "The request breaks a rule; the message says which."
                .clone_into(&mut response.description);
        }
        let known = &mut operation.responses.responses;
        let entry = known.entry((*status).to_owned());
        entry.or_insert_with(|| RefOr::T(response));
    }
}

fn statuses(operation: &Operation, line: &Line) -> Vec<&'static str> {
    let parameters = operation.parameters.iter().flatten();
    let has = |place: &ParameterIn| {
        let is_there =
            |one: &RefOr<Parameter>| matches!(one, RefOr::T(one) if one.parameter_in == *place);
        parameters.clone().any(is_there)
    };
    let mut statuses = vec!["503"];
    if line.operation.is_some() {
        statuses.extend(["401", "403", "404", "408", "422", "429"]);
    }
    if has(&ParameterIn::Header) || line.method != Method::GET {
        statuses.push("409");
    }
    if operation.request_body.is_some() {
        statuses.extend(["400", "408", "413", "415", "422"]);
    }
    statuses.sort_unstable();
    statuses.dedup();
    statuses
}

fn refusal(status: &str, schema: &str) -> Response {
    let saying = SAYINGS.iter().find(|(known, _)| *known == status);
    let description = saying.map_or("", |(_, saying)| saying);
    let body = Content::new(Some(Ref::from_schema_name(schema)));
    let mut response = ResponseBuilder::new()
        .description(description)
        .content("application/json", body);
    if ["429", "503"].contains(&status) {
        let mut wait = Header::new(ObjectBuilder::new().schema_type(Type::Integer));
        wait.description = Some("Seconds after which another try is worth it.".to_owned());
        response = response.header("Retry-After", wait);
    }
    response.build()
}
