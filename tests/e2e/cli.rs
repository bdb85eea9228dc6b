//! The command line against a live server: what it prints, what it does, and how it ends.
//! It must not know how a command makes its requests.

use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};

use crate::harness::{
    ORG, PATIENCE, World, apple, clarion, google, only_on_files, raw, seed, until,
};

/// A shell with an environment of its own.
struct Shell {
    environment: Vec<(String, String)>,
}

impl Shell {
    fn new(world: &World) -> Self {
        let home = world.server.home().to_string_lossy().into_owned();
        let environment = [
            ("XDG_CONFIG_HOME", home.as_str()),
            ("HOME", home.as_str()),
            ("CLARION_URL", world.server.public()),
            ("CLARION_TOKEN", world.access_token.as_str()),
            ("NO_COLOR", "1"),
        ];
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        Self {
            environment: environment.into_iter().map(owned).collect(),
        }
    }

    fn with(&self, name: &str, value: &str) -> Self {
        let mut environment = self.environment.clone();
        environment.retain(|(known, _)| known != name);
        environment.push((name.to_owned(), value.to_owned()));
        Self { environment }
    }

    async fn run(&self, arguments: &[&str]) -> Output {
        let mut command = clarion();
        command
            .args(arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        tokio::task::spawn_blocking(move || command.output().unwrap())
            .await
            .unwrap()
    }

    /// Standard output of a command that must succeed.
    async fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments).await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
        assert!(
            !output.stdout.contains(&0x1b),
            "{arguments:?} prints escapes"
        );
        String::from_utf8(output.stdout)
            .unwrap()
            .trim_end()
            .to_owned()
    }

    async fn json(&self, arguments: &[&str]) -> Value {
        let text = self.ok(&[arguments, &["--json"]].concat()).await;
        serde_json::from_str(&text).unwrap_or_else(|_| panic!("{arguments:?}: {text}"))
    }

    /// Exit code and complaint of a command that must fail.
    async fn fails(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.run(arguments).await;
        let code = output.status.code().unwrap();
        assert_ne!(code, 0, "{arguments:?} succeeded");
        (code, String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

fn write(directory: &Path, name: &str, text: &str) -> String {
    let path = directory.join(name);
    std::fs::write(&path, text).unwrap();
    path.to_string_lossy().into_owned()
}

/// Creates a tenant with both credentials, makes it the default, and an API key; returns the shell with the key.
async fn set_up(world: &World, shell: &Shell) -> (Shell, String) {
    let key = world
        .simulator
        .apns_test_key("TEAMCLI000", "APNSCLI000")
        .unwrap();
    let account = world.simulator.fcm_test_account("cli-project").unwrap();
    let home = world.server.home();
    let p8 = write(home, "AuthKey.p8", &key.p8_pem);
    let fcm = write(home, "account.json", &account.service_account_json);
    let create = [
        "tenant",
        "create",
        "--org",
        ORG,
        "--bundle-id",
        "com.example.cli",
        "--team-id",
        "TEAMCLI000",
        "--key-id",
        "APNSCLI000",
        "--key-file",
        &p8,
        "--production",
    ];
    let tenant = shell.json(&create).await["tenant_id"]
        .as_str()
        .unwrap()
        .to_owned();
    shell.ok(&["tenant", "use", &tenant]).await;
    shell
        .ok(&["tenant", "credentials", "fcm", "--file", &fcm])
        .await;
    let listed = shell.ok(&["tenant", "credentials", "list"]).await;
    assert!(
        listed.contains("apns-production") && listed.contains("fcm"),
        "{listed}"
    );
    // The source document's own line, and the same for the default tenant.
    let by_id = shell
        .ok(&["tenant", "api-key", &tenant, "--name", "backend-server"])
        .await;
    assert!(by_id.starts_with("msk_live_"), "{by_id}");
    let made = shell
        .ok(&["tenant", "api-key", "--name", "backend-server"])
        .await;
    let keys = shell.json(&["tenant", "api-key", "--list"]).await;
    assert_eq!(keys.as_array().unwrap().len(), 2);
    let shell = shell
        .with("CLARION_API_KEY", &made)
        .with("CLARION_TOKEN", "");
    (shell, tenant)
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_devices_and_pushes_are_managed_from_the_command_line() {
    let world = World::start().await;
    let person = Shell::new(&world);
    let (shell, tenant) = set_up(&world, &person).await;
    let list = person.json(&["tenant", "list", "--org", ORG]).await;
    assert_eq!(list["tenants"][0]["tenant_id"], tenant);
    let limits = person.json(&["tenant", "limits", "--rate", "123"]).await;
    assert!(limits.to_string().contains("123"), "{limits}");
    let droid = devices(&world, &shell).await;
    pushes(&world, &shell).await;

    let words = ["device", "unregister", "--user", "ada", "--token", &droid];
    shell.ok(&words).await;
    let left = shell.ok(&["device", "list", "--user", "ada"]).await;
    assert!(!left.contains(&droid));
    let send = ["push", "send", "--user", "nobody", "--title", "Hello"];
    let (code, said) = shell.fails(&send).await;
    assert!(code == 1 && said.contains("device"), "{code}: {said}");
    let yes = person.ok(&["tenant", "delete", &tenant, "--yes"]).await;
    assert_eq!(yes, "");
    let (code, said) = shell.fails(&["device", "list"]).await;
    assert!(code == 1 && said.contains("401"), "{code}: {said}");
}

/// Registers two devices of ada and ten of bob; returns ada's second device token.
async fn devices(world: &World, shell: &Shell) -> String {
    let (phone, droid) = (apple(seed(), 1), google(seed(), 2));
    let register = ["device", "register", "--user", "ada", "--token"];
    shell
        .ok(&[&register[..], &[&phone, "--version", "1.2"]].concat())
        .await;
    shell
        .ok(&[&register[..], &[&droid, "--platform", "android"]].concat())
        .await;
    let lines = (10..20).map(|number| format!("bob,{},ios\n", apple(seed(), number)));
    let csv = format!("user_id,token,platform\n{}", lines.collect::<String>());
    let file = write(world.server.home(), "devices.csv", &csv);
    shell.ok(&["device", "register", "--file", &file]).await;
    let listed = shell
        .ok(&["device", "list", "--user", "ada", "--json"])
        .await;
    assert!(listed.contains(&droid), "{listed}");
    let listed = shell.ok(&["device", "list", "--user", "bob"]).await;
    assert_eq!(listed.lines().count(), 11, "{listed}");
    droid
}

async fn pushes(world: &World, shell: &Shell) {
    let send = [
        "push", "send", "--user", "ada", "--title", "Hello", "--body", "World",
    ];
    let more = ["--badge", "2", "--payload", r#"{"order": 7}"#];
    let id = shell.ok(&[&send[..], &more].concat()).await;
    let status = shell.json(&["push", "status", &id, "--watch"]).await;
    assert_eq!(
        (&status["accepted"], &status["state"]),
        (&json!(2), &json!("finished"))
    );
    let bulk = [
        "push",
        "bulk",
        "--users",
        "ada, bob,nobody",
        "--title",
        "All",
    ];
    let id = shell.ok(&bulk).await;
    let status = shell.json(&["push", "status", &id, "--watch"]).await;
    assert_eq!(
        (&status["accepted"], &status["no_device"]),
        (&json!(12), &json!(1))
    );
    let failures = shell.ok(&["push", "failures", &id]).await;
    assert!(
        failures.contains("nobody") && failures.contains("no_device"),
        "{failures}"
    );
    let users = write(world.server.home(), "users.txt", "ada\nbob\n");
    shell
        .ok(&["push", "bulk", "--file", &users, "--silent"])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_codes_tell_scripts_what_happened() {
    let mut world = World::start().await;
    let tenant = world.tenant().await;
    let shell = Shell::new(&world)
        .with("CLARION_API_KEY", &tenant.key)
        .with("CLARION_TENANT", &tenant.id);
    let send = ["push", "send", "--user", "u", "--title", "Hello"];
    let config = write(
        world.server.home(),
        "bad.toml",
        "[retry]\nscael = 2\nattempts_max = \"many\"\n",
    );
    let table: [(Shell, &[&str], i32); 6] = [
        (shell.with("CLARION_TENANT", ""), &send, 2),
        (
            shell.with("CLARION_API_KEY", "").with("CLARION_TOKEN", ""),
            &send,
            2,
        ),
        (shell.with("CLARION_URL", ""), &["push", "send"], 2),
        (
            shell
                .with("CLARION_API_KEY", "msk_live_wrong")
                .with("CLARION_TOKEN", ""),
            &send,
            1,
        ),
        (shell.with("CLARION_URL", "http://127.0.0.1:1"), &send, 75),
        (
            shell.with("CLARION_URL", ""),
            &["config", "check", "--config", &config],
            78,
        ),
    ];
    for (shell, arguments, code) in table {
        let (found, said) = shell.fails(arguments).await;
        assert_eq!(found, code, "{arguments:?}: {said}");
        assert!(!said.contains(&tenant.key), "a key is shown");
    }
    let (_, said) = shell.fails(&["config", "check", "--config", &config]).await;
    assert!(
        said.contains("scale") && said.contains("attempts_max"),
        "every error at once: {said}"
    );
    let (_, said) = shell.fails(&["serve", "--config", &config]).await;
    assert!(said.contains("scale"), "{said}");

    assert_eq!(shell.ok(&["healthcheck"]).await, "ready");
    world.server.stop().await;
    assert_eq!(shell.fails(&["healthcheck"]).await.0, 75);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_describes_itself() {
    let world = World::start().await;
    let shell = Shell::new(&world);
    let nobody = world.server.caller();
    for path in ["/livez", "/readyz", "/health", "/"] {
        assert_eq!(nobody.get(path).await.status, 200, "{path}");
        assert_eq!(
            world.server.operator().get(path).await.status,
            if path == "/" { 404 } else { 200 },
            "{path}"
        );
    }
    let served = nobody.get("/openapi.json").await.ok();
    let printed: Value = serde_json::from_str(&shell.ok(&["openapi"]).await).unwrap();
    assert_eq!(served["paths"], printed["paths"]);
    assert!(served["paths"]["/tenants/{tenant}/notify"]["post"].is_object());
    let calls = world.calls(&world.tenant().await);
    calls
        .finished(&calls.alert_to(&[apple(seed(), 1)]).await)
        .await;
    let metrics = world.server.operator().get("/metrics").await;
    assert_eq!(metrics.status, 200);
    assert!(
        metrics.text.contains("clarion_entries_accepted_total"),
        "{}",
        metrics.text
    );
    assert_eq!(nobody.get("/metrics").await.status, 404);

    let config = world.server.config().to_string_lossy().into_owned();
    let shown = shell.ok(&["config", "show", "--config", &config]).await;
    assert!(shown.contains("scale = 0.01  # /"), "{shown}");
    for name in ["bash", "zsh", "fish"] {
        assert!(
            shell.ok(&["completions", name]).await.contains("clarion"),
            "{name}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_listed_replayed_and_purged() {
    let world = World::start().await;
    let tenant = world.tenant().await;
    let shell = Shell::new(&world)
        .with("CLARION_TENANT", &tenant.id)
        .with("CLARION_ADMIN_URL", world.server.admin());
    let listed = shell.json(&["dead", "list"]).await;
    assert_eq!(listed["dead"], json!([]));
    let (code, _) = shell.fails(&["dead", "show", "1"]).await;
    assert_eq!(code, 1);
    shell.ok(&["dead", "purge", "--all", "--yes"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_process_owns_a_data_directory() {
    if only_on_files("processes share servers, and any number of them may start") {
        return;
    }
    let world = World::start().await;
    let config = world.server.config().to_string_lossy().into_owned();
    let (code, said) = Shell::new(&world)
        .fails(&["serve", "--config", &config])
        .await;
    assert!(code != 0 && said.contains("another"), "{code}: {said}");
    let calls = world.calls(&world.tenant().await);
    let body = json!({"device_tokens": raw(&[apple(seed(), 1)]), "alert": {"title": "Hello"}});
    calls.finished(&calls.notify(&body).await).await;
    until("readiness", PATIENCE, || async {
        (world.server.caller().get("/readyz").await.status == 200).then_some(())
    })
    .await;
}
