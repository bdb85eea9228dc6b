//! A model of the store's contract, in memory: logs with fencing and claims, what waits, pages, counts.
//! It must not know engines; it judges only what breaks the contract itself.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use clarion_engine::limits::CLAIM_TTL;
use clarion_engine::model::{
    Counts, Device, DeviceId, Entry, Envelope, FinalState, Job, JobId, JobKind, Lane, Millis,
    Notification, NotificationId, TenantId,
};
use clarion_engine::store::{
    ClaimAnswer, ClaimRequest, CommitAnswer, ControlState, Part, ReservedPage, ResolvedDevice,
    Settlement, StalePages, Suspension, Tenant, UserCursor, WaitingRow, Writer,
};

/// What broke, in a sentence.
pub(crate) type Broken = String;

#[derive(Debug)]
struct Kept {
    writer: Writer,
    at: Millis,
    /// `None` for a claim.
    part: Option<Part>,
}

#[derive(Debug, Default)]
struct Log {
    digest: [u8; 32],
    parts: Vec<Kept>,
}

impl Log {
    fn ended(&self) -> bool {
        self.parts
            .iter()
            .any(|kept| kept.part.as_ref().is_some_and(|part| part.end))
    }

    fn settled(&self) -> Vec<(u32, DeviceId)> {
        let parts = self.parts.iter().filter_map(|kept| kept.part.as_ref());
        parts
            .flat_map(|part| {
                part.block
                    .iter()
                    .map(|(ordinal, device, _)| (*ordinal, *device))
            })
            .collect()
    }

    fn claims_without_progress(&self) -> u32 {
        let progress = |kept: &&Kept| kept.part.as_ref().is_none_or(|part| part.block.is_empty());
        let since = self.parts.iter().rev().take_while(progress);
        u32::try_from(since.filter(|kept| kept.part.is_none()).count()).expect("few")
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PageState {
    Ready,
    Reserved,
    Fed,
    Ended,
}

#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) state: PageState,
    since: Millis,
    entries: Vec<Entry>,
}

/// A notification's row.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) notification: Option<Arc<Notification>>,
    pub(crate) pages: Vec<Page>,
    pages_ended: usize,
    open_jobs: i64,
    pub(crate) waiting: i64,
    pub(crate) counts: Counts,
    pub(crate) recipients: u64,
    pub(crate) finals: BTreeMap<(u32, DeviceId), FinalState>,
    pub(crate) finished: bool,
}

impl Row {
    fn new(pages: Vec<Page>, notification: Option<Arc<Notification>>) -> Self {
        Self {
            notification,
            pages,
            pages_ended: 0,
            open_jobs: 0,
            waiting: 0,
            counts: Counts::default(),
            recipients: 0,
            finals: BTreeMap::new(),
            finished: false,
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Store {
    logs: HashMap<JobId, Log>,
    pub(crate) rows: BTreeMap<NotificationId, Row>,
    pub(crate) waiting: BTreeMap<JobId, WaitingRow>,
    /// Every id that ever waited, and when it was due.
    pub(crate) born: HashMap<JobId, Millis>,
    pub(crate) devices: Vec<(TenantId, Device)>,
    pub(crate) pruned: BTreeSet<DeviceId>,
    pub(crate) tenants: Vec<(Tenant, i64)>,
    version: i64,
    /// A broken variant: a part is taken wherever it wants to stand, and every claim is granted.
    pub(crate) unfenced: bool,
    /// Look only at what comes of it in the end.
    pub(crate) ledger_only: bool,
}

impl Store {
    pub(crate) fn new(unfenced: bool, ledger_only: bool) -> Self {
        Self {
            unfenced,
            ledger_only,
            ..Self::default()
        }
    }

    pub(crate) fn has_end(&self, job: JobId) -> bool {
        self.logs.get(&job).is_some_and(Log::ended)
    }

    /// Whether a page of a bulk is still to be reserved; `false` for direct notifications.
    pub(crate) fn is_unreserved(&self, id: NotificationId, page: u32) -> bool {
        let pages = self.rows.get(&id).map(|row| &row.pages);
        pages
            .and_then(|pages| pages.get(page as usize))
            .is_some_and(|page| page.state == PageState::Ready)
    }

    /// A bulk; a second time it is there already.
    pub(crate) fn create(
        &mut self,
        notification: &Arc<Notification>,
        pages: &[Vec<Entry>],
        now: Millis,
    ) {
        let page = |entries: &Vec<Entry>| Page {
            state: PageState::Ready,
            since: now,
            entries: entries.clone(),
        };
        let pages = pages.iter().map(page).collect();
        let row = Row::new(pages, Some(Arc::clone(notification)));
        self.rows.entry(notification.id).or_insert(row);
    }

    pub(crate) fn claim(
        &mut self,
        writer: Writer,
        requests: &[ClaimRequest],
        now: Millis,
    ) -> Vec<ClaimAnswer> {
        requests
            .iter()
            .map(|request| self.claim_one(writer, request, now))
            .collect()
    }

    fn claim_one(&mut self, writer: Writer, request: &ClaimRequest, now: Millis) -> ClaimAnswer {
        let ttl = CLAIM_TTL.as_millis() as i64;
        let unfenced = self.unfenced;
        let log = self.logs.entry(request.key.job).or_default();
        if log.parts.is_empty() {
            log.digest = request.digest;
        } else if log.digest != request.digest {
            return ClaimAnswer::IdReused;
        }
        if log.ended() {
            return ClaimAnswer::Ended;
        }
        let last = log
            .parts
            .last()
            .map(|kept| (kept.writer, now.abs_diff(kept.at) < ttl as u64, &kept.part));
        let append = match last {
            Some((mine, live, None)) if mine == writer => !live,
            Some((mine, true, _)) if mine != writer && !unfenced => return ClaimAnswer::Held,
            _ => true,
        };
        if append {
            log.parts.push(Kept {
                writer,
                at: now,
                part: None,
            });
        }
        ClaimAnswer::Granted {
            next_seq: u32::try_from(log.parts.len()).expect("few"),
            settled: log.settled(),
            claims_without_progress: log.claims_without_progress(),
        }
    }

    pub(crate) fn commit(
        &mut self,
        writer: Writer,
        settlements: &[Settlement],
        now: Millis,
    ) -> Result<Vec<(CommitAnswer, bool)>, Broken> {
        settlements
            .iter()
            .map(|settlement| self.commit_one(writer, settlement, now))
            .collect()
    }

    /// The answer, and whether it was written just now.
    fn commit_one(
        &mut self,
        writer: Writer,
        settlement: &Settlement,
        now: Millis,
    ) -> Result<(CommitAnswer, bool), Broken> {
        let part = &settlement.part;
        let log = self.logs.entry(settlement.key.job).or_default();
        let next = u32::try_from(log.parts.len()).expect("few");
        if part.seq != next && !self.unfenced {
            let Some(kept) = log.parts.get(part.seq as usize) else {
                return Err(format!(
                    "a part of {} at {} after {next}",
                    settlement.key.job, part.seq
                ));
            };
            let mine = kept.writer == writer && kept.part.as_ref() == Some(part);
            return Ok((
                if mine {
                    CommitAnswer::Taken
                } else {
                    CommitAnswer::Fenced
                },
                false,
            ));
        }
        if log.ended() && !self.unfenced {
            return Err(format!("job {} goes on after its end", settlement.key.job));
        }
        if log.parts.is_empty() {
            log.digest = settlement.digest;
        }
        log.parts.push(Kept {
            writer,
            at: now,
            part: Some(part.clone()),
        });
        crate::told::check(settlement, now)?;
        self.apply(settlement, now)?;
        Ok((CommitAnswer::Taken, true))
    }

    fn apply(&mut self, settlement: &Settlement, now: Millis) -> Result<(), Broken> {
        let ledger_only = self.ledger_only;
        let direct = Page {
            state: PageState::Fed,
            since: now,
            entries: Vec::new(),
        };
        let row = self.rows.entry(settlement.key.notification);
        let row = row.or_insert_with(|| Row::new(vec![direct], None));
        for (ordinal, device, state) in &settlement.part.block {
            let before = row.finals.insert((*ordinal, *device), *state);
            if let Some(before) = before {
                return Err(format!(
                    "{ordinal}/{device} ended as {before:?} and then as {state:?}"
                ));
            }
            row.counts.add(*state);
        }
        for prune in settlement.prunes.iter().filter(|prune| !prune.frozen) {
            self.pruned.insert(prune.device);
        }
        if !settlement.part.end {
            return if settlement.waiting.is_empty() {
                Ok(())
            } else {
                Err("waiting without an end".to_owned())
            };
        }
        row.recipients += u64::from(settlement.resolved);
        if settlement.kind == JobKind::First {
            let page = settlement.page.expect("a first job has a page") as usize;
            row.pages_ended += usize::from(row.pages[page].state != PageState::Ended);
            row.pages[page].state = PageState::Ended;
        } else {
            row.open_jobs -= 1;
        }
        for waits in &settlement.waiting {
            row.open_jobs += 1;
            row.waiting += i64::from(waits.recipients);
            let twice = self.born.insert(waits.job, waits.due).is_some();
            if twice && !ledger_only {
                return Err(format!("job {} waits a second time", waits.job));
            }
            self.waiting.insert(waits.job, waits.clone());
        }
        let finished = row.pages_ended == row.pages.len() && row.open_jobs == 0;
        if row.finished && !ledger_only {
            return Err("a finished notification goes on".to_owned());
        }
        row.finished = finished;
        Ok(())
    }

    /// Devices that are not pruned, by (user, device id).
    pub(crate) fn resolve(
        &self,
        tenant: &TenantId,
        users: &[UserCursor],
        limit: usize,
    ) -> Vec<ResolvedDevice> {
        let of = |(index, user): (usize, &UserCursor)| {
            let mine = self.devices.iter().filter(|(owner, device)| {
                owner == tenant
                    && device.user_id == user.user_id
                    && device.id > user.after
                    && !self.pruned.contains(&device.id)
            });
            let found = mine.map(move |(_, device)| ResolvedDevice {
                user: index,
                device: device.clone(),
            });
            found.collect::<Vec<_>>()
        };
        users.iter().enumerate().flat_map(of).take(limit).collect()
    }

    pub(crate) fn suspend(&mut self, tenant: usize, suspended: bool) {
        self.version += 1;
        let (row, version) = &mut self.tenants[tenant];
        row.suspended = suspended;
        *version = self.version;
    }

    pub(crate) fn control(&self, after: i64) -> ControlState {
        let changed = self.tenants.iter().filter(|(_, version)| *version > after);
        let stopped = self.tenants.iter().filter(|(tenant, _)| tenant.suspended);
        ControlState {
            version: self.version,
            changed: changed.map(|(tenant, _)| tenant.clone()).collect(),
            stopped: stopped
                .map(|(tenant, _)| (tenant.id.clone(), Suspension::Suspended))
                .collect(),
        }
    }

    pub(crate) fn reserve(
        &mut self,
        ahead: u32,
        max: usize,
        stale: StalePages,
        now: Millis,
    ) -> Vec<ReservedPage> {
        let mut reserved = Vec::new();
        let logs = &self.logs;
        for row in self.rows.values_mut() {
            let Some(notification) = row.notification.clone() else {
                continue;
            };
            let busy = |page: &&Page| matches!(page.state, PageState::Reserved | PageState::Fed);
            let mut room = (ahead as usize).saturating_sub(row.pages.iter().filter(busy).count());
            for (number, page) in row.pages.iter_mut().enumerate() {
                let first = page.entries.first().map_or(0, |entry| entry.ordinal);
                let log = logs.get(&JobId::first(notification.id, first));
                let written = log
                    .and_then(|log| log.parts.last())
                    .map_or(Millis::MIN, |kept| kept.at);
                let recheck = match page.state {
                    PageState::Ready if room > 0 => {
                        room -= 1;
                        false
                    }
                    PageState::Reserved if page.since < stale.reserved_before => true,
                    PageState::Fed if page.since.max(written) < stale.fed_before => true,
                    _ => continue,
                };
                if reserved.len() == max {
                    return reserved;
                }
                (page.state, page.since) = (PageState::Reserved, now);
                reserved.push(ReservedPage {
                    notification: Arc::clone(&notification),
                    page: u32::try_from(number).expect("few"),
                    entries: page.entries.clone(),
                    recheck,
                });
            }
        }
        reserved
    }

    /// What a feeder would reserve now, without reserving it.
    pub(crate) fn peek_pages(&self, max: usize) -> Vec<ReservedPage> {
        let rows = self
            .rows
            .values()
            .filter_map(|row| Some((row, row.notification.as_ref()?)));
        let pages = rows.flat_map(|(row, notification)| {
            let ready = row
                .pages
                .iter()
                .enumerate()
                .filter(|(_, page)| page.state == PageState::Ready);
            ready.map(|(number, page)| ReservedPage {
                notification: Arc::clone(notification),
                page: u32::try_from(number).expect("few"),
                entries: page.entries.clone(),
                recheck: false,
            })
        });
        pages.take(max).collect()
    }

    /// The broken variant's reservation, after the fact.
    pub(crate) fn reserve_these(&mut self, pages: &[(NotificationId, u32)], now: Millis) {
        for (id, page) in pages {
            let page = &mut self.rows.get_mut(id).expect("a bulk has a row").pages[*page as usize];
            if page.state == PageState::Ready {
                (page.state, page.since) = (PageState::Reserved, now);
            }
        }
    }

    pub(crate) fn mark_fed(&mut self, pages: &[(NotificationId, u32)], now: Millis) {
        for (id, page) in pages {
            let page = &mut self.rows.get_mut(id).expect("a bulk has a row").pages[*page as usize];
            if page.state == PageState::Reserved {
                (page.state, page.since) = (PageState::Fed, now);
            }
        }
    }

    pub(crate) fn due(
        &self,
        now: Millis,
        max: usize,
        per_queue: u32,
        released: &[(TenantId, Lane, u32)],
    ) -> Vec<WaitingRow> {
        let mut rows: Vec<&WaitingRow> =
            self.waiting.values().filter(|row| row.due <= now).collect();
        rows.sort_by_key(|row| (row.due, row.job));
        let mut room: BTreeMap<(&TenantId, Lane), u32> = BTreeMap::new();
        let mut due = Vec::new();
        for row in rows {
            let taken = released
                .iter()
                .find(|(tenant, lane, _)| *tenant == row.tenant && *lane == row.lane);
            let room = room.entry((&row.tenant, row.lane));
            let room = room
                .or_insert_with(|| per_queue.saturating_sub(taken.map_or(0, |(_, _, jobs)| *jobs)));
            if *room > 0 && due.len() < max {
                *room -= 1;
                due.push(row.clone());
            }
        }
        due
    }

    pub(crate) fn delete_released(&mut self, rows: &[JobId]) {
        for job in rows {
            if let Some(gone) = self.waiting.remove(job) {
                let row = self
                    .rows
                    .get_mut(&gone.notification)
                    .expect("a row that waits has a notification");
                row.waiting -= i64::from(gone.recipients);
            }
        }
    }

    pub(crate) fn next_due(&self) -> Option<Millis> {
        self.waiting.values().map(|row| row.due).min()
    }
}

/// The job that waits in a row.
pub(crate) fn job_of(row: &WaitingRow) -> Job {
    let mut jobs = Envelope::decode(&row.body).expect("an envelope").jobs;
    jobs.remove(0)
}
