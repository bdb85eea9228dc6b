//! For whom a push is, as written on the wire: users, or device tokens in their place.
//! It must not know what is sent, nor whether a user or a device token is known.

use clarion_engine::intake::{DeviceTokenError, check_device_token, check_user_id};
use clarion_engine::limits::DEVICE_TOKEN_MAX;
use clarion_engine::model::{Address, Audience, Environment, Platform};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::error::{ApiError, FIELD_ERRORS_MAX, FieldError, Kind, Step};
use crate::json::Object;

/// A device token that need not be registered.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct RawDeviceToken {
    /// `ios`, `watchos` or `android`.
    #[schema(value_type = String, example = "ios")]
    platform: Platform,
    /// As the app received it.
    #[schema(value_type = String, max_length = 4096)]
    token: Box<str>,
    /// `production` or `sandbox`, for Apple; the tenant's default when absent.
    #[schema(value_type = Option<String>, example = "production")]
    environment: Option<Environment>,
}

/// Whom a request names. Exactly one of the two is there.
#[derive(Debug)]
pub(crate) enum Named {
    Users(Vec<Box<str>>),
    DeviceTokens(Vec<Object<RawDeviceToken>>),
}

impl Named {
    /// Chooses between the two members of a request; `users` is the name of the first.
    pub(crate) fn choose(
        users: (&'static str, Option<Vec<Box<str>>>),
        device_tokens: Option<Vec<Object<RawDeviceToken>>>,
    ) -> Result<Self, ApiError> {
        let (field, users) = users;
        let named = match (users, device_tokens) {
            (Some(users), None) => Self::Users(users),
            (None, Some(device_tokens)) => Self::DeviceTokens(device_tokens),
            (None, None) => {
                let loc = ["body".into(), field.into()];
                return Err(ApiError::field(FieldError::missing(loc)));
            }
            (Some(_), Some(_)) => {
                let problem = format!("give {field} or device_tokens, not both");
                let loc = ["body".into(), "device_tokens".into()];
                return Err(ApiError::field(FieldError::value(loc, problem)));
            }
        };
        named.check(field)?;
        Ok(named)
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Users(users) => users.len(),
            Self::DeviceTokens(device_tokens) => device_tokens.len(),
        }
    }

    /// Whether Apple's environment must come from the tenant.
    pub(crate) fn needs_default_environment(&self) -> bool {
        match self {
            Self::Users(_) => false,
            Self::DeviceTokens(device_tokens) => {
                let lacks = |Object(raw): &Object<RawDeviceToken>| {
                    raw.platform.is_apple() && raw.environment.is_none()
                };
                device_tokens.iter().any(lacks)
            }
        }
    }

    /// The audience; `default` is the environment of Apple's device tokens that do not say theirs.
    pub(crate) fn into_audience(self, default: Environment) -> Result<Audience, ApiError> {
        match self {
            Self::Users(users) => Ok(Audience::Users(users)),
            Self::DeviceTokens(device_tokens) => {
                let addresses = device_tokens.into_iter().enumerate();
                let addresses = addresses.map(|(index, Object(raw))| {
                    let device_token = check_device_token(raw.platform, &raw.token)
                        .map_err(|error| bad_device_token("device_tokens", Some(index), error))?;
                    Ok(Address {
                        device: 0,
                        platform: raw.platform,
                        environment: environment_of(raw.platform, raw.environment, default),
                        device_token,
                    })
                });
                addresses
                    .collect::<Result<_, ApiError>>()
                    .map(Audience::DeviceTokens)
            }
        }
    }

    fn check(&self, field: &'static str) -> Result<(), ApiError> {
        let mut errors = Vec::new();
        match self {
            Self::Users(users) => {
                for (index, user_id) in users.iter().enumerate() {
                    let Err(problem) = check_user_id(user_id) else {
                        continue;
                    };
                    let mut loc = vec![Step::from("body"), field.into()];
                    if field == "user_ids" {
                        loc.push(index.into());
                    }
                    errors.push(FieldError::value(loc, problem));
                }
            }
            Self::DeviceTokens(device_tokens) => {
                for (index, Object(raw)) in device_tokens.iter().enumerate() {
                    let Some(problem) = unreadable(&raw.token) else {
                        continue;
                    };
                    let loc = [
                        "body".into(),
                        "device_tokens".into(),
                        index.into(),
                        "token".into(),
                    ];
                    errors.push(FieldError::value(loc, problem));
                }
            }
        }
        if self.len() == 0 {
            let field = match self {
                Self::Users(_) => field,
                Self::DeviceTokens(_) => "device_tokens",
            };
            let loc = ["body".into(), field.into()];
            errors.push(FieldError::value(loc, "give at least one recipient"));
        }
        if errors.is_empty() {
            Ok(())
        } else {
            Err(first(errors))
        }
    }
}

fn first(mut errors: Vec<FieldError>) -> ApiError {
    errors.truncate(FIELD_ERRORS_MAX);
    ApiError::fields(errors)
}

/// What makes a text unfit to be anybody's device token: 422, whatever the platform.
pub(crate) fn unreadable(device_token: &str) -> Option<&'static str> {
    if device_token.chars().any(char::is_control) {
        return Some("a device token holds no control characters");
    }
    (device_token.len() > DEVICE_TOKEN_MAX).then_some("a device token has at most 4096 bytes")
}

/// A text that is not a device token of its platform: 400, as documented.
pub(crate) fn bad_device_token(
    list: &'static str,
    index: Option<usize>,
    error: DeviceTokenError,
) -> ApiError {
    let detail = match index {
        Some(index) => format!("invalid token format: {list}.{index}: {error}"),
        None => format!("invalid token format: {error}"),
    };
    ApiError::new(Kind::BadValue, detail)
}

/// Google has only production; Apple's is what is said, or the tenant's.
pub(crate) fn environment_of(
    platform: Platform,
    said: Option<Environment>,
    default: Environment,
) -> Environment {
    if platform.is_apple() {
        said.unwrap_or(default)
    } else {
        Environment::Production
    }
}

/// The environment of a tenant's Apple device tokens that do not say theirs.
pub(crate) fn default_environment(use_sandbox: bool) -> Environment {
    if use_sandbox {
        Environment::Sandbox
    } else {
        Environment::Production
    }
}
