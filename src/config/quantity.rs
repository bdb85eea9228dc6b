//! Quantities with a unit, as people write them in a configuration: durations and sizes.
//! It must not know keys, files or ranges.

use std::time::Duration;

/// How a duration is written, for messages.
pub(crate) const DURATION_FORM: &str =
    "a duration such as \"250ms\", \"30s\", \"15m\", \"24h\" or \"7d\"";
/// How a size is written, for messages.
pub(crate) const SIZE_FORM: &str = "a size such as 65536, \"256KiB\", \"16MiB\" or \"2GiB\"";

/// Milliseconds of each unit, longest first.
const DURATION_UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];
/// Bytes of each unit, largest first.
const SIZE_UNITS: [(&str, u64); 4] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];

/// The number in front of a unit.
fn split(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let at = text.find(|c: char| !c.is_ascii_digit())?;
    let (digits, unit) = text.split_at(at);
    Some((digits.parse().ok()?, unit.trim_start()))
}

/// A whole number and one unit; `None` for anything else, a bare number included.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = split(text)?;
    let (_, millis) = DURATION_UNITS.into_iter().find(|(name, _)| *name == unit)?;
    Some(Duration::from_millis(number.checked_mul(millis)?))
}

/// Bytes: a bare number, or a number and one unit.
pub(crate) fn parse_size(text: &str) -> Option<u64> {
    if let Ok(bytes) = text.trim().parse() {
        return Some(bytes);
    }
    let (number, unit) = split(text)?;
    let (_, bytes) = SIZE_UNITS.into_iter().find(|(name, _)| *name == unit)?;
    number.checked_mul(bytes)
}

/// The shortest exact form.
fn show(number: u64, units: &[(&str, u64)]) -> String {
    let exact = units
        .iter()
        .find(|(_, of)| number >= *of && number.is_multiple_of(*of));
    let (unit, of) = exact.or(units.last()).copied().unwrap_or(("", 1));
    format!("{}{unit}", number / of)
}

/// A duration as it may be written; parts of a millisecond are dropped.
pub(crate) fn show_duration(duration: Duration) -> String {
    show(
        u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
        &DURATION_UNITS,
    )
}

/// A size as it may be written.
pub(crate) fn show_size(bytes: u64) -> String {
    show(bytes, &SIZE_UNITS)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_need_a_unit() {
        for (text, millis) in [
            ("250ms", 250),
            ("0s", 0),
            ("30s", 30_000),
            ("15 m", 900_000),
            ("24h", 86_400_000),
        ] {
            assert_eq!(
                parse_duration(text),
                Some(Duration::from_millis(millis)),
                "{text}"
            );
        }
        for text in [
            "",
            "5",
            "s",
            "-1s",
            "1.5s",
            "1h30m",
            "5S",
            "99999999999999999999d",
            "18446744073709551615d",
        ] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    #[test]
    fn sizes_are_bytes_or_binary_units() {
        for (text, bytes) in [
            ("0", 0),
            ("65536", 65_536),
            ("1KiB", 1_024),
            ("16 MiB", 16 << 20),
            ("2GiB", 2 << 30),
        ] {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
        for text in ["", "KiB", "1MB", "1.5MiB", "-1", "18446744073709551615KiB"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_back(number in 0..u64::MAX / 2) {
            let duration = Duration::from_millis(number);
            prop_assert_eq!(parse_duration(&show_duration(duration)), Some(duration));
            prop_assert_eq!(parse_size(&show_size(number)), Some(number));
        }
    }
}
