//! The job codec and the derived ids. It must not know brokers.

use anyhow::{Result, ensure};
use clarion_engine::model::{Envelope, JobId, Lane, Platform, recipient_id};

use crate::samples::{ENTRIES, job};
use crate::stage::{Per, Stage};

/// Encode and decode of a full job, its digest, and ids.
///
/// # Errors
/// When a sample cannot be made or does not survive the codec.
pub fn stages() -> Result<Vec<Stage>> {
    let mut stages = Vec::new();
    for (word, platform) in [("apns", Platform::Ios), ("fcm", Platform::Android)] {
        let job = job(platform, ENTRIES, Lane::Bulk)?;
        let bytes = Envelope::encode(std::slice::from_ref(&job))?;
        ensure!(Envelope::decode(&bytes)?.jobs.first() == Some(&job));
        let per = Per::recipients(ENTRIES);
        stages.push(Stage::new(
            &format!("job codec: encode 500 {word}"),
            per,
            move || Envelope::encode(std::slice::from_ref(&job)),
        ));
        stages.push(Stage::new(
            &format!("job codec: decode 500 {word}"),
            per,
            move || Envelope::decode(&bytes),
        ));
    }
    let job = job(Platform::Ios, ENTRIES, Lane::Bulk)?;
    let id = job.notification.id;
    let mut ordinal = 0_u32;
    stages.push(Stage::new(
        "id: job digest (sha-256 of 500)",
        Per::recipients(ENTRIES),
        move || job.digest(),
    ));
    stages.push(Stage::new(
        "id: recipient (uuid v5, sha-1)",
        Per::one("recipient"),
        move || {
            ordinal = ordinal.wrapping_add(1);
            recipient_id(id, ordinal, 0)
        },
    ));
    let mut first = 0_u32;
    stages.push(Stage::new("id: first job", Per::one("job"), move || {
        first = first.wrapping_add(ENTRIES);
        JobId::first(id, first)
    }));
    Ok(stages)
}
