//! APNs and FCM: encode once, stamp each recipient, decode an answer. It must not know connections.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use clarion_engine::http2::Response;
use clarion_engine::model::{Lane, NotificationId, Outcome, Platform, Recipient, recipient_id};
use clarion_engine::provider::apns::Apns;
use clarion_engine::provider::fcm::Fcm;
use clarion_engine::provider::{DeviceTokenRef, Prepared, Provider, Route, Stamp, encode};
use http::HeaderValue;
use http::uri::Authority;

use crate::samples::{NOW, apns_route, fcm_route, notification, recipients};
use crate::stage::{Per, Stage};

/// Recipients that are stamped in turn.
const STAMPED: u32 = 64;

const APNS_410: &str = r#"{"reason":"Unregistered","timestamp":1789000000000}"#;
const FCM_200: &str =
    r#"{"name":"projects/bench-shop/messages/0:1500415314455276%31bd1c9631bd1c96"}"#;
const FCM_404: &str = r#"{"error":{"code":404,"message":"Requested entity was not found.","status":
"NOT_FOUND","details":[{"@type":"type.googleapis.com/google.firebase.fcm.v1.FcmError",
"errorCode":"UNREGISTERED"}]}}"#;

/// Encode, stamp and decode of both providers.
///
/// # Errors
/// When a sample cannot be made, or is not understood as it should.
pub fn stages() -> Result<Vec<Stage>> {
    let mut stages = Vec::new();
    let (route, authorization) = apns_route()?;
    stages.extend(requests(
        ("apns", Platform::Ios),
        ("api.push.apple.com", route, authorization),
    )?);
    let (route, authorization) = fcm_route()?;
    stages.extend(requests(
        ("fcm", Platform::Android),
        ("fcm.googleapis.com", route, authorization),
    )?);
    let is_accepted = |outcome: &Outcome| *outcome == Outcome::Accepted;
    let is_dead = |outcome: &Outcome| matches!(outcome, Outcome::Unregistered { .. });
    stages.push(answer("apns: decode 200", Apns, (200, ""), is_accepted)?);
    stages.push(answer("apns: decode 410", Apns, (410, APNS_410), is_dead)?);
    stages.push(answer("fcm: decode 200", Fcm, (200, FCM_200), is_accepted)?);
    stages.push(answer("fcm: decode 404", Fcm, (404, FCM_404), is_dead)?);
    Ok(stages)
}

fn requests(
    (word, platform): (&str, Platform),
    (host, route, authorization): (&'static str, Route, HeaderValue),
) -> Result<Vec<Stage>> {
    let said = notification(Lane::Bulk)?;
    let prepared = Arc::new(encode(&said, &route, NOW)?);
    let (id, authority) = (said.id, Authority::from_static(host));
    let to = recipients(platform, STAMPED, false);
    let whole = move |prepared: &Prepared, to: &Recipient| {
        let stamp = Stamp {
            authority: &authority,
            recipient_id: id_of(id, to),
            device_token: DeviceTokenRef(&to.address.device_token),
            authorization: Some(&authorization),
        };
        prepared.stamp(&stamp)
    };
    let first = to.first().context("there are recipients")?;
    ensure!(whole(&prepared, first).is_ok());
    let mut turn = 0_usize;
    let stamp = move || {
        turn = (turn + 1) % to.len();
        whole(&prepared, &to[turn])
    };
    Ok(vec![
        Stage::new(
            &format!("{word}: encode once"),
            Per::one("notification"),
            move || encode(&said, &route, NOW),
        ),
        Stage::new(
            &format!("{word}: stamp, id included"),
            Per::one("recipient"),
            stamp,
        ),
    ])
}

fn id_of(id: NotificationId, to: &Recipient) -> uuid::Uuid {
    recipient_id(id, to.ordinal, to.address.device)
}

fn answer(
    name: &str,
    provider: impl Provider + 'static,
    (status, body): (u16, &'static str),
    is_right: impl Fn(&Outcome) -> bool,
) -> Result<Stage> {
    let response = Response {
        status,
        body: Bytes::from_static(body.as_bytes()),
        ..Response::default()
    };
    let outcome = provider.decode(&response).outcome;
    ensure!(is_right(&outcome), "{name} came to {outcome:?}");
    Ok(Stage::new(name, Per::one("answer"), move || {
        provider.decode(&response)
    }))
}
