//! What a user of the broker may do, as RabbitMQ's patterns, and what its lists say of users. Pure.
//! It must not know how they are set.
//!
//! RabbitMQ asks two questions of a publish to a topic exchange: may the user write to the exchange, and does the routing key
//! match the user's topic entry *for that exchange*. Without an entry the second is answered yes. So every user has an entry
//! for both exchanges, and may reach only one of them: a user who could write to the first and make queues could name the
//! first as a queue's dead-letter exchange, and what comes by that way is held to no entry.

use std::collections::{BTreeMap, BTreeSet};

use clarion_auth::TenantId;
use clarion_engine::model::Lane;
use serde_json::{Value, json};

/// Matches nothing.
const NOTHING: &str = "^$";

/// What a user is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It publishes requests of a tenant.
    Publishes,
    /// It hears a tenant's outcome events.
    Listens,
}

impl Kind {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Publishes => "publish",
            Self::Listens => "listen",
        }
    }

    /// A sentence's end.
    pub(super) fn says(self, tenant: &TenantId, prefix: &str) -> String {
        match self {
            Self::Publishes => {
                let lanes = [Lane::Transactional, Lane::Bulk]
                    .map(|lane| format!("{tenant}.{}", lane.as_str()))
                    .join(" and ");
                format!("may publish to {prefix}.publish with the routing keys {lanes}")
            }
            Self::Listens => format!(
                "may make queues named {tenant}.events.… and bind them to {prefix}.events with the \
                 key {tenant}"
            ),
        }
    }
}

/// Patterns of configure, write and read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Permits {
    pub(super) configure: String,
    pub(super) write: String,
    pub(super) read: String,
    /// The topic entries: exchange, write, read.
    pub(super) entries: [(String, String, String); 2],
}

impl Permits {
    pub(super) fn of(kind: Kind, tenant: &TenantId, prefix: &str) -> Self {
        let (publish, events) = exchanges(prefix);
        let (tenant, nothing) = (escaped(tenant.as_str()), NOTHING.to_owned());
        let lanes = [Lane::Transactional, Lane::Bulk]
            .map(Lane::as_str)
            .join("|");
        let entries = [
            (
                publish.clone(),
                format!("^{tenant}\\.({lanes})$"),
                nothing.clone(),
            ),
            (events.clone(), nothing.clone(), format!("^{tenant}$")),
        ];
        match kind {
            Kind::Publishes => Self {
                configure: nothing.clone(),
                write: format!("^{}$", escaped(&publish)),
                read: nothing,
                entries,
            },
            Kind::Listens => {
                let own = format!("{tenant}\\.events\\..+");
                Self {
                    configure: format!("^{own}$"),
                    write: format!("^{own}$"),
                    read: format!("^({}|{own})$", escaped(&events)),
                    entries,
                }
            }
        }
    }
}

/// The exchanges for requests and for events.
fn exchanges(prefix: &str) -> (String, String) {
    (format!("{prefix}.publish"), format!("{prefix}.events"))
}

/// Names hold letters, digits, dots, dashes and underscores, of which a pattern reads only the dot otherwise.
fn escaped(name: &str) -> String {
    name.replace('.', "\\.")
}

fn text<'a>(row: &'a Value, member: &str) -> &'a str {
    row[member].as_str().unwrap_or_default()
}

/// All users with permissions in a virtual host, from its permissions and its topic entries: whom they are for, and a warning
/// where no entry, or one that is not ours, holds them to a tenant.
pub(super) fn users(permissions: &[Value], entries: &[Value], prefix: &str) -> Vec<Value> {
    let mut entries_of: BTreeMap<(&str, &str), &Value> = BTreeMap::new();
    for entry in entries {
        entries_of.insert((text(entry, "user"), text(entry, "exchange")), entry);
    }
    let (publish, events) = exchanges(prefix);
    let rows = permissions.iter().map(|row| {
        let user = text(row, "user");
        let mut tenants = BTreeSet::new();
        let mut may = Vec::new();
        let mut warnings = Vec::new();
        let sides = [
            (Kind::Publishes, &publish, "write"),
            (Kind::Listens, &events, "read"),
        ];
        for (kind, exchange, side) in sides {
            // RabbitMQ takes the empty pattern for one that matches nothing.
            if ["", NOTHING].contains(&text(row, side)) {
                continue;
            }
            match entries_of.get(&(user, exchange.as_str())) {
                None => warnings.push(format!("no entry for {exchange}")),
                Some(entry) => match tenant_of(kind, text(entry, side), prefix) {
                    Some(tenant) => {
                        tenants.insert(tenant.to_string());
                        if Permits::of(kind, &tenant, prefix).is_set(row) {
                            may.push(kind.as_str());
                        }
                    }
                    None => warnings.push(format!(
                        "another entry for {exchange}: {}",
                        text(entry, side)
                    )),
                },
            }
        }
        if warnings.is_empty() && may.is_empty() && !tenants.is_empty() {
            warnings.push("other permissions than those of `clarion publisher add`".to_owned());
        }
        let joined = |words: Vec<String>| (!words.is_empty()).then(|| words.join(", "));
        json!({
            "user": user,
            "tenant": joined(tenants.into_iter().collect()),
            "may": joined(may.into_iter().map(str::to_owned).collect()),
            "warning": joined(warnings),
        })
    });
    rows.collect()
}

/// The tenant that an entry holds a user to, if the entry is exactly one of ours.
fn tenant_of(kind: Kind, pattern: &str, prefix: &str) -> Option<TenantId> {
    let inner = pattern.strip_prefix('^')?;
    let end = inner.find(['\\', '$'])?;
    let tenant: TenantId = inner[..end].parse().ok()?;
    let [publish, events] = Permits::of(kind, &tenant, prefix).entries;
    let ours = match kind {
        Kind::Publishes => publish.1,
        Kind::Listens => events.2,
    };
    (ours == pattern).then_some(tenant)
}

impl Permits {
    /// Whether a row of the virtual host's permissions is exactly this.
    fn is_set(&self, row: &Value) -> bool {
        let members = [
            ("configure", &self.configure),
            ("write", &self.write),
            ("read", &self.read),
        ];
        members
            .iter()
            .all(|(member, pattern)| text(row, member) == **pattern)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn acme(kind: Kind) -> Permits {
        Permits::of(kind, &"acme".parse().unwrap(), "clarion")
    }

    fn row(user: &str, permits: &Permits) -> Value {
        json!({
            "user": user, "vhost": "/", "configure": permits.configure, "write": permits.write,
            "read": permits.read,
        })
    }

    fn entries(user: &str, permits: &Permits) -> Vec<Value> {
        let rows = permits.entries.iter().map(|(exchange, write, read)| {
            json!({"user": user, "exchange": exchange, "write": write, "read": read})
        });
        rows.collect()
    }

    #[test]
    fn a_user_publishes_or_listens_and_is_held_to_both_entries() {
        let entries = [
            (
                "clarion.publish".to_owned(),
                r"^acme\.(transactional|bulk)$".to_owned(),
                "^$".to_owned(),
            ),
            (
                "clarion.events".to_owned(),
                "^$".to_owned(),
                "^acme$".to_owned(),
            ),
        ];
        let publishes = acme(Kind::Publishes);
        assert_eq!(
            (publishes.configure, publishes.write, publishes.read),
            ("^$".into(), r"^clarion\.publish$".into(), "^$".into())
        );
        assert_eq!(publishes.entries, entries);
        let listens = acme(Kind::Listens);
        let own = r"^acme\.events\..+$";
        assert_eq!((listens.configure, listens.write), (own.into(), own.into()));
        assert_eq!(listens.read, r"^(clarion\.events|acme\.events\..+)$");
        assert_eq!(listens.entries, entries);
    }

    #[test]
    fn a_user_without_an_entry_or_with_another_one_is_marked() {
        let (publishes, listens) = (acme(Kind::Publishes), acme(Kind::Listens));
        let everything = Permits {
            configure: ".*".into(),
            write: ".*".into(),
            read: ".*".into(),
            entries: publishes.entries.clone(),
        };
        let nothing = Permits {
            configure: String::new(),
            write: String::new(),
            read: "^$".into(),
            entries: publishes.entries.clone(),
        };
        let permissions = [
            row("shop", &publishes),
            row("hears", &listens),
            row("rogue", &everything),
            row("widened", &everything),
            row("odd", &publishes),
            row("monitor", &nothing),
        ];
        let mut all = entries("shop", &publishes);
        all.extend(entries("hears", &listens));
        all.extend(entries("widened", &publishes));
        all.push(
            json!({"user": "odd", "exchange": "clarion.publish", "write": "acme", "read": ""}),
        );
        let users = users(&permissions, &all, "clarion");
        let said = |n: usize| {
            let said = |member: &str| users[n][member].as_str().unwrap_or("-").to_owned();
            [said("tenant"), said("may"), said("warning")]
        };
        assert_eq!(said(0), ["acme", "publish", "-"]);
        assert_eq!(said(1), ["acme", "listen", "-"]);
        assert_eq!(
            said(2),
            [
                "-",
                "-",
                "no entry for clarion.publish, no entry for clarion.events"
            ]
        );
        assert!(said(3)[2].starts_with("other permissions"), "{:?}", said(3));
        assert_eq!(said(4)[2], "another entry for clarion.publish: acme");
        assert_eq!(said(5), ["-", "-", "-"]);
    }
}
