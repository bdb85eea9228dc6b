//! An audience that is described instead of listed, as written on the wire.
//! It must not know which devices fit it.

use serde::Deserialize;
use utoipa::ToSchema;

use super::json::{Bounded, Object};
use super::problem::{Problem, Step};
use crate::intake::check_tag;
use crate::limits::SELECTION_TAGS_MAX;
use crate::model::{Platform, Selection, VersionRange, is_version};

/// Longest version, bytes.
const VERSION_MAX: usize = 64;
/// As many platforms as there are.
const PLATFORMS_MAX: usize = 3;

/// Registered devices that fit a description: all members that are there must fit. The engine reads them when their turn
/// comes; whoever registers after acceptance is not meant.
#[derive(Debug, Deserialize, ToSchema)]
pub struct SelectedAudience {
    /// Devices that subscribe to any of these tags.
    #[schema(value_type = Option<Vec<String>>, min_items = 1, max_items = 20, example = json!(["news"]))]
    tags: Option<Bounded<Box<str>, SELECTION_TAGS_MAX>>,
    /// Devices of any of these platforms: `ios`, `watchos`, `android`.
    #[schema(value_type = Option<Vec<String>>, min_items = 1, max_items = 3, example = json!(["ios"]))]
    platforms: Option<Bounded<Platform, PLATFORMS_MAX>>,
    /// Devices that registered with such a version of the app.
    #[schema(value_type = Option<AppVersions>)]
    app_versions: Option<Object<AppVersions>>,
    /// Must be true where nothing else is there: all devices of the tenant.
    everyone: Option<bool>,
}

/// A range of versions of the app, compared number by number: 2.9 is before 2.10.
#[derive(Debug, Deserialize, ToSchema)]
pub struct AppVersions {
    /// The first that is meant; from the first ever when absent.
    #[schema(value_type = Option<String>, max_length = 64, example = "2.0")]
    min: Option<Box<str>>,
    /// The first that is no longer meant; to the last ever when absent.
    #[schema(value_type = Option<String>, max_length = 64, example = "3.0")]
    below: Option<Box<str>>,
}

impl SelectedAudience {
    /// What it describes.
    ///
    /// # Errors
    /// Every problem found.
    pub fn check(self) -> Result<Selection, Vec<Problem>> {
        let mut problems = Vec::new();
        let tags = listed(self.tags, "tags", &mut problems);
        let platforms = listed(self.platforms, "platforms", &mut problems);
        for (index, tag) in tags.iter().enumerate() {
            if let Err(problem) = check_tag(tag) {
                problems.push(Problem::value(at("tags").chain([index.into()]), problem));
            }
        }
        let app_versions = self
            .app_versions
            .map(|Object(range)| range.check(&mut problems))
            .unwrap_or_default();
        let selection = Selection {
            tags,
            platforms,
            app_versions,
        };
        let is_everyone = self.everyone == Some(true);
        let is_described = selection != Selection::default();
        if problems.is_empty() && is_everyone == is_described {
            let (path, problem) = if is_everyone {
                (
                    "everyone",
                    "leave it out, or the rest: not everyone is described",
                )
            } else {
                (
                    "everyone",
                    "give tags, platforms or app_versions, or everyone: true",
                )
            };
            problems.push(Problem::value(at(path), problem));
        }
        if problems.is_empty() {
            Ok(selection)
        } else {
            Err(problems)
        }
    }
}

impl AppVersions {
    fn check(self, problems: &mut Vec<Problem>) -> VersionRange {
        for (name, bound) in [("min", &self.min), ("below", &self.below)] {
            let is_bad = |bound: &str| !is_version(bound) || bound.len() > VERSION_MAX;
            if bound.as_deref().is_some_and(is_bad) {
                let message = "is a version as in 2.0.1, of at most 64 bytes";
                problems.push(Problem::value(
                    at("app_versions").chain([name.into()]),
                    message,
                ));
            }
        }
        let range = VersionRange {
            min: self.min,
            below: self.below,
        };
        if range.is_any() {
            problems.push(Problem::value(
                at("app_versions"),
                "give min, below or both",
            ));
        }
        range
    }
}

fn at(name: &'static str) -> impl Iterator<Item = Step> {
    ["audience".into(), name.into()].into_iter()
}

fn listed<T, const MAX: usize>(
    list: Option<Bounded<T, MAX>>,
    name: &'static str,
    problems: &mut Vec<Problem>,
) -> Vec<T> {
    let list = list.map(|Bounded(list)| list);
    if list.as_ref().is_some_and(Vec::is_empty) {
        problems.push(Problem::value(
            at(name),
            "name at least one, or leave it out",
        ));
    }
    list.unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn check(body: &Value) -> Result<Selection, Vec<String>> {
        let read: SelectedAudience = serde_json::from_value(body.clone()).unwrap();
        let told = |problems: Vec<Problem>| problems.iter().map(Problem::pointer).collect();
        read.check().map_err(told)
    }

    #[test]
    fn what_is_described_is_selected() {
        assert_eq!(check(&json!({"everyone": true})), Ok(Selection::default()));
        let described = json!({
            "tags": ["news", "olds"], "platforms": ["ios", "android"], "everyone": false,
            "app_versions": {"min": "2", "below": "3.1"},
        });
        let selection = check(&described).unwrap();
        assert_eq!(selection.tags, ["news".into(), "olds".into()]);
        assert_eq!(selection.platforms, [Platform::Ios, Platform::Android]);
        assert!(selection.app_versions.holds(Some("2.9")));
    }

    #[test]
    fn whatever_could_mean_everyone_by_mistake_is_refused() {
        for (body, at) in [
            (json!({}), "/audience/everyone"),
            (json!({"tag": ["news"]}), "/audience/everyone"),
            (json!({"everyone": false}), "/audience/everyone"),
            (
                json!({"everyone": true, "tags": ["news"]}),
                "/audience/everyone",
            ),
            (json!({"tags": []}), "/audience/tags"),
            (
                json!({"everyone": true, "platforms": []}),
                "/audience/platforms",
            ),
            (json!({"tags": [""]}), "/audience/tags/0"),
            (json!({"tags": ["a", "b\n"]}), "/audience/tags/1"),
            (json!({"app_versions": {}}), "/audience/app_versions"),
            (
                json!({"app_versions": {"min": "two"}}),
                "/audience/app_versions/min",
            ),
            (
                json!({"app_versions": {"below": "2".repeat(65)}}),
                "/audience/app_versions/below",
            ),
        ] {
            assert_eq!(check(&body), Err(vec![at.to_owned()]), "{body}");
        }
    }
}
