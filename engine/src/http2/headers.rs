//! The two response headers that carry time: `Retry-After` and `date`.
//! It must not know the clock: `now` is passed.

use jiff::fmt::rfc2822::DateTimeParser;

use crate::model::Millis;

/// Longest header value that is looked at, bytes; a real one has 29 at most.
const TIME_VALUE_MAX: usize = 64;

/// The waiting time of a `Retry-After` value, seconds or an HTTP date (RFC 9110, 10.2.3), in milliseconds from `now`.
/// Dates in the past mean no wait. `None` for anything else.
#[must_use]
pub fn parse_retry_after(value: &str, now: Millis) -> Option<Millis> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // A number too large for the type is a long wait all the same.
        let seconds = value.parse::<Millis>().unwrap_or(Millis::MAX);
        return Some(seconds.saturating_mul(1_000));
    }
    parse_http_date(value).map(|at| at.saturating_sub(now).max(0))
}

/// An HTTP date (RFC 9110, 5.6.7, the preferred form) in Unix milliseconds.
#[must_use]
pub fn parse_http_date(value: &str) -> Option<Millis> {
    if value.len() > TIME_VALUE_MAX || !value.ends_with("GMT") {
        return None;
    }
    let instant = DateTimeParser::new().parse_timestamp(value).ok()?;
    Some(instant.as_millisecond())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RFC_EXAMPLE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const RFC_EXAMPLE_MILLIS: Millis = 784_111_777_000;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = RFC_EXAMPLE_MILLIS - 90_000;
        let cases = [
            ("0", Some(0)),
            ("120", Some(120_000)),
            (" 7 ", Some(7_000)),
            (RFC_EXAMPLE, Some(90_000)),
            ("Sun, 06 Nov 1994 08:47:00 GMT", Some(0)),
            ("", None),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
            ("Sun, 99 Nov 1994 08:49:37 GMT", None),
            ("Sunday, 06-Nov-94 08:49:37 +0000", None),
        ];
        for (value, expected) in cases {
            assert_eq!(parse_retry_after(value, now), expected, "{value:?}");
        }
        assert_eq!(parse_http_date(RFC_EXAMPLE), Some(RFC_EXAMPLE_MILLIS));
    }

    proptest! {
        #[test]
        fn retry_after_never_fails_and_is_never_negative(value in ".{0,80}", now in 0i64..4_000_000_000_000) {
            if let Some(wait) = parse_retry_after(&value, now) {
                prop_assert!(wait >= 0);
            }
        }

        #[test]
        fn every_number_of_seconds_is_understood(seconds in 0u64..=u64::MAX) {
            let wait = parse_retry_after(&seconds.to_string(), 0).unwrap();
            let expected = i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1_000);
            prop_assert_eq!(wait, expected);
        }
    }
}
