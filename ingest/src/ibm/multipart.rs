//! Forms with files (RFC 7578), as IBM's settings of Apple's push service are uploaded: small, and in memory already.
//! It must not know what a form is for, and never repeats what is in it.

use http::{HeaderMap, header};

use crate::error::{ApiError, Kind};

/// Parts of a form.
const PARTS_MAX: usize = 32;
/// Longest boundary (RFC 2046), bytes.
const BOUNDARY_MAX: usize = 70;

/// A field or a file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Part<'a> {
    pub(super) name: &'a str,
    pub(super) file_name: Option<&'a str>,
    pub(super) bytes: &'a [u8],
}

/// The parts of a form.
///
/// # Errors
/// 415 for another media type, 400 for a body that is none.
pub(super) fn parts<'a>(headers: &HeaderMap, body: &'a [u8]) -> Result<Vec<Part<'a>>, ApiError> {
    let boundary = boundary(headers).ok_or_else(|| {
        let says = "send a form: Content-Type: multipart/form-data with its boundary";
        ApiError::new(Kind::UnsupportedMediaType, says)
    })?;
    read(body, &boundary).ok_or_else(|| {
        ApiError::new(
            Kind::BadValue,
            "the body is not the form that its boundary announces",
        )
    })
}

fn boundary(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    let mut pieces = value.split(';');
    let essence = pieces.next()?.trim();
    if !essence.eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let boundary = pieces.find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        let is_it = name.trim().eq_ignore_ascii_case("boundary");
        is_it.then(|| value.trim().trim_matches('"'))
    })?;
    (1..=BOUNDARY_MAX)
        .contains(&boundary.len())
        .then(|| boundary.to_owned())
}

fn read<'a>(body: &'a [u8], boundary: &str) -> Option<Vec<Part<'a>>> {
    let first = format!("--{boundary}");
    let between = format!("\r\n--{boundary}");
    let mut rest = &body[find(body, first.as_bytes())? + first.len()..];
    let mut parts = Vec::new();
    while !rest.starts_with(b"--") {
        if parts.len() == PARTS_MAX {
            return None;
        }
        rest = rest.strip_prefix(b"\r\n")?;
        let head_end = find(rest, b"\r\n\r\n")?;
        let head = std::str::from_utf8(&rest[..head_end]).ok()?;
        rest = &rest[head_end + 4..];
        let end = find(rest, between.as_bytes())?;
        let (name, file_name) = names(head)?;
        parts.push(Part {
            name,
            file_name,
            bytes: &rest[..end],
        });
        rest = &rest[end + between.len()..];
    }
    Some(parts)
}

/// `name` and `filename` of the part's disposition.
fn names(head: &str) -> Option<(&str, Option<&str>)> {
    let disposition = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.trim()
            .eq_ignore_ascii_case("content-disposition")
            .then_some(value)
    })?;
    let parameter = |wanted: &str| {
        disposition.split(';').skip(1).find_map(|parameter| {
            let (name, value) = parameter.split_once('=')?;
            let is_it = name.trim().eq_ignore_ascii_case(wanted);
            is_it.then(|| value.trim().trim_matches('"'))
        })
    };
    Some((parameter("name")?, parameter("filename")))
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len())
        .position(|window| window == wanted)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn headers(content_type: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::CONTENT_TYPE, content_type.parse().unwrap())])
    }

    const FORM: &[u8] = b"preamble\r\n--x\r\n\
        Content-Disposition: form-data; name=\"password\"\r\n\r\nsecret\r\n--x\r\n\
        content-disposition: form-data; name=\"certificate\"; filename=\"push.p12\"\r\n\
        Content-Type: application/x-pkcs12\r\n\r\n\x00\xff\r\n--y\r\n--x--\r\nepilogue";

    #[test]
    fn fields_and_files_come_as_they_were_sent() {
        for content_type in [
            "multipart/form-data; boundary=x",
            "Multipart/Form-Data; charset=utf-8; Boundary=\"x\"",
        ] {
            let parts = parts(&headers(content_type), FORM).unwrap();
            assert_eq!(parts.len(), 2);
            assert_eq!(
                (parts[0].name, parts[0].file_name, parts[0].bytes),
                ("password", None, &b"secret"[..])
            );
            assert_eq!(
                (parts[1].name, parts[1].file_name),
                ("certificate", Some("push.p12"))
            );
            assert_eq!(parts[1].bytes, b"\x00\xff\r\n--y");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        let status = |content_type: &str, body: &[u8]| {
            let refused = parts(&headers(content_type), body);
            refused.err().map(|error| error.status().as_u16())
        };
        assert_eq!(status("application/json", FORM), Some(415));
        assert_eq!(status("multipart/form-data", FORM), Some(415));
        assert_eq!(status("multipart/form-data; boundary=z", FORM), Some(400));
        let cut = &FORM[..FORM.len() - 15];
        assert_eq!(status("multipart/form-data; boundary=x", cut), Some(400));
        let nameless = b"--x\r\nContent-Disposition: form-data\r\n\r\na\r\n--x--";
        assert_eq!(
            status("multipart/form-data; boundary=x", nameless),
            Some(400)
        );
    }

    proptest! {
        #[test]
        fn no_body_makes_reading_panic(body in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut text = b"--x\r\n".to_vec();
            text.extend(body);
            drop(parts(&headers("multipart/form-data; boundary=x"), &text));
        }
    }
}
