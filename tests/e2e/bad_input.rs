//! Requests of every wrong kind: each gets its decided status, nothing is stored, and memory stays where it was.
//! It must not know how requests are read.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Caller, World, apple, raw, seed};

/// What a refused body may cost, KiB.
const GROWTH_MAX_KIB: u64 = 32 * 1024;
/// A key of the right form that nobody made.
const UNKNOWN_KEY: &str = "msk_live_aaaaaaaabbbbbbbbbbbbbbbbbbbbbbbbbbbbbbcccccc";
/// A body that nobody should read.
const HUGE: usize = 100 * 1_000_000;

/// Who asks.
#[derive(Clone, Copy, Debug)]
enum As {
    Key,
    Person,
    Nobody,
    UnknownKey,
    BadBearer,
}

/// A wrong request: who, method, path below the tenant (or a whole one), body, status.
type Wrong = (As, Method, String, Vec<u8>, u16);

fn post(path: &str, body: impl Into<Vec<u8>>, status: u16) -> Wrong {
    (As::Key, Method::POST, path.to_owned(), body.into(), status)
}

/// Bodies of a send that are no valid JSON of its form, one a line.
const BODIES: &str = r#"
{
null
[1]
"text"
{} {}
{"user_id": "u", 
{"user_id": "u"}}
{"alert": {"title": "x"}}
{"user_id": 7, "alert": {"title": "x"}}
{"user_id": ["u"], "alert": {"title": "x"}}
{"user_id": "u", "alert": "x"}
{"user_id": "u", "alert": {"title": 1}}
{"user_id": "u", "badge": "1"}
{"user_id": "u", "badge": -1}
{"user_id": "u", "badge": 1e400}
{"user_id": "u", "badge": NaN}
{"user_id": "u", "sound": {}}
{"user_id": "u", "content_available": "yes"}
{"user_id": "u", "data": [1]}
{"user_id": "u", "alert": {"title": "\ud800"}}
{"user_id": "", "alert": {"title": "x"}}
{"user_id": "a\u0000b", "alert": {"title": "x"}}
{"user_id": "a\nb", "alert": {"title": "x"}}
{"user_id": "a\u007fb", "alert": {"title": "x"}}
{"user_id": "u", "user_id": "v", "alert": {"title": "x"}}
{"user_id": "u", "alert": {"title": "x", "title": "y"}}
{"user_id": "u", "device_tokens": [], "alert": {"title": "x"}}
{"device_tokens": [], "alert": {"title": "x"}}
{"device_tokens": [{"platform": "symbian", "token": "aa"}], "alert": {"title": "x"}}
{"device_tokens": [{"platform": "ios", "token": "a\u0000"}], "alert": {"title": "x"}}
"#;

/// Members of a send that break a rule, one a line.
const MEMBERS: &str = r#"
"data": {"aps": {}}
"data": {"a": 1, "a": 2}
"options": {"topic": "com.example\r\napns-priority: 1"}
"options": {"topic": "com.\u0000example"}
"options": {"collapse_id": "a\nb"}
"options": {"collapse_id": "ccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc"}
"options": {"priority": "urgent"}
"options": {"push_type": "telegram"}
"options": {"ttl": 0}
"options": {"ttl": 99999999999}
"options": {"ttl": 60, "expires_at": "2040-01-15T10:30:00Z"}
"options": {"expires_at": "tomorrow"}
"options": {"relevance_score": 2}
"options": {"lane": "fast"}
"options": {"apns": {"headers": {"authorization": "bearer x"}}}
"options": {"apns": {"headers": {"apns-topic": "a\nb"}}}
"options": {"apns": {"payload": {"aps": 1}}}
"options": {"fcm": {"message": {"token": "other"}}}
"#;

/// A send that would be sound without this member.
fn with(member: &str) -> String {
    let token = apple(seed(), 1);
    let to = format!(r#"[{{"platform": "ios", "token": "{token}"}}]"#);
    format!(r#"{{"device_tokens": {to}, "alert": {{"title": "x"}}, {member}}}"#)
}

/// Bodies that are wrong in themselves.
fn contents() -> Vec<Wrong> {
    let bodies = BODIES.trim_matches('\n').lines();
    let members = MEMBERS.trim().lines().map(with);
    let mut wrong: Vec<Wrong> = bodies
        .map(ToOwned::to_owned)
        .chain(members)
        .map(|body| post("/notify", body, 422))
        .collect();
    wrong.push(post("/notify", "", 422));
    wrong.push(post(
        "/notify",
        b"{\"user_id\": \"\xff\xfe\"}".to_vec(),
        422,
    ));
    let (user, deep) = ("u".repeat(257), "[".repeat(100_000));
    let long_user = json!({"user_id": user, "alert": {"title": "x"}});
    wrong.push(post("/notify", long_user.to_string(), 422));
    wrong.push(post(
        "/notify",
        with(&format!(r#""data": {{"a": {deep}"#)),
        422,
    ));
    for token in ["nothexadecimal", "abc", "aa", ""] {
        let named = json!([{"platform": "ios", "token": token}]);
        let body = json!({"device_tokens": named, "alert": {"title": "x"}});
        wrong.push(post("/notify", body.to_string(), 400));
        let device = json!({"user_id": "u", "token": token, "platform": "ios"});
        wrong.push(post("/devices", device.to_string(), 400));
        let good = json!({"user_id": "u", "token": apple(seed(), 2), "platform": "ios"});
        let both = json!({"devices": [good, device]});
        wrong.push(post("/devices/bulk", both.to_string(), 400));
    }
    wrong
}

/// What is too large, each with the limit it is over.
fn sizes() -> Vec<Wrong> {
    let text = "x".repeat(4_100);
    let users = |count: usize| {
        let users: Vec<String> = (0..count).map(|number| format!("u{number}")).collect();
        json!({"user_ids": users, "alert": {"title": "x"}}).to_string()
    };
    let token = apple(seed(), 3);
    let device = json!({"user_id": "u", "token": token, "platform": "ios"});
    let devices: Vec<Value> = vec![device; 10_001];
    vec![
        post(
            "/notify",
            with(&format!(r#""data": {{"long": "{text}"}}"#)),
            413,
        ),
        post(
            "/notify/bulk",
            with(&format!(r#""data": {{"long": "{text}"}}"#)),
            413,
        ),
        post("/notify", vec![b' '; 256 * 1024 + 1], 413),
        post("/notify/bulk", vec![b' '; 16 * 1024 * 1024 + 1], 413),
        post("/notify/bulk", users(100_001), 413),
        post(
            "/devices/bulk",
            json!({"devices": devices}).to_string(),
            413,
        ),
        post("/notify", vec![b'{'; HUGE], 413),
        post("/notify/bulk", vec![b'{'; HUGE], 413),
    ]
}

/// Callers and places that are wrong: status, who, method, path, body. OWN and OTHER stand for tenants, SOUND for a
/// body that is.
const DOORS: &str = r#"
401 Nobody POST /tenants/OWN/notify SOUND
401 UnknownKey POST /tenants/OWN/notify SOUND
401 BadBearer POST /tenants/OWN/notify SOUND
403 Key POST /tenants/OTHER/notify SOUND
403 Key POST /tenants/unknown/notify SOUND
403 Key POST /tenants/un%00known/notify SOUND
404 Person POST /tenants/unknown/notify SOUND
404 Person POST /tenants/un%0Aknown/notify SOUND
404 Person POST /tenants/%ff/notify SOUND
405 Key PUT /tenants/OWN/notify {}
404 Key GET /nowhere {}
422 Person POST /tenants {"org_id": "a\u0000b"}
403 Person POST /tenants {"org_id": "elsewhere"}
422 Person POST /tenants {"org_id": "acme", "bundle_id": "a\nb"}
400 Person PUT /tenants/OWN/credentials/apns {"team_id": "T", "key_id": "K", "private_key": "none"}
422 Person POST /tenants/OWN/api-keys {"name": " "}
422 Person POST /tenants/OWN/api-keys {}
404 Person DELETE /tenants/OWN/api-keys/key_none {}
422 Person PATCH /tenants/OWN {"limits": {"rate": 0}}
404 Key DELETE /tenants/OWN/devices/none?user_id=u {}
422 Key DELETE /tenants/OWN/devices/none {}
422 Key GET /tenants/OWN/devices?limit=-1 {}
422 Key POST /tenants/OWN/notify/bulk {"user_ids": []}
422 Key POST /tenants/OWN/notify/bulk {"user_ids": ["a", "b\u0001"], "alert": {"title": "x"}}
"#;

fn doors(own: &str, other: &str) -> Vec<Wrong> {
    let sound = json!({"device_tokens": raw(&[apple(seed(), 1)]), "alert": {"title": "x"}});
    let sound = sound.to_string();
    let read = |line: &str| {
        let mut columns = line.splitn(5, ' ');
        let [status, who, method, path, body] = [(); 5].map(|()| columns.next().unwrap());
        let who = match who {
            "Nobody" => As::Nobody,
            "UnknownKey" => As::UnknownKey,
            "BadBearer" => As::BadBearer,
            "Person" => As::Person,
            _ => As::Key,
        };
        let path = path.replace("OWN", own).replace("OTHER", other);
        let body = body.replace("SOUND", &sound).into_bytes();
        let (method, status) = (method.parse().unwrap(), status.parse().unwrap());
        (who, method, path, body, status)
    };
    DOORS.trim().lines().map(read).collect()
}

struct Callers {
    key: Caller,
    person: Caller,
    nobody: Caller,
}

impl Callers {
    fn of(&self, who: As) -> Caller {
        match who {
            As::Key => self.key.clone(),
            As::Person => self.person.clone(),
            As::Nobody => self.nobody.clone(),
            As::UnknownKey => self.nobody.clone().api_key(UNKNOWN_KEY),
            As::BadBearer => self.nobody.clone().bearer("eyJhbGciOiJub25lIn0.e30."),
        }
    }
}

async fn check(callers: &Callers, own: &str, (who, method, path, body, status): Wrong) {
    let path = match path.starts_with("/tenants") || path == "/nowhere" {
        true => path,
        false => format!("/tenants/{own}{path}"),
    };
    let shown = String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned();
    let request = callers.of(who).request(method.clone(), &path);
    let request = request
        .header("content-type", "application/json")
        .body(body);
    let answer = Caller::send(request).await;
    assert_eq!(
        answer.status, status,
        "{who:?} {method} {path} {shown}: {}",
        answer.text
    );
    let problem = answer.json();
    if status == 422 {
        let list = problem["detail"].as_array().unwrap();
        assert!(!list.is_empty());
        for field in list {
            assert!(
                field["loc"].is_array() && field["msg"].is_string() && field["type"].is_string()
            );
        }
    } else {
        assert!(problem["detail"].is_string(), "{}", answer.text);
    }
    assert_eq!(problem["status"], status);
    assert_eq!(problem["request_id"], answer.header("x-request-id"));
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_gets_its_status_and_leaves_nothing_behind() {
    let mut world = World::start().await;
    let (own, other) = (world.tenant().await, world.tenant().await);
    world
        .calls(&own)
        .register("u", &apple(seed(), 1), "ios")
        .await;
    world.server.stop().await;
    let before = lasting(&world);
    world.server.restart().await;

    let callers = Callers {
        key: world.calls(&own).caller,
        person: world.person(),
        nobody: world.server.caller(),
    };
    // Warm: buffers and caches of an ordinary refusal are there.
    for wrong in contents() {
        check(&callers, &own.id, wrong).await;
    }
    let memory = world.server.memory_kib("VmRSS");
    let wrong = contents()
        .into_iter()
        .chain(sizes())
        .chain(doors(&own.id, &other.id));
    for wrong in wrong {
        check(&callers, &own.id, wrong).await;
    }
    media_types(&callers.key, &own.id).await;
    let place = world
        .server
        .public()
        .trim_start_matches("http://")
        .to_owned();
    let (tenant, key) = (own.id.clone(), own.key.clone());
    let status = tokio::task::spawn_blocking(move || endless(&place, &tenant, &key));
    assert_eq!(status.await.unwrap(), 413);
    let peak = world.server.memory_kib("VmHWM");
    let growth = peak.saturating_sub(memory);
    println!("memory: {memory} KiB before, {peak} KiB at its highest, {growth} KiB more");
    assert!(growth < GROWTH_MAX_KIB, "{growth} KiB more");

    let stats = world.simulator.stats();
    assert_eq!((stats.processed, stats.apns_connections), (0, 0));
    world.server.stop().await;
    assert_eq!(lasting(&world), before);
}

/// How many rows each table has, but for those that tell of refusals too: who asked for what, and which keys were used.
fn lasting(world: &World) -> BTreeMap<String, u64> {
    let mut rows = world.server.rows();
    let tells = |table: &str| table.ends_with("audit") || table.ends_with("api_key_usage");
    let all = rows.len();
    rows.retain(|table, _| !tells(table));
    assert_eq!(rows.len() + 2, all, "{rows:?}");
    rows
}

/// What is not JSON by its own word.
async fn media_types(key: &Caller, tenant: &str) {
    let body =
        json!({"device_tokens": raw(&[apple(seed(), 1)]), "alert": {"title": "x"}}).to_string();
    let headers = [
        ("content-type", "text/plain"),
        ("content-type", "application/x-www-form-urlencoded"),
        ("content-type", "application/json; charset=utf-16"),
        ("content-encoding", "gzip"),
    ];
    for (name, value) in headers {
        let request = key.request(Method::POST, &format!("/tenants/{tenant}/notify"));
        let answer = Caller::send(request.header(name, value).body(body.clone())).await;
        assert_eq!(answer.status, 415, "{name}: {value}: {}", answer.text);
    }
}

/// Sends a body without a declared length, piece by piece, far beyond the limit; returns the status.
fn endless(place: &str, tenant: &str, key: &str) -> u16 {
    let mut stream = TcpStream::connect(place).unwrap();
    let head = format!(
        "POST /tenants/{tenant}/notify/bulk HTTP/1.1\r\nHost: clarion\r\nX-API-Key: {key}\r\n\
         Content-Type: application/json\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let piece = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
    for _ in 0..HUGE / 0x10000 {
        // The server may have had enough.
        if stream.write_all(piece.as_bytes()).is_err() {
            break;
        }
    }
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    let text = String::from_utf8_lossy(&answer).into_owned();
    text.split(' ').nth(1).unwrap().parse().unwrap()
}
