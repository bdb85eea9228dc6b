//! Credentials that applications carry: the pair of a registered one, a tenant's `clientSecret` and `appSecret`, and none at all.
//! It must not know which routes there are.

use clarion_auth::permission::Target;
use clarion_auth::{Operation, Principal, authorize};
use serde_json::json;

use super::{Holder, Place, Route, text};
use crate::harness::Server;

const PUSH_FACE: &str = "/imfpush/";

/// One of each, of this place.
pub(super) async fn holders(server: &Server, own: &Place) -> Vec<Holder> {
    let owner = server
        .caller()
        .bearer(&server.access_token(own.org.as_str(), "owner"));
    let path = format!("/tenants/{}/push-secrets", own.tenant);
    let wish = json!({"client_secret": true, "app_secret": true});
    let secrets = owner.post(&path, &wish).await.ok();
    let client = |client_id: Option<&str>, is_proven| Principal::ClientApp {
        tenant: own.tenant.clone(),
        client_id: client_id.map(|id| id.parse().unwrap()),
        is_proven,
    };
    let secret = |name: &str, principal, shown: &str| Holder {
        name: name.to_owned(),
        principal: Some(principal),
        caller: server.caller().with(
            if name == "appSecret" {
                "appsecret"
            } else {
                "clientsecret"
            },
            shown,
        ),
    };
    let app_secret = Principal::AppSecret {
        tenant: own.tenant.clone(),
    };
    let mut holders = vec![
        secret("appSecret", app_secret, text(&secrets["app_secret"])),
        secret(
            "clientSecret",
            client(None, true),
            text(&secrets["client_secret"]),
        ),
    ];
    for section in ["inside", "outside"] {
        let path = format!("/tenants/{}/clients", own.tenant);
        let wish = json!({"name": section, "section": section});
        let made = owner.post(&path, &wish).await.ok();
        let id = text(&made["client_id"]);
        let mut caller = server.caller().with("x-ibm-client-id", id);
        if let Some(secret) = made["client_secret"].as_str() {
            caller = caller.with("x-ibm-client-secret", secret);
        }
        holders.push(Holder {
            name: format!("client {section}"),
            principal: Some(client(Some(id), section == "inside")),
            caller,
        });
    }
    holders
}

/// What the answer to an application, or to nobody, must be: `None` when it gets past the table.
pub(super) fn refusal(route: &Route, principal: Option<&Principal>, place: &Place) -> Option<u16> {
    let is_push = route.path.starts_with(PUSH_FACE);
    let (tenant, is_pair) = match principal {
        Some(Principal::ClientApp {
            tenant, client_id, ..
        }) => (tenant, client_id.is_some()),
        Some(Principal::AppSecret { tenant }) => (tenant, false),
        _ => return anonymous(route, place),
    };
    let names_tenant = route.path.contains("{tenant}") || route.path.contains("{applicationId}");
    if !(is_push || is_pair && names_tenant) {
        // Shown where it means nothing, or where nobody says for which application.
        return Some(401);
    }
    if *tenant != place.tenant {
        // Known nowhere else; but a phone that reads its device is not refused for what else it shows.
        let reads_device = is_push && !is_pair && route.operation == Operation::ReadDevice;
        return (!reads_device).then_some(401);
    }
    let judge = |principal| authorize(principal, route.operation, target(place)).err();
    judge(principal?)?;
    let with_secret = Principal::ClientApp {
        tenant: tenant.clone(),
        client_id: None,
        is_proven: true,
    };
    // An id whose secret is missing where one is needed is not good enough; the others may never do this.
    let lacks_secret = is_pair && judge(&with_secret).is_none();
    Some(if lacks_secret { 401 } else { 403 })
}

/// Nobody is somebody on the IBM Push face: whoever knows the application's id.
fn anonymous(route: &Route, place: &Place) -> Option<u16> {
    if !route.path.starts_with(PUSH_FACE) {
        return Some(401);
    }
    let tenant = place.tenant.clone();
    let judged = authorize(&Principal::AppId { tenant }, route.operation, target(place));
    judged.is_err().then_some(401)
}

fn target(place: &Place) -> Target<'_> {
    Target {
        tenant: Some(&place.tenant),
        org: Some(&place.org),
        person: None,
    }
}
