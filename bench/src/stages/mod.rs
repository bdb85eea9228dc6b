//! The pure stages of a notification's way, room by room. Each is checked once before it is timed, so that no
//! measurement times a failure. They must not do I/O.

pub mod auth;
pub mod delivery;
pub mod model;
pub mod provider;
pub mod worker;

use anyhow::Result;

use crate::stage::Stage;

/// All of them, in the order of the way.
///
/// # Errors
/// When a sample cannot be made.
pub fn all() -> Result<Vec<Stage>> {
    let rooms = [
        auth::stages()?,
        model::stages()?,
        provider::stages()?,
        delivery::stages()?,
        worker::stages()?,
    ];
    Ok(rooms.into_iter().flatten().collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_stage_runs_and_has_a_name_of_its_own() {
        let mut stages = all().unwrap();
        let names: HashSet<String> = stages.iter().map(|stage| stage.name.clone()).collect();
        assert_eq!(names.len(), stages.len());
        for stage in &mut stages {
            assert!(stage.time(3).as_nanos() > 0, "{}", stage.name);
        }
    }
}
