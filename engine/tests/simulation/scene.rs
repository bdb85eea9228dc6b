//! Who is there and what is submitted: tenants, devices, notifications with their audiences.
//! It must not know what becomes of them.

use std::sync::Arc;

use clarion_engine::model::{
    Address, Content, Device, DeviceId, Entry, Environment, Job, Lane, Millis, Notification,
    NotificationId, Options, Platform, Target,
};
use clarion_engine::store::{Tenant, TenantLimits};
use uuid::Uuid;

use crate::calls::Fate;
use crate::plan::BEGIN;
use crate::store::Broken;
use crate::world::{Event, World};

/// Users of a tenant; each has none to three devices.
const USERS: u64 = 6;

/// A notification and its audience, as its producer knows it.
#[derive(Clone, Debug)]
pub(crate) struct Submission {
    pub(crate) notification: Arc<Notification>,
    /// A bulk's pages; a direct notification has one.
    pub(crate) pages: Vec<Vec<Entry>>,
    bulk: bool,
    pub(crate) accepted: bool,
    /// It may have been published before.
    recheck: bool,
}

impl World {
    pub(crate) fn set_the_scene(&mut self) {
        for number in 0..self.plan.tenants {
            let tenant = Tenant {
                id: format!("t{number}").parse().expect("an id"),
                org: "org".parse().expect("an id"),
                bundle_id: None,
                use_sandbox: false,
                limits: TenantLimits {
                    ambiguous_retries: Some(self.plan.ambiguous_retries),
                    ..TenantLimits::default()
                },
                suspended: false,
                created_by: String::new(),
                created_at: BEGIN,
                updated_at: BEGIN,
                deleted_at: None,
            };
            for user in 0..USERS {
                for _ in 0..self.rng.below(4) {
                    let device = self.device(user);
                    self.store.devices.push((tenant.id.clone(), device));
                }
            }
            self.store.tenants.push((tenant, 0));
        }
        let horizon = self.plan.healed_at - BEGIN;
        for number in 0..self.plan.submissions {
            let at = BEGIN + self.rng.range(0, horizon * 2 / 3);
            let submission = self.submission(number, at);
            self.submissions.push(submission);
            let number = self.submissions.len() - 1;
            self.at(at, Event::Submit(number));
        }
    }

    fn address(&mut self, device: DeviceId) -> Address {
        let platform = self
            .rng
            .pick(&[Platform::Ios, Platform::Ios, Platform::Android]);
        Address {
            device,
            platform,
            environment: Environment::Production,
            device_token: "token".into(),
        }
    }

    fn device(&mut self, user: u64) -> Device {
        let id = DeviceId::try_from(self.store.devices.len()).expect("few") + 1;
        let Address {
            platform,
            environment,
            device_token,
            ..
        } = self.address(id);
        Device {
            id,
            user_id: format!("u{user}").into(),
            platform,
            environment,
            device_token,
            app_version: None,
            created_at: BEGIN,
            registered_at: BEGIN,
            last_accepted_at: None,
        }
    }

    fn submission(&mut self, number: u64, at: Millis) -> Submission {
        let tenant = self.rng.index(self.plan.tenants);
        let bulk = self.rng.permille(500);
        let swap = self.rng.permille(200);
        let notification = Notification {
            id: NotificationId(Uuid::from_u128(0x7000_0000 + u128::from(number))),
            tenant: self.store.tenants[tenant].0.id.clone(),
            lane: if bulk != swap {
                Lane::Bulk
            } else {
                Lane::Transactional
            },
            created_at: at,
            expires_at: at + self.rng.range(self.plan.life.0, self.plan.life.1),
            content: Content {
                title: Some("hello".to_owned()),
                ..Content::default()
            },
            options: Options::default(),
        };
        let pages = if bulk { self.rng.range(1, 5) } else { 1 };
        let mut ordinal = 0;
        let pages = (0..pages).map(|_| {
            let entries = self.rng.range(1, if bulk { 12 } else { 3 });
            (0..entries).map(|_| self.entry(&mut ordinal)).collect()
        });
        let pages = pages.collect();
        Submission {
            notification: Arc::new(notification),
            pages,
            bulk,
            accepted: false,
            recheck: false,
        }
    }

    fn entry(&mut self, ordinal: &mut u32) -> Entry {
        let target = if self.rng.permille(400) {
            Target::User {
                user_id: format!("u{}", self.rng.below(USERS)).into(),
                after: 0,
            }
        } else {
            Target::Device(self.address(0))
        };
        *ordinal += 1;
        Entry {
            ordinal: *ordinal - 1,
            target,
        }
    }

    /// A producer submits, again and again until it has its answer, and sometimes once more.
    pub(crate) fn submit(&mut self, number: usize) -> Result<(), Broken> {
        let submission = self.submissions[number].clone();
        let mut fate = self.fate(submission.bulk);
        if self.now < self.store_back_at {
            fate = Fate::NotDone;
        }
        self.trace(|| format!("submission {number}, bulk {}: {fate:?}", submission.bulk));
        if fate != Fate::NotDone {
            if submission.bulk {
                self.store
                    .create(&submission.notification, &submission.pages, self.now);
            } else {
                let entries = submission.pages[0].clone();
                let mut job = Job::first(Arc::clone(&submission.notification), 0, entries);
                job.recheck = submission.recheck;
                self.publish(&job);
            }
        }
        let again = self.rng.permille(100) && !self.is_healed();
        let known = &mut self.submissions[number];
        known.recheck = true;
        known.accepted |= fate == Fate::Done;
        if fate != Fate::Done || again {
            let at = self.now + self.rng.range(1, 40_000);
            self.at(at, Event::Submit(number));
        }
        Ok(())
    }
}
