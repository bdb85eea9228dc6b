//! Whose turn it is: pages and waiting rows are dealt to tenants one by one, without a database.
//! It must not know where pages and rows are kept.

use std::collections::VecDeque;

use crate::model::{NotificationId, TenantId};

/// Whose turn it is: the last tenant served.
#[derive(Debug, Default)]
pub(super) struct Turns {
    pub(super) pages: String,
    pub(super) waiting: String,
}

/// A page to hand out.
#[derive(Clone, Debug)]
pub(super) struct Choice {
    pub(super) tenant: TenantId,
    pub(super) notification: NotificationId,
    pub(super) page: u32,
    pub(super) recheck: bool,
    /// It is a selection's and not written yet.
    pub(super) is_open: bool,
}

impl Choice {
    pub(super) fn key(&self) -> (&TenantId, NotificationId, u32) {
        (&self.tenant, self.notification, self.page)
    }
}

/// A notification with pages to reserve: the next one, and how many.
pub(super) struct Room {
    pub(super) notification: NotificationId,
    pub(super) next: u32,
    pub(super) pages: u32,
    /// It is a selection: its pages are written when it is their turn.
    pub(super) is_open: bool,
}

/// One page of each tenant in turn, and within a tenant of each notification in turn, until `max` are dealt.
pub(super) fn deal_pages(
    mut tenants: VecDeque<(TenantId, VecDeque<Room>)>,
    max: u32,
) -> Vec<Choice> {
    let mut dealt = Vec::new();
    while dealt.len() < max as usize {
        let Some((tenant, mut rooms)) = tenants.pop_front() else {
            break;
        };
        let Some(mut room) = rooms.pop_front() else {
            continue;
        };
        dealt.push(Choice {
            tenant: tenant.clone(),
            notification: room.notification,
            page: room.next,
            recheck: false,
            is_open: room.is_open,
        });
        (room.next, room.pages) = (room.next + 1, room.pages - 1);
        if room.pages > 0 {
            rooms.push_back(room);
        }
        tenants.push_back((tenant, rooms));
    }
    dealt
}

/// How many pages of each notification are chosen, with one of them.
pub(super) fn in_all(chosen: &[Choice]) -> Vec<(&Choice, u32)> {
    let mut all: Vec<(&Choice, u32)> = Vec::new();
    for choice in chosen {
        let known = all.iter_mut().find(|(one, _)| {
            one.notification == choice.notification && one.tenant == choice.tenant
        });
        match known {
            Some((_, pages)) => *pages += 1,
            None => all.push((choice, 1)),
        }
    }
    all
}

/// One row of each queue in turn until `max` are dealt.
pub(super) fn deal_rows<K: Clone, R>(
    mut queues: VecDeque<(K, VecDeque<R>)>,
    max: u32,
) -> Vec<(K, R)> {
    let mut dealt = Vec::new();
    while dealt.len() < max as usize {
        let Some((queue, mut rows)) = queues.pop_front() else {
            break;
        };
        if let Some(row) = rows.pop_front() {
            dealt.push((queue.clone(), row));
            queues.push_back((queue, rows));
        }
    }
    dealt
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn pages_are_dealt_to_tenants_in_turn_and_to_their_notifications_in_turn() {
        let room = |id: u128, next, pages| Room {
            notification: NotificationId(Uuid::from_u128(id)),
            next,
            pages,
            is_open: false,
        };
        let tenants = VecDeque::from([
            (
                "a".parse().unwrap(),
                VecDeque::from([room(1, 3, 9), room(2, 0, 1)]),
            ),
            ("b".parse().unwrap(), VecDeque::from([room(3, 5, 1)])),
        ]);
        let dealt: Vec<(String, u128, u32)> = deal_pages(tenants, 5)
            .into_iter()
            .map(|c| (c.tenant.to_string(), c.notification.0.as_u128(), c.page))
            .collect();
        let expected = [
            ("a", 1, 3),
            ("b", 3, 5),
            ("a", 2, 0),
            ("a", 1, 4),
            ("a", 1, 5),
        ];
        let expected: Vec<(String, u128, u32)> = expected
            .into_iter()
            .map(|(tenant, id, page)| (tenant.to_owned(), id, page))
            .collect();
        assert_eq!(dealt, expected);
    }
}
