//! What backends would be told of a record's part: everybody whom it ends, once.
//! It must not know how an event is kept.

use clarion_engine::delivery::events;
use clarion_engine::model::Millis;
use clarion_engine::store::{OutboxRow, Settlement};

use crate::store::Broken;

/// Backends are told of everybody whom a part ends, once.
pub(crate) fn check(settlement: &Settlement, now: Millis) -> Result<(), Broken> {
    let mut ended: Vec<(u32, String)> = settlement
        .part
        .block
        .iter()
        .map(|(ordinal, _, state)| (*ordinal, state.as_str().to_owned()))
        .collect();
    let mut told = Vec::new();
    if let Some(body) = &settlement.event {
        let row = OutboxRow {
            id: 0,
            key: settlement.key.clone(),
            seq: settlement.part.seq,
            at: now,
            body: body.clone(),
        };
        let event = events::event(&row).map_err(|error| error.to_string())?;
        told.extend(event.recipients.into_iter().map(|r| (r.ordinal, r.state)));
    }
    ended.sort_unstable();
    told.sort_unstable();
    if told != ended {
        return Err(format!("told {told:?} of {ended:?}"));
    }
    Ok(())
}
