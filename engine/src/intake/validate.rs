//! A publish request judged before it is published, by everything that can be known without a store.
//! It must not know whether a tenant, a user or a message id is known.

use super::reason::owner;
use super::take::{address, read_for};
use super::{Expiry, check, expires_at};
use crate::model::{Environment, Lane, Millis, Notification, NotificationId, Platform};

use super::request::{PROBLEMS_MAX, Problem};

/// Every problem of a request that is about to be published, at most [`PROBLEMS_MAX`]; none means that only the tenant's
/// own state could refuse it. What it says is checked for `platforms`, unless its device tokens name theirs.
#[must_use]
pub fn validate_request(
    body: &[u8],
    routing_key: Option<&str>,
    platforms: &[Platform],
    now: Millis,
) -> Vec<Problem> {
    let address = routing_key.map(address);
    if address == Some(None) {
        let message = "the routing key is not TENANT.transactional or TENANT.bulk";
        return vec![Problem::value([], message)];
    }
    let address = address.flatten();
    let known = address.as_ref().map(|(tenant, lane)| (tenant, *lane));
    let read = match read_for(body, known, now) {
        Ok(read) => read,
        Err(problems) => return problems,
    };
    let mut problems = Vec::new();
    let audience = read.named.into_audience(Environment::Production);
    let named = match audience {
        Ok(audience) => audience.platforms(),
        Err(found) => {
            problems.extend(found);
            None
        }
    };
    let created_at = read.created_at.map_or(now, |at| at.min(now));
    let expiry = read.message.expiry.unwrap_or(Expiry::Default);
    let expires_at = expires_at(expiry, created_at, now).unwrap_or_else(|refusal| {
        problems.push(refusal.into());
        now
    });
    let notification = Notification {
        id: NotificationId(uuid::Uuid::nil()),
        tenant: owner(routing_key.unwrap_or_default()),
        lane: known.map_or(Lane::Transactional, |(_, lane)| lane),
        created_at,
        expires_at,
        content: read.message.content,
        options: read.message.options,
    };
    let refusals = check::refusals(&notification, named.as_deref().unwrap_or(platforms));
    problems.extend(refusals.into_iter().map(Problem::from));
    problems.truncate(PROBLEMS_MAX);
    problems
}
