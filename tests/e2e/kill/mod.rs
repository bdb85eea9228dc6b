//! `kill -9` at every phase of a notification's life: nothing is lost, and duplicates stay within the stated bound.
//! It must not know how the server recovers; it sees HTTP answers and the receive log.

mod ledger;
mod selection;

use std::time::Duration;

use clarion_simulator::{ApnsTestKey, FcmTestAccount};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use crate::harness::{
    Caller, Calls, Draw, ORG, PATIENCE, Providers, Server, Setup, Tail, Tenant, alone, apple,
    are_servers, google, raw, seed, size, until,
};
use ledger::{Kill, Sent};

/// Handed to a provider and not yet recorded: the bound on duplicates of a kill.
const UNRECORDED_MAX: u64 = 256;
/// What the providers take for an answer.
const LATENCY: Duration = Duration::from_millis(50);
/// Share of device tokens that are dead.
const DEAD_SHARE: f64 = 0.03;
/// Recipients a second of the limited tenant.
const LIMITED_RATE: u64 = 50;
/// Kills that miss their phase are drawn again at most so often.
const TRIES_MAX: u32 = 20;

/// What the server is doing when it dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// A request is in and not yet answered.
    Accepting,
    /// Requests are on their way to the providers.
    Sending,
    /// Answers have come and are being written down.
    Recording,
    /// Refused recipients wait for their next attempt.
    Waiting,
}

const PHASES: [Phase; 4] = [
    Phase::Accepting,
    Phase::Sending,
    Phase::Recording,
    Phase::Waiting,
];

/// What the providers do: some devices are dead, and a tenth of the rest is refused for the moment.
fn rules(seed: u64) -> String {
    format!(
        r#"
seed = {seed}
[[rule]]
match = {{ provider = "apns", share = {DEAD_SHARE} }}
action = {{ reason = "Unregistered" }}
[[rule]]
match = {{ provider = "fcm", share = {DEAD_SHARE} }}
action = {{ reason = "UNREGISTERED" }}
[[rule]]
match = {{ provider = "apns", chance = 0.1 }}
action = {{ reason = "InternalServerError" }}
[[rule]]
match = {{ provider = "fcm", chance = 0.1 }}
action = {{ reason = "INTERNAL" }}
"#
    )
}

/// A run: the server that dies, the providers that live on, and what was sent.
struct Run {
    server: Server,
    providers: Providers,
    tail: Tail,
    draw: Draw,
    tenants: [Tenant; 2],
    /// Device tokens given out; each is addressed by one notification only.
    tokens: u64,
    sent: Vec<Sent>,
    kills: Vec<Kill>,
}

impl Run {
    async fn start(seed: u64) -> Self {
        let providers = Providers::start("50ms", &rules(seed)).await;
        let setup = Setup::quick().with(
            "engine.unrecorded_max",
            i64::try_from(UNRECORDED_MAX).unwrap(),
        );
        let server = Server::start(providers.setup(setup)).await;
        let access_token = server.access_token(ORG, "owner");
        let person = server.caller().bearer(&access_token);
        let tenants = [
            tenant(&person, &providers, 0).await,
            tenant(&person, &providers, 1).await,
        ];
        let limits = json!({"limits": {"rate": LIMITED_RATE, "burst": LIMITED_RATE}});
        let path = format!("/tenants/{}", tenants[1].id);
        person.patch(&path, &limits).await.ok();
        Self {
            tail: Tail::of(&providers.log()),
            server,
            providers,
            draw: Draw::new(seed),
            tenants,
            tokens: 0,
            sent: Vec::new(),
            kills: Vec::new(),
        }
    }

    fn calls(&self, tenant: usize) -> Calls {
        let tenant = &self.tenants[tenant];
        Calls::new(self.server.caller().api_key(&tenant.key), &tenant.id)
    }

    /// A notification to `count` device tokens that nobody else addresses, not yet sent.
    fn compose(&mut self, tenant: usize, count: u64) -> usize {
        let seed = seed();
        let tokens = (self.tokens..self.tokens + count)
            .map(|number| {
                if number % 2 == 0 {
                    apple(seed, number)
                } else {
                    google(seed, number)
                }
            })
            .collect();
        self.tokens += count;
        self.sent.push(Sent {
            tenant,
            tokens,
            id: None,
        });
        self.sent.len() - 1
    }

    fn post(&self, index: usize) -> impl Future<Output = reqwest::Result<Value>> + Send + use<> {
        let sent = &self.sent[index];
        let calls = self.calls(sent.tenant);
        let body = json!({"device_tokens": raw(&sent.tokens), "alert": {"title": "Kill"}});
        let request = calls
            .caller
            .request(reqwest::Method::POST, &calls.path("notify/bulk"));
        let request = request
            .header("idempotency-key", format!("kill-{index}"))
            .json(&body);
        async move {
            let answer = Caller::try_send(request).await?;
            Ok(match answer.status {
                200 => answer.json()["results"][0]["message_id"].clone(),
                // The first request with this key is thought to be running still.
                409 => Value::Null,
                other => panic!("{other}: {}", answer.text),
            })
        }
    }

    async fn send(&mut self, tenant: usize, count: u64) {
        let index = self.compose(tenant, count);
        let id = self.post(index).await.unwrap();
        self.sent[index].id = Some(id.as_str().unwrap().to_owned());
    }

    /// Notifications of every size for about so many recipients, and some for the limited tenant.
    async fn load(&mut self, recipients: u64, limited: u64) {
        let mut left = recipients;
        for count in [1, 7, 100, 500] {
            let count = count.min(left);
            if count > 0 {
                self.send(0, count).await;
                left -= count;
            }
        }
        if left > 0 {
            self.send(0, left).await;
        }
        if limited > 0 {
            self.send(1, limited).await;
        }
    }

    /// Waits for the phase and kills; false if the server was through with it before.
    async fn kill_in(&mut self, phase: Phase) -> bool {
        // A server that never gets on is another matter: a job that is begun five times without a record is given up as
        // poison. More than the bound on unrecorded requests can only be received if some of them are recorded.
        if !self.kills.is_empty() {
            self.grown(2 * UNRECORDED_MAX).await;
        }
        let hit = match phase {
            Phase::Accepting => self.accepting().await,
            Phase::Sending => {
                let more = 1 + self.draw.below(400);
                self.grown(more).await
            }
            Phase::Recording => self.recording().await,
            Phase::Waiting => self.waiting().await,
        };
        self.server.kill9();
        self.providers.abandoned().await;
        self.kills.push(Kill {
            phase,
            hit,
            received: self.tail.count(),
        });
        self.server.restart().await;
        hit
    }

    /// In the middle of a request that takes as long as the last one of its size did.
    async fn accepting(&mut self) -> bool {
        let count = size("KILL_ACCEPTING", 2_000);
        let began = Instant::now();
        self.send(0, count).await;
        let usual = u64::try_from(began.elapsed().as_micros()).unwrap();
        let index = self.compose(0, count);
        let mut post = tokio::spawn(self.post(index));
        let moment = Duration::from_micros(usual * (10 + self.draw.below(80)) / 100);
        match timeout(moment, &mut post).await {
            Err(_) => {
                self.server.kill9();
                // Whatever it says: an answer that arrived counts, and a broken connection does not.
                if let Ok(Ok(Value::String(id))) = post.await {
                    self.sent[index].id = Some(id);
                    return false;
                }
                true
            }
            Ok(answer) => {
                let id = answer.unwrap().unwrap();
                self.sent[index].id = Some(id.as_str().unwrap().to_owned());
                false
            }
        }
    }

    /// When the providers have received so many more.
    async fn grown(&mut self, more: u64) -> bool {
        let target = self.tail.count() + more;
        let tail = std::sync::Mutex::new(&mut self.tail);
        let grown = until("the receive log to grow", PATIENCE, || {
            let count = tail.lock().unwrap().count();
            async move { (count >= target).then_some(()) }
        });
        timeout(Duration::from_secs(10), grown).await.is_ok()
    }

    /// At the first commit after a burst of answers.
    async fn recording(&mut self) -> bool {
        if !self.grown(100).await {
            return false;
        }
        // The latest of the burst is answered after this.
        let answered = Instant::now() + LATENCY;
        tokio::time::interval_at(answered, LATENCY).tick().await;
        if are_servers() {
            // No file of this machine shows the commit; a burst is recorded within a quarter of a second.
            let moment = Duration::from_millis(self.draw.below(250).max(1));
            tokio::time::interval_at(Instant::now() + moment, LATENCY)
                .tick()
                .await;
            return true;
        }
        let wal = self.server.home().join("data").join("store.db-wal");
        let stamp = || wal.metadata().and_then(|found| found.modified()).ok();
        let before = stamp();
        let mut looks = tokio::time::interval(Duration::from_millis(1));
        for _ in 0..2_000 {
            looks.tick().await;
            if stamp() != before {
                let moment = Duration::from_micros(self.draw.below(3_000));
                tokio::time::interval_at(Instant::now() + moment, LATENCY)
                    .tick()
                    .await;
                return true;
            }
        }
        false
    }

    /// When a recipient of some notification waits.
    async fn waiting(&mut self) -> bool {
        let calls = self.calls(0);
        let known = self.sent.iter().filter(|sent| sent.tenant == 0);
        let open: Vec<&str> = known.filter_map(|sent| sent.id.as_deref()).collect();
        let waits = until("a recipient to wait", PATIENCE, || async {
            for id in open.iter().rev() {
                let status = calls.status(id).await;
                if status["waiting"].as_u64().unwrap_or_default() > 0 {
                    return Some(());
                }
            }
            None
        });
        timeout(PATIENCE / 2, waits).await.is_ok()
    }

    /// Repeats what had no answer, until every notification is known by its id.
    async fn settle_unanswered(&mut self) {
        let unanswered: Vec<usize> = (0..self.sent.len())
            .filter(|index| self.sent[*index].id.is_none())
            .collect();
        for index in unanswered {
            let id = until("the repeated request to be answered", PATIENCE, || async {
                let id = self.post(index).await.unwrap();
                id.as_str().map(ToOwned::to_owned)
            })
            .await;
            self.sent[index].id = Some(id);
        }
    }
}

async fn tenant(person: &Caller, providers: &Providers, number: u64) -> Tenant {
    let (team_id, apns_key_id) = (format!("TEAM{number:06}"), format!("APNS{number:06}"));
    let project = format!("project-{number}");
    let key = ApnsTestKey::generate(&team_id, &apns_key_id).unwrap();
    let account = FcmTestAccount::generate(&project, providers.token_endpoint()).unwrap();
    let account: Value = serde_json::from_str(&account.service_account_json).unwrap();
    let body = json!({"org_id": ORG, "bundle_id": "com.example.app", "team_id": team_id,
        "key_id": apns_key_id, "private_key": key.p8_pem, "use_sandbox": false, "fcm": account});
    let made = person.post("/tenants", &body).await.ok();
    let id = made["tenant_id"].as_str().unwrap().to_owned();
    let (key_id, key) = Tenant::new_key(person, &id).await;
    Tenant {
        id,
        key,
        key_id,
        bundle_id: "com.example.app".to_owned(),
        team_id,
        apns_key_id,
        project,
    }
}

/// Which phase each kill is meant for: all equally often, in a drawn order.
fn plan(kills: u64, draw: &mut Draw) -> Vec<Phase> {
    let mut phases: Vec<Phase> = PHASES
        .into_iter()
        .cycle()
        .take(usize::try_from(kills).unwrap())
        .collect();
    draw.shuffle(&mut phases);
    phases
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_loses_nothing_and_repeats_little() {
    let _alone = alone().await;
    let (kills, recipients) = (size("KILL_KILLS", 4), size("KILL_RECIPIENTS", 6_000));
    let limited = size("KILL_LIMITED", 400);
    let patience = Duration::from_secs(size("KILL_PATIENCE_S", 120));
    println!(
        "kill: seed {}, {kills} kills, {recipients} recipients, {limited} of a limited tenant",
        seed()
    );
    let mut run = Run::start(seed()).await;
    for phase in plan(kills, &mut run.draw) {
        let mut tries = 0;
        loop {
            run.load(recipients / kills, limited / kills).await;
            if run.kill_in(phase).await {
                break;
            }
            tries += 1;
            assert!(tries < TRIES_MAX, "{phase:?} was never hit");
        }
    }
    run.settle_unanswered().await;
    let statuses = finish(&run, patience).await;
    run.server.stop().await;
    let found = ledger::compare(&run.providers.log(), &run.sent, &run.kills, seed());
    ledger::report(&found, &run.kills, run.tokens);
    ledger::assert_kept(&found, &run.sent, &statuses, seed());
    for phase in PHASES {
        let hits = run
            .kills
            .iter()
            .filter(|kill| kill.hit && kill.phase == phase)
            .count() as u64;
        assert!(hits >= kills / 4, "{phase:?} was hit {hits} times");
    }
}

/// Waits for every notification, and returns the last status of each.
async fn finish(run: &Run, patience: Duration) -> Vec<Value> {
    let deadline = Instant::now() + patience;
    let mut statuses = Vec::new();
    for sent in &run.sent {
        let calls = run.calls(sent.tenant);
        let id = sent.id.as_deref().unwrap();
        let finished = calls.finished_within(id, patience * 2);
        // What is not finished by then is lost; the ledger says what.
        match tokio::time::timeout_at(deadline, finished).await {
            Ok(status) => statuses.push(status),
            Err(_) => statuses.push(calls.status(id).await),
        }
    }
    statuses
}
