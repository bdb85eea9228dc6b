//! Pages by `offset` and `size`, as IBM's clients ask for them, over lists that go by cursors: an offset passes over rows
//! without holding them, and the link to the next page carries the cursor, so that whoever follows it never passes over any.
//! It must not know what a list holds.

use clarion_auth::TenantId;
use serde::Serialize;
use utoipa::ToSchema;

use crate::call::TenantCall;
use crate::error::{ApiError, Kind};

/// Rows of one page unless the caller says otherwise.
const SIZE_DEFAULT: u32 = 100;
/// Rows of one page.
pub(crate) const SIZE_MAX: u32 = 500;
/// Rows that an offset may pass over; whoever wants more follows the links.
pub(crate) const OFFSET_MAX: u32 = 100_000;

/// What a caller asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) offset: u32,
    pub(crate) size: u32,
    /// Where the page before ended, from its link.
    pub(crate) after: Option<String>,
}

impl Asked {
    /// Reads `offset`, `size` and `after`.
    pub(crate) fn of(call: &TenantCall) -> Result<Self, ApiError> {
        let number = |name: &'static str, usual: u32, least: u32, most: u32, code| {
            let Some(text) = call.query(name) else {
                return Ok(usual);
            };
            let number = text.parse().ok().filter(|n| (least..=most).contains(n));
            number.ok_or_else(|| {
                let says = format!("{name} is a number from {least} to {most}");
                ApiError::new(Kind::BadValue, says).code(code)
            })
        };
        let after = call.query("after").map(ToOwned::to_owned);
        // Beside a cursor the offset only numbers the page.
        let most = if after.is_some() {
            u32::MAX
        } else {
            OFFSET_MAX
        };
        Ok(Self {
            offset: number("offset", 0, 0, most, "FPWSE1079E")?,
            size: number("size", SIZE_DEFAULT, 1, SIZE_MAX, "FPWSE1080E")?,
            after,
        })
    }

    /// How many rows are to be passed over: none beside a cursor.
    pub(crate) fn skip(&self) -> u32 {
        match self.after {
            Some(_) => 0,
            None => self.offset,
        }
    }

    /// A cursor that is no good.
    pub(crate) fn bad_cursor() -> ApiError {
        let says = "after is not from a link of an earlier answer";
        ApiError::new(Kind::BadValue, says).code("FPWSE1079E")
    }

    /// The cursor as a number.
    pub(crate) fn after_number(&self) -> Result<i64, ApiError> {
        let Some(text) = &self.after else {
            return Ok(0);
        };
        let number = text.parse().ok().filter(|number| *number >= 0);
        number.ok_or_else(Self::bad_cursor)
    }
}

/// Where a page lies in its list.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PageInfo {
    /// Rows of this page.
    count: usize,
    /// The link to the next page; empty after the last one.
    next: String,
    /// The link to the page before; empty for the first one.
    previous: String,
    /// Rows of the whole list, where they are counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    total_count: Option<u64>,
}

impl PageInfo {
    /// The page of `path` (with its own parameters) that was asked for and has `count` rows; `last` is the cursor of its
    /// last row.
    pub(crate) fn of(
        path: &str,
        asked: &Asked,
        (count, last): (usize, Option<String>),
        total_count: Option<u64>,
    ) -> Self {
        let joint = if path.contains('?') { '&' } else { '?' };
        let size = asked.size;
        let is_full = count >= size as usize;
        let next = last.filter(|_| is_full).map_or(String::new(), |last| {
            let offset = asked.offset.saturating_add(size);
            let after = encoded(&last);
            format!("{path}{joint}offset={offset}&size={size}&after={after}")
        });
        let before = asked.offset.saturating_sub(size);
        let previous = match asked.offset {
            0 => String::new(),
            _ if before > OFFSET_MAX => String::new(),
            _ => format!("{path}{joint}offset={before}&size={size}"),
        };
        Self {
            count,
            next,
            previous,
            total_count,
        }
    }
}

/// The path of something of an application.
pub(crate) fn href(tenant: &TenantId, rest: &str) -> String {
    format!("/imfpush/v1/apps/{tenant}/{rest}")
}

/// A text as a part of a URL.
pub(crate) fn encoded(text: &str) -> String {
    use std::fmt::Write;
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            // Writing into a string does not fail.
            let _written = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    fn asked(offset: u32, size: u32, after: Option<&str>) -> Asked {
        Asked {
            offset,
            size,
            after: after.map(ToOwned::to_owned),
        }
    }

    #[test]
    fn links_lead_on_by_cursor_and_back_by_offset() {
        let first = PageInfo::of(
            "/x?deviceId=a",
            &asked(0, 2, None),
            (2, Some("7 8".into())),
            Some(5),
        );
        assert_eq!(first.next, "/x?deviceId=a&offset=2&size=2&after=7%208");
        assert_eq!((first.previous.as_str(), first.total_count), ("", Some(5)));
        let last = PageInfo::of("/x", &asked(4, 2, Some("9")), (1, Some("11".into())), None);
        assert_eq!(
            (last.next.as_str(), last.previous.as_str()),
            ("", "/x?offset=2&size=2")
        );
        let far = PageInfo::of(
            "/x",
            &asked(900_000, 500, Some("9")),
            (500, Some("11".into())),
            None,
        );
        assert_eq!(far.previous, "");
        assert_eq!(far.next, "/x?offset=900500&size=500&after=11");
    }

    #[test]
    fn an_offset_is_passed_over_only_without_a_cursor() {
        assert_eq!(asked(40, 2, None).skip(), 40);
        assert_eq!(asked(40, 2, Some("7")).skip(), 0);
    }
}
