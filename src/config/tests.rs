//! Each kind of configuration error with its exact text; the layers; the documentation of every key.
//! It must not need a running Clarion.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::layers::DEFAULTS;
use super::*;

/// A directory with a configuration file.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn sources(&self, text: &str, environment: &[(&str, &str)]) -> Sources {
        Sources {
            file: Some(self.write("c.toml", text)),
            environment: environment
                .iter()
                .map(|(n, v)| ((*n).to_string(), (*v).to_string()))
                .collect(),
            flags: Vec::new(),
        }
    }

    /// The error's text, with the directory's name cut out.
    fn error(&self, text: &str, environment: &[(&str, &str)]) -> String {
        let error = Config::load(&self.sources(text, environment))
            .unwrap_err()
            .to_string();
        error.replace(&format!("{}/", self.0.path().display()), "")
    }
}

fn empty() -> Sources {
    let place = Place::new();
    let sources = place.sources("", &[]);
    Sources {
        file: Some(PathBuf::from("/dev/null")),
        ..sources
    }
}

fn store_file(config: &Config) -> &Path {
    match &config.store.place {
        StorePlace::Sqlite(path) => path,
        StorePlace::Postgres(_) => panic!("no file"),
    }
}

#[test]
fn the_defaults_are_sound_and_say_what_the_design_says() {
    let config = Config::load(&empty()).unwrap();
    assert_eq!(
        config.engine.unrecorded_max,
        clarion_engine::limits::UNRECORDED_MAX_DEFAULT
    );
    assert_eq!(config.engine.threads, None);
    assert_eq!(
        config.server.bulk_entries_max,
        clarion_engine::limits::BULK_ENTRIES_MAX
    );
    assert_eq!(
        config.server.bulk_body_max,
        clarion_engine::limits::BULK_BODY_MAX
    );
    assert_eq!(config.server.body_max, clarion_engine::limits::BODY_MAX);
    assert_eq!(config.limits.rate, clarion_engine::limits::RATE_DEFAULT);
    assert_eq!(
        config.limits.backlog,
        clarion_engine::limits::BACKLOG_MAX_DEFAULT
    );
    assert_eq!(
        config.retry.attempts_max,
        clarion_engine::limits::ATTEMPTS_MAX
    );
    assert_eq!(
        config.retry.ttl_default,
        clarion_engine::limits::TTL_DEFAULT
    );
    assert_eq!(config.retry.unsent, [1, 5, 30].map(Duration::from_secs));
    assert_eq!(store_file(&config), Path::new("data/store.db"));
    assert!(
        matches!(&config.queue.place, QueuePlace::Sqlite(path) if path == Path::new("data/queue.db"))
    );
    assert!(config.server.admin_listen.ip().is_loopback());
    assert!(config.auth.signing_key.is_none() && config.auth.master_key.is_none());
    assert!(config.tls.ca_file.is_none());
}

#[test]
fn every_key_is_documented_with_its_unit_or_form() {
    const FORMS: [&str; 14] = [
        "Duration,",
        "Size,",
        "Number,",
        "Fraction,",
        "URL,",
        "Path ",
        "Text,",
        "true or false",
        "Secret.",
        "Address ",
        "durations,",
        "Directory ",
        " or \"",
        "a filter",
    ];
    let mut comment = String::new();
    let mut keys = 0;
    for line in DEFAULTS.lines() {
        if let Some(text) = line.strip_prefix('#') {
            comment.push_str(text);
        } else if line.contains(" = ") {
            assert!(
                FORMS.iter().any(|form| comment.contains(form)),
                "undocumented: {line} ({comment})"
            );
            keys += 1;
            comment.clear();
        } else {
            comment.clear();
        }
    }
    let (_, shown) = Config::load_shown(&empty()).unwrap();
    assert_eq!(keys, shown.len(), "one line and one comment per key");
}

#[test]
fn every_documented_range_is_the_one_that_is_checked() {
    let place = Place::new();
    let mut section = String::new();
    let mut ranges = 0;
    let mut comment = String::new();
    for line in DEFAULTS.lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']').to_string();
        } else if let Some(text) = line.strip_prefix('#') {
            comment.push_str(text);
        } else if let Some((key, _)) = line.split_once(" = ") {
            let form = ["Duration, ", "Size, ", "Number, ", "Fraction, "]
                .iter()
                .find(|form| comment.contains(**form));
            if let Some(form) = form {
                let text = comment.split_once(form).unwrap().1;
                let (least, most) = text.trim_end_matches('.').split_once(" to ").unwrap();
                let most = most.split(',').next().unwrap();
                let quoted = |text: &str| {
                    if *form == "Number, " || *form == "Fraction, " {
                        text.into()
                    } else {
                        format!("{text:?}")
                    }
                };
                let wrong = match *form {
                    "Number, " => "-1".to_string(),
                    "Fraction, " => "99.5".to_string(),
                    _ => "\"1000000h\"".to_string(),
                };
                let error = place.error(&format!("[{section}]\n{key} = {wrong}\n"), &[]);
                let (least, most) = (
                    quoted(least).replace('"', ""),
                    quoted(most).replace('"', ""),
                );
                let plain = |text: &str| text.trim_end_matches(".0").to_string();
                let says = format!("from {} to {}", plain(&least), plain(&most));
                let equal = error.contains(&says) || same_range(&error, &least, &most);
                assert!(
                    equal,
                    "{section}.{key} is documented as {least} to {most}: {error}"
                );
                ranges += 1;
            }
            comment.clear();
        } else {
            comment.clear();
        }
    }
    assert!(ranges > 30, "{ranges}");
}

/// The same range in other units.
fn same_range(error: &str, least: &str, most: &str) -> bool {
    let Some((_, range)) = error.rsplit_once("from ") else {
        return false;
    };
    let Some((low, high)) = range.split_once(" to ") else {
        return false;
    };
    let same = |one: &str, two: &str| {
        quantity::parse_duration(one).is_some_and(|d| Some(d) == quantity::parse_duration(two))
    };
    same(low, least) && same(high, most)
}

#[test]
fn all_errors_come_at_once_with_line_and_advice() {
    let place = Place::new();
    let text = "data_dir = \"\"\n\n[engine]\nunrecordd_max = 10\nunrecorded_max = 10\n\
                [log]\nformat = \"xml\"\n";
    let environment = [
        ("CLARION__RETRY__JITTER", "lots"),
        ("CLARION__SERVER__LISTN", "x"),
    ];
    assert_eq!(
        place.error(text, &environment),
        "the configuration has 6 problems\n  \
         c.toml:1: data_dir is \"\": give a text of 1 to 4096 characters without control characters\n  \
         c.toml:4: there is no key engine.unrecordd_max: did you mean engine.unrecorded_max?\n  \
         c.toml:5: engine.unrecorded_max is 10: give a whole number from 64 to 65536\n  \
         c.toml:7: log.format is \"xml\": give \"text\" or \"json\"\n  \
         CLARION__RETRY__JITTER: retry.jitter is \"lots\": give a number from 0 to 0.5\n  \
         CLARION__SERVER__LISTN: there is no key CLARION__SERVER__LISTN: did you mean \
         CLARION__SERVER__LISTEN?"
    );
}

/// A file, and the one line that is said about it.
const KINDS: &[(&str, &str)] = &[
    (
        "[engine]\nthreads = \"two\"",
        "c.toml:2: engine.threads is \"two\": give a whole number from 0 to 256",
    ),
    (
        "[ingest]\ncheck_devices = 1",
        "c.toml:2: ingest.check_devices is 1: give true or false",
    ),
    (
        "[server]\nlisten = \"localhost:80\"",
        "c.toml:2: server.listen is \"localhost:80\": give an IP address and a port such as \
             \"127.0.0.1:8080\" or \"[::1]:8080\"",
    ),
    (
        "[server]\nbody_max = \"3MB\"",
        "c.toml:2: server.body_max is \"3MB\": give a size such as 65536, \"256KiB\", \"16MiB\" or \"2GiB\", \
             from 1KiB to 16MiB",
    ),
    (
        "[connections]\nrequest_timeout = \"5\"",
        "c.toml:2: connections.request_timeout is \"5\": give a duration such as \"250ms\", \"30s\", \
         \"15m\", \"24h\" or \"7d\", from 100ms to 2m",
    ),
    (
        "[retry]\nunsent = []",
        "c.toml:2: retry.unsent is []: give 1 to 8 durations in brackets, each a duration such as \"250ms\", \
         \"30s\", \"15m\", \"24h\" or \"7d\", from 1ms to 1h",
    ),
    (
        "[store]\nurl = \"sqlite:///tmp/store.db\"",
        "c.toml:2: store.url names a file outside data_dir, which alone is locked against a second process: \
         put it there",
    ),
    (
        "[apns]\nendpoint_production = \"http://x\"",
        "c.toml:2: apns.endpoint_production is \"http://x\": give https://host[:port]",
    ),
    (
        "[fcm]\ntoken_endpoint = \"https://u:p@h/t\"",
        "c.toml:2: fcm.token_endpoint is \"https://u:p@h/t\": give https://host[:port]/path",
    ),
    (
        "[store]\nurl = \"mysql://x\"",
        "c.toml:2: store.url is not an address this build knows: give sqlite://PATH or \
         postgres://USER:PASSWORD@HOST/DATABASE",
    ),
    (
        "[log]\nlevel = \"a=b=c\"",
        "c.toml:2: log.level is not a filter: give error, warn, info, debug, trace, \
          or such as \"info,clarion_engine=debug\"",
    ),
    (
        "[metrics]\nlatency_buckets = [\"2s\", \"1s\"]",
        "c.toml:2: metrics.latency_buckets is not rising: order the bounds and keep each once",
    ),
    (
        "[servr]\n",
        "c.toml:1: there is no key servr: see `clarion config show` for all keys",
    ),
    (
        "server = 3\n",
        "c.toml:1: server is a section: write [server] and its keys below",
    ),
    (
        "[queue]\nrate = 3",
        "c.toml:2: there is no key queue.rate: did you mean limits.rate?",
    ),
    (
        "zebra = 3",
        "c.toml:1: there is no key zebra: see `clarion config show` for all keys",
    ),
];

#[test]
fn each_kind_of_error_has_its_text() {
    let place = Place::new();
    for (text, line) in KINDS {
        assert_eq!(
            place.error(text, &[]),
            format!("the configuration has 1 problem\n  {line}"),
            "{text}"
        );
    }
}

#[test]
fn contradictions_are_named_where_somebody_wrote_something() {
    let place = Place::new();
    let cases = [
        (
            "[server]\nlisten = \"127.0.0.1:9090\"",
            "c.toml:2: server.admin_listen is the same address as server.listen: give the \
             operator's listener a port of its own",
        ),
        (
            "[server]\nbody_max = \"16MiB\"\nbulk_body_max = \"1MiB\"",
            "c.toml:2: server.body_max is above server.bulk_body_max: lower it, or raise the other",
        ),
        (
            "[server]\nbulk_body_max = \"64MiB\"\nbodies_in_memory_max = \"32MiB\"",
            "c.toml:3: server.bodies_in_memory_max is below server.bulk_body_max, so that no bulk could be \
             taken: raise it",
        ),
        (
            "[retention]\nreceipts = \"2h\"",
            "c.toml:2: retention.payloads is longer than retention.receipts: lower it, or raise the other",
        ),
        (
            "[queue]\nurl = \"sqlite://{data_dir}/store.db\"",
            "c.toml:2: queue.url names the same file as store.url: give each its own",
        ),
    ];
    for (text, line) in cases {
        assert_eq!(
            place.error(text, &[]),
            format!("the configuration has 1 problem\n  {line}"),
            "{text}"
        );
    }
}

#[test]
fn bad_syntax_names_the_line_and_an_absent_file_is_an_error_only_when_it_was_named() {
    let place = Place::new();
    let error = place.error("[engine]\nthreads = = 3\n", &[]);
    assert!(error.contains("\n  c.toml:2: not TOML: "), "{error}");
    let sources = Sources {
        file: Some(place.0.path().join("absent.toml")),
        ..Sources::default()
    };
    let error = Config::load(&sources).unwrap_err().to_string();
    assert!(
        error.contains("absent.toml:1: the file cannot be read"),
        "{error}"
    );
    assert!(
        error.contains("correct --config or CLARION_CONFIG"),
        "{error}"
    );
    let by_variable = Sources {
        environment: vec![("CLARION_CONFIG".into(), "/nowhere/else.toml".into())],
        ..Sources::default()
    };
    assert!(Config::load(&by_variable).is_err());
}

#[test]
fn a_later_layer_replaces_single_keys_and_origins_are_shown() {
    let place = Place::new();
    let text = "data_dir = \"kept\"\n[engine]\nthreads = 2\nunrecorded_max = 100\n";
    let environment = [
        ("CLARION__ENGINE__UNRECORDED_MAX", "200"),
        ("CLARION__RETRY__UNSENT", "1ms, 2ms"),
    ];
    let sources =
        place
            .sources(text, &environment)
            .with_flag("server.listen", "[::1]:80", "--listen");
    let (config, shown) = Config::load_shown(&sources).unwrap();
    assert_eq!(
        (config.engine.threads, config.engine.unrecorded_max),
        (Some(2), 200)
    );
    assert_eq!(config.retry.unsent, [1, 2].map(Duration::from_millis));
    assert_eq!(store_file(&config), Path::new("kept/store.db"));
    let origin = |key: &str| {
        shown
            .iter()
            .find(|one| one.key == key)
            .unwrap()
            .origin
            .clone()
    };
    assert!(origin("engine.threads").ends_with("c.toml:3"));
    assert_eq!(
        origin("engine.unrecorded_max"),
        "CLARION__ENGINE__UNRECORDED_MAX"
    );
    assert_eq!(origin("server.listen"), "--listen");
    assert_eq!(origin("limits.rate"), "default");
    assert_eq!(shown[0].key, "data_dir");
}

#[test]
fn secrets_come_by_value_or_by_file_and_the_higher_layer_wins() {
    let place = Place::new();
    let file = place.write("key", "from-file\n");
    let path = file.to_str().unwrap();
    let master = |text: &str, environment: &[(&str, &str)]| {
        let config = Config::load(&place.sources(text, environment)).unwrap();
        config.auth.master_key.map(|key| key.reveal().to_string())
    };
    let by_value = "[auth]\nmaster_key = \"from-value\"\n";
    let by_file = format!("[auth]\nmaster_key_file = \"{path}\"\n");
    assert_eq!(master(by_value, &[]).as_deref(), Some("from-value"));
    assert_eq!(master(&by_file, &[]).as_deref(), Some("from-file"));
    let variable = [("CLARION__AUTH__MASTER_KEY_FILE", path)];
    assert_eq!(master(by_value, &variable).as_deref(), Some("from-file"));
    assert_eq!(
        master(&by_file, &[("CLARION__AUTH__MASTER_KEY", "env")]).as_deref(),
        Some("env")
    );
    let url = place.write("url", "sqlite://data/elsewhere.db");
    let config =
        Config::load(&place.sources("", &[("CLARION__STORE__URL_FILE", url.to_str().unwrap())]))
            .unwrap();
    assert_eq!(store_file(&config), Path::new("data/elsewhere.db"));
    let both = format!("{by_value}master_key_file = \"{path}\"\n");
    assert!(
        place
            .error(&both, &[])
            .ends_with("c.toml:3: auth.master_key and auth.master_key_file are both set: keep one")
    );
    let absent = place.error("[auth]\nsigning_key_file = \"/nowhere\"\n", &[]);
    assert!(
        absent.contains("auth.signing_key_file names a file that cannot be read ("),
        "{absent}"
    );
    let blank = place.write("blank", "\n");
    let blank = place.error(&format!("[store]\nurl_file = {blank:?}\n"), &[]);
    assert!(
        blank.ends_with(
            "1 problem\n  c.toml:2: store.url_file names an empty file: write the secret into it"
        ),
        "{blank}"
    );
}

#[test]
fn secrets_are_never_shown() {
    let place = Place::new();
    let secret = "hunter2hunter2";
    let text = format!("[auth]\nmaster_key = \"{secret}\"\nsigning_key = \"{secret}\"\n");
    let sources = place.sources(&text, &[]);
    let (config, shown) = Config::load_shown(&sources).unwrap();
    assert!(!format!("{config:?}{shown:?}").contains(secret));
    let value = |key: &str| {
        shown
            .iter()
            .find(|one| one.key == key)
            .unwrap()
            .value
            .clone()
    };
    assert_eq!(value("auth.master_key"), "\"********\"");
    assert_eq!(value("auth.master_key_file"), "\"\"");
    assert_eq!(value("store.url"), "\"sqlite://{data_dir}/store.db\"");
    let error = place.error(
        &format!("[store]\nurl = \"postgres://u:{secret}@h/d\"\n"),
        &[],
    );
    assert!(!error.contains(secret), "{error}");
    let error = place.error(&format!("[auth]\nmaster_key = \"{secret}\n"), &[]);
    assert!(!error.contains(secret), "{error}");
}
