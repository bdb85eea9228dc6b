//! The command line as people type it: what parses, what is refused, and how the tree looks.
//! It must not need a running Clarion.
#![allow(clippy::unwrap_used)]

use clap::{CommandFactory, Parser};

use super::Cli;

fn parses(line: &str) -> Result<Cli, String> {
    // A vertical bar stands for a space within an argument.
    let words = std::iter::once("clarion")
        .chain(line.split(' '))
        .map(|word| word.replace('|', " "));
    Cli::try_parse_from(words).map_err(|error| error.to_string())
}

#[test]
fn the_tree_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn the_lines_of_the_documents_parse() {
    for line in [
        "tenant create --org acme --bundle-id com.acme --team-id TEAM123456 --key-id KEY1234567 --key-file k",
        "tenant create --org acme --bundle-id com.acme.app --production --fcm-file account.json",
        "tenant list --org acme --json",
        "tenant use t1",
        "tenant delete t1 --yes",
        "tenant api-key t1 --name backend-server",
        "tenant api-key --name backend|server",
        "tenant api-key",
        "tenant api-key t1 --list",
        "tenant api-key t1 --delete key_Ab3dEf9z",
        "tenant credentials apns --environment sandbox --team-id T --key-id K --key-file k.p8",
        "tenant credentials apns --certificate-file c.p12 --password-file p --tenant t1",
        "tenant credentials fcm --file account.json",
        "tenant credentials list",
        "tenant credentials delete apns-sandbox",
        "tenant limits t1 --rate 50 --burst default",
        "device register --user user-123 --token abcdef",
        "device register --user u --token a:b --platform android --version 1.2 --tenant t1 --api-key k",
        "device register --file devices.csv",
        "device register --file - --format ndjson",
        "device list --user user-123 --json",
        "device unregister --user user-123 --token abcdef",
        "push send --user user-123 --title Hello --body World --badge 1 --sound default --payload {\"a\":1}",
        "push send --user user-123 --silent",
        "push send --device-token abcdef --platform ios --environment sandbox --title Hello",
        "push bulk --users a,b,c --title T --body B",
        "push bulk --file users.txt --title T --lane bulk --ttl 1h --idempotency-key k",
        "push status 0190a0a0-0000-7000-8000-000000000000",
        "push failures 0190a0a0-0000-7000-8000-000000000000 --all --json",
        "dead list --tenant t1 --reason poison --before 2030-01-15T10:30:00Z --limit 5",
        "dead show 7 --tenant t1 --admin-url http://127.0.0.1:9090",
        "dead replay 7 8 --tenant t1",
        "dead replay --all",
        "dead purge --reason poison --yes",
        "job schema",
        "job schema --asyncapi",
        "job validate request.json --routing-key t1.transactional --platform ios --json",
        "job validate -",
        "job publish request.json --tenant t1 --lane bulk --platform ios --json",
        "job publish - --tenant t1 --url-file u --prefix other",
        "publisher add shop --tenant t1 --vhost / --prefix clarion",
        "publisher add shop-events --tenant t1 --listen --password-file p --json",
        "publisher list --management-url http://mq:15672 --management-user admin",
        "token mint --subject ada@example.com --org acme=admin --org other=member --ttl 1h",
        "config check --config c.toml",
        "config show --json",
        "config show --defaults",
        "simulate --apns-port 0 --latency 50ms --strict --fcm-account a.json",
        "simulate --sink --latency 50ms",
        "migrate --data-dir d",
        "healthcheck --url http://127.0.0.1:1",
        "openapi",
        "openapi --operator",
        "completions bash",
    ] {
        assert!(
            parses(line).is_ok(),
            "{line}: {}",
            parses(line).unwrap_err()
        );
    }
}

#[test]
fn incomplete_and_contradictory_lines_are_refused() {
    for (line, says) in [
        ("push send --user u", "--title"),
        ("push send --title T", "--user"),
        (
            "push send --user u --silent --title T",
            "cannot be used with",
        ),
        ("push send --device-token t --title T", "--platform"),
        ("push send --user u --title T --payload [1]", "JSON object"),
        ("push bulk --title T", "--users"),
        (
            "push bulk --users a --file f --title T",
            "cannot be used with",
        ),
        ("push status nonsense", "invalid value"),
        ("tenant create", "--org"),
        ("tenant create --org a --team-id T", "--key-id"),
        (
            "tenant create --org a --sandbox --production",
            "cannot be used with",
        ),
        ("tenant use a/b", "wrong character"),
        ("tenant limits --rate fast", "whole number"),
        ("tenant credentials apns", "--certificate-file"),
        (
            "tenant credentials apns --team-id T --key-id K --key-file k --certificate-file c",
            "cannot be used with",
        ),
        ("dead replay", "--all"),
        ("dead purge --all 7", "cannot be used with"),
        ("dead list --before yesterday", "invalid value"),
        ("device register", "--user"),
        ("device register --user u", "--token"),
        ("device register --file f --token t", "cannot be used with"),
        ("job validate", "<FILE>"),
        ("job validate f --platform windows", "invalid value"),
        ("token mint --subject ada", "--org"),
        (
            "token mint --subject ada --org acme=root",
            "owner, admin or member",
        ),
        ("simulate --sink --strict", "cannot be used with"),
        ("simulate --sink --fcm-port 1", "cannot be used with"),
        ("config show --json --defaults", "cannot be used with"),
    ] {
        let error = parses(line).expect_err(line);
        assert!(error.contains(says), "{line}: {error}");
    }
}

#[test]
fn a_misspelt_command_gets_a_suggestion() {
    assert!(parses("tenat list").unwrap_err().contains("tenant"));
    assert!(parses("push sned --user u").unwrap_err().contains("send"));
}

#[test]
fn every_command_and_flag_is_explained() {
    fn walk(command: &clap::Command, path: &str) {
        let path = format!("{path} {}", command.get_name());
        assert!(command.get_about().is_some(), "{path} has no explanation");
        for argument in command.get_arguments() {
            assert!(
                argument.get_help().is_some(),
                "{path}: {} has no explanation",
                argument.get_id()
            );
        }
        command
            .get_subcommands()
            .for_each(|inner| walk(inner, &path));
    }
    walk(&Cli::command(), "");
}
