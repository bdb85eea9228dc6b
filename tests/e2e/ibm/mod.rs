//! The IBM Push face of a real server: the flow of a phone, tags at work, and IBM's own client for servers.
//! It must not know how the face is made.

mod client;
mod face;
mod proxy;

use std::time::Duration;

use clarion_simulator::Options;
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Caller, PATIENCE, Setup, Tenant, World, until};

/// A world whose providers keep what pushes said.
async fn world() -> World {
    let options = Options {
        bodies_kept: 1_000,
        ..Options::default()
    };
    World::start_with(options, Setup::quick()).await
}

/// Calls of the face about one application.
struct Face {
    caller: Caller,
    app: String,
}

impl Face {
    fn of(world: &World, tenant: &Tenant) -> Self {
        Self {
            caller: world.server.caller(),
            app: tenant.id.clone(),
        }
    }

    async fn call(
        &self,
        method: Method,
        rest: &str,
        shown: &[(&'static str, &str)],
        body: &Value,
    ) -> Answer {
        let path = format!("/imfpush/v1/apps/{}/{rest}", self.app);
        let mut request = self.caller.request(method, &path);
        for (name, value) in shown {
            request = request.header(*name, *value);
        }
        // As IBM's web client writes it, on calls without a body too.
        request = request.header("content-type", "application/json; charset = UTF-8");
        if !body.is_null() {
            request = request.body(body.to_string());
        }
        Caller::send(request).await
    }
}

/// New push secrets of a tenant: `clientSecret` and `appSecret`.
async fn secrets(world: &World, tenant: &Tenant) -> (String, String) {
    let path = format!("/tenants/{}/push-secrets", tenant.id);
    let wish = json!({"client_secret": true, "app_secret": true});
    let made = world.person().post(&path, &wish).await.ok();
    let text = |name: &str| made[name].as_str().unwrap().to_owned();
    (text("client_secret"), text("app_secret"))
}

/// What the pushes to a device said, once there are so many.
async fn said(world: &World, device_token: &str, count: usize) -> Vec<Value> {
    said_within(world, device_token, count, PATIENCE).await
}

async fn said_within(
    world: &World,
    device_token: &str,
    count: usize,
    limit: Duration,
) -> Vec<Value> {
    let what = format!("{count} pushes to one device");
    let bodies = until(&what, limit, || async {
        let bodies = world.simulator.bodies(device_token);
        (bodies.len() >= count).then_some(bodies)
    });
    let bodies = bodies.await;
    let read = |body: &Vec<u8>| serde_json::from_slice(body).unwrap();
    bodies.iter().map(read).collect()
}
