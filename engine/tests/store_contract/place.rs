//! Where a store under test lies, and the values that its clauses need.
//! It must not know the clauses.

use std::path::PathBuf;
use std::sync::Arc;

use clarion_auth::{MacKey, OrgId, TenantId};
use clarion_engine::datadir::DataDir;
use clarion_engine::model::{
    Address, Content, Counts, DeviceId, Entry, Environment, FinalState, Job, JobId, JobKind, Lane,
    Millis, Notification, NotificationId, Options, Platform, Target, encode_entries,
};
use clarion_engine::store::postgres::{OpenOptions, PostgresStore};
use clarion_engine::store::sqlite::{self, SqliteStore};
use clarion_engine::store::{
    Error, JobKey, PageOfEntries, Part, Registration, Settlement, StalePages, Store, Tenant,
    TenantLimits, WaitingRow, WaitingWhy, Writer,
};
use clarion_services::postgres::{self as services, Database};
use uuid::Uuid;

pub(crate) const NOW: Millis = 1_800_000_000_000;
pub(crate) const PROCESS: Uuid = Uuid::from_u128(1);
pub(crate) const ME: Writer = Writer {
    process: PROCESS,
    generation: 1,
};
/// Another writer whom nothing proves dead.
pub(crate) const OTHER: Writer = Writer {
    process: PROCESS,
    generation: 2,
};
pub(crate) const FRESH: StalePages = StalePages {
    reserved_before: 0,
    fed_before: 0,
};

/// Where the store of a test lies.
pub(crate) enum Place {
    /// A file in a data directory.
    Sqlite {
        _dir: tempfile::TempDir,
        data_dir: Arc<DataDir>,
    },
    /// A database of its own.
    Postgres(Database),
}

impl Place {
    pub(crate) fn sqlite() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data_dir = Arc::new(DataDir::lock(&dir.path().join("data")).unwrap());
        Self::Sqlite {
            _dir: dir,
            data_dir,
        }
    }

    pub(crate) fn postgres() -> Self {
        Self::Postgres(services::shared().database())
    }

    /// Whether only one process at a time can have it open, so that all others are known to be dead.
    pub(crate) fn is_of_one_process(&self) -> bool {
        matches!(self, Self::Sqlite { .. })
    }

    pub(crate) async fn open(&self) -> Arc<dyn Store> {
        self.open_as(PROCESS).await
    }

    /// Opens it as another process would: after a crash, or beside the first where it can be shared.
    pub(crate) async fn open_as(&self, process: Uuid) -> Arc<dyn Store> {
        match self {
            Self::Sqlite { data_dir, .. } => {
                Arc::new(open_sqlite(data_dir, process).await.unwrap())
            }
            Self::Postgres(database) => {
                let options = OpenOptions::new(database.url().to_owned(), process);
                Arc::new(PostgresStore::open(options).await.unwrap())
            }
        }
    }

    /// A store with a tenant.
    pub(crate) async fn with_tenant(&self) -> (Arc<dyn Store>, TenantId) {
        let store = self.open().await;
        let acme = create(&*store, "acme").await;
        (store, acme)
    }
}

pub(crate) fn sqlite_file(data_dir: &DataDir) -> PathBuf {
    data_dir.path().join("store.db")
}

pub(crate) async fn open_sqlite(
    data_dir: &Arc<DataDir>,
    process: Uuid,
) -> Result<SqliteStore, Error> {
    let options = sqlite::OpenOptions {
        process,
        data_dir: Arc::clone(data_dir),
    };
    SqliteStore::open(&sqlite_file(data_dir), options).await
}

pub(crate) async fn create(store: &dyn Store, id: &str) -> TenantId {
    let new = tenant(id);
    store.create_tenant(&new, &[]).await.unwrap();
    new.id
}

pub(crate) fn tenant(id: &str) -> Tenant {
    Tenant {
        id: id.parse().unwrap(),
        org: "org".parse::<OrgId>().unwrap(),
        bundle_id: Some("com.example.app".into()),
        use_sandbox: false,
        limits: TenantLimits::default(),
        suspended: false,
        created_by: "ada@example.com".into(),
        created_at: NOW,
        updated_at: NOW,
        deleted_at: None,
    }
}

pub(crate) fn registration(user: &str, device_token: &str) -> Registration {
    Registration {
        user_id: user.into(),
        platform: Platform::Ios,
        environment: Environment::Production,
        device_token: device_token.into(),
        app_version: Some("1.2".into()),
    }
}

pub(crate) fn notification(tenant: &TenantId, number: u8) -> Notification {
    let key = MacKey::new(&[7; 32]);
    Notification {
        id: NotificationId::mint(&key, tenant, NOW, [number; 10]),
        tenant: tenant.clone(),
        lane: Lane::Bulk,
        created_at: NOW,
        expires_at: NOW + 86_400_000,
        content: Content {
            title: Some("a title with a NUL \0 in it".into()),
            ..Content::default()
        },
        options: Options::default(),
    }
}

pub(crate) fn entries(first: u32, count: u32) -> Vec<Entry> {
    (first..first + count)
        .map(|ordinal| Entry {
            ordinal,
            target: Target::Device(Address {
                device: 0,
                platform: Platform::Android,
                environment: Environment::Production,
                device_token: format!("token-{ordinal}").into(),
            }),
        })
        .collect()
}

pub(crate) fn pages(count: u32, each: u32) -> Vec<PageOfEntries> {
    (0..count)
        .map(|page| PageOfEntries {
            first_ordinal: page * each,
            entries: each,
            body: encode_entries(&entries(page * each, each)),
        })
        .collect()
}

/// The first job of a page of `notification`.
pub(crate) fn first_job(notification: &Notification, page: u32, each: u32) -> Job {
    Job::first(
        Arc::new(notification.clone()),
        page,
        entries(page * each, each),
    )
}

/// A settlement of `job` that says nothing yet.
pub(crate) fn settlement(job: &Job) -> Settlement {
    let notification = &job.notification;
    Settlement {
        key: JobKey {
            tenant: notification.tenant.clone(),
            notification: notification.id,
            job: job.id,
        },
        kind: job.kind,
        page: job.page,
        lane: notification.lane,
        created_at: notification.created_at,
        expires_at: notification.expires_at,
        entries: u32::try_from(job.entries.len()).unwrap(),
        digest: job.digest(),
        resolved: 0,
        part: Part {
            seq: 0,
            counts: Counts::default(),
            block: Vec::new(),
            end: false,
        },
        failures: Vec::new(),
        prunes: Vec::new(),
        suspects: Vec::new(),
        accepted: Vec::new(),
        waiting: Vec::new(),
        dead: None,
        event: None,
    }
}

/// The part at `seq` that says that these recipients ended in `state`.
pub(crate) fn part(seq: u32, ended: &[(u32, DeviceId)], state: FinalState, end: bool) -> Part {
    let mut counts = Counts::default();
    for _ in ended {
        counts.add(state);
    }
    Part {
        seq,
        counts,
        block: ended.iter().map(|(o, d)| (*o, *d, state)).collect(),
        end,
    }
}

/// The settlement that ends `job` with all its entries accepted.
pub(crate) fn all_accepted(job: &Job) -> Settlement {
    let ended: Vec<(u32, DeviceId)> = job.entries.iter().map(Entry::key).collect();
    Settlement {
        resolved: u32::try_from(ended.len()).unwrap(),
        part: part(0, &ended, FinalState::Accepted, true),
        ..settlement(job)
    }
}

pub(crate) fn waiting_row(tenant: &TenantId, id: NotificationId, number: u128) -> WaitingRow {
    WaitingRow {
        tenant: tenant.clone(),
        notification: id,
        job: JobId(Uuid::from_u128(number)),
        lane: Lane::Bulk,
        due: NOW + 1_000,
        why: WaitingWhy::Retry,
        recipients: 3,
        body: vec![0, 1, 0, 2],
    }
}

/// A job that closes nothing of a page.
pub(crate) fn child_job(parent: &Job, row: &WaitingRow) -> Job {
    Job {
        id: row.job,
        ..parent.child(JobKind::Retry, parent.attempts, parent.entries.clone())
    }
}
