//! Reading JSON bodies: malformed text, duplicate keys and wrong types become problems with their places.
//! It must not know what the members mean, and never repeats a value.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, DeserializeOwned, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;
use serde_path_to_error::Segment;

use super::problem::{PROBLEMS_MAX, Problem, ProblemKind, Step};
use super::scan;

/// What a list that is too long says, so that it is told from other errors.
const TOO_MANY: &str = "too many entries: at most ";
/// What a member that is too large says.
const TOO_LARGE: &str = "too large: at most ";

/// Bytes of one free-form member (`data`, raw overrides, Live Activity content). A provider takes 4 KiB.
pub const MEMBER_BYTES_MAX: usize = 64 * 1024;

/// Reads a body.
///
/// # Errors
/// The first problem found.
pub fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    if body.is_empty() {
        return Err(Problem::missing([]));
    }
    scan::scan(body).map_err(|error| error.into_problem(body))?;
    parse(body)
}

/// Reads a body that is a list of at most `MAX` entries.
///
/// # Errors
/// The first problem found.
pub fn read_list<T: DeserializeOwned, const MAX: usize>(body: &[u8]) -> Result<Vec<T>, Problem> {
    if body.is_empty() {
        return Err(Problem::missing([]));
    }
    scan::scan(body).map_err(|error| error.into_problem(body))?;
    let mut reader = serde_json::Deserializer::from_slice(body);
    let list: Result<Bounded<T, MAX>, _> = serde_path_to_error::deserialize(&mut reader);
    list.map(|list| list.0).map_err(|error| problem(&error))
}

/// Reads a body and goes on after a problem: what is broken is left out and the rest is read again. The value is there
/// when what is left could be read.
#[must_use]
pub fn read_all<T: DeserializeOwned>(body: &[u8]) -> (Option<T>, Vec<Problem>) {
    let first = match read(body) {
        Ok(value) => return (Some(value), Vec::new()),
        Err(problem) => problem,
    };
    let Ok(mut tree) = serde_json::from_slice::<Value>(body) else {
        return (None, vec![first]);
    };
    let (mut problems, mut removed) = (Vec::new(), Removed::default());
    let mut found = first;
    for _ in 0..2 * PROBLEMS_MAX {
        let broken = match found.kind {
            // Nothing can stand in for what is missing: the object that lacks it goes.
            ProblemKind::Missing => found.path.len().saturating_sub(1),
            _ => found.path.len(),
        };
        let place = found.path[..broken].to_vec();
        found.path = removed.original(&found.path);
        // What was taken out as broken may be missed afterwards.
        if !problems
            .iter()
            .any(|told: &Problem| told.path == found.path)
        {
            problems.push(found);
        }
        if !remove(&mut tree, &place) || problems.len() >= PROBLEMS_MAX {
            break;
        }
        removed.add(place);
        match parse(tree.to_string().as_bytes()) {
            Ok(value) => return (Some(value), problems),
            Err(problem) => found = problem,
        }
    }
    (None, problems)
}

/// Takes the value at `place` out of a tree.
fn remove(tree: &mut Value, place: &[Step]) -> bool {
    let Some((last, way)) = place.split_last() else {
        return false;
    };
    let parent = way.iter().try_fold(tree, |value, step| match step {
        Step::Name(name) => value.get_mut(&**name),
        Step::Index(index) => value.get_mut(*index),
    });
    match (parent, last) {
        (Some(Value::Object(members)), Step::Name(name)) => members.remove(&**name).is_some(),
        (Some(Value::Array(list)), Step::Index(index)) if *index < list.len() => {
            list.remove(*index);
            true
        }
        _ => false,
    }
}

/// What was taken out so far, each place as it was numbered when it was taken out.
#[derive(Default)]
struct Removed(Vec<Vec<Step>>);

impl Removed {
    fn add(&mut self, place: Vec<Step>) {
        self.0.push(place);
    }

    /// A place of the tree as it is now, numbered as in the body.
    fn original(&self, place: &[Step]) -> Vec<Step> {
        let mut place = place.to_vec();
        for gone in self.0.iter().rev() {
            let Some((Step::Index(gone_index), list)) = gone.split_last() else {
                continue;
            };
            let is_in_list = place.starts_with(list);
            if let Some(Step::Index(index)) = place.get_mut(list.len())
                && is_in_list
                && *index >= *gone_index
            {
                *index += 1;
            }
        }
        place
    }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let mut reader = serde_json::Deserializer::from_slice(body);
    let body: Result<Object<T>, _> = serde_path_to_error::deserialize(&mut reader);
    body.map(|object| object.0).map_err(|error| problem(&error))
}

fn problem(error: &serde_path_to_error::Error<serde_json::Error>) -> Problem {
    let path = error.path().iter().filter_map(|segment| match segment {
        Segment::Seq { index } => Some(Step::Index(*index)),
        Segment::Map { key } => Some(Step::from(key.clone())),
        Segment::Enum { .. } | Segment::Unknown => None,
    });
    let path: Vec<Step> = path.collect();
    let message = error.inner().to_string();
    let message = message.split(" at line ").next().unwrap_or_default();
    for limit in [TOO_MANY, TOO_LARGE] {
        if message.starts_with(limit) {
            return Problem::new(ProblemKind::TooLarge, path, message.to_owned());
        }
    }
    describe(path, message)
}

/// The library's words in ours, without the value that it quotes.
fn describe(mut path: Vec<Step>, message: &str) -> Problem {
    if let Some(name) = message.strip_prefix("missing field `") {
        path.push(Step::from(name.trim_end_matches('`').to_owned()));
        return Problem::missing(path);
    }
    let expected = message
        .rsplit_once("expected ")
        .map_or("", |(_, expected)| expected);
    if message.starts_with("unknown variant ") {
        let words = expected.trim_start_matches("one of ").replace('`', "'");
        return Problem::new(ProblemKind::Word, path, format!("Input should be {words}"));
    }
    if message.starts_with("invalid type: ") {
        let (words, kind) = type_words(expected);
        return Problem::new(ProblemKind::Type(kind), path, words);
    }
    if message.starts_with("invalid value: ") {
        let range = match expected {
            "u32" => "a whole number from 0 to 4294967295",
            "u8" => "a whole number from 0 to 255",
            "u64" => "a whole number from 0",
            _ => "within its range",
        };
        return Problem::value(path, format!("Input should be {range}"));
    }
    Problem::value(path, message.to_owned())
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
pub struct Bounded<T, const MAX: usize>(pub Vec<T>);

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
pub struct Object<T>(pub T);

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
pub struct Member<T>(pub T);

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
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Deserialize)]
    struct Inner {
        #[serde(rename = "name")]
        _name: String,
        #[serde(rename = "size")]
        _size: Option<u32>,
    }

    #[derive(Debug, Deserialize)]
    struct Body {
        loud: Option<bool>,
        list: Option<Vec<Object<Inner>>>,
    }

    fn problems(body: &Value) -> (bool, Vec<(String, &'static str)>) {
        let (read, problems) = read_all::<Body>(body.to_string().as_bytes());
        let told = problems
            .iter()
            .map(|one| (one.pointer(), one.kind.as_str()));
        (read.is_some(), told.collect())
    }

    #[test]
    fn every_problem_is_told_with_its_place_in_the_body() {
        let body = json!({
            "loud": 1,
            "list": [{"name": "a"}, {"name": 2}, {}, {"name": "b"}, {"name": "c", "size": -1}, 7],
        });
        let (is_read, told) = problems(&body);
        let told: Vec<(&str, &str)> = told.iter().map(|(path, kind)| (&**path, *kind)).collect();
        // The name of the second is taken out and missing then: one problem, told once.
        assert_eq!(
            told,
            [
                ("/list/1/name", "string_type"),
                ("/list/2/name", "missing"),
                ("/list/4/size", "value_error"),
                ("/list/5", "dict_type"),
                ("/loud", "bool_type"),
            ]
        );
        assert!(is_read);
    }

    #[test]
    fn what_is_left_of_a_broken_body_is_read() {
        let (read, problems) = read_all::<Body>(br#"{"loud": "x", "list": [{"name": "a"}]}"#);
        let read = read.unwrap();
        assert_eq!(
            (read.loud, read.list.unwrap().len(), problems.len()),
            (None, 1, 1)
        );
        let (read, problems) = read_all::<Body>(br#"{"loud": true}"#);
        assert_eq!((read.unwrap().loud, problems.len()), (Some(true), 0));
    }

    #[test]
    fn what_is_no_object_has_one_problem() {
        for body in ["", "{", "[]", "7"] {
            let (read, problems) = read_all::<Body>(body.as_bytes());
            assert!(
                read.is_none() && problems.len() == 1,
                "{body}: {problems:?}"
            );
        }
    }

    #[test]
    fn of_a_member_that_is_there_twice_the_rest_is_read() {
        let body = br#"{"loud": true, "list": 7, "loud": false}"#;
        let (read, problems) = read_all::<Body>(body);
        let told: Vec<String> = problems.iter().map(Problem::pointer).collect();
        assert_eq!(
            (read.is_some(), told),
            (true, vec!["/loud".into(), "/list".into()])
        );
    }

    #[test]
    fn at_most_so_many_problems_are_told() {
        let list = vec![7; 3 * PROBLEMS_MAX];
        let (is_read, told) = problems(&json!({ "list": list }));
        assert_eq!((is_read, told.len()), (false, PROBLEMS_MAX));
        assert_eq!(
            told[PROBLEMS_MAX - 1].0,
            format!("/list/{}", PROBLEMS_MAX - 1)
        );
    }
}
