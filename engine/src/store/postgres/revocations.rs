//! Deleted API keys over a channel of PostgreSQL's own (`LISTEN`), on a connection that serves nothing else.
//! It must not know who caches keys.
//!
//! A notification is on its way to every listener before its transaction is answered, and a listener gets what is there
//! with the answer to its next statement. So a round trip that was begun after a deletion had been answered brings it.

use std::time::Duration;

use async_trait::async_trait;
use clarion_auth::{KeyId, TenantId};
use sqlx::PgConnection;
use sqlx::postgres::{PgListener, PgNotification};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::super::{Error, Revocation, Revocations};
use super::PostgresStore;
use super::session::stalled;

/// The channel.
const CHANNEL: &str = "clarion_keys";
/// Pause between two round trips; several go into the second for which a key is believed.
const ASK_EVERY: Duration = Duration::from_millis(200);
/// A round trip takes no longer, or the channel is lost.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

#[async_trait]
impl Revocations for PostgresStore {
    async fn revocations(&self, tell: &(dyn Fn(Revocation) + Send + Sync)) -> Result<(), Error> {
        let pool = self.sessions.pool_of_one();
        let opened = timeout(self.sessions.patience(), async {
            let mut listener = PgListener::connect_with(&pool).await?;
            listener.listen(CHANNEL).await?;
            Ok::<_, sqlx::Error>(listener)
        });
        let opened = opened
            .await
            .map_err(|_| stalled(self.sessions.patience()))?;
        let mut listener = opened?;
        let mut every = interval(ASK_EVERY);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            every.tick().await;
            let asked = Instant::now();
            let answered = timeout(
                ANSWER_WITHIN,
                sqlx::query("SELECT 1").execute(&mut listener),
            );
            answered.await.map_err(|_| stalled(ANSWER_WITHIN))??;
            while let Some(told) = listener.next_buffered() {
                if let Some(revocation) = read(&told) {
                    tell(revocation);
                }
            }
            tell(Revocation::Current(asked));
        }
    }
}

/// Tells every listener of a deleted key, when the transaction is committed.
pub(super) async fn tell_key(connection: &mut PgConnection, key_id: &KeyId) -> Result<(), Error> {
    notify(connection, format!("key {key_id}")).await
}

/// The same of a deleted tenant.
pub(super) async fn tell_tenant(
    connection: &mut PgConnection,
    tenant: &TenantId,
) -> Result<(), Error> {
    notify(connection, format!("tenant {tenant}")).await
}

async fn notify(connection: &mut PgConnection, text: String) -> Result<(), Error> {
    sqlx::query("SELECT pg_notify($1, $2)")
        .bind(CHANNEL)
        .bind(text)
        .execute(connection)
        .await?;
    Ok(())
}

/// What this build does not know is left to the second for which a key is believed.
fn read(told: &PgNotification) -> Option<Revocation> {
    match told.payload().split_once(' ')? {
        ("key", id) => id.parse().ok().map(Revocation::Key),
        ("tenant", id) => id.parse().ok().map(Revocation::Tenant),
        _ => None,
    }
}
