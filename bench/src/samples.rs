//! What is measured with: one notification, its recipients, and routes with freshly made credentials.
//! It must not know who measures what.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use clarion_auth::MacKey;
use clarion_engine::model::{
    Address, Content, Entry, Environment, Job, Lane, Millis, Notification, NotificationId, Options,
    Platform, Recipient, Target, TenantId,
};
use clarion_engine::provider::{Credential, Route, apns, fcm};
use clarion_simulator::{ApnsTestKey, FcmTestAccount};
use http::HeaderValue;

/// The instant of all measurements, Unix milliseconds: nothing here reads the clock.
pub const NOW: Millis = 1_790_000_000_000;

/// Entries of a full job.
pub const ENTRIES: u32 = 500;

/// Characters of Google's registration tokens, behind their colon.
const FCM_TAIL: usize = 139;

/// The tenant.
///
/// # Errors
/// When the name were not one.
pub fn tenant() -> Result<TenantId> {
    tenant_number(0)
}

/// One of many tenants.
///
/// # Errors
/// When the name were not one.
pub fn tenant_number(number: u32) -> Result<TenantId> {
    Ok(format!("shop-{number:05}").parse()?)
}

/// An alert of the size that shops send: title, body, badge, sound and two data fields.
///
/// # Errors
/// When the tenant's name were not one.
pub fn notification(lane: Lane) -> Result<Notification> {
    let tenant = tenant()?;
    let data = serde_json::json!({"order_id": "A-2026-001234", "deeplink": "shop://orders/1234"});
    let content = Content {
        title: Some("Your order has been shipped".to_owned()),
        body: Some("It arrives on Thursday between 9 and 12. Track it in the app.".to_owned()),
        badge: Some(3),
        sound: Some("default".to_owned()),
        data: data.as_object().cloned(),
        ..Content::default()
    };
    Ok(Notification {
        id: NotificationId::mint(&MacKey::new(&[7; 32]), &tenant, NOW, [9; 10]),
        tenant,
        lane,
        created_at: NOW,
        expires_at: NOW + 24 * 3_600_000,
        content,
        options: Options::default(),
    })
}

/// A device token of a platform, another one for each number.
#[must_use]
pub fn device_token(platform: Platform, number: u32) -> Box<str> {
    if platform.is_apple() {
        format!("{number:08x}{:056x}", 0x5eed).into_boxed_str()
    } else {
        format!("{number:022x}:APA91b{}", "x".repeat(FCM_TAIL)).into_boxed_str()
    }
}

/// Recipients with consecutive ordinals. Device 0 is a device token that is not registered.
#[must_use]
pub fn recipients(platform: Platform, count: u32, registered: bool) -> Vec<Recipient> {
    let recipient = |ordinal: u32| Recipient {
        ordinal,
        address: Address {
            device: if registered {
                i64::from(ordinal) + 1
            } else {
                0
            },
            platform,
            environment: Environment::Production,
            device_token: device_token(platform, ordinal),
        },
    };
    (0..count).map(recipient).collect()
}

/// A first job of raw device tokens.
///
/// # Errors
/// When the tenant's name were not one.
pub fn job(platform: Platform, entries: u32, lane: Lane) -> Result<Job> {
    let entries = recipients(platform, entries, false).into_iter();
    let entries = entries.map(|recipient| Entry {
        ordinal: recipient.ordinal,
        target: Target::Device(recipient.address),
    });
    let notification = Arc::new(notification(lane)?);
    Ok(Job::first(notification, 0, entries.collect()))
}

/// A way to APNs and its current authorization, with a new signing key.
///
/// # Errors
/// When no key can be made or no provider token signed.
pub fn apns_route() -> Result<(Route, HeaderValue)> {
    let key = ApnsTestKey::generate("TEAM000001", "KEY0000001")?;
    let credential = apns::Credential::from_p8(&key.p8_pem, &key.team_id, &key.key_id)?;
    let (authorization, _) = credential.authorization(NOW)?;
    let authorization = authorization.context("a signing key gives an authorization")?;
    let route = Route {
        tenant: tenant()?,
        credential: Credential::Apns(Arc::new(credential)),
        environment: Environment::Production,
        bundle_id: Some(Arc::from("com.example.shop")),
    };
    Ok((route, authorization))
}

/// A way to FCM, with a new service account, and an authorization as long as Google's.
///
/// # Errors
/// When no account can be made.
pub fn fcm_route() -> Result<(Route, HeaderValue)> {
    let account = FcmTestAccount::generate("bench-shop", "https://oauth2.googleapis.com/token")?;
    let credential = fcm::Credential::from_json(&account.service_account_json)?;
    let mut authorization = HeaderValue::from_str(&format!("Bearer ya29.{}", "c".repeat(200)))?;
    authorization.set_sensitive(true);
    let route = Route {
        tenant: tenant()?,
        credential: Credential::Fcm(Arc::new(credential)),
        environment: Environment::Production,
        bundle_id: None,
    };
    Ok((route, authorization))
}
