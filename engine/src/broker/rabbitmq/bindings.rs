//! Which tenants' messages go to which of the queues that backends' messages wait in.
//! It must not know what is published, nor who consumes.
//!
//! A tenant that is not bound loses nothing: its messages go to the queue behind the alternate exchange, which is consumed
//! like the others. The bindings only keep tenants out of each other's way.

use std::collections::{BTreeSet, HashSet};
use std::convert::Infallible;
use std::future::pending;
use std::sync::{Mutex, PoisonError};

use lapin::Channel;
use tokio::sync::Notify;

use super::declare::bind;
use super::link::{Link, LinkError};
use super::names::Names;
use super::publisher::Tools;
use crate::broker::QueueName;
use crate::model::TenantId;

/// Tenants that have a binding of their own; those beyond share the queue of the unbound.
const TENANTS_MAX: usize = 100_000;

/// The tenants that are known to this process, and the shards whose queues are there.
#[derive(Debug, Default)]
pub(super) struct Bindings {
    state: Mutex<State>,
    more: Notify,
}

#[derive(Debug, Default)]
struct State {
    tenants: BTreeSet<TenantId>,
    /// Declared, with whatever bindings they had before or none.
    shards: HashSet<u16>,
    bound: HashSet<TenantId>,
}

impl Bindings {
    /// These tenants exist.
    pub(super) fn know(&self, queues: &[QueueName]) {
        let mut state = self.lock();
        for queue in queues {
            if state.tenants.len() < TENANTS_MAX && !state.tenants.contains(&queue.tenant) {
                state.tenants.insert(queue.tenant.clone());
            }
        }
        self.more.notify_one();
    }

    /// A shard's queue is there, perhaps anew and without bindings.
    pub(super) fn declared(&self, shard: u16) {
        let mut state = self.lock();
        state.shards.insert(shard);
        state
            .bound
            .retain(|tenant| Names::publish_binding(tenant).0 != shard);
        self.more.notify_one();
    }

    /// A new connection: nothing is known of the broker.
    pub(super) fn begin(&self) {
        let mut state = self.lock();
        state.shards.clear();
        state.bound.clear();
    }

    /// Binds as tenants and shards come.
    pub(super) async fn keep(&self, link: &Link, tools: &Tools) -> Result<Infallible, LinkError> {
        if tools.is_passive {
            return pending().await;
        }
        loop {
            let more = self.more.notified();
            self.bind_all(link, tools).await?;
            more.await;
        }
    }

    async fn bind_all(&self, link: &Link, tools: &Tools) -> Result<(), LinkError> {
        let mut open: Option<Channel> = None;
        for tenant in self.due() {
            let (shard, key) = Names::publish_binding(&tenant);
            if !self.lock().shards.contains(&shard) {
                continue;
            }
            let channel = match open.take() {
                Some(channel) => channel,
                None => link.channel().await?,
            };
            let queue = tools.names.publish_shard(shard);
            match bind(&channel, &queue.name, &tools.names.publish, &key).await {
                Ok(()) => {
                    self.lock().bound.insert(tenant);
                    open = Some(channel);
                }
                Err(error) if link.is_connected() => {
                    tracing::warn!(queue = &*queue.name, %error,
                        "tenants cannot be bound to a queue; their messages go to that of the unbound");
                    // Until it is declared again.
                    self.lock().shards.remove(&shard);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The tenants that are to be bound now.
    fn due(&self) -> Vec<TenantId> {
        let state = self.lock();
        let is_due = |tenant: &&TenantId| {
            !state.bound.contains(*tenant)
                && state.shards.contains(&Names::publish_binding(tenant).0)
        };
        state.tenants.iter().filter(is_due).cloned().collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
