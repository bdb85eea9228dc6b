//! The harness: a server process, simulated providers, tenants, and calls on their behalf.
//! It must not know what any test shows.

mod backends;
mod caller;
mod poll;
mod providers;
mod python;
mod rows;
mod server;
mod sizes;
mod tenant;

use std::sync::atomic::AtomicU64;

use clarion_simulator::{Options, Receipt, Simulator};

pub(crate) use backends::{
    are_servers, database_of, only_on_files, postgres, servers_of, servers_on,
};
pub(crate) use caller::{Answer, Caller};
pub(crate) use poll::{PATIENCE, until};
pub(crate) use providers::{Providers, Tail};
pub(crate) use python::{environment, run};
pub(crate) use server::{Server, Setup, clarion};
pub(crate) use sizes::{Draw, now_ms, seed, size};
pub(crate) use tenant::{Calls, Tenant, apple, google, raw};

/// Held by tests that kill, stall or load what they run on, so that they do not disturb each other.
pub(crate) async fn alone() -> tokio::sync::MutexGuard<'static, ()> {
    static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    ALONE.lock().await
}

/// The organisation that owns every tenant of the tests.
pub(crate) const ORG: &str = "acme";

/// A server, the providers it sends to, and a person who may do everything in [`ORG`].
pub(crate) struct World {
    pub(crate) server: Server,
    pub(crate) simulator: Simulator,
    pub(crate) access_token: String,
    /// How many tenants there are, for names that nobody else has.
    tenants: AtomicU64,
}

impl World {
    /// Both with their defaults, the rate limit out of the way and the retry schedule a hundred times faster.
    pub(crate) async fn start() -> Self {
        Self::start_with(Options::default(), Setup::quick()).await
    }

    pub(crate) async fn start_with(options: Options, setup: Setup) -> Self {
        let simulator = Simulator::start(options).await.unwrap();
        let setup = setup.towards(&simulator);
        let server = Server::start(setup).await;
        let access_token = server.access_token(ORG, "owner");
        Self::of(server, simulator, access_token)
    }

    /// Of parts that run already.
    pub(crate) fn of(server: Server, simulator: Simulator, access_token: String) -> Self {
        Self {
            server,
            simulator,
            access_token,
            tenants: AtomicU64::new(0),
        }
    }

    /// Calls in the name of the person.
    pub(crate) fn person(&self) -> Caller {
        self.server.caller().bearer(&self.access_token)
    }

    /// The same on the operator's listener.
    pub(crate) fn operator(&self) -> Caller {
        self.server.operator().bearer(&self.access_token)
    }

    /// Calls with a tenant's API key.
    pub(crate) fn calls(&self, tenant: &Tenant) -> Calls {
        Calls::new(self.server.caller().api_key(&tenant.key), &tenant.id)
    }

    /// A new tenant with an APNs key and an FCM account that the providers know, and an API key.
    pub(crate) async fn tenant(&self) -> Tenant {
        Tenant::create(self).await
    }

    /// What the providers received for a device token, oldest first.
    pub(crate) fn received(&self, device_token: &str) -> Vec<Receipt> {
        let mut receipts = self.simulator.received();
        receipts.retain(|receipt| receipt.device_token == device_token);
        receipts
    }
}
