//! The rules of a job's log, without a database: who may write next, and what a claim finds. Job protocol,
//! section 2. It must not know where the parts are kept.

use std::collections::HashMap;

use uuid::Uuid;

use super::block::{self, BlockError, Ended};
use super::{ClaimAnswer, JobKey, Settlement, Writer};
use crate::limits::CLAIM_TTL;
use crate::model::Millis;

/// A part as it is kept.
#[derive(Clone, Debug)]
pub(super) struct KeptPart<'a> {
    /// Its place.
    pub(super) seq: u32,
    /// A claim rather than outcomes.
    pub(super) is_claim: bool,
    /// Who wrote it.
    pub(super) writer: Writer,
    /// When.
    pub(super) at: Millis,
    /// The job closed with it.
    pub(super) end: bool,
    /// The digest of the job's recipients; in the first part only.
    pub(super) digest: Option<[u8; 32]>,
    /// What ended.
    pub(super) block: &'a [u8],
}

/// What a job's log says, part by part.
#[derive(Clone, Debug, Default)]
pub(super) struct Log {
    digest: Option<[u8; 32]>,
    last: Option<Last>,
    ended: bool,
    settled: Vec<Ended>,
    claims_without_progress: u32,
}

#[derive(Clone, Copy, Debug)]
struct Last {
    seq: u32,
    writer: Writer,
    at: Millis,
    is_claim: bool,
}

/// The answer to a claim, and the place at which the claim is to be written, if it is.
#[derive(Debug)]
pub(super) struct Decision {
    /// What the caller is told.
    pub(super) answer: ClaimAnswer,
    /// Where the claim goes.
    pub(super) append: Option<u32>,
}

impl Log {
    /// Takes the next part in.
    pub(super) fn push(&mut self, part: &KeptPart<'_>) -> Result<(), BlockError> {
        let settled_before = self.settled.len();
        block::decode(part.block, &mut self.settled)?;
        if part.is_claim {
            self.claims_without_progress += 1;
        } else if self.settled.len() > settled_before {
            self.claims_without_progress = 0;
        }
        if self.last.is_none() {
            self.digest = part.digest;
        }
        self.ended |= part.end;
        self.last = Some(Last {
            seq: part.seq,
            writer: part.writer,
            at: part.at,
            is_claim: part.is_claim,
        });
        Ok(())
    }

    /// What `writer` is told that wants to send what is left of the job; `void` says of which processes it is
    /// proven that they are dead.
    pub(super) fn decide(
        self,
        writer: Writer,
        digest: &[u8; 32],
        void: impl Fn(Uuid) -> bool,
        now: Millis,
    ) -> Decision {
        if self.digest.is_some_and(|known| known != *digest) {
            return refused(ClaimAnswer::IdReused);
        }
        if self.ended {
            return refused(ClaimAnswer::Ended);
        }
        let Some(last) = self.last else {
            return self.granted(0, true);
        };
        let ttl = i64::try_from(CLAIM_TTL.as_millis()).unwrap_or(i64::MAX);
        // Either way round: a part from far in the future is a clock that was set back, not a claim that
        // holds for ever.
        let is_live = now.abs_diff(last.at) < ttl.unsigned_abs();
        if last.writer == writer {
            let is_new = !(last.is_claim && is_live);
            return self.granted(last.seq + 1, is_new);
        }
        if is_live && !void(last.writer.process) {
            return refused(ClaimAnswer::Held);
        }
        self.granted(last.seq + 1, true)
    }

    /// A claim at `seq`; one that the writer holds already is not written again.
    fn granted(self, seq: u32, is_new: bool) -> Decision {
        let settled = self.settled.iter();
        Decision {
            answer: ClaimAnswer::Granted {
                next_seq: seq + u32::from(is_new),
                settled: settled
                    .map(|(ordinal, device, _)| (*ordinal, *device))
                    .collect(),
                claims_without_progress: self.claims_without_progress + u32::from(is_new),
            },
            append: is_new.then_some(seq),
        }
    }
}

fn refused(answer: ClaimAnswer) -> Decision {
    Decision {
        answer,
        append: None,
    }
}

/// Cuts a group such that no job stands twice in one wave: a later part of a job is only taken after the
/// earlier.
pub(super) fn waves(settlements: &[Settlement]) -> Vec<Vec<usize>> {
    let mut seen: HashMap<&JobKey, usize> = HashMap::with_capacity(settlements.len());
    let mut waves: Vec<Vec<usize>> = Vec::new();
    for (place, settlement) in settlements.iter().enumerate() {
        let wave = seen.entry(&settlement.key).or_default();
        if *wave == waves.len() {
            waves.push(Vec::with_capacity(settlements.len()));
        }
        waves[*wave].push(place);
        *wave += 1;
    }
    waves
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use crate::model::FinalState;

    const DIGEST: [u8; 32] = [1; 32];
    const ME: Writer = writer(1, 0);
    const ME_BEFORE: Writer = writer(1, 7);
    const OTHER: Writer = writer(2, 0);

    const fn writer(process: u128, generation: u32) -> Writer {
        Writer {
            process: Uuid::from_u128(process),
            generation,
        }
    }

    /// (writer, is a claim, at, outcomes, end)
    type Sketch = (Writer, bool, Millis, u32, bool);

    fn log(parts: &[Sketch]) -> Log {
        let mut log = Log::default();
        let mut ordinal = 0;
        for (seq, (writer, is_claim, at, outcomes, end)) in parts.iter().enumerate() {
            let items: Vec<Ended> = (0..*outcomes)
                .map(|n| (ordinal + n, 0, FinalState::Accepted))
                .collect();
            ordinal += outcomes;
            let part = KeptPart {
                seq: u32::try_from(seq).unwrap(),
                is_claim: *is_claim,
                writer: *writer,
                at: *at,
                end: *end,
                digest: (seq == 0).then_some(DIGEST),
                block: &block::encode(&items),
            };
            log.push(&part).unwrap();
        }
        log
    }

    /// (next seq, settled, claims without progress, whether a claim is written)
    type Asked = Result<(u32, usize, u32, bool), ClaimAnswer>;

    fn ask(parts: &[Sketch], now: Millis) -> Asked {
        let decision = log(parts).decide(ME, &DIGEST, |_| false, now);
        match decision.answer {
            ClaimAnswer::Granted {
                next_seq,
                settled,
                claims_without_progress,
            } => Ok((
                next_seq,
                settled.len(),
                claims_without_progress,
                decision.append.is_some(),
            )),
            other => Err(other),
        }
    }

    #[test]
    fn what_a_claim_finds() {
        let late = 20_000;
        let cases: &[(&[Sketch], Millis, Asked)] = &[
            // nothing yet
            (&[], 0, Ok((1, 0, 1, true))),
            // somebody else's part, live, then lapsed
            (
                &[(OTHER, false, 0, 3, false)],
                late - 1,
                Err(ClaimAnswer::Held),
            ),
            (&[(OTHER, false, 0, 3, false)], late, Ok((2, 3, 1, true))),
            (
                &[(OTHER, true, 0, 0, false)],
                late - 1,
                Err(ClaimAnswer::Held),
            ),
            (&[(OTHER, true, 0, 0, false)], late, Ok((2, 0, 2, true))),
            // an earlier generation of the same process may still have answers to record
            (
                &[(ME_BEFORE, false, 0, 3, false)],
                1,
                Err(ClaimAnswer::Held),
            ),
            // my own claim is granted again, and not written again while it lives
            (&[(ME, true, 0, 0, false)], 1, Ok((1, 0, 1, false))),
            (&[(ME, true, 0, 0, false)], late, Ok((2, 0, 2, true))),
            (&[(ME, false, 0, 2, false)], 1, Ok((2, 2, 1, true))),
            // progress resets the count, an empty part does not
            (
                &[(OTHER, true, 0, 0, false), (OTHER, false, 0, 1, false)],
                late,
                Ok((3, 1, 1, true)),
            ),
            (
                &[(OTHER, true, 0, 0, false), (OTHER, false, 0, 0, false)],
                late,
                Ok((3, 0, 2, true)),
            ),
            // the end
            (&[(OTHER, false, 0, 3, true)], 1, Err(ClaimAnswer::Ended)),
            // a clock that was set back
            (
                &[(OTHER, true, 90_000_000, 0, false)],
                0,
                Ok((2, 0, 2, true)),
            ),
        ];
        for (parts, now, expected) in cases {
            assert_eq!(&ask(parts, *now), expected, "{parts:?} at {now}");
        }
    }

    #[test]
    fn a_process_proven_dead_holds_nothing() {
        let held = log(&[(OTHER, true, 0, 0, false)]);
        let decision = held.decide(ME, &DIGEST, |process| process != ME.process, 1);
        assert_eq!(decision.append, Some(1));
    }

    #[test]
    fn another_digest_is_told_even_when_the_job_has_ended() {
        let ended = log(&[(OTHER, false, 0, 1, true)]);
        let decision = ended.decide(ME, &[2; 32], |_| false, 1);
        assert_eq!(decision.answer, ClaimAnswer::IdReused);
    }
}
