//! For whom a push is, as written on the wire: users, or device tokens in their place.
//! It must not know what is sent, nor whether a user or a device token is known.

use serde::Deserialize;
use utoipa::ToSchema;

use super::json::Object;
use super::problem::{PROBLEMS_MAX, Problem, ProblemKind, Step};
use super::selection::SelectedAudience;
use crate::intake::{check_device_token, check_user_id};
use crate::limits::DEVICE_TOKEN_MAX;
use crate::model::{Address, Audience, Environment, Platform, Selection};

/// A device token that need not be registered.
#[derive(Deserialize, ToSchema)]
pub struct RawDeviceToken {
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

impl std::fmt::Debug for RawDeviceToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RawDeviceToken")
            .field("platform", &self.platform)
            .field("environment", &self.environment)
            .finish_non_exhaustive()
    }
}

/// Whom a request names. Exactly one of them is there.
#[derive(Debug)]
pub enum Named {
    /// All devices of these users.
    Users(Vec<Box<str>>),
    /// Exactly these device tokens.
    DeviceTokens(Vec<Object<RawDeviceToken>>),
    /// Whoever fits.
    Selection(Selection),
}

impl Named {
    /// Chooses between the two members of a request; `users` is the name of the first.
    ///
    /// # Errors
    /// At most [`PROBLEMS_MAX`] problems.
    pub fn choose(
        users: (&'static str, Option<Vec<Box<str>>>),
        device_tokens: Option<Vec<Object<RawDeviceToken>>>,
    ) -> Result<Self, Vec<Problem>> {
        let (field, users) = users;
        let named = match (users, device_tokens) {
            (Some(users), None) => Self::Users(users),
            (None, Some(device_tokens)) => Self::DeviceTokens(device_tokens),
            (None, None) => return Err(vec![Problem::missing([field.into()])]),
            (Some(_), Some(_)) => {
                let problem = format!("give {field} or device_tokens, not both");
                return Err(vec![Problem::value(["device_tokens".into()], problem)]);
            }
        };
        let problems = named.problems(field);
        if problems.is_empty() {
            Ok(named)
        } else {
            Err(problems)
        }
    }

    /// As [`Named::choose`], where an audience may be described in place of both.
    ///
    /// # Errors
    /// At most [`PROBLEMS_MAX`] problems.
    pub fn choose_or_select(
        users: (&'static str, Option<Vec<Box<str>>>),
        device_tokens: Option<Vec<Object<RawDeviceToken>>>,
        audience: Option<Object<SelectedAudience>>,
    ) -> Result<Self, Vec<Problem>> {
        let Some(Object(audience)) = audience else {
            return Self::choose(users, device_tokens);
        };
        if users.1.is_some() || device_tokens.is_some() {
            let problem = format!(
                "give {}, device_tokens or audience, only one of them",
                users.0
            );
            return Err(vec![Problem::value(["audience".into()], problem)]);
        }
        audience.check().map(Self::Selection)
    }

    /// How many entries it lists.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Users(users) => users.len(),
            Self::DeviceTokens(device_tokens) => device_tokens.len(),
            Self::Selection(_) => 0,
        }
    }

    /// Whether nobody is named.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !matches!(self, Self::Selection(_)) && self.len() == 0
    }

    /// Whether Apple's environment must come from the tenant.
    #[must_use]
    pub fn needs_default_environment(&self) -> bool {
        match self {
            Self::Users(_) | Self::Selection(_) => false,
            Self::DeviceTokens(device_tokens) => {
                let lacks = |Object(raw): &Object<RawDeviceToken>| {
                    raw.platform.is_apple() && raw.environment.is_none()
                };
                device_tokens.iter().any(lacks)
            }
        }
    }

    /// The audience; `default` is the environment of Apple's device tokens that do not say theirs.
    ///
    /// # Errors
    /// At most [`PROBLEMS_MAX`] texts that are no device tokens of their platforms.
    pub fn into_audience(self, default: Environment) -> Result<Audience, Vec<Problem>> {
        let device_tokens = match self {
            Self::Users(users) => return Ok(Audience::Users(users)),
            Self::Selection(selection) => return Ok(Audience::Selection(selection)),
            Self::DeviceTokens(device_tokens) => device_tokens,
        };
        let mut addresses = Vec::with_capacity(device_tokens.len());
        let mut problems = Vec::new();
        for (index, Object(raw)) in device_tokens.into_iter().enumerate() {
            match check_device_token(raw.platform, &raw.token) {
                Ok(device_token) => addresses.push(Address {
                    device: 0,
                    platform: raw.platform,
                    environment: environment_of(raw.platform, raw.environment, default),
                    device_token,
                }),
                Err(error) if problems.len() < PROBLEMS_MAX => {
                    let path = ["device_tokens".into(), index.into(), "token".into()];
                    let kind = ProblemKind::DeviceToken;
                    problems.push(Problem::new(kind, path, error.to_string()));
                }
                Err(_) => {}
            }
        }
        if problems.is_empty() {
            Ok(Audience::DeviceTokens(addresses))
        } else {
            Err(problems)
        }
    }

    fn problems(&self, field: &'static str) -> Vec<Problem> {
        let (list, mut problems): (_, Vec<Problem>) = match self {
            Self::Users(users) => {
                let checked = users.iter().enumerate().filter_map(|(index, user_id)| {
                    let problem = check_user_id(user_id).err()?;
                    let mut path = vec![Step::from(field)];
                    if field == "user_ids" {
                        path.push(index.into());
                    }
                    Some(Problem::value(path, problem))
                });
                (field, checked.take(PROBLEMS_MAX).collect())
            }
            Self::DeviceTokens(device_tokens) => {
                let listed = device_tokens.iter().enumerate();
                let checked = listed.filter_map(|(index, Object(raw))| {
                    let problem = unreadable(&raw.token)?;
                    let path = ["device_tokens".into(), index.into(), "token".into()];
                    Some(Problem::value(path, problem))
                });
                ("device_tokens", checked.take(PROBLEMS_MAX).collect())
            }
            Self::Selection(_) => ("audience", Vec::new()),
        };
        if self.is_empty() {
            problems.push(Problem::value([list.into()], "give at least one recipient"));
        }
        problems
    }
}

/// What makes a text unfit to be anybody's device token, whatever the platform.
#[must_use]
pub fn unreadable(device_token: &str) -> Option<&'static str> {
    if device_token.chars().any(char::is_control) {
        return Some("a device token holds no control characters");
    }
    (device_token.len() > DEVICE_TOKEN_MAX).then_some("a device token has at most 4096 bytes")
}

/// Google has only production; Apple's is what is said, or the tenant's.
#[must_use]
pub fn environment_of(
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
#[must_use]
pub fn default_environment(use_sandbox: bool) -> Environment {
    if use_sandbox {
        Environment::Sandbox
    } else {
        Environment::Production
    }
}
