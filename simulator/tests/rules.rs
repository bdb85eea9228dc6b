//! Rules: which requests they act on.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use clarion_simulator::{
    Identity, Ledger, Options, Rules, Simulator, apns_test_device_token, share_matches,
};
use support::Apns;

/// Statuses of `count` pushes under these rules.
async fn statuses(rules: &str, count: u64) -> Vec<u16> {
    let apns = Apns::start(Options::default()).await;
    apns.simulator.set_rules_toml(rules).unwrap();
    let mut statuses = Vec::new();
    for number in 0..count {
        let push = apns.good.clone().to(&apns_test_device_token(7, number));
        statuses.push(apns.push(&push).await.unwrap().status);
    }
    statuses
}

#[tokio::test]
async fn counting_rules_act_on_the_requests_they_name() {
    let act = "action.reason = 'ServiceUnavailable'";
    for (when, wanted) in [
        ("nth = 2", [200, 503, 200, 200, 200, 200]),
        ("every = 3", [200, 200, 503, 200, 200, 503]),
        ("first = 2", [503, 503, 200, 200, 200, 200]),
        ("every = 2, first = 1", [200, 503, 200, 200, 200, 200]),
        ("connection = 1, every = 1", [503; 6]),
        ("connection = 2", [200; 6]),
        ("from_ms = 600000", [200; 6]),
        ("until_ms = 0", [200; 6]),
        ("until_ms = 600000, topic = 'com.example.app'", [503; 6]),
        ("topic = 'com.example.other'", [200; 6]),
        ("provider = 'fcm'", [200; 6]),
        ("chance = 0.0", [200; 6]),
        ("chance = 1.0", [503; 6]),
    ] {
        let rules = format!("[[rule]]\nmatch = {{ {when} }}\n{act}\n");
        assert_eq!(statuses(&rules, 6).await, wanted, "{when}");
    }
}

#[tokio::test]
async fn device_tokens_are_matched_whole_or_by_their_beginning() {
    let third = apns_test_device_token(7, 2);
    for when in [
        format!("device_token = '{third}'"),
        format!("device_token_prefix = '{}'", &third[..9]),
    ] {
        let rules = format!("[[rule]]\nmatch = {{ {when} }}\naction.reason = 'Unregistered'");
        assert_eq!(statuses(&rules, 4).await, [200, 200, 410, 200]);
    }
}

#[tokio::test]
async fn the_first_rule_that_matches_acts() {
    let rules = "[[rule]]\nmatch.nth = 2\naction.status = 500\n[[rule]]\naction.status = 503\n";
    assert_eq!(statuses(rules, 3).await, [503, 500, 503]);
}

#[tokio::test]
async fn a_share_is_known_beforehand() {
    let rules = "seed = 11\n[[rule]]\nmatch.share = 0.3\naction.reason = 'Unregistered'";
    let got = statuses(rules, 200).await;
    let wanted: Vec<_> = (0..200)
        .map(|number| {
            if share_matches(11, &apns_test_device_token(7, number), 0.3) {
                410
            } else {
                200
            }
        })
        .collect();
    assert_eq!(got, wanted);
    assert!(!share_matches(1, "x", 0.0) && share_matches(1, "x", 1.0));
    let share = |share| {
        (0..10_000)
            .filter(|n| share_matches(5, &n.to_string(), share))
            .count()
    };
    assert!((2_700..3_300).contains(&share(0.3)), "{}", share(0.3));
}

#[tokio::test]
async fn a_refusal_of_the_provider_is_not_overruled() {
    let apns = Apns::start(Options::default()).await;
    apns.simulator
        .set_rules_toml("[[rule]]\naction.reason = 'Unregistered'")
        .unwrap();
    assert_eq!(
        apns.verdict(apns.good.clone().to("bad")).await.1,
        "BadDeviceToken"
    );
    assert_eq!(apns.verdict(apns.good.clone()).await.1, "Unregistered");
}

#[tokio::test]
async fn a_rule_file_is_read_at_the_start() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("rules.toml");
    std::fs::write(&path, "[[rule]]\naction.status = 503\n").unwrap();
    let options = Options {
        rules_path: Some(path.clone()),
        ..Options::default()
    };
    let apns = Apns::start(options.clone()).await;
    assert_eq!(apns.push(&apns.good).await.unwrap().status, 503);
    std::fs::write(&path, "[[rule]]\naction.status = 1\n").unwrap();
    assert!(Simulator::start(options).await.is_err());
    assert!(Rules::from_toml("").unwrap().rules.is_empty());
}

#[tokio::test]
async fn the_ledger_of_a_log_finds_what_was_repeated_or_lost() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("receipts.tsv");
    let options = Options {
        log_path: Some(path.clone()),
        ..Options::default()
    };
    let apns = Apns::start(options).await;
    let device = |number| apns_test_device_token(3, number);
    for number in [0, 1, 2, 1] {
        assert_eq!(
            apns.push(&apns.good.clone().to(&device(number)))
                .await
                .unwrap()
                .status,
            200
        );
    }
    apns.simulator
        .set_rules_toml("[[rule]]\naction.reason = 'Unregistered'")
        .unwrap();
    assert_eq!(
        apns.push(&apns.good.clone().to(&device(3)))
            .await
            .unwrap()
            .status,
        410
    );
    let mut ledger = Ledger::of_log(&path, Identity::Device).unwrap();
    let expected: Vec<_> = (0..5).map(device).collect();
    let found = ledger.compare(expected.iter().map(|device| ("", device.as_str())));
    assert_eq!(
        (
            found.missing,
            found.unexpected,
            found.duplicates,
            found.most_copies
        ),
        (2, 0, 1, 2)
    );
    assert_eq!((ledger.accepted(), ledger.refused()), (4, 1));
}
