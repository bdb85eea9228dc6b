//! The permission table over HTTP: every kind of credential, every operation of every route, one's own and another's, against
//! a running server. What may be done is asked of the one table; which routes there are, of the server's own documents.
//! It must not know what an operation does beyond what a request must name to be judged.

mod apps;

use std::collections::{BTreeMap, BTreeSet};

use clarion_auth::permission::{Target, operators};
use clarion_auth::{
    ApiKeyKind, Denied, Grants, IamRole, Operation, OrgId, Principal, Role, Scope, Scopes,
    TenantId, authorize,
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Caller, Server, Setup, World, clarion};

/// What stands for a member, a device, a notification, a provider.
const NOBODY: &str = "zoe";
/// Deleted at the end, in this order, or there would be nothing left to ask about.
const LAST: [Operation; 4] = [
    Operation::DeleteIamKey,
    Operation::DeleteServiceId,
    Operation::DeleteTenant,
    Operation::DeleteOrg,
];

/// An organisation with one of everything.
struct Place {
    org: OrgId,
    tenant: TenantId,
    service: String,
    key_id: String,
    key: String,
}

impl Place {
    async fn make(server: &Server, org: &str) -> Self {
        let owner = server.caller().bearer(&server.access_token(org, "owner"));
        let tenant = owner.post("/tenants", &json!({"org_id": org})).await.ok();
        let service = service(&owner, org, json!([])).await;
        let (key_id, key) = key_of(&owner, &service).await;
        Self {
            org: org.parse().unwrap(),
            tenant: text(&tenant["tenant_id"]).parse().unwrap(),
            service,
            key_id,
            key,
        }
    }
}

/// A credential, and who the table should take its holder for.
struct Holder {
    name: String,
    principal: Option<Principal>,
    caller: Caller,
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value}"))
}

async fn service(owner: &Caller, org: &str, grants: Value) -> String {
    let body = json!({"account_id": org, "name": "s", "grants": grants});
    let made = owner.post("/v1/serviceids", &body).await;
    assert_eq!(made.status, 201, "{}", made.text);
    text(&made.json()["id"]).to_owned()
}

/// A key of a service ID: its id, and itself.
async fn key_of(owner: &Caller, service: &str) -> (String, String) {
    let body = json!({"name": "k", "iam_id": format!("iam-{service}")});
    let made = owner.post("/v1/apikeys", &body).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let made = made.json();
    (
        text(&made["id"]).to_owned(),
        text(&made["apikey"]).to_owned(),
    )
}

/// The access token for an IAM key.
async fn exchange(server: &Server, key: &str) -> String {
    let form = format!("grant_type=urn:ibm:params:oauth:grant-type:apikey&apikey={key}");
    let request = server.caller().request(Method::POST, "/identity/token");
    let answer = Caller::send(request.body(form)).await.ok();
    text(&answer["access_token"]).to_owned()
}

async fn keys(server: &Server, own: &Place) -> Vec<Holder> {
    let owner = server
        .caller()
        .bearer(&server.access_token("acme", "owner"));
    let mut holders = Vec::new();
    let mut sets: Vec<Vec<Scope>> = Scope::ALL.into_iter().map(|scope| vec![scope]).collect();
    sets.push(Scope::ALL.to_vec());
    for (kind, set) in ApiKeyKind::ALL
        .iter()
        .flat_map(|kind| sets.iter().map(move |set| (*kind, set)))
    {
        let is_test = kind == ApiKeyKind::Test;
        let body = json!({"name": "m", "test": is_test, "scopes": set});
        let path = format!("/tenants/{}/api-keys", own.tenant);
        let made = owner.post(&path, &body).await.ok();
        let scopes: Scopes = set.iter().copied().collect();
        holders.push(Holder {
            name: format!("{kind} key {scopes:?}"),
            principal: Some(Principal::TenantKey {
                tenant: own.tenant.clone(),
                key_id: text(&made["key_id"]).parse().unwrap(),
                kind,
                scopes,
            }),
            caller: server.caller().api_key(text(&made["key"])),
        });
    }
    holders
}

fn people(server: &Server) -> Vec<Holder> {
    let named = Role::ALL.map(|role| ("acme", role));
    let all = named.into_iter().chain([("others", Role::Owner)]);
    let person = |(org, role): (&str, Role)| {
        let access_token = server.access_token(org, role.as_str());
        Holder {
            name: format!("{role} of {org}"),
            principal: Some(Principal::Person {
                subject: "ada".parse().unwrap(),
                orgs: BTreeMap::from([(org.parse().unwrap(), role)]),
            }),
            caller: server.caller().bearer(&access_token),
        }
    };
    all.map(person).collect()
}

async fn services(server: &Server, own: &Place) -> Vec<Holder> {
    let owner = server
        .caller()
        .bearer(&server.access_token("acme", "owner"));
    let mut all = vec![Grants::default()];
    for role in IamRole::ALL {
        all.push(Grants {
            everywhere: Some(role),
            ..Grants::default()
        });
        all.push(Grants {
            everywhere: None,
            tenants: BTreeMap::from([(own.tenant.clone(), role)]),
        });
    }
    let mut holders = Vec::new();
    for grants in all {
        let mut wire: Vec<Value> = grants
            .everywhere
            .iter()
            .map(|role| json!({"role": role}))
            .collect();
        let single = grants.tenants.iter();
        wire.extend(single.map(|(tenant, role)| json!({"tenant_id": tenant, "role": role})));
        let id = service(&owner, "acme", json!(wire)).await;
        let (_, key) = key_of(&owner, &id).await;
        holders.push(Holder {
            name: format!("service {grants:?}"),
            principal: Some(Principal::ServiceId {
                id: id.parse().unwrap(),
                org: own.org.clone(),
                grants,
            }),
            caller: server.caller().bearer(&exchange(server, &key).await),
        });
    }
    holders
}

/// A route with what is judged before its handler.
#[derive(Clone, Debug)]
struct Route {
    method: Method,
    path: String,
    operation: Operation,
    /// On the operator's listener.
    is_operators: bool,
}

/// All routes that the documents name; those without an operation are open to everybody.
fn routes() -> (Vec<Route>, BTreeSet<String>) {
    let mut open = BTreeSet::new();
    let mut routes = Vec::new();
    for is_operators in [false, true] {
        let mut command = clarion();
        command.arg("openapi");
        if is_operators {
            command.arg("--operator");
        }
        let document: Value = serde_json::from_slice(&command.output().unwrap().stdout).unwrap();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, documented) in item.as_object().unwrap() {
                let Some(name) = documented["x-clarion-operation"].as_str() else {
                    open.insert(path.clone());
                    continue;
                };
                let mut all = Operation::ALL.iter();
                routes.push(Route {
                    method: method.to_uppercase().parse().unwrap(),
                    path: path.clone(),
                    operation: *all.find(|one| one.as_str() == name).expect(name),
                    is_operators,
                });
            }
        }
    }
    (routes, open)
}

/// The path with everything in it that a place has.
fn filled(route: &Route, place: &Place) -> String {
    let id = match route.path.starts_with("/v1/serviceids") {
        true => &place.service,
        false => &place.key_id,
    };
    let mut path = route.path.clone();
    for (name, value) in [
        ("{tenant}", place.tenant.as_str()),
        ("{applicationId}", place.tenant.as_str()),
        ("{org}", place.org.as_str()),
        ("{key_id}", "key_AAAAAAAA"),
        ("{user_id}", NOBODY),
        ("{provider}", "fcm"),
        (
            "{id}",
            if route.path.starts_with("/v1/") {
                id
            } else {
                NOBODY
            },
        ),
    ] {
        path = path.replace(name, value);
    }
    while let (Some(from), Some(to)) = (path.find('{'), path.find('}')) {
        path.replace_range(from..=to, NOBODY);
    }
    let query = match route.operation {
        Operation::ListTenants => format!("?org_id={}", place.org),
        Operation::ReadSubscriptions => format!("?deviceId={NOBODY}"),
        Operation::ListServiceIds if !route.path.contains('{') => {
            format!("?account_id={}", place.org)
        }
        Operation::ListIamKeys if !route.path.contains('{') => {
            format!("?iam_id=iam-{}", place.service)
        }
        _ => String::new(),
    };
    path + &query
}

/// What must be in a body for the tenant or the organisation to be known.
fn body(operation: Operation, place: &Place) -> Value {
    let iam_id = format!("iam-{}", place.service);
    match operation {
        Operation::Send => {
            json!({"app_id": place.tenant, "user_id": NOBODY, "title": "t", "body": "b"})
        }
        Operation::CreateTenant => json!({"org_id": place.org}),
        Operation::CreateServiceId => json!({"account_id": place.org, "name": "s"}),
        Operation::CreateIamKey => json!({"name": "k", "iam_id": iam_id}),
        _ => json!({}),
    }
}

/// What the table says.
fn verdict(route: &Route, principal: &Principal, place: &Place) -> Result<(), Denied> {
    let zoe = NOBODY.parse().unwrap();
    let names_tenant = ["{tenant}", "{applicationId}", "/push/send"]
        .iter()
        .any(|named| route.path.contains(named));
    let everywhere = operators();
    // The list of all dead letters is about nobody's organisation but theirs.
    let is_about_all = route.path == "/operate/dead";
    let target = Target {
        tenant: names_tenant.then_some(&place.tenant),
        org: Some(if is_about_all {
            &everywhere
        } else {
            &place.org
        }),
        person: (route.operation == Operation::RemoveMember).then_some(&zoe),
    };
    let judged = authorize(principal, route.operation, target);
    // Those who run the deployment look at everybody's dead letters.
    let is_dead_letters = route.path.contains("/dead");
    match judged {
        Err(_) if is_dead_letters && principal.role_in(&everywhere).is_some() => {
            authorize(principal, route.operation, target.owned_by(&everywhere))
        }
        judged => judged,
    }
}

async fn ask(route: &Route, holder: &Holder, server: &Server, place: &Place) -> u16 {
    let path = filled(route, place);
    let caller = match route.is_operators {
        false => holder.caller.clone(),
        true => holder.caller.at(&server.operator()),
    };
    let mut request = caller.request(route.method.clone(), &path);
    if route.operation == Operation::ReadIamKeyDetails {
        request = request.header("iam-apikey", &place.key);
    }
    if route.method != Method::GET && route.method != Method::DELETE {
        request = request.json(&body(route.operation, place));
    }
    Caller::send(request).await.status
}

/// What the answer must be: `None` when it gets past the table.
fn refusal(route: &Route, principal: Option<&Principal>, place: &Place) -> Option<u16> {
    match principal {
        Some(
            principal @ (Principal::TenantKey { .. }
            | Principal::Person { .. }
            | Principal::ServiceId { .. }),
        ) => verdict(route, principal, place).err().map(|_denied| 403),
        principal => apps::refusal(route, principal, place),
    }
}

/// A cell of the table, asked over HTTP: what is wrong with the answer.
async fn cell(route: &Route, holder: &Holder, server: &Server, place: &Place) -> Option<String> {
    let status = ask(route, holder, server, place).await;
    let expected = refusal(route, holder.principal.as_ref(), place);
    let is_right = match expected {
        Some(refused) => status == refused,
        // Whatever else is wrong with the request: it got past the table.
        None => status != 401 && status != 403 && status != 405 && status < 500,
    };
    let Route {
        method,
        path,
        operation,
        ..
    } = route;
    (!is_right).then(|| {
        let (name, org) = (&holder.name, &place.org);
        format!("{method} {path} ({operation}) of {org} by {name}: {status}, not {expected:?}")
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn every_credential_does_over_http_what_the_one_table_says_and_nothing_else() {
    let world = World::start_with(clarion_simulator::Options::default(), Setup::quick()).await;
    let server = &world.server;
    let own = Place::make(server, "acme").await;
    let foreign = Place::make(server, "globex").await;
    let mut holders = keys(server, &own).await;
    holders.extend(people(server));
    holders.extend(services(server, &own).await);
    holders.extend(apps::holders(server, &own).await);
    holders.push(Holder {
        name: "nobody".to_owned(),
        principal: None,
        caller: server.caller(),
    });
    let (routes, _) = routes();
    let (mut wrong, mut asked) = (Vec::new(), 0);
    let at_last = |route: &Route| LAST.iter().position(|one| *one == route.operation);
    let mut later: Vec<(usize, &Route, &Holder)> = Vec::new();
    for route in &routes {
        for holder in &holders {
            wrong.extend(cell(route, holder, server, &foreign).await);
            asked += 1;
            let is_allowed = refusal(route, holder.principal.as_ref(), &own).is_none();
            match at_last(route).filter(|_| is_allowed) {
                Some(place) => later.push((place, route, holder)),
                None => {
                    wrong.extend(cell(route, holder, server, &own).await);
                    asked += 1;
                }
            }
        }
    }
    later.sort_by_key(|(place, ..)| *place);
    for (_, route, holder) in later {
        wrong.extend(cell(route, holder, server, &own).await);
        asked += 1;
    }
    println!(
        "{asked} cells: {} credentials, {} routes",
        holders.len(),
        routes.len()
    );
    assert!(
        wrong.is_empty(),
        "{} cells\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_is_in_the_table_and_what_no_document_names_is_not_there() {
    let (routes, open) = routes();
    let expected = [
        "/",
        "/docs",
        "/docs/page.js",
        "/docs/style.css",
        "/health",
        "/identity/token",
        "/livez",
        "/metrics",
        "/openapi.json",
        "/readyz",
    ];
    let expected: BTreeSet<String> = expected.into_iter().map(str::to_owned).collect();
    assert_eq!(open, expected, "routes without an operation");
    let world = World::start_with(clarion_simulator::Options::default(), Setup::quick()).await;
    let owner = world.person();
    let own = Place::make(&world.server, "acme").await;
    let documented: BTreeSet<(String, Method)> = routes
        .iter()
        .filter(|route| !route.is_operators)
        .map(|route| (route.path.clone(), route.method.clone()))
        .collect();
    // Every other method of a documented path, by one who may do everything there.
    let mut wrong = Vec::new();
    let methods = [
        Method::GET,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
    ];
    for route in routes.iter().filter(|route| !route.is_operators) {
        for method in &methods {
            if documented.contains(&(route.path.clone(), method.clone())) {
                continue;
            }
            let path = filled(route, &own);
            // Another template may stand at the same place.
            let answer = Caller::send(owner.request(method.clone(), &path)).await;
            if answer.status != 405 && answer.status != 404 {
                wrong.push(format!("{method} {path}: {}", answer.status));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
