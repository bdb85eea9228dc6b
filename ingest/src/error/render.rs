//! The body of a refusal in the shape of each face, and the statuses and codes that a face has of its own.
//! It must not know why something was refused.

use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Serialize;
use serde_json::{Value, json};

use super::{ApiError, FieldError, Kind};
use crate::face::Face;

impl ApiError {
    /// The answer in the shape of a face, with the id under which the log knows the request.
    pub(crate) fn render(&self, face: Face, request_id: &str) -> Response {
        let face = self.face.unwrap_or(face);
        let status = self.status_on(face);
        let body = match face {
            Face::Notify => self.problem(status, request_id),
            Face::IbmPush => {
                to_bytes(&json!({"message": self.sentence(), "code": self.push_code()}))
            }
            Face::Iam => to_bytes(&json!({
                "trace": request_id,
                "errors": [{"code": self.iam_code(), "message": self.sentence()}],
                "status_code": status.as_u16(),
            })),
            Face::IamToken => to_bytes(&json!({
                "errorCode": self.token_code(),
                "errorMessage": self.sentence(),
                "context": {"requestId": request_id, "url": "/identity/token"},
            })),
            Face::Gateway => to_bytes(&json!({
                // A string, as API Connect writes it.
                "httpCode": status.as_str(),
                "httpMessage": status.canonical_reason().unwrap_or_default(),
                "moreInformation": self.sentence(),
            })),
        };
        let mut response = (status, body).into_response();
        self.head(face, response.headers_mut());
        response
    }

    fn head(&self, face: Face, headers: &mut HeaderMap) {
        let json = HeaderValue::from_static("application/json");
        headers.insert(header::CONTENT_TYPE, json);
        if let Some(after) = self.retry_after {
            let seconds = after.as_millis().div_ceil(1000).max(1);
            headers.insert(header::RETRY_AFTER, whole(seconds));
        }
        if self.kind == Kind::Unauthenticated && face != Face::Gateway {
            let bearer = HeaderValue::from_static("Bearer");
            headers.insert(header::WWW_AUTHENTICATE, bearer);
        }
    }

    /// Its status on a face: IBM's know no 422.
    pub(crate) fn status_on(&self, face: Face) -> StatusCode {
        match (face, self.kind) {
            (Face::Notify, _) => self.status(),
            (_, Kind::Invalid) => StatusCode::BAD_REQUEST,
            _ => self.status(),
        }
    }

    /// Problem-shaped, with the documented `detail`.
    fn problem(&self, status: StatusCode, request_id: &str) -> Vec<u8> {
        let (_, _, title) = self.row();
        to_bytes(&Problem {
            r#type: format!(
                "urn:clarion:problem:{}",
                title.to_ascii_lowercase().replace(' ', "-")
            ),
            title,
            status: status.as_u16(),
            detail: match self.kind {
                Kind::Invalid => Detail::Fields(&self.fields),
                _ => Detail::Text(&self.detail),
            },
            request_id,
        })
    }

    /// The refusal in one sentence; of several fields, the first.
    fn sentence(&self) -> String {
        let Some(field) = self.fields.first() else {
            return self.detail.clone().into_owned();
        };
        let way: Vec<String> = field.loc.iter().map(said).collect();
        format!("{}: {}", way.join("."), field.msg)
    }

    /// The code by which clients of IBM's push API know it. IBM documents none for a refused credential, and the
    /// statuses that it does not know at all have none either: these carry their title.
    fn push_code(&self) -> &'static str {
        let malformed = self.fields.iter().any(|field| field.kind == "json_invalid");
        self.code.unwrap_or(match self.kind {
            Kind::NotFound => "FPWSE0001E",
            Kind::Conflict => "FPWSE0002E",
            Kind::Invalid if malformed => "FPWSE0004E",
            Kind::UnsupportedMediaType => "FPWSE0004E",
            Kind::Invalid | Kind::BadValue | Kind::TooLarge => "FPWSE0005E",
            Kind::Internal => "FPWSE0010E",
            Kind::LimitReached | Kind::Unavailable | Kind::RequestTimeout => "FPWSE0025E",
            Kind::Unauthenticated => "UNAUTHORIZED",
            Kind::Forbidden => "FORBIDDEN",
            Kind::MethodNotAllowed => "METHOD_NOT_ALLOWED",
        })
    }

    fn iam_code(&self) -> &'static str {
        self.code.unwrap_or(match self.kind {
            Kind::Unauthenticated => "invalid_access_token",
            Kind::Forbidden => "insufficent_permissions",
            Kind::NotFound => "not_found",
            Kind::Conflict => "conflict",
            Kind::LimitReached => "too_many_requests",
            Kind::Internal => "internal_server_error",
            Kind::Unavailable | Kind::RequestTimeout => "service_unavailable",
            Kind::MethodNotAllowed => "method_not_allowed",
            Kind::Invalid | Kind::BadValue | Kind::TooLarge | Kind::UnsupportedMediaType => {
                "invalid_request"
            }
        })
    }

    fn token_code(&self) -> &'static str {
        self.code.unwrap_or(match self.kind {
            Kind::Invalid | Kind::BadValue | Kind::TooLarge | Kind::UnsupportedMediaType => {
                "BXNIM0109E"
            }
            Kind::Unauthenticated | Kind::Forbidden => "BXNIM0415E",
            Kind::NotFound | Kind::MethodNotAllowed | Kind::Conflict => "BXNIM0101E",
            Kind::LimitReached => "BXNIM0139E",
            Kind::Internal | Kind::Unavailable | Kind::RequestTimeout => "BXNIM0100E",
        })
    }
}

fn said(step: &super::Step) -> String {
    match serde_json::to_value(step) {
        Ok(Value::String(name)) => name,
        Ok(other) => other.to_string(),
        Err(_) => String::new(),
    }
}

fn whole(seconds: u128) -> HeaderValue {
    // Digits always make a header value.
    HeaderValue::from_str(&seconds.to_string()).unwrap_or(HeaderValue::from_static("1"))
}

fn to_bytes<T: Serialize>(body: &T) -> Vec<u8> {
    // Plain strings and numbers always serialise.
    serde_json::to_vec(body).unwrap_or_default()
}

#[derive(Serialize)]
struct Problem<'a> {
    r#type: String,
    title: &'static str,
    status: u16,
    detail: Detail<'a>,
    request_id: &'a str,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Detail<'a> {
    Text(&'a str),
    Fields(&'a [FieldError]),
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    async fn shown(error: ApiError, face: Face) -> (u16, Value) {
        let response = error.render(face, "r1");
        let status = response.status().as_u16();
        let body = axum::body::to_bytes(response.into_body(), 4096).await;
        (status, serde_json::from_slice(&body.unwrap()).unwrap())
    }

    #[tokio::test]
    async fn each_face_has_its_documented_shape() {
        let refused = || ApiError::new(Kind::Unauthenticated, "no valid credential");
        let (status, body) = shown(refused(), Face::IbmPush).await;
        let expected = json!({"message": "no valid credential", "code": "UNAUTHORIZED"});
        assert_eq!((status, body), (401, expected));
        let (status, body) = shown(refused(), Face::Iam).await;
        let errors = json!([{"code": "invalid_access_token", "message": "no valid credential"}]);
        let expected = json!({"trace": "r1", "errors": errors, "status_code": 401});
        assert_eq!((status, body), (401, expected));
        let unknown = ApiError::new(Kind::BadValue, "Provided API key could not be found.");
        let (status, body) = shown(unknown.code("BXNIM0415E"), Face::IamToken).await;
        let context = json!({"requestId": "r1", "url": "/identity/token"});
        let says = "Provided API key could not be found.";
        let expected = json!({"errorCode": "BXNIM0415E", "errorMessage": says, "context": context});
        assert_eq!((status, body), (400, expected));
        let client = ApiError::new(Kind::Unauthenticated, "Client id not registered.");
        let (status, body) = shown(client.shaped(Face::Gateway), Face::IbmPush).await;
        let says = "Client id not registered.";
        let expected =
            json!({"httpCode": "401", "httpMessage": "Unauthorized", "moreInformation": says});
        assert_eq!((status, body), (401, expected));
    }

    #[tokio::test]
    async fn a_wrong_field_is_a_400_with_its_place_on_the_faces_that_know_no_422() {
        let wrong = || {
            let loc = ["body".into(), "message".into(), "alert".into()];
            ApiError::field(FieldError::missing(loc))
        };
        let (status, body) = shown(wrong(), Face::IbmPush).await;
        assert_eq!((status, &body["code"]), (400, &json!("FPWSE0005E")));
        assert_eq!(body["message"], "body.message.alert: Field required");
        assert_eq!(shown(wrong(), Face::Iam).await.0, 400);
        assert_eq!(shown(wrong(), Face::Notify).await.0, 422);
    }
}
