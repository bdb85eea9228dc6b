//! IBM's Identity and Access Management, as far as its clients need it: keys are exchanged for access tokens, and service
//! IDs and keys are managed. Each file is the wire form and the handlers of one noun.
//! It must not know what an access token allows.

pub(crate) mod keys;
pub(crate) mod service_ids;
pub(crate) mod token;

use clarion_auth::permission::Operation;
use http::HeaderName;

use crate::call::Call;
use crate::error::{ApiError, FieldError, Kind};
use crate::routes::Routes;

/// Longest name and description, bytes.
const NAME_MAX: usize = 255;
const DESCRIPTION_MAX: usize = 1_000;

/// Every route of the face.
#[rustfmt::skip]
pub(crate) fn routes(routes: Routes) -> Routes {
    routes
        .open::<token::__path_exchange, _, _>(token::exchange)
        .organisation::<service_ids::__path_create, _, _>(Operation::CreateServiceId, &[],
            service_ids::create)
        .organisation::<service_ids::__path_list, _, _>(Operation::ListServiceIds, &[], service_ids::list)
        .organisation::<service_ids::__path_read, _, _>(Operation::ListServiceIds, &[], service_ids::read)
        .organisation::<service_ids::__path_update, _, _>(Operation::UpdateServiceId, &[],
            service_ids::update)
        .organisation::<service_ids::__path_delete, _, _>(Operation::DeleteServiceId, &[],
            service_ids::delete)
        .organisation::<keys::__path_create, _, _>(Operation::CreateIamKey, &[], keys::create)
        .organisation::<keys::__path_list, _, _>(Operation::ListIamKeys, &[], keys::list)
        .organisation::<keys::__path_details, _, _>(Operation::ReadIamKeyDetails, &[], keys::details)
        .organisation::<keys::__path_read, _, _>(Operation::ListIamKeys, &[], keys::read)
        .organisation::<keys::__path_update, _, _>(Operation::UpdateIamKey, &[], keys::update)
        .organisation::<keys::__path_delete, _, _>(Operation::DeleteIamKey, &[], keys::delete)
        .organisation::<keys::__path_lock, _, _>(Operation::UpdateIamKey, &[], keys::lock)
        .organisation::<keys::__path_unlock, _, _>(Operation::UpdateIamKey, &[], keys::unlock)
        .organisation::<keys::__path_disable, _, _>(Operation::UpdateIamKey, &[], keys::disable)
        .organisation::<keys::__path_enable, _, _>(Operation::UpdateIamKey, &[], keys::enable)
}

/// A name within its bounds.
fn check_name(name: String) -> Result<String, ApiError> {
    let problem = if name.trim().is_empty() {
        "is blank: name it"
    } else if name.len() > NAME_MAX {
        "has more than 255 bytes"
    } else if name.chars().any(char::is_control) {
        "holds control characters: leave them out"
    } else {
        return Ok(name);
    };
    Err(body_error("name", problem))
}

/// A description within its bounds.
fn check_description(description: Option<String>) -> Result<String, ApiError> {
    let description = description.unwrap_or_default();
    if description.len() > DESCRIPTION_MAX {
        return Err(body_error("description", "has more than 1000 bytes"));
    }
    Ok(description)
}

fn body_error(field: &'static str, problem: &'static str) -> ApiError {
    ApiError::field(FieldError::value(["body".into(), field.into()], problem))
}

/// Whether `If-Match` allows a change of what has this version.
fn check_version(call: &Call, version: i64) -> Result<(), ApiError> {
    let Some(given) = call.headers.get(http::header::IF_MATCH) else {
        let loc = ["header".into(), "If-Match".into()];
        return Err(ApiError::field(FieldError::missing(loc)));
    };
    let given = given.to_str().unwrap_or_default().trim().trim_matches('"');
    if given == "*" || given == version.to_string() {
        return Ok(());
    }
    let says = "it was changed meanwhile: read it again, and send its entity_tag in If-Match";
    Err(ApiError::new(Kind::Conflict, says))
}

/// Whether a header says `true`.
fn is_set(call: &Call, name: &HeaderName) -> bool {
    let value = call.headers.get(name).and_then(|value| value.to_str().ok());
    value.is_some_and(|value| value.eq_ignore_ascii_case("true"))
}
