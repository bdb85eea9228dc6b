//! How large a run is, its seed, and numbers drawn from it.
//! It must not know which test asks.

/// A size from the environment (`CLARION_PROOF_…`), or the small one of continuous integration.
pub(crate) fn size(name: &str, small: u64) -> u64 {
    match std::env::var(format!("CLARION_PROOF_{name}")) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("CLARION_PROOF_{name} = {text:?} is no number")),
        Err(_) => small,
    }
}

/// The seed of this run.
pub(crate) fn seed() -> u64 {
    size("SEED", 2_024)
}

/// Unix milliseconds, the clock that receipts are stamped with.
pub(crate) fn now_ms() -> i64 {
    #[expect(
        clippy::disallowed_methods,
        reason = "compared with the stamps of another process"
    )]
    jiff::Timestamp::now().as_millisecond()
}

/// Numbers drawn from a seed (splitmix64).
#[derive(Debug)]
pub(crate) struct Draw(u64);

impl Draw {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }

    /// Puts a list into another order.
    pub(crate) fn shuffle<T>(&mut self, list: &mut [T]) {
        for at in (1..list.len()).rev() {
            let other = self.below(at as u64 + 1);
            list.swap(at, usize::try_from(other).unwrap());
        }
    }
}
