//! Who shall receive: audiences as asked for, entries with their ordinals, devices and resolved recipients.

use std::fmt;

use super::Selection;

/// A device's row id in its store; 0 is a device token that was given directly and is not registered.
pub type DeviceId = i64;

/// What a device runs; decides the provider.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    serde::Serialize,
    serde::Deserialize,
    minicbor::Encode,
    minicbor::Decode,
)]
#[serde(rename_all = "lowercase")]
#[cbor(index_only)]
pub enum Platform {
    /// iPhone and iPad, through APNs.
    #[n(0)]
    Ios,
    /// Apple Watch, through APNs.
    #[n(1)]
    Watchos,
    /// Android, through FCM.
    #[n(2)]
    Android,
}

impl Platform {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ios => "ios",
            Self::Watchos => "watchos",
            Self::Android => "android",
        }
    }

    /// Whether APNs delivers to it; otherwise FCM does.
    #[must_use]
    pub fn is_apple(self) -> bool {
        !matches!(self, Self::Android)
    }

    /// The platform of a word on the wire.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Ios, Self::Watchos, Self::Android]
            .into_iter()
            .find(|platform| platform.as_str() == word)
    }
}

/// Which of Apple's two environments a device token belongs to; FCM has only production.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    serde::Serialize,
    serde::Deserialize,
    minicbor::Encode,
    minicbor::Decode,
)]
#[serde(rename_all = "lowercase")]
#[cbor(index_only)]
pub enum Environment {
    /// `api.push.apple.com`
    #[n(0)]
    Production,
    /// `api.sandbox.push.apple.com`
    #[n(1)]
    Sandbox,
}

impl Environment {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Production => "production",
            Self::Sandbox => "sandbox",
        }
    }

    /// The environment of a word on the wire.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Production, Self::Sandbox]
            .into_iter()
            .find(|environment| environment.as_str() == word)
    }
}

/// Where one push goes.
#[derive(Clone, PartialEq, Eq, Hash, minicbor::Encode, minicbor::Decode)]
pub struct Address {
    /// The registered device, or 0.
    #[n(0)]
    pub device: DeviceId,
    /// Decides the provider.
    #[n(1)]
    pub platform: Platform,
    /// Decides Apple's host.
    #[n(2)]
    pub environment: Environment,
    /// Apple's hexadecimal device token or Google's registration token. Never logged.
    #[n(3)]
    pub device_token: Box<str>,
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Address")
            .field("device", &self.device)
            .field("platform", &self.platform)
            .field("environment", &self.environment)
            .finish_non_exhaustive()
    }
}

/// One accepted entry of an audience.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct Entry {
    /// Its place among the accepted entries of the notification, from 0.
    #[n(0)]
    pub ordinal: u32,
    /// Whom it means.
    #[n(1)]
    pub target: Target,
}

/// Whom an entry means.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub enum Target {
    /// All devices of a user with an id greater than `after` (0 means all; a continuation starts later).
    #[n(0)]
    User {
        /// The producer's id of the user.
        #[n(0)]
        user_id: Box<str>,
        /// Devices up to this id are done.
        #[n(1)]
        after: DeviceId,
    },
    /// One device, resolved or given directly.
    #[n(1)]
    Device(#[n(0)] Address),
}

impl Entry {
    /// (ordinal, device), the identity of a recipient; an unresolved entry stands with the negated device after
    /// which it continues, so that it never equals a resolved one.
    #[must_use]
    pub fn key(&self) -> (u32, DeviceId) {
        match &self.target {
            Target::User { after, .. } => (self.ordinal, -1 - after),
            Target::Device(address) => (self.ordinal, address.device),
        }
    }
}

/// One push to be made: an entry's ordinal and one device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    /// The entry it comes from.
    pub ordinal: u32,
    /// Where it goes.
    pub address: Address,
}

impl Recipient {
    /// (ordinal, device), unique within a notification.
    #[must_use]
    pub fn key(&self) -> (u32, DeviceId) {
        (self.ordinal, self.address.device)
    }
}

/// Whom a notification is for, as asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Audience {
    /// All devices of these users, in this order.
    Users(Vec<Box<str>>),
    /// Exactly these device tokens, registered or not.
    DeviceTokens(Vec<Address>),
    /// The registered devices that fit, as they stand when the engine comes to them; nobody lists them before.
    Selection(Selection),
}

impl Audience {
    /// How many entries it lists; a selection lists none.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Users(users) => users.len(),
            Self::DeviceTokens(addresses) => addresses.len(),
            Self::Selection(_) => 0,
        }
    }

    /// Whether nobody can be meant.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Selection(_) => false,
            Self::Users(_) | Self::DeviceTokens(_) => self.len() == 0,
        }
    }

    /// The platforms that it names: those of its device tokens or of its description; users may have any, which is `None`.
    #[must_use]
    pub fn platforms(&self) -> Option<Vec<Platform>> {
        let addresses = match self {
            Self::Users(_) => return None,
            Self::Selection(selection) if selection.platforms.is_empty() => return None,
            Self::Selection(selection) => return Some(selection.platforms.clone()),
            Self::DeviceTokens(addresses) => addresses,
        };
        let all = [Platform::Ios, Platform::Watchos, Platform::Android].into_iter();
        let is_named = |platform: &Platform| addresses.iter().any(|to| to.platform == *platform);
        Some(all.filter(is_named).collect())
    }

    /// The entries that it lists, with their ordinals.
    pub fn into_entries(self) -> Box<dyn Iterator<Item = Entry> + Send> {
        let ordinal = |index: usize| u32::try_from(index).unwrap_or(u32::MAX);
        match self {
            Self::Users(users) => Box::new(users.into_iter().enumerate().map(
                move |(index, user_id)| Entry {
                    ordinal: ordinal(index),
                    target: Target::User { user_id, after: 0 },
                },
            )),
            Self::DeviceTokens(addresses) => Box::new(addresses.into_iter().enumerate().map(
                move |(index, address)| Entry {
                    ordinal: ordinal(index),
                    target: Target::Device(address),
                },
            )),
            Self::Selection(_) => Box::new(std::iter::empty()),
        }
    }
}

/// A registered device.
#[derive(Clone, PartialEq, Eq)]
pub struct Device {
    /// Row id, monotonic.
    pub id: DeviceId,
    /// The user it belongs to.
    pub user_id: Box<str>,
    /// Decides the provider.
    pub platform: Platform,
    /// Decides Apple's host.
    pub environment: Environment,
    /// Unique within the tenant while not pruned.
    pub device_token: Box<str>,
    /// The app's version, if it said so.
    pub app_version: Option<Box<str>>,
    /// First registration.
    pub created_at: super::Millis,
    /// Last registration; the instant that a prune is compared with.
    pub registered_at: super::Millis,
    /// The provider last took a push for it (written at most once a day).
    pub last_accepted_at: Option<super::Millis>,
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Device")
            .field("id", &self.id)
            .field("platform", &self.platform)
            .finish_non_exhaustive()
    }
}

impl Device {
    /// Where a push to this device goes.
    #[must_use]
    pub fn address(&self) -> Address {
        Address {
            device: self.id,
            platform: self.platform,
            environment: self.environment,
            device_token: self.device_token.clone(),
        }
    }
}
