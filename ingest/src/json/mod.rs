//! Reading JSON bodies: malformed text, duplicate keys and wrong types become the documented list of field errors.
//! It must not know what the fields mean, and never repeats a value.

mod scan;

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, DeserializeOwned, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_path_to_error::Segment;

use crate::error::{ApiError, FieldError, Kind, Step};

/// What a list that is too long says, so that it is told from other errors.
const TOO_MANY: &str = "too many entries: at most ";
/// What a member that is too large says.
const TOO_LARGE: &str = "too large: at most ";

/// Bytes of one free-form member (`data`, raw overrides, Live Activity content). A provider takes 4 KiB.
pub(crate) const MEMBER_BYTES_MAX: usize = 64 * 1024;

/// Reads a body.
///
/// # Errors
/// 422 with the field, or 413 for lists and members over their limit.
pub(crate) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    if body.is_empty() {
        return Err(ApiError::field(FieldError::missing(["body".into()])));
    }
    scan::scan(body).map_err(|error| ApiError::field(error.into_field(body)))?;
    let mut reader = serde_json::Deserializer::from_slice(body);
    let body: Result<Object<T>, _> = serde_path_to_error::deserialize(&mut reader);
    body.map(|object| object.0).map_err(|error| refusal(&error))
}

fn refusal(error: &serde_path_to_error::Error<serde_json::Error>) -> ApiError {
    let mut loc = vec![Step::from("body")];
    loc.extend(error.path().iter().filter_map(|segment| match segment {
        Segment::Seq { index } => Some(Step::Index(*index)),
        Segment::Map { key } => Some(Step::from(key.clone())),
        Segment::Enum { .. } | Segment::Unknown => None,
    }));
    let message = error.inner().to_string();
    let message = message.split(" at line ").next().unwrap_or_default();
    for limit in [TOO_MANY, TOO_LARGE] {
        if message.starts_with(limit) {
            return ApiError::new(Kind::TooLarge, format!("{}: {message}", way(&loc)));
        }
    }
    ApiError::field(describe(loc, message))
}

fn way(loc: &[Step]) -> String {
    let step = |step: &Step| match step {
        Step::Name(name) => name.to_string(),
        Step::Index(index) => index.to_string(),
    };
    loc.iter().skip(1).map(step).collect::<Vec<_>>().join(".")
}

/// The library's words in ours, without the value that it quotes.
fn describe(mut loc: Vec<Step>, message: &str) -> FieldError {
    if let Some(name) = message.strip_prefix("missing field `") {
        loc.push(Step::from(name.trim_end_matches('`').to_owned()));
        return FieldError::missing(loc);
    }
    let expected = message
        .rsplit_once("expected ")
        .map_or("", |(_, expected)| expected);
    if message.starts_with("unknown variant ") {
        let words = expected.trim_start_matches("one of ").replace('`', "'");
        let msg = Cow::Owned(format!("Input should be {words}"));
        return FieldError {
            loc,
            msg,
            kind: "enum",
        };
    }
    if message.starts_with("invalid type: ") {
        let (msg, kind) = type_words(expected);
        return FieldError { loc, msg, kind };
    }
    if message.starts_with("invalid value: ") {
        let range = match expected {
            "u32" => "a whole number from 0 to 4294967295",
            "u8" => "a whole number from 0 to 255",
            "u64" => "a whole number from 0",
            _ => "within its range",
        };
        return FieldError::value(loc, format!("Input should be {range}"));
    }
    FieldError::value(loc, message.to_owned())
}

fn type_words(expected: &str) -> (Cow<'static, str>, &'static str) {
    let (words, kind) = match expected {
        "a string" | "a borrowed string" | "a formatted string" => {
            ("a valid string", "string_type")
        }
        "a boolean" => ("a valid boolean", "bool_type"),
        "u8" | "u32" | "u64" | "i64" => ("a valid integer", "int_type"),
        "f64" => ("a valid number", "float_type"),
        "a map" => ("a valid object", "dict_type"),
        "a sequence" => ("a valid list", "list_type"),
        _ => ("of another type", "type_error"),
    };
    (Cow::Owned(format!("Input should be {words}")), kind)
}

/// A list of at most `MAX` entries; longer ones are given up at once instead of being held.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bounded<T, const MAX: usize>(pub(crate) Vec<T>);

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for Bounded<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List<T, const MAX: usize>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for List<T, MAX> {
            type Value = Bounded<T, MAX>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a sequence")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = list.next_element()? {
                    if entries.len() == MAX {
                        return Err(serde::de::Error::custom(format_args!("{TOO_MANY}{MAX}")));
                    }
                    entries.push(entry);
                }
                Ok(Bounded(entries))
            }
        }

        deserializer.deserialize_seq(List(PhantomData))
    }
}

/// An object, and nothing else: by itself the library also takes a list of a structure's fields in their order.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Object<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }

            fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(members)).map(Object)
            }
        }

        deserializer.deserialize_map(Members(PhantomData))
    }
}

/// A free-form member of at most [`MEMBER_BYTES_MAX`]: in memory it takes a multiple of its text.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Member<T>(pub(crate) T);

impl<'de, T: DeserializeOwned> Deserialize<'de> for Member<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <&RawValue>::deserialize(deserializer)?.get();
        if text.len() > MEMBER_BYTES_MAX {
            let error = format_args!("{TOO_LARGE}{MEMBER_BYTES_MAX} bytes");
            return Err(serde::de::Error::custom(error));
        }
        serde_json::from_str(text)
            .map(Self)
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests;
