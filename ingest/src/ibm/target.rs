//! For whom a message is: from the lists that its sender wrote to an audience.
//! It must not know what the message says.

use clarion_engine::intake::check_user_id;
use clarion_engine::intake::request::{Problem, Step};
use clarion_engine::limits::JOB_ENTRIES_MAX;
use clarion_engine::model::{Audience, Lane, Platform, Selection};

use super::devices::{PLATFORMS, platform_of};
use super::wire::TargetBody;
use crate::call::TenantCall;
use crate::error::{ApiError, Kind};

/// A tag that every device subscribes to, without being asked.
pub(super) const EVERYBODY: &str = "Push.ALL";

/// Whom a message names.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Whom {
    /// All devices of these users.
    Users(Vec<Box<str>>),
    /// These devices, of these platforms; of all when there are none.
    Devices(Vec<Box<str>>, Vec<Platform>),
    /// Devices that subscribe to any of these tags, of these platforms; empty lists mean all.
    Selection(Vec<Box<str>>, Vec<Platform>),
}

impl Whom {
    /// Reads the lists.
    ///
    /// # Errors
    /// An empty list (which would else be everybody), lists that exclude each other, a platform that is none.
    pub(super) fn of(target: Option<TargetBody>) -> Result<Self, Problem> {
        let target = target.unwrap_or_default();
        let list = |name: &'static str, list: Option<Vec<Box<str>>>| match list {
            Some(list) if list.is_empty() => {
                let says = "is empty: name somebody, or leave the target out to mean everybody";
                Err(Problem::value(place(name), says))
            }
            list => Ok(list),
        };
        let users = list("userIds", target.user_ids.map(|list| list.0))?;
        let devices = list("deviceIds", target.device_ids.map(|list| list.0))?;
        let tags = list("tagNames", target.tag_names.map(|list| list.0))?;
        let platforms = list("platforms", target.platforms.map(|list| list.0))?;
        let lists = [users.is_some(), devices.is_some(), tags.is_some()];
        if lists.into_iter().filter(|is_there| *is_there).count() > 1
            || (users.is_some() && platforms.is_some())
        {
            let says = "give one of userIds, deviceIds, tagNames and platforms; platforms also go with \
                        deviceIds or tagNames";
            return Err(Problem::value(["target".into()], says));
        }
        let platforms = read_platforms(platforms.unwrap_or_default())?;
        Ok(match (users, devices) {
            (Some(users), _) => {
                check_users(&users)?;
                Self::Users(users)
            }
            (None, Some(devices)) => Self::Devices(devices, platforms),
            (None, None) => {
                let tags = tags.unwrap_or_default();
                let everybody = tags.iter().any(|tag| &**tag == EVERYBODY);
                Self::Selection(if everybody { Vec::new() } else { tags }, platforms)
            }
        })
    }

    /// The lane that a message for these takes.
    pub(super) fn lane(&self) -> Lane {
        match self {
            Self::Users(list) | Self::Devices(list, _) if list.len() <= JOB_ENTRIES_MAX => {
                Lane::Transactional
            }
            _ => Lane::Bulk,
        }
    }

    /// The audience as the engine knows it.
    ///
    /// # Errors
    /// 404 for tags and devices that are not there, 400 when nobody is registered at all.
    pub(super) async fn find(self, call: &TenantCall) -> Result<Audience, ApiError> {
        let store = &call.app.store;
        match self {
            Self::Users(users) => Ok(Audience::Users(users)),
            Self::Devices(ids, platforms) => {
                let found = store.installations_by_id(&call.tenant, &ids).await?;
                let is_meant =
                    |platform: Platform| platforms.is_empty() || platforms.contains(&platform);
                let addresses: Vec<_> = found
                    .into_iter()
                    .filter(|one| is_meant(one.device.platform))
                    .map(|one| one.device.address())
                    .collect();
                if addresses.is_empty() {
                    return Err(missing("deviceIds"));
                }
                Ok(Audience::DeviceTokens(addresses))
            }
            Self::Selection(tags, platforms) => {
                for tag in &tags {
                    if store.tag(&call.tenant, tag).await?.is_none() {
                        return Err(missing("tagNames"));
                    }
                }
                if store.devices(&call.tenant, None, 0, 1).await?.is_empty() {
                    let says = "Bad Request - No devices are registered: nobody would get this";
                    return Err(ApiError::new(Kind::BadValue, says).code("FPWSE0009E"));
                }
                Ok(Audience::Selection(Selection {
                    tags,
                    platforms,
                    ..Selection::default()
                }))
            }
        }
    }
}

fn read_platforms(letters: Vec<Box<str>>) -> Result<Vec<Platform>, Problem> {
    let mut platforms = Vec::new();
    for (index, letter) in letters.iter().enumerate() {
        let Some(platform) = platform_of(letter) else {
            let at: [Step; 3] = ["target".into(), "platforms".into(), index.into()];
            return Err(Problem::value(at, PLATFORMS));
        };
        let named = match platform {
            // One letter for all of Apple's.
            Platform::Ios => [Platform::Ios, Platform::Watchos].as_slice(),
            _ => &[Platform::Android],
        };
        for platform in named {
            if !platforms.contains(platform) {
                platforms.push(*platform);
            }
        }
    }
    Ok(platforms)
}

fn check_users(users: &[Box<str>]) -> Result<(), Problem> {
    for (index, user) in users.iter().enumerate() {
        if let Err(says) = check_user_id(user) {
            let at: [Step; 3] = ["target".into(), "userIds".into(), index.into()];
            return Err(Problem::value(at, says));
        }
    }
    Ok(())
}

fn place(name: &'static str) -> [Step; 2] {
    ["target".into(), name.into()]
}

/// The documented sentence.
pub(super) fn missing(list: &'static str) -> ApiError {
    let says = format!(
        "Not Found - Targeted resource '{list}' does not exist. Check the '{list}' parameter"
    );
    ApiError::new(Kind::NotFound, says)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(target: Value) -> Result<Whom, Problem> {
        Whom::of(Some(serde_json::from_value(target).unwrap()))
    }

    #[test]
    fn each_list_means_whom_it_names_and_nothing_means_everybody() {
        let all = [Platform::Ios, Platform::Watchos];
        for (target, whom) in [
            (json!({}), Whom::Selection(vec![], vec![])),
            (
                json!({"userIds": null, "platform": "A"}),
                Whom::Selection(vec![], vec![]),
            ),
            (json!({"userIds": ["u"]}), Whom::Users(vec!["u".into()])),
            (
                json!({"deviceIds": ["d"]}),
                Whom::Devices(vec!["d".into()], vec![]),
            ),
            (
                json!({"platforms": ["A", "A"]}),
                Whom::Selection(vec![], all.to_vec()),
            ),
            (
                json!({"tagNames": ["t"], "platforms": ["g"]}),
                Whom::Selection(vec!["t".into()], vec![Platform::Android]),
            ),
            (
                json!({"tagNames": ["t", "Push.ALL"]}),
                Whom::Selection(vec![], vec![]),
            ),
        ] {
            assert_eq!(read(target.clone()).unwrap(), whom, "{target}");
        }
        assert_eq!(Whom::of(None).unwrap(), Whom::Selection(vec![], vec![]));
    }

    #[test]
    fn what_would_reach_others_than_meant_is_refused() {
        for (target, at) in [
            (json!({"userIds": []}), "target.userIds"),
            (json!({"tagNames": []}), "target.tagNames"),
            (json!({"platforms": []}), "target.platforms"),
            (json!({"userIds": ["u"], "tagNames": ["t"]}), "target"),
            (json!({"userIds": ["u"], "platforms": ["A"]}), "target"),
            (json!({"platforms": ["WEB_CHROME"]}), "target.platforms.0"),
            (json!({"userIds": ["u", ""]}), "target.userIds.1"),
        ] {
            assert_eq!(read(target.clone()).unwrap_err().way(), at, "{target}");
        }
    }

    #[test]
    fn few_named_recipients_go_first() {
        let users = |count: usize| Whom::Users(vec!["u".into(); count]);
        assert_eq!(users(JOB_ENTRIES_MAX).lane(), Lane::Transactional);
        assert_eq!(users(JOB_ENTRIES_MAX + 1).lane(), Lane::Bulk);
        assert_eq!(Whom::Selection(vec![], vec![]).lane(), Lane::Bulk);
    }
}
