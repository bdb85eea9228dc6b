//! The compact form of what a record part says: (ordinal, device, state) of each recipient that ended.
//! It must not know tables or databases.

use thiserror::Error;

use crate::model::{DeviceId, FinalState};

/// One recipient or entry that ended.
pub(super) type Ended = (u32, DeviceId, FinalState);

/// The form this build writes.
const FORM: u8 = 1;
/// In an item's first byte: the state.
const STATE: u8 = 0x0f;
/// In an item's first byte: the ordinal is one more than the last; else its difference follows.
const NEXT_ORDINAL: u8 = 0x10;
/// In an item's first byte: the device is 0; else its difference to the last follows.
const NO_DEVICE_ID: u8 = 0x20;

/// Why bytes are not a block.
#[derive(Debug, Error)]
pub(super) enum BlockError {
    /// Written by another version.
    #[error("a block of form {0}; this build reads {FORM}")]
    Form(u8),
    /// Cut off, or out of range.
    #[error("a damaged block")]
    Damaged,
}

/// Writes a block. The order of the items is not kept: they are sorted, so that most take two to four bytes.
pub(super) fn encode(items: &[Ended]) -> Vec<u8> {
    if items.is_empty() {
        return Vec::new();
    }
    let mut sorted = items.to_vec();
    sorted.sort_unstable();
    let mut bytes = Vec::with_capacity(1 + 4 * sorted.len());
    bytes.push(FORM);
    let (mut last_ordinal, mut last_device) = (-1_i64, 0_i64);
    for (ordinal, device, state) in sorted {
        let ordinal = i64::from(ordinal);
        let mut head = state as u8;
        if ordinal == last_ordinal + 1 {
            head |= NEXT_ORDINAL;
        }
        if device == 0 {
            head |= NO_DEVICE_ID;
        }
        bytes.push(head);
        if head & NEXT_ORDINAL == 0 {
            put(&mut bytes, ordinal - last_ordinal);
        }
        if head & NO_DEVICE_ID == 0 {
            put(&mut bytes, device.wrapping_sub(last_device));
            last_device = device;
        }
        last_ordinal = ordinal;
    }
    bytes
}

/// Reads a block, adding its items to `into`.
pub(super) fn decode(bytes: &[u8], into: &mut Vec<Ended>) -> Result<(), BlockError> {
    let Some((form, mut rest)) = bytes.split_first() else {
        return Ok(());
    };
    if *form != FORM {
        return Err(BlockError::Form(*form));
    }
    let (mut ordinal, mut device) = (-1_i64, 0_i64);
    while let Some((head, tail)) = rest.split_first() {
        rest = tail;
        let step = if head & NEXT_ORDINAL == 0 {
            take(&mut rest)?
        } else {
            1
        };
        ordinal = ordinal.checked_add(step).ok_or(BlockError::Damaged)?;
        let mut this_device = 0;
        if head & NO_DEVICE_ID == 0 {
            device = device.wrapping_add(take(&mut rest)?);
            this_device = device;
        }
        let state = FinalState::from_number(head & STATE).ok_or(BlockError::Damaged)?;
        let this_ordinal = u32::try_from(ordinal).map_err(|_| BlockError::Damaged)?;
        into.push((this_ordinal, this_device, state));
    }
    Ok(())
}

/// Appends a number, small magnitudes short: zigzag, then seven bits a byte.
fn put(bytes: &mut Vec<u8>, number: i64) {
    let mut left = ((number << 1) ^ (number >> 63)).cast_unsigned();
    while left >= 0x80 {
        bytes.push(left.to_le_bytes()[0] | 0x80);
        left >>= 7;
    }
    bytes.push(left.to_le_bytes()[0]);
}

fn take(rest: &mut &[u8]) -> Result<i64, BlockError> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, tail) = rest.split_first().ok_or(BlockError::Damaged)?;
        *rest = tail;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok((number >> 1).cast_signed() ^ -(number & 1).cast_signed());
        }
    }
    Err(BlockError::Damaged)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn item() -> impl Strategy<Value = Ended> {
        let device = prop_oneof![Just(0), 1..5_000_i64, any::<i64>()];
        (0..70_000_u32, device, 0..9_u8)
            .prop_map(|(ordinal, device, state)| (ordinal, device, FinalState::ALL[state as usize]))
    }

    proptest! {
        #[test]
        fn a_block_reads_back_as_it_was_written(mut items in prop::collection::vec(item(), 0..600)) {
            let mut read = Vec::new();
            decode(&encode(&items), &mut read).unwrap();
            items.sort_unstable();
            prop_assert_eq!(read, items);
        }

        #[test]
        fn foreign_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut read = Vec::new();
            let _read_or_refused = decode(&bytes, &mut read);
        }
    }

    #[test]
    fn a_full_job_takes_few_bytes() {
        let direct: Vec<Ended> = (0..500).map(|o| (o, 0, FinalState::Accepted)).collect();
        assert_eq!(encode(&direct).len(), 501);
        let registered: Vec<Ended> = (0..500)
            .map(|o| (o, 1_000_000 + i64::from(o), FinalState::Accepted))
            .collect();
        assert!(encode(&registered).len() < 1_010);
    }

    #[test]
    fn another_form_and_a_cut_block_are_refused() {
        assert!(matches!(
            decode(&[9, 0], &mut Vec::new()),
            Err(BlockError::Form(9))
        ));
        let whole = encode(&[(7, 900, FinalState::Rejected)]);
        for cut in 2..whole.len() {
            assert!(decode(&whole[..cut], &mut Vec::new()).is_err());
        }
    }
}
