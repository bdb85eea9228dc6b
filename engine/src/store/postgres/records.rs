//! Job records in PostgreSQL: claims, and the appending of parts.
//! It must not know what follows a part that was taken; `commit` does.

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use sqlx::PgConnection;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::super::block;
use super::super::log::{Decision, KeptPart, Log, waves};
use super::super::{
    ClaimAnswer, ClaimRequest, CommitAnswer, Error, JobKey, Records, Settlement, Writer,
};
use super::PostgresStore;
use super::columns::{Columns, Id, column, int};
use super::session::transact;
use crate::model::Millis;

/// `record_parts.kind` of outcomes.
const OUTCOMES: i64 = 0;
/// `record_parts.kind` of a claim.
const CLAIM: i64 = 1;
/// How often a log is read that somebody else writes to between the look and the claim; then it is held.
const LOOKS: u32 = 4;

const READ_LOGS: &str = "
SELECT v.place, p.seq, p.kind, p.process, p.generation, p.at, p.ended, p.digest, p.block
FROM unnest($1::int8[], $2::text[], $3::uuid[], $4::uuid[]) AS v (place, tenant, notification, job)
JOIN record_parts p ON p.tenant = v.tenant AND p.notification = v.notification AND p.job = v.job
ORDER BY v.place, p.seq";

// A part is taken at its place only if the place before it holds a part that did not end the job. Whoever
// writes the same place at the same time is waited for, in the order of the keys.
const APPEND: &str = "
INSERT INTO record_parts (tenant, notification, job, seq, kind, ended, process, generation, at, digest,
    block)
SELECT v.tenant, v.notification, v.job, v.seq, $8, v.ended, $9, $10, $11, v.digest, v.block
FROM unnest($1::text[], $2::uuid[], $3::uuid[], $4::int8[], $5::bool[], $6::bytea[], $7::bytea[])
    AS v (tenant, notification, job, seq, ended, digest, block)
WHERE v.seq = 0 OR EXISTS (SELECT 1 FROM record_parts p WHERE p.tenant = v.tenant
    AND p.notification = v.notification AND p.job = v.job AND p.seq = v.seq - 1 AND NOT p.ended)
ORDER BY v.tenant COLLATE \"C\", v.notification, v.job
ON CONFLICT DO NOTHING RETURNING tenant, notification, job";

const READ_PLACES: &str = "
SELECT v.place, p.kind, p.process, p.generation, p.ended, p.block
FROM unnest($1::int8[], $2::text[], $3::uuid[], $4::uuid[], $5::int8[])
    AS v (place, tenant, notification, job, seq)
JOIN record_parts p ON p.tenant = v.tenant AND p.notification = v.notification AND p.job = v.job
    AND p.seq = v.seq";

/// What the plans of are looked at.
#[cfg(test)]
pub(super) const STATEMENTS: &[&str] = &[READ_LOGS, APPEND, READ_PLACES];

#[async_trait]
impl Records for PostgresStore {
    async fn claim(
        &self,
        writer: Writer,
        requests: &[ClaimRequest],
        now: Millis,
    ) -> Result<Vec<ClaimAnswer>, Error> {
        transact!(self, |tx| { claim(tx, writer, requests, now).await }).await
    }

    async fn commit(
        &self,
        writer: Writer,
        settlements: &[Settlement],
        now: Millis,
    ) -> Result<Vec<CommitAnswer>, Error> {
        let blocks = column(settlements, |settlement| {
            block::encode(&settlement.part.block)
        });
        let blocks = blocks.as_slice();
        transact!(self, |tx| {
            let mut answers = vec![CommitAnswer::Fenced; settlements.len()];
            let mut written = Vec::with_capacity(settlements.len());
            for wave in waves(settlements) {
                let parts: Vec<NewPart<'_>> = wave
                    .into_iter()
                    .map(|place| (place, &settlements[place], blocks[place].as_slice()))
                    .collect();
                let appended = append_parts(tx, writer, &parts, now).await?;
                for place in own_parts(tx, writer, &parts, &appended).await? {
                    answers[place] = CommitAnswer::Taken;
                }
                for place in appended {
                    answers[place] = CommitAnswer::Taken;
                    written.push(&settlements[place]);
                }
            }
            if !written.is_empty() {
                super::commit::apply(tx, &written, (writer.process, now)).await?;
            }
            Ok(answers)
        })
        .await
    }
}

/// A settlement with its place in the group and its block.
type NewPart<'a> = (usize, &'a Settlement, &'a [u8]);

/// A part as it is appended.
struct Appended<'a> {
    key: &'a JobKey,
    seq: u32,
    end: bool,
    digest: &'a [u8; 32],
    block: &'a [u8],
}

/// Reads the logs and appends what is granted. A log that grew in between is read again.
async fn claim(
    connection: &mut PgConnection,
    writer: Writer,
    requests: &[ClaimRequest],
    now: Millis,
) -> Result<Vec<ClaimAnswer>, Error> {
    let mut answers: Vec<Option<ClaimAnswer>> = vec![None; requests.len()];
    // Asked twice at once: one claim, one answer.
    let mut first_asked: HashMap<(&JobKey, &[u8; 32]), usize> = HashMap::new();
    let firsts: Vec<usize> = requests
        .iter()
        .enumerate()
        .map(|(place, request)| {
            *first_asked
                .entry((&request.key, &request.digest))
                .or_insert(place)
        })
        .collect();
    let mut open: Vec<usize> = (0..requests.len())
        .filter(|place| firsts[*place] == *place)
        .collect();
    for _ in 0..LOOKS {
        if open.is_empty() {
            break;
        }
        let logs = read_logs(connection, requests, &open).await?;
        let mut claims: Vec<(usize, u32, ClaimAnswer)> = Vec::new();
        let mut claimed: HashSet<&JobKey> = HashSet::new();
        for (place, log) in open.iter().zip(logs) {
            let request = &requests[*place];
            // Nothing proves another process dead: what it holds lapses.
            let Decision { answer, append } = log.decide(writer, &request.digest, |_| false, now);
            match append {
                None => answers[*place] = Some(answer),
                // With two digests for one job, the second finds the first.
                Some(seq) if claimed.insert(&request.key) => claims.push((*place, seq, answer)),
                Some(_) => {}
            }
        }
        for (place, answer) in append_claims(connection, (writer, now), requests, claims).await? {
            answers[place] = Some(answer);
        }
        open.retain(|place| answers[*place].is_none());
    }
    let answer_of = |place: &usize| answers[*place].clone().unwrap_or(ClaimAnswer::Held);
    Ok(firsts.iter().map(answer_of).collect())
}

/// Appends claims; returns those that were taken.
async fn append_claims(
    connection: &mut PgConnection,
    (writer, now): (Writer, Millis),
    requests: &[ClaimRequest],
    claims: Vec<(usize, u32, ClaimAnswer)>,
) -> Result<Vec<(usize, ClaimAnswer)>, Error> {
    let parts = column(&claims, |(place, seq, _)| Appended {
        key: &requests[*place].key,
        seq: *seq,
        end: false,
        digest: &requests[*place].digest,
        block: &[],
    });
    let taken = append(connection, (writer, now, CLAIM), &parts).await?;
    let taken = claims.into_iter().zip(taken).filter(|(_, taken)| *taken);
    Ok(taken
        .map(|((place, _, answer), _)| (place, answer))
        .collect())
}

/// Appends parts where their places are free. Returns the places (in the group) of those that were taken.
async fn append_parts(
    connection: &mut PgConnection,
    writer: Writer,
    parts: &[NewPart<'_>],
    now: Millis,
) -> Result<Vec<usize>, Error> {
    let rows = column(parts, |(_, settlement, block)| Appended {
        key: &settlement.key,
        seq: settlement.part.seq,
        end: settlement.part.end,
        digest: &settlement.digest,
        block,
    });
    let taken = append(connection, (writer, now, OUTCOMES), &rows).await?;
    let taken = parts.iter().zip(taken).filter(|(_, taken)| *taken);
    Ok(taken.map(|((place, _, _), _)| *place).collect())
}

/// Appends parts of distinct jobs; says of each whether it was taken.
async fn append(
    connection: &mut PgConnection,
    (writer, now, kind): (Writer, Millis, i64),
    parts: &[Appended<'_>],
) -> Result<Vec<bool>, Error> {
    if parts.is_empty() {
        return Ok(Vec::new());
    }
    let rows = sqlx::query(APPEND)
        .bind(column(parts, |part| part.key.tenant.as_str()))
        .bind(column(parts, |part| Id(part.key.notification.0)))
        .bind(column(parts, |part| Id(part.key.job.0)))
        .bind(column(parts, |part| i64::from(part.seq)))
        .bind(column(parts, |part| part.end))
        .bind(column(parts, |part| {
            (part.seq == 0).then_some(part.digest.as_slice())
        }))
        .bind(column(parts, |part| part.block))
        .bind(kind)
        .bind(Id(writer.process))
        .bind(i64::from(writer.generation))
        .bind(now)
        .fetch_all(connection)
        .await?;
    let mut taken: HashSet<(&str, Uuid, Uuid)> = HashSet::with_capacity(rows.len());
    for row in &rows {
        let row = Columns::of(row, "record_parts");
        taken.insert((row.get(0)?, row.uuid(1)?, row.uuid(2)?));
    }
    let is_taken =
        |key: &JobKey| taken.contains(&(key.tenant.as_str(), key.notification.0, key.job.0));
    Ok(column(parts, |part| is_taken(part.key)))
}

/// Of the parts that were not appended, those that stand in their places already, word for word and by the
/// same writer: an earlier commit whose answer was lost. Nothing of them is written again.
async fn own_parts(
    connection: &mut PgConnection,
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
    if left.is_empty() {
        return Ok(Vec::new());
    }
    let key_of = |(_, (_, settlement, _)): &(usize, &NewPart<'_>)| settlement.key.clone();
    let keys = column(&left, key_of);
    let rows = sqlx::query(READ_PLACES)
        .bind(column(&left, |(index, _)| int(*index as u64)))
        .bind(column(&keys, |key| key.tenant.as_str()))
        .bind(column(&keys, |key| Id(key.notification.0)))
        .bind(column(&keys, |key| Id(key.job.0)))
        .bind(column(&left, |(_, (_, settlement, _))| {
            i64::from(settlement.part.seq)
        }))
        .fetch_all(connection)
        .await?;
    let mut own = Vec::new();
    for row in &rows {
        let row = Columns::of(row, "record_parts");
        let (place, settlement, block) = parts[row.small::<usize>(0)?];
        let is_mine = row.int(1)? == OUTCOMES && read_writer(&row, 2)? == writer;
        let is_same = row.get::<bool>(4)? == settlement.part.end && row.get::<&[u8]>(5)? == block;
        if is_mine && is_same {
            own.push(place);
        }
    }
    Ok(own)
}

/// The logs of the `asked` requests, in their order.
async fn read_logs(
    connection: &mut PgConnection,
    requests: &[ClaimRequest],
    asked: &[usize],
) -> Result<Vec<Log>, Error> {
    let keys: Vec<&JobKey> = asked.iter().map(|place| &requests[*place].key).collect();
    let rows = sqlx::query(READ_LOGS)
        .bind((0..int(keys.len() as u64)).collect::<Vec<i64>>())
        .bind(column(&keys, |key| key.tenant.as_str()))
        .bind(column(&keys, |key| Id(key.notification.0)))
        .bind(column(&keys, |key| Id(key.job.0)))
        .fetch_all(connection)
        .await?;
    let mut logs = vec![Log::default(); keys.len()];
    for row in &rows {
        read_part(row, &mut logs)?;
    }
    Ok(logs)
}

fn read_part(row: &PgRow, logs: &mut [Log]) -> Result<(), Error> {
    let row = Columns::of(row, "record_parts");
    let digest: Option<&[u8]> = row.get(7)?;
    let part = KeptPart {
        seq: row.small(1)?,
        is_claim: row.int(2)? == CLAIM,
        writer: read_writer(&row, 3)?,
        at: row.int(5)?,
        end: row.get(6)?,
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
