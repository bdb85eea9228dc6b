//! Typed reading of merged settings: each value is checked for type and range, and every failure is collected.
//! It must not know which keys exist or what they are for.

use std::cell::RefCell;
use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::layers::{Setting, Settings};
use super::problem::{Origin, Problem};
use super::quantity::{
    DURATION_FORM, SIZE_FORM, parse_duration, parse_size, show_duration, show_size,
};
use super::secret::Secret;

/// Ends the name of a key that holds the path of a secret's file.
pub(crate) const FILE_SUFFIX: &str = "_file";
/// Stands for the data directory in paths and URLs.
pub(crate) const DATA_DIR_PLACE: &str = "{data_dir}";
/// Largest secret file, bytes.
const SECRET_FILE_MAX: u64 = 64 * 1024;

/// Reads values and keeps what is wrong with them. A value that is wrong reads as the least one of its type; the problem
/// sees to it that it is never used.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    settings: &'a Settings,
    problems: RefCell<Vec<Problem>>,
}

impl<'a> Reader<'a> {
    /// Goes on collecting after the problems of the merge.
    pub(crate) fn new(settings: &'a Settings, problems: Vec<Problem>) -> Self {
        Self {
            settings,
            problems: RefCell::new(problems),
        }
    }

    /// Everything that was wrong.
    pub(crate) fn finish(self) -> Vec<Problem> {
        self.problems.into_inner()
    }

    /// Notes a problem at the place that set a key.
    pub(crate) fn complain(&self, key: &str, text: impl Into<String>) {
        let origin = self
            .settings
            .get(key)
            .map_or(Origin::Default, |setting| setting.origin.clone());
        self.problems.borrow_mut().push(Problem {
            origin,
            text: text.into(),
        });
    }

    /// Whether nothing was wrong with a key so far.
    pub(crate) fn is_sound(&self, keys: &[&str]) -> bool {
        let problems = self.problems.borrow();
        keys.iter().all(|key| {
            let begins = format!("{key} ");
            !problems
                .iter()
                .any(|problem| problem.text.starts_with(&begins))
        })
    }

    /// Notes that two keys, both sound, contradict each other; `{}` in the text stands for the second.
    pub(crate) fn contradiction(&self, holds: bool, [key, other]: [&str; 2], text: &str) {
        if holds && self.is_sound(&[key, other]) {
            // The place to look at is where somebody wrote something.
            let rank = |key| {
                self.settings
                    .get(key)
                    .map_or(0, |setting| setting.origin.rank())
            };
            let place = if rank(other) > rank(key) { other } else { key };
            self.complain(place, format!("{key} {}", text.replace("{}", other)));
        }
    }

    fn setting(&self, key: &str) -> Option<&'a Setting> {
        let setting = self.settings.get(key);
        if setting.is_none() {
            self.complain(
                key,
                format!("{key} has no default: this build is broken, report it"),
            );
        }
        setting
    }

    fn parse<T>(
        &self,
        key: &str,
        want: &dyn Display,
        get: impl Fn(&toml::Value) -> Option<T>,
    ) -> Option<T> {
        let value = &self.setting(key)?.value;
        let read = get(value);
        if read.is_none() {
            self.complain(key, format!("{key} is {value}: give {want}"));
        }
        read
    }

    /// A text of 1 to `longest` characters without control characters.
    pub(crate) fn text(&self, key: &str, longest: usize) -> String {
        let want = format!("a text of 1 to {longest} characters without control characters");
        self.parse(key, &want, |value| {
            let text = value.as_str()?;
            let fits = (1..=longest).contains(&text.chars().count());
            (fits && !text.chars().any(char::is_control)).then(|| text.to_string())
        })
        .unwrap_or_default()
    }

    /// `true` or `false`.
    pub(crate) fn flag(&self, key: &str) -> bool {
        self.parse(key, &"true or false", toml::Value::as_bool)
            .unwrap_or_default()
    }

    /// A whole number in a range.
    pub(crate) fn number<T>(&self, key: &str, range: RangeInclusive<T>) -> T
    where
        T: Copy + Display + PartialOrd + TryFrom<i64>,
    {
        let want = format!("a whole number from {} to {}", range.start(), range.end());
        self.parse(key, &want, |value| {
            T::try_from(value.as_integer()?)
                .ok()
                .filter(|n| range.contains(n))
        })
        .unwrap_or(*range.start())
    }

    /// A number with a fraction, in a range.
    pub(crate) fn fraction(&self, key: &str, range: RangeInclusive<f64>) -> f64 {
        let want = format!("a number from {} to {}", range.start(), range.end());
        self.parse(key, &want, |value| {
            #[expect(clippy::cast_precision_loss, reason = "configured numbers are small")]
            let number = value
                .as_float()
                .or_else(|| value.as_integer().map(|n| n as f64))?;
            range.contains(&number).then_some(number)
        })
        .unwrap_or(*range.start())
    }

    /// A duration in a range.
    pub(crate) fn duration(&self, key: &str, range: RangeInclusive<Duration>) -> Duration {
        let want = duration_form(&range);
        self.parse(key, &want, |value| {
            parse_duration(value.as_str()?).filter(|d| range.contains(d))
        })
        .unwrap_or(*range.start())
    }

    /// One to `most` durations, each in a range.
    pub(crate) fn durations(
        &self,
        key: &str,
        most: usize,
        range: RangeInclusive<Duration>,
    ) -> Vec<Duration> {
        let want = format!(
            "1 to {most} durations in brackets, each {}",
            duration_form(&range)
        );
        self.parse(key, &want, |value| {
            let items = value
                .as_array()
                .filter(|items| (1..=most).contains(&items.len()))?;
            let read =
                |item: &toml::Value| parse_duration(item.as_str()?).filter(|d| range.contains(d));
            items.iter().map(read).collect()
        })
        .unwrap_or_default()
    }

    /// Bytes, in a range.
    pub(crate) fn size(&self, key: &str, range: RangeInclusive<u64>) -> usize {
        let (least, most) = (show_size(*range.start()), show_size(*range.end()));
        let want = format!("{SIZE_FORM}, from {least} to {most}");
        self.parse(key, &want, |value| {
            let bytes = match value.as_integer() {
                Some(bytes) => u64::try_from(bytes).ok()?,
                None => parse_size(value.as_str()?)?,
            };
            usize::try_from(bytes)
                .ok()
                .filter(|_| range.contains(&bytes))
        })
        .unwrap_or_default()
    }

    /// An IP address and a port.
    pub(crate) fn address(&self, key: &str) -> SocketAddr {
        let want = "an IP address and a port such as \"127.0.0.1:8080\" or \"[::1]:8080\"";
        self.parse(key, &want, |value| value.as_str()?.parse().ok())
            .unwrap_or(SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    /// One of a few words.
    pub(crate) fn choice<T: Copy>(&self, key: &str, first: (&str, T), others: &[(&str, T)]) -> T {
        let all = || std::iter::once(&first).chain(others);
        let words: Vec<String> = all().map(|(word, _)| format!("{word:?}")).collect();
        let found = |value: &toml::Value| {
            let text = value.as_str()?;
            all()
                .find(|(word, _)| *word == text)
                .map(|(_, meaning)| *meaning)
        };
        self.parse(key, &words.join(" or "), found)
            .unwrap_or(first.1)
    }

    /// A text that `fits`; `want` says what does.
    pub(crate) fn fitting(&self, key: &str, want: &str, fits: impl Fn(&str) -> bool) -> String {
        self.parse(key, &want, |value| owned(value).filter(|text| fits(text)))
            .unwrap_or_default()
    }

    /// A path; the data directory's place is filled in.
    pub(crate) fn path(&self, key: &str, data_dir: &Path) -> Option<PathBuf> {
        let text = self.parse(key, &"a path, or \"\" for none", owned)?;
        (!text.is_empty()).then(|| PathBuf::from(fill(&text, data_dir)))
    }

    /// A secret: the value of `key`, or the content of the file that its `_file` twin names, whichever layer is higher. `None`
    /// when both are empty.
    pub(crate) fn secret(&self, key: &str) -> Option<Secret> {
        let twin = format!("{key}{FILE_SUFFIX}");
        let (value, file) = (self.setting(key)?, self.setting(&twin)?);
        let Some(text) = value.value.as_str() else {
            self.complain(key, format!("{key} is not a text: put it in quotes"));
            return None;
        };
        let path = self.parse(&twin, &"a path, or \"\" for none", owned)?;
        let is_given =
            |setting: &Setting, text: &str| !text.is_empty() && setting.origin != Origin::Default;
        let (by_value, by_file) = (is_given(value, text), is_given(file, &path));
        if by_value && by_file && value.origin.rank() == file.origin.rank() {
            self.complain(&twin, format!("{key} and {twin} are both set: keep one"));
            return None;
        }
        if by_file && (!by_value || file.origin.rank() > value.origin.rank()) {
            return self.secret_file(&twin, Path::new(&path));
        }
        (!text.is_empty()).then(|| Secret::new(text.to_string()))
    }

    fn secret_file(&self, key: &str, path: &Path) -> Option<Secret> {
        let read = std::fs::metadata(path).and_then(|found| {
            if found.len() > SECRET_FILE_MAX {
                return Err(std::io::Error::other("it is larger than 64 KiB"));
            }
            std::fs::read_to_string(path)
        });
        match read.map(|text| text.trim().to_string()) {
            Ok(text) if text.is_empty() => {
                self.complain(
                    key,
                    format!("{key} names an empty file: write the secret into it"),
                );
                None
            }
            Ok(text) => Some(Secret::new(text)),
            Err(error) => {
                self.complain(
                    key,
                    format!("{key} names a file that cannot be read ({error}): correct it"),
                );
                None
            }
        }
    }
}

/// Fills in the place of the data directory.
pub(crate) fn fill(text: &str, data_dir: &Path) -> String {
    text.replace(DATA_DIR_PLACE, &data_dir.to_string_lossy())
}

fn duration_form(range: &RangeInclusive<Duration>) -> String {
    let (least, most) = (show_duration(*range.start()), show_duration(*range.end()));
    format!("{DURATION_FORM}, from {least} to {most}")
}

fn owned(value: &toml::Value) -> Option<String> {
    value.as_str().map(str::to_string)
}
