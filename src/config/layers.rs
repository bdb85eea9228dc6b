//! The layers of a configuration: defaults, a file, the environment and flags, merged key by key with their origins.
//! It must not know what a key means; what may stand there is read off the defaults.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::problem::{Origin, Problem};

/// The defaults: every key there is, with its documentation.
pub(crate) const DEFAULTS: &str = include_str!("../../config.default.toml");
/// What begins the name of an environment variable that sets a key.
const ENVIRONMENT_PREFIX: &str = "CLARION__";
/// Between section and key in such a name.
const ENVIRONMENT_SEPARATOR: &str = "__";
/// The variable that names the file.
const FILE_VARIABLE: &str = "CLARION_CONFIG";
/// The file that is read when none is named, if it is there.
const FILE_DEFAULT: &str = "clarion.toml";
/// Largest configuration file, bytes.
const FILE_MAX: u64 = 1024 * 1024;
/// How alike two keys must be, 0 to 1, for one to be suggested for the other.
const ALIKE: f64 = 0.75;

/// One key's value in effect.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Setting {
    /// As written.
    pub(crate) value: toml::Value,
    /// By whom.
    pub(crate) origin: Origin,
}

/// The value in effect of every key, by its full name (`engine.threads`).
pub(crate) type Settings = BTreeMap<String, Setting>;

/// What is read over the defaults.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sources {
    /// `--config`.
    pub(crate) file: Option<PathBuf>,
    /// The environment.
    pub(crate) environment: Vec<(String, String)>,
    /// Values of flags: key, value, name of the flag.
    pub(crate) flags: Vec<(&'static str, toml::Value, &'static str)>,
}

impl Sources {
    /// Nothing but the defaults and flags: no file, no environment.
    pub(crate) fn bare() -> Self {
        Self {
            file: Some(PathBuf::from("/dev/null")),
            ..Self::default()
        }
    }

    /// The process's environment and, if given, a file named by `--config`.
    pub(crate) fn of_process(file: Option<&Path>) -> Self {
        let text = |name: std::ffi::OsString| name.to_string_lossy().into_owned();
        Self {
            file: file.map(Path::to_path_buf),
            environment: std::env::vars_os()
                .map(|(name, value)| (text(name), text(value)))
                .collect(),
            flags: Vec::new(),
        }
    }

    /// The same with the data directory of a flag, if given.
    pub(crate) fn with_data_dir(file: Option<&Path>, data_dir: Option<&Path>) -> Self {
        let sources = Self::of_process(file);
        match data_dir {
            Some(dir) => {
                sources.with_flag("data_dir", dir.to_string_lossy().into_owned(), "--data-dir")
            }
            None => sources,
        }
    }

    /// Adds the value of a flag, which replaces everything else.
    pub(crate) fn with_flag(
        mut self,
        key: &'static str,
        value: impl Into<toml::Value>,
        flag: &'static str,
    ) -> Self {
        self.flags.push((key, value.into(), flag));
        self
    }

    /// Merges the layers. Unknown keys, unreadable files and bad syntax are in the second part.
    pub(crate) fn merge(&self) -> (Settings, Vec<Problem>) {
        let mut merge = Merge {
            settings: defaults(),
            problems: Vec::new(),
        };
        self.read_file(&mut merge);
        for (name, value) in &self.environment {
            merge.variable(name, value);
        }
        for (key, value, flag) in &self.flags {
            merge.set(key, value.clone(), Origin::Flag(flag));
        }
        (merge.settings, merge.problems)
    }

    fn read_file(&self, merge: &mut Merge) {
        let variable = self
            .environment
            .iter()
            .find(|(name, _)| name == FILE_VARIABLE);
        let named = self
            .file
            .clone()
            .or_else(|| variable.map(|(_, path)| PathBuf::from(path)));
        let path = named.clone().unwrap_or_else(|| PathBuf::from(FILE_DEFAULT));
        let problem = |text: String| Problem {
            origin: Origin::File {
                path: path.clone(),
                line: 1,
            },
            text,
        };
        match read_bounded(&path) {
            Ok(text) => merge.file(&path, &text),
            Err(error) if error.kind() == io::ErrorKind::NotFound && named.is_none() => {}
            Err(error) => {
                let text = format!(
                    "the file cannot be read ({error}): correct --config or {FILE_VARIABLE}"
                );
                merge.problems.push(problem(text));
            }
        }
    }
}

fn read_bounded(path: &Path) -> io::Result<String> {
    if std::fs::metadata(path)?.len() > FILE_MAX {
        return Err(io::Error::other("it is larger than 1 MiB"));
    }
    std::fs::read_to_string(path)
}

/// The built-in values.
fn defaults() -> Settings {
    let mut merge = Merge::default();
    let (table, _) = DeTable::parse_recoverable(DEFAULTS);
    for (name, value, _) in flatten(table.get_ref()) {
        merge.settings.insert(
            name,
            Setting {
                value,
                origin: Origin::Default,
            },
        );
    }
    merge.settings
}

/// Every key of a document with its value and the offset of its key.
fn flatten(table: &DeTable<'_>) -> Vec<(String, toml::Value, usize)> {
    let mut keys = Vec::new();
    for (section, value) in table {
        match value.get_ref() {
            DeValue::Table(inner) => {
                for (key, value) in inner {
                    let name = format!("{}.{}", section.get_ref(), key.get_ref());
                    keys.push((name, to_value(value.get_ref()), key.span().start));
                }
                if inner.is_empty() {
                    // An empty section says nothing, but a misspelt one is still worth a word.
                    let name = format!("{}.", section.get_ref());
                    keys.push((name, toml::Value::Boolean(true), section.span().start));
                }
            }
            other => keys.push((
                section.get_ref().to_string(),
                to_value(other),
                section.span().start,
            )),
        }
    }
    keys
}

fn to_value(value: &DeValue<'_>) -> toml::Value {
    match value {
        DeValue::String(text) => toml::Value::String(text.to_string()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or_else(
                |_| toml::Value::String(number.to_string()),
                toml::Value::Integer,
            ),
        DeValue::Float(number) => number.as_str().parse().map_or_else(
            |_| toml::Value::String(number.to_string()),
            toml::Value::Float,
        ),
        DeValue::Boolean(flag) => toml::Value::Boolean(*flag),
        DeValue::Datetime(at) => toml::Value::Datetime(*at),
        DeValue::Array(items) => {
            toml::Value::Array(items.iter().map(|item| to_value(item.get_ref())).collect())
        }
        DeValue::Table(inner) => toml::Value::Table(
            inner
                .iter()
                .map(|(key, value)| (key.get_ref().to_string(), to_value(value.get_ref())))
                .collect(),
        ),
    }
}

#[derive(Default)]
struct Merge {
    settings: Settings,
    problems: Vec<Problem>,
}

impl Merge {
    fn file(&mut self, path: &Path, text: &str) {
        let at = |offset: usize| {
            let before = text.as_bytes().get(..offset).unwrap_or(text.as_bytes());
            let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
            Origin::File {
                path: path.to_path_buf(),
                line,
            }
        };
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            let origin = at(error.span().map_or(0, |span| span.start));
            let text = format!("not TOML: {}", error.message().replace('\n', "; "));
            self.problems.push(Problem { origin, text });
        }
        for (key, value, offset) in flatten(table.get_ref()) {
            self.set(&key, value, at(offset));
        }
    }

    fn variable(&mut self, name: &str, text: &str) {
        let Some(path) = name.strip_prefix(ENVIRONMENT_PREFIX) else {
            return;
        };
        let key = path
            .replace(ENVIRONMENT_SEPARATOR, ".")
            .to_ascii_lowercase();
        let like = self.settings.get(&key).map(|setting| &setting.value);
        let value = like.map_or_else(|| toml::Value::from(text), |like| as_written(text, like));
        self.set(&key, value, Origin::Environment(name.to_string()));
    }

    fn set(&mut self, key: &str, value: toml::Value, origin: Origin) {
        if let Some(setting) = self.settings.get_mut(key) {
            *setting = Setting { value, origin };
            return;
        }
        let is_section = |name: &str| self.settings.keys().any(|known| known.starts_with(name));
        if key.ends_with('.') && is_section(key) {
            return;
        }
        if !key.contains('.') && is_section(&format!("{key}.")) {
            let text = format!("{key} is a section: write [{key}] and its keys below");
            self.problems.push(Problem { origin, text });
            return;
        }
        let text = unknown(key, &self.settings, &origin);
        self.problems.push(Problem { origin, text });
    }
}

/// A variable's text in the form that the key's default has; where that fails the text itself, which is reported later.
fn as_written(text: &str, like: &toml::Value) -> toml::Value {
    let typed = match like {
        toml::Value::Integer(_) => text.trim().parse().ok().map(toml::Value::Integer),
        toml::Value::Float(_) => text.trim().parse().ok().map(toml::Value::Float),
        toml::Value::Boolean(_) => text.trim().parse().ok().map(toml::Value::Boolean),
        toml::Value::Array(_) => Some(
            text.split(',')
                .map(|item| toml::Value::from(item.trim()))
                .collect::<Vec<_>>()
                .into(),
        ),
        toml::Value::String(_) | toml::Value::Datetime(_) | toml::Value::Table(_) => None,
    };
    typed.unwrap_or_else(|| toml::Value::from(text))
}

/// What to say about a key that does not exist.
fn unknown(key: &str, settings: &Settings, origin: &Origin) -> String {
    let key = key.trim_end_matches('.');
    let spelt = |key: &str| match origin {
        Origin::Environment(_) => variable_name(key),
        Origin::Default | Origin::File { .. } | Origin::Flag(_) => key.to_string(),
    };
    let last = |name: &str| name.rsplit('.').next().unwrap_or_default().to_string();
    let likeness = |known: &str| {
        // A right key in a wrong section is as good a guess as a misspelt one.
        let whole = strsim::normalized_damerau_levenshtein(key, known);
        if last(key) == last(known) {
            whole.max(ALIKE)
        } else {
            whole
        }
    };
    let best = settings
        .keys()
        .map(|known| (likeness(known), known))
        .filter(|(alike, _)| *alike >= ALIKE)
        .max_by(|one, other| one.0.total_cmp(&other.0));
    match best {
        Some((_, known)) => {
            format!(
                "there is no key {}: did you mean {}?",
                spelt(key),
                spelt(known)
            )
        }
        None => format!(
            "there is no key {}: see `clarion config show` for all keys",
            spelt(key)
        ),
    }
}

/// The environment variable that sets a key.
pub(crate) fn variable_name(key: &str) -> String {
    let path = key.replace('.', ENVIRONMENT_SEPARATOR).to_ascii_uppercase();
    format!("{ENVIRONMENT_PREFIX}{path}")
}
