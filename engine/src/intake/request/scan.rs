//! The first look at a body: is it JSON, and does any object name a member twice? Google takes the last of two and others
//! the first, so that a body which says two things is refused.
//! It must not keep anything of the body.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use super::problem::{Problem, ProblemKind, Step};

/// Members up to which names are compared one by one.
const FEW_MEMBERS: usize = 16;

/// Why a body is not read.
pub(super) enum ScanError {
    /// It is not JSON.
    Malformed(serde_json::Error),
    /// A member is there twice.
    Duplicate(Vec<Step>),
}

impl ScanError {
    pub(super) fn into_problem(self, body: &[u8]) -> Problem {
        match self {
            Self::Malformed(error) => {
                let kind = ProblemKind::Malformed(offset(body, &error));
                Problem::new(kind, [], "JSON decode error")
            }
            Self::Duplicate(path) => Problem::new(
                ProblemKind::Duplicate,
                path,
                "this member is there twice: leave one out",
            ),
        }
    }
}

/// Reads the whole body without keeping it.
pub(super) fn scan(body: &[u8]) -> Result<(), ScanError> {
    let mut state = State::default();
    let mut reader = serde_json::Deserializer::from_slice(body);
    let answer = Look(&mut state)
        .deserialize(&mut reader)
        .and_then(|()| reader.end());
    match (answer, state.duplicate) {
        (_, Some(path)) => Err(ScanError::Duplicate(path)),
        (Err(error), None) => Err(ScanError::Malformed(error)),
        (Ok(()), None) => Ok(()),
    }
}

/// The byte at which the reader stopped.
fn offset(body: &[u8], error: &serde_json::Error) -> usize {
    let lines = body.split_inclusive(|byte| *byte == b'\n');
    let before: usize = lines
        .take(error.line().saturating_sub(1))
        .map(<[u8]>::len)
        .sum();
    (before + error.column().saturating_sub(1)).min(body.len())
}

#[derive(Default)]
struct State<'de> {
    way: Vec<Place<'de>>,
    duplicate: Option<Vec<Step>>,
}

enum Place<'de> {
    Member(Cow<'de, str>),
    Index(usize),
}

impl State<'_> {
    fn path(&self, last: &str) -> Vec<Step> {
        let way = self.way.iter().map(|place| match place {
            Place::Member(name) => Step::from(name.clone().into_owned()),
            Place::Index(index) => Step::Index(*index),
        });
        way.chain([Step::from(last.to_owned())]).collect()
    }
}

struct Look<'s, 'de>(&'s mut State<'de>);

impl<'de> DeserializeSeed<'de> for Look<'_, 'de> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Look<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }
    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }
    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }
    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }
    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let mut index = 0;
        self.0.way.push(Place::Index(index));
        while list.next_element_seed(Look(self.0))?.is_some() {
            index += 1;
            if let Some(place) = self.0.way.last_mut() {
                *place = Place::Index(index);
            }
        }
        self.0.way.pop();
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<(), A::Error> {
        let mut names = Names::default();
        while let Some(name) = object.next_key_seed(Name)? {
            if names.contains(&name) {
                self.0.duplicate = Some(self.0.path(&name));
                return Err(A::Error::custom("duplicate member"));
            }
            names.add(name.clone());
            self.0.way.push(Place::Member(name));
            object.next_value_seed(Look(self.0))?;
            self.0.way.pop();
        }
        Ok(())
    }
}

/// The names met in one object.
#[derive(Default)]
struct Names<'de> {
    few: Vec<Cow<'de, str>>,
    many: HashSet<Cow<'de, str>>,
}

impl<'de> Names<'de> {
    fn contains(&self, name: &str) -> bool {
        self.few.iter().any(|known| known == name) || self.many.contains(name)
    }

    fn add(&mut self, name: Cow<'de, str>) {
        if self.few.len() < FEW_MEMBERS {
            self.few.push(name);
        } else {
            self.many.insert(name);
        }
    }
}

/// A member's name, borrowed from the body unless it holds escapes.
struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Cow<'de, str>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Name {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member's name")
    }
    fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(name))
    }
    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(name.to_owned()))
    }
}
