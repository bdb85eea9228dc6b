//! The ledger of a run with kills: what was accepted over HTTP against what the providers received.
//! It must not ask the server anything; statuses are handed in and only compared.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use clarion_simulator::{Provider, ReceiveLog, share_matches};
use serde_json::Value;

use super::{DEAD_SHARE, Phase, UNRECORDED_MAX};

/// Final states as a status names them.
const STATES: [&str; 9] = [
    "accepted",
    "unregistered",
    "rejected",
    "expired",
    "exhausted",
    "cancelled",
    "dead",
    "no_device",
    "unknown",
];

/// Copies that nothing explains, shown one by one.
const SHOWN_MAX: u64 = 5;

/// A notification: its device tokens, and its id once an answer has named it.
pub(super) struct Sent {
    pub(super) tenant: usize,
    pub(super) tokens: Vec<String>,
    pub(super) id: Option<String>,
}

/// A kill, and how many receipts there were when everything sent before it had been logged.
pub(super) struct Kill {
    pub(super) phase: Phase,
    pub(super) hit: bool,
    pub(super) received: u64,
}

/// What became of one device token.
#[derive(Default)]
struct Copies {
    /// Place in the log, time and connection of each acceptance.
    accepted: Vec<(u64, i64, u64)>,
    /// Ids of all its requests, refused ones included.
    ids: BTreeSet<(String, String)>,
}

/// What the comparison found.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) accepted: u64,
    /// Not dead, and never accepted.
    pub(super) missing: u64,
    /// Accepted and addressed by nobody, or dead.
    pub(super) unexpected: u64,
    /// Accepted again, by the kill between the two.
    pub(super) duplicates: Vec<u64>,
    /// Accepted again without a kill between.
    pub(super) unexplained: u64,
    /// Requests for one recipient under more than one id.
    pub(super) other_ids: u64,
}

fn is_dead(seed: u64, token: &str) -> bool {
    share_matches(seed, token, DEAD_SHARE)
}

/// Compares both sides.
pub(super) fn compare(log: &Path, sent: &[Sent], kills: &[Kill], seed: u64) -> Found {
    let mut by_token: BTreeMap<String, Copies> = BTreeMap::new();
    for receipt in ReceiveLog::read(log).unwrap() {
        let receipt = receipt.unwrap();
        let (accepted, at_ms) = (receipt.accepted(), receipt.at_ms());
        // The recipient's id is in the header at Apple's, and in the tag at both.
        let id = match receipt.provider {
            Provider::Apns => receipt.id,
            _ => String::new(),
        };
        let copies = by_token.entry(receipt.device_token).or_default();
        copies.ids.insert((id, receipt.collapse_id));
        if accepted {
            copies
                .accepted
                .push((receipt.seq, at_ms, receipt.connection));
        }
    }
    let mut found = Found {
        duplicates: vec![0; kills.len()],
        ..Found::default()
    };
    for token in sent.iter().flat_map(|sent| &sent.tokens) {
        let copies = by_token.remove(token).unwrap_or_default();
        found.other_ids += u64::from(copies.ids.len() > 1);
        match (is_dead(seed, token), copies.accepted.is_empty()) {
            (true, false) => found.unexpected += 1,
            (false, true) => found.missing += 1,
            _ => {}
        }
        found.accepted += u64::from(!copies.accepted.is_empty());
        for pair in copies.accepted.windows(2) {
            let is_between = |kill: &Kill| pair[0].0 <= kill.received && kill.received < pair[1].0;
            let between = kills.iter().position(is_between);
            match between {
                Some(kill) => found.duplicates[kill] += 1,
                None => {
                    if found.unexplained < SHOWN_MAX {
                        println!("kill: sent twice without a kill between: {pair:?} {token}");
                    }
                    found.unexplained += 1;
                }
            }
        }
    }
    found.unexpected += by_token.len() as u64;
    found
}

/// Prints what a proof records.
pub(super) fn report(found: &Found, kills: &[Kill], recipients: u64) {
    for (kill, duplicates) in kills.iter().zip(&found.duplicates) {
        let Kill {
            phase,
            hit,
            received,
        } = kill;
        println!("kill: {phase:?} hit {hit} at receipt {received}: {duplicates} duplicates");
    }
    println!(
        "kill: {recipients} recipients, {} accepted, {} missing, {} unexpected, \
         {} duplicates, {} unexplained",
        found.accepted,
        found.missing,
        found.unexpected,
        found.duplicates.iter().sum::<u64>(),
        found.unexplained,
    );
}

/// Nothing lost, one final state each, duplicates within the bound and under one id.
pub(super) fn assert_kept(found: &Found, sent: &[Sent], statuses: &[Value], seed: u64) {
    for status in statuses {
        if status["dead"] != 0 {
            println!("kill: given up as dead: {status}");
        }
    }
    let unfinished = statuses
        .iter()
        .filter(|status| status["state"] != "finished")
        .count();
    assert_eq!(
        (found.missing, unfinished),
        (0, 0),
        "LOST: missing recipients, unfinished notifications"
    );
    assert_eq!(found.unexpected, 0);
    for (sent, status) in sent.iter().zip(statuses) {
        let dead = sent
            .tokens
            .iter()
            .filter(|token| is_dead(seed, token))
            .count() as u64;
        let all = sent.tokens.len() as u64;
        let count = |state: &str| status[state].as_u64().unwrap();
        let sum: u64 = STATES.iter().map(|state| count(state)).sum();
        assert_eq!(
            (sum, &status["entries"]),
            (all, &Value::from(all)),
            "one final state each: {status}"
        );
        assert_eq!(
            (count("accepted"), count("unregistered")),
            (all - dead, dead),
            "{status}"
        );
    }
    for (number, duplicates) in found.duplicates.iter().enumerate() {
        assert!(
            *duplicates <= UNRECORDED_MAX,
            "kill {number}: {duplicates} duplicates"
        );
    }
    assert_eq!((found.unexplained, found.other_ids), (0, 0));
}
