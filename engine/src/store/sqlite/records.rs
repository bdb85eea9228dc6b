//! Job records in SQLite: claims, and the appending of parts.
//! It must not know what follows a part that was taken; `commit` does.

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;
use uuid::Uuid;

use super::super::block;
use super::super::log::{KeptPart, Log, waves};
use super::super::{
    ClaimAnswer, ClaimRequest, CommitAnswer, Error, JobKey, Records, Settlement, Writer,
};
use super::SqliteStore;
use super::columns::{Columns, bytes, int};
use crate::datadir::{Binder, Rows};
use crate::model::Millis;

/// `record_parts.kind` of outcomes.
const OUTCOMES: i64 = 0;
/// `record_parts.kind` of a claim.
const CLAIM: i64 = 1;

const READ_LOGS: Rows = Rows {
    columns: "place, tenant, notification, job",
    statement:
        "SELECT v.place, p.seq, p.kind, p.process, p.generation, p.at, p.ended, p.digest, p.block
        FROM v CROSS JOIN record_parts p ON p.tenant = v.tenant AND p.notification = v.notification
        AND p.job = v.job ORDER BY v.place, p.seq",
};

// A part is taken at its place only if the place before it holds a part that did not end the job.
const APPEND: Rows = Rows {
    columns: "tenant, notification, job, seq, kind, ended, process, generation, at, digest, block",
    statement:
        "INSERT INTO record_parts (tenant, notification, job, seq, kind, ended, process, generation,
        at, digest, block) SELECT * FROM v WHERE v.seq = 0 OR EXISTS (SELECT 1 FROM record_parts p
        WHERE p.tenant = v.tenant AND p.notification = v.notification AND p.job = v.job AND p.seq =
        v.seq - 1 AND p.ended = 0) ON CONFLICT DO NOTHING RETURNING tenant, notification, job",
};

const READ_PLACES: Rows = Rows {
    columns: "place, tenant, notification, job, seq",
    statement: "SELECT v.place, p.kind, p.process, p.generation, p.ended, p.block FROM v CROSS JOIN
        record_parts p ON p.tenant = v.tenant AND p.notification = v.notification AND p.job = v.job
        AND p.seq = v.seq",
};

/// What the plans of are looked at.
#[cfg(test)]
pub(super) const STATEMENTS: &[&Rows] = &[&READ_LOGS, &APPEND, &READ_PLACES];

#[async_trait]
impl Records for SqliteStore {
    async fn claim(
        &self,
        writer: Writer,
        requests: &[ClaimRequest],
        now: Millis,
    ) -> Result<Vec<ClaimAnswer>, Error> {
        let mut connection = self.writer().await;
        let mut tx = connection.begin().await?;
        let logs = read_logs(&mut tx, requests).await?;
        let mut answers: Vec<ClaimAnswer> = Vec::with_capacity(requests.len());
        let mut claims: Vec<(&ClaimRequest, u32)> = Vec::new();
        let mut first_asked: HashMap<&JobKey, usize> = HashMap::new();
        for (place, (request, log)) in requests.iter().zip(logs).enumerate() {
            // Asked twice at once: one claim, one answer.
            let first = *first_asked.entry(&request.key).or_insert(place);
            if first != place && requests[first] == *request {
                let same = answers[first].clone();
                answers.push(same);
                continue;
            }
            let void = |process| process != self.process;
            let decision = log.decide(writer, &request.digest, void, now);
            claims.extend(decision.append.map(|seq| (request, seq)));
            answers.push(decision.answer);
        }
        if claims.is_empty() {
            tx.rollback().await?;
            return Ok(answers);
        }
        let appended = APPEND
            .fetch(&mut tx, &claims, |binder, (request, seq)| {
                let digest = (*seq == 0).then_some(&request.digest);
                bind_part(binder, &request.key, (*seq, CLAIM, false));
                bind_origin(binder, writer, now, digest);
                binder.bind(Vec::new());
            })
            .await?;
        if appended.len() != claims.len() {
            return Err(Error::Conflict(
                "one job was claimed with two digests at once",
            ));
        }
        tx.commit().await?;
        Ok(answers)
    }

    async fn commit(
        &self,
        writer: Writer,
        settlements: &[Settlement],
        now: Millis,
    ) -> Result<Vec<CommitAnswer>, Error> {
        let blocks: Vec<Vec<u8>> = settlements
            .iter()
            .map(|settlement| block::encode(&settlement.part.block))
            .collect();
        let mut connection = self.writer().await;
        let mut tx = connection.begin().await?;
        let mut answers = vec![CommitAnswer::Fenced; settlements.len()];
        let mut written = Vec::with_capacity(settlements.len());
        for wave in waves(settlements) {
            let parts: Vec<NewPart<'_>> = wave
                .into_iter()
                .map(|place| (place, &settlements[place], blocks[place].as_slice()))
                .collect();
            let appended = append_parts(&mut tx, writer, &parts, now).await?;
            for place in own_parts(&mut tx, writer, &parts, &appended).await? {
                answers[place] = CommitAnswer::Taken;
            }
            for place in appended {
                answers[place] = CommitAnswer::Taken;
                written.push(&settlements[place]);
            }
        }
        if written.is_empty() {
            tx.rollback().await?;
            return Ok(answers);
        }
        super::commit::apply(&mut tx, &written, now).await?;
        tx.commit().await?;
        Ok(answers)
    }
}

/// A settlement with its place in the group and its block.
type NewPart<'a> = (usize, &'a Settlement, &'a [u8]);

/// Appends parts where their places are free. Returns the places (in the group) of those that were taken.
async fn append_parts(
    connection: &mut SqliteConnection,
    writer: Writer,
    parts: &[NewPart<'_>],
    now: Millis,
) -> Result<Vec<usize>, Error> {
    let rows = APPEND
        .fetch(connection, parts, |binder, (_, settlement, block)| {
            let part = &settlement.part;
            let digest = (part.seq == 0).then_some(&settlement.digest);
            bind_part(binder, &settlement.key, (part.seq, OUTCOMES, part.end));
            bind_origin(binder, writer, now, digest);
            binder.bind(*block);
        })
        .await?;
    let mut taken: HashSet<(&str, Uuid, Uuid)> = HashSet::with_capacity(rows.len());
    for row in &rows {
        let row = Columns::of(row, "record_parts");
        taken.insert((row.get(0)?, row.uuid(1)?, row.uuid(2)?));
    }
    let is_taken =
        |key: &JobKey| taken.contains(&(key.tenant.as_str(), key.notification.0, key.job.0));
    Ok(parts
        .iter()
        .filter(|(_, settlement, _)| is_taken(&settlement.key))
        .map(|(place, _, _)| *place)
        .collect())
}

/// Of the parts that were not appended, those that stand in their places already, word for word and by the
/// same writer: an earlier commit whose answer was lost. Nothing of them is written again.
async fn own_parts(
    connection: &mut SqliteConnection,
    writer: Writer,
    parts: &[NewPart<'_>],
    appended: &[usize],
) -> Result<Vec<usize>, Error> {
    let appended: HashSet<usize> = appended.iter().copied().collect();
    let left: Vec<(usize, &NewPart<'_>)> = parts
        .iter()
        .enumerate()
        .filter(|(_, (place, _, _))| !appended.contains(place))
        .collect();
    let rows = READ_PLACES
        .fetch(connection, &left, |binder, (index, (_, settlement, _))| {
            binder.bind(int(*index as u64));
            bind_key(binder, &settlement.key);
            binder.bind(settlement.part.seq);
        })
        .await?;
    let mut own = Vec::new();
    for row in &rows {
        let row = Columns::of(row, "record_parts");
        let (place, settlement, block) = parts[row.small::<usize>(0)?];
        let is_mine = row.int(1)? == OUTCOMES && read_writer(&row, 2)? == writer;
        let is_same =
            row.int(4)? == i64::from(settlement.part.end) && row.get::<&[u8]>(5)? == block;
        if is_mine && is_same {
            own.push(place);
        }
    }
    Ok(own)
}

async fn read_logs(
    connection: &mut SqliteConnection,
    requests: &[ClaimRequest],
) -> Result<Vec<Log>, Error> {
    let asked: Vec<(usize, &ClaimRequest)> = requests.iter().enumerate().collect();
    let rows = READ_LOGS
        .fetch(connection, &asked, |binder, (place, request)| {
            binder.bind(int(*place as u64));
            bind_key(binder, &request.key);
        })
        .await?;
    let mut logs = vec![Log::default(); requests.len()];
    for row in &rows {
        read_part(row, &mut logs)?;
    }
    Ok(logs)
}

fn read_part(row: &SqliteRow, logs: &mut [Log]) -> Result<(), Error> {
    let row = Columns::of(row, "record_parts");
    let digest: Option<&[u8]> = row.get(7)?;
    let part = KeptPart {
        seq: row.small(1)?,
        is_claim: row.int(2)? == CLAIM,
        writer: read_writer(&row, 3)?,
        at: row.int(5)?,
        end: row.int(6)? != 0,
        digest: digest.map(|_| row.array(7)).transpose()?,
        block: row.get(8)?,
    };
    let place: usize = row.small(0)?;
    logs[place].push(&part).map_err(|error| Error::Corrupt {
        table: "record_parts",
        source: Box::new(error),
    })
}

fn read_writer(row: &Columns<'_>, column: usize) -> Result<Writer, Error> {
    Ok(Writer {
        process: row.uuid(column)?,
        generation: row.small(column + 1)?,
    })
}

fn bind_key(binder: &mut Binder, key: &JobKey) {
    binder.bind(key.tenant.as_str());
    binder.bind(bytes(&key.notification.0));
    binder.bind(bytes(&key.job.0));
}

fn bind_part(binder: &mut Binder, key: &JobKey, (seq, kind, end): (u32, i64, bool)) {
    bind_key(binder, key);
    binder.bind(seq).bind(kind).bind(end);
}

fn bind_origin(binder: &mut Binder, writer: Writer, now: Millis, digest: Option<&[u8; 32]>) {
    binder.bind(bytes(&writer.process)).bind(writer.generation);
    binder.bind(now);
    binder.bind(digest.map(<[u8; 32]>::as_slice));
}
