//! The API's description, generated from the handlers and the route table.
//! It must not say anything that the router does not do; a test compares the two.

mod refusals;

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, Method, header};
use utoipa::openapi::extensions::ExtensionsBuilder;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Components, Server};
use utoipa::{Modify, OpenApi};

use crate::app::App;
use crate::face::Face;
use crate::iam::{keys, service_ids, token};
use crate::notify::{
    analytics, api_keys, credentials, devices, notifications, send, tags, tenants, unified,
};
use crate::org::{audit, members, orgs};
use crate::routes::{Line, Routes, VERSION_PREFIX};
use crate::{clients, docs, health, iam, ibm, notify, operate, org};

#[derive(OpenApi)]
#[openapi(
    info(title = "Clarion", description = "Push delivery to APNs and FCM."),
    modifiers(&Credentials),
    components(schemas(refusals::PushProblemBody, refusals::IamProblemBody, refusals::IamProblemError,
        refusals::TokenProblemBody, refusals::TokenProblemContext)),
    paths(
        health::root, health::health, health::livez, health::readyz, document,
        docs::page, docs::script, docs::style,
        tenants::create, tenants::list, tenants::list_configs, tenants::read, tenants::patch, tenants::delete,
        api_keys::create, api_keys::list, api_keys::patch, api_keys::rotate, api_keys::delete,
        credentials::list, credentials::put, credentials::delete,
        devices::register, devices::register_bulk, devices::list, devices::unregister,
        tags::list, tags::put, tags::delete, tags::of_device, tags::put_of_device,
        send::notify, send::notify_bulk, unified::unified, unified::short,
        analytics::read, analytics::time_series, notifications::status, notifications::failures,
        orgs::create, orgs::list, orgs::read, orgs::delete,
        members::list, members::me, members::put, members::remove, audit::list,
        token::exchange,
        service_ids::create, service_ids::list, service_ids::read, service_ids::update, service_ids::delete,
        keys::create, keys::list, keys::details, keys::read, keys::update, keys::delete,
        keys::lock, keys::unlock, keys::disable, keys::enable,
    )
)]
struct Document;

/// What the refusals of both listeners are made of.
#[derive(OpenApi)]
#[openapi(components(schemas(
    refusals::ProblemBody,
    refusals::ProblemDetail,
    refusals::FieldProblem,
    refusals::FieldStep
)))]
struct Refusals;

struct Credentials;

impl Modify for Credentials {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_with(Components::new);
        let key = ApiKey::Header(ApiKeyValue::new("X-API-Key"));
        components.add_security_scheme("api_key", SecurityScheme::ApiKey(key));
        let bearer = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .bearer_format("JWT");
        components.add_security_scheme("access_token", SecurityScheme::Http(bearer.build()));
        for (name, header) in [
            ("client_secret", "clientSecret"),
            ("app_secret", "appSecret"),
            ("client_id", "X-IBM-Client-Id"),
            ("client_pair_secret", "X-IBM-Client-Secret"),
        ] {
            let key = ApiKey::Header(ApiKeyValue::new(header));
            components.add_security_scheme(name, SecurityScheme::ApiKey(key));
        }
    }
}

/// Under this name the description says what of the permission table a route stands for.
const OPERATION: &str = "x-clarion-operation";

/// The API's description as JSON text.
#[must_use]
pub fn openapi() -> String {
    let mut document = Document::openapi();
    document.merge(Refusals::openapi());
    document.merge(ibm::Document::openapi());
    document.merge(clients::Document::openapi());
    let versioned = Server::new(VERSION_PREFIX);
    document.servers = Some(vec![Server::new("/"), versioned]);
    for line in public_routes(Routes::unmounted()).finish().1 {
        complete(&mut document, &line);
    }
    text(&document)
}

/// The operator's listener's description as JSON text.
#[must_use]
pub fn operator_openapi() -> String {
    let mut document = operate::Document::openapi();
    document.merge(Refusals::openapi());
    Credentials.modify(&mut document);
    for line in operate::routes(Routes::unmounted()).finish().1 {
        complete(&mut document, &line);
    }
    text(&document)
}

/// All routes of the public listener.
pub(crate) fn public_routes(routes: Routes) -> Routes {
    let routes = routes
        .public::<health::__path_root, _, _>(health::root)
        .public::<health::__path_health, _, _>(health::health)
        .public::<health::__path_livez, _, _>(health::livez)
        .public::<health::__path_readyz, _, _>(health::readyz)
        .public::<__path_document, _, _>(document)
        .public::<docs::__path_page, _, _>(docs::page)
        .public::<docs::__path_script, _, _>(docs::script)
        .public::<docs::__path_style, _, _>(docs::style);
    let routes = org::routes(clients::routes(notify::routes(routes)));
    ibm::routes(iam::routes(routes))
}

/// This description.
#[utoipa::path(get, path = "/openapi.json", tag = "health",
    responses((status = 200, body = Object)))]
async fn document(_: App) -> Response {
    let json = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, json)], openapi()).into_response()
}

/// Names the operation of a line, and repeats it under the names of the other path generation.
fn complete(document: &mut utoipa::openapi::OpenApi, line: &Line) {
    let paths = &mut document.paths.paths;
    let Some(item) = paths.get_mut(&*line.path) else {
        return;
    };
    let Some(operation) = slot(item, &line.method) else {
        return;
    };
    match Face::of(&line.path) {
        Face::Notify => refusals::add(operation, line),
        Face::IbmPush => refusals::add_push(operation, line),
        Face::Iam => refusals::add_iam(operation, line),
        Face::IamToken => refusals::add_token(operation),
        // It has no paths of its own.
        Face::Gateway => {}
    }
    name(operation);
    if let Some(judged) = line.operation {
        let extensions = ExtensionsBuilder::new().add(OPERATION, judged.as_str());
        operation.extensions = Some(extensions.build());
    }
    let named = operation.clone();
    for (index, alias) in line.aliases.iter().enumerate() {
        let mut operation = named.clone();
        if let Some(id) = &mut operation.operation_id {
            id.push_str(["_app", "_app_notify"].get(index).unwrap_or(&"_app_other"));
        }
        let item = paths.entry((*alias).to_owned()).or_default();
        *slot(item, &line.method) = Some(operation);
    }
}

/// Handlers of different nouns share verbs: the noun's tag makes the id unique.
fn name(operation: &mut Operation) {
    let tag = operation.tags.iter().flatten().next().cloned();
    if let (Some(tag), Some(id)) = (tag, &mut operation.operation_id) {
        *id = format!("{}_{id}", tag.replace(' ', "_"));
    }
}

fn slot<'a>(item: &'a mut PathItem, method: &Method) -> &'a mut Option<Operation> {
    match *method {
        Method::POST => &mut item.post,
        Method::PUT => &mut item.put,
        Method::PATCH => &mut item.patch,
        Method::DELETE => &mut item.delete,
        _ => &mut item.get,
    }
}

fn text(document: &utoipa::openapi::OpenApi) -> String {
    // Strings and numbers: there is nothing that JSON could refuse.
    document.to_pretty_json().unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    fn documented(text: &str) -> BTreeSet<(String, String)> {
        let document: Value = serde_json::from_str(text).unwrap();
        let paths = document["paths"].as_object().unwrap();
        let methods = |(path, item): (&String, &Value)| {
            let methods = item.as_object().unwrap().keys();
            methods
                .map(|method| (path.clone(), method.clone()))
                .collect::<Vec<_>>()
        };
        paths.iter().flat_map(methods).collect()
    }

    fn routed(table: Vec<Line>) -> BTreeSet<(String, String)> {
        let mut all = BTreeSet::new();
        for line in table {
            let method = line.method.as_str().to_lowercase();
            let paths = std::iter::once(&*line.path).chain(line.aliases.iter().copied());
            for path in paths {
                assert!(
                    all.insert((path.to_owned(), method.clone())),
                    "{method} {path} twice"
                );
            }
        }
        all
    }

    #[test]
    fn every_route_is_documented_and_every_documented_path_is_routed() {
        let (_, table) = public_routes(Routes::unmounted()).finish();
        assert_eq!(documented(&openapi()), routed(table));
        let (_, table) = operate::routes(Routes::unmounted()).finish();
        assert_eq!(documented(&operator_openapi()), routed(table));
    }

    #[test]
    fn only_health_and_documents_need_no_operation() {
        let (_, mut table) = public_routes(Routes::unmounted()).finish();
        table.extend(operate::routes(Routes::unmounted()).finish().1);
        let open: BTreeSet<&str> = table
            .iter()
            .filter(|line| line.operation.is_none())
            .map(|line| &*line.path)
            .collect();
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
        assert_eq!(open, BTreeSet::from(expected));
    }

    #[test]
    fn operation_ids_are_unique() {
        let document: Value = serde_json::from_str(&openapi()).unwrap();
        let mut seen = BTreeSet::new();
        for item in document["paths"].as_object().unwrap().values() {
            for operation in item.as_object().unwrap().values() {
                let id = operation["operationId"].as_str().unwrap().to_owned();
                assert!(seen.insert(id.clone()), "{id} twice");
            }
        }
    }

    fn references<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
        match value {
            Value::Object(members) => {
                found.extend(members.get("$ref").and_then(Value::as_str));
                members.values().for_each(|one| references(one, found));
            }
            Value::Array(list) => list.iter().for_each(|one| references(one, found)),
            _ => {}
        }
    }

    #[test]
    fn every_reference_leads_to_a_schema() {
        for text in [openapi(), operator_openapi()] {
            let document: Value = serde_json::from_str(&text).unwrap();
            let mut found = BTreeSet::new();
            references(&document, &mut found);
            assert!(found.contains("#/components/schemas/Problem"));
            for reference in found {
                let pointer = reference.trim_start_matches('#');
                assert!(document.pointer(pointer).is_some(), "{reference}");
            }
        }
    }

    #[test]
    fn every_face_documents_its_refusals_in_its_own_shape() {
        let document: Value = serde_json::from_str(&openapi()).unwrap();
        let schema = |path: &str, method: &str, status: &str| {
            let response = &document["paths"][path][method]["responses"][status];
            response["content"]["application/json"]["schema"]["$ref"].clone()
        };
        for (path, method, status, name) in [
            ("/identity/token", "post", "400", "TokenProblem"),
            ("/v1/apikeys", "post", "401", "IamProblem"),
            ("/v1/apikeys/{id}", "put", "409", "IamProblem"),
            ("/v1/serviceids", "get", "400", "IamProblem"),
            ("/v1/serviceids/{id}", "delete", "404", "IamProblem"),
            ("/tenants/{tenant}", "get", "404", "Problem"),
        ] {
            let expected = format!("#/components/schemas/{name}");
            assert_eq!(schema(path, method, status), expected, "{method} {path}");
        }
        let steps = &document["components"]["schemas"]["FieldStep"]["oneOf"];
        let kinds: Vec<_> = steps
            .as_array()
            .unwrap()
            .iter()
            .map(|one| &one["type"])
            .collect();
        assert_eq!(kinds, ["string", "integer"]);
    }
}
