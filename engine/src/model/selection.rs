//! Audiences that are described instead of listed: by tag, platform and version of the app, or everyone.
//! It must not know where devices and tags are kept, nor how they are paged.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use super::{Address, DeviceId, Platform};

/// Registered devices that fit a description: all that is given must fit, and what is empty fits everything. An empty
/// selection is everyone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Selection {
    /// Devices that subscribe to any of these tags.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<Box<str>>,
    /// Devices of any of these platforms.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub platforms: Vec<Platform>,
    /// Devices whose app has such a version; one that said none does not fit.
    #[serde(skip_serializing_if = "VersionRange::is_any")]
    pub app_versions: VersionRange,
}

impl Selection {
    /// Whether a device that was found by its tag, or as one of all, fits the rest of the description.
    #[must_use]
    pub fn fits(&self, platform: Platform, app_version: Option<&str>) -> bool {
        (self.platforms.is_empty() || self.platforms.contains(&platform))
            && self.app_versions.holds(app_version)
    }

    /// Whether every device that is found by its tag, or as one of all, fits.
    #[must_use]
    pub fn fits_all(&self) -> bool {
        self.platforms.is_empty() && self.app_versions.is_any()
    }
}

/// A range of versions, compared number by number as people read them: 2.9 is before 2.10, and 2 is 2.0.0. Whatever follows
/// the numbers (`-beta`, `+7`) does not count.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct VersionRange {
    /// The first version within it; from the first ever when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<Box<str>>,
    /// The first version after it; to the last ever when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub below: Option<Box<str>>,
}

impl VersionRange {
    /// Whether it says nothing.
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.min.is_none() && self.below.is_none()
    }

    /// Whether a version lies within. What is no version lies within no range that says something.
    #[must_use]
    pub fn holds(&self, version: Option<&str>) -> bool {
        if self.is_any() {
            return true;
        }
        let Some(version) = version.filter(|version| is_version(version)) else {
            return false;
        };
        let is_before = |bound: &str| compare_versions(version, bound) == Ordering::Less;
        self.min.as_deref().is_none_or(|min| !is_before(min))
            && self.below.as_deref().is_none_or(is_before)
    }
}

/// Whether a text begins with a number, as versions do.
#[must_use]
pub fn is_version(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_digit())
}

/// The numbers at the beginning of a version.
fn numbers(version: &str) -> impl Iterator<Item = &str> {
    let end = version
        .find(|c: char| c != '.' && !c.is_ascii_digit())
        .unwrap_or(version.len());
    version[..end].split('.')
}

/// Numbers of any length, compared as numbers.
fn compare_versions(left: &str, right: &str) -> Ordering {
    let (mut left, mut right) = (numbers(left), numbers(right));
    loop {
        let (a, b) = match (left.next(), right.next()) {
            (None, None) => return Ordering::Equal,
            (a, b) => (a.unwrap_or_default(), b.unwrap_or_default()),
        };
        let (a, b) = (a.trim_start_matches('0'), b.trim_start_matches('0'));
        let order = a.len().cmp(&b.len()).then_with(|| a.cmp(b));
        if order != Ordering::Equal {
            return order;
        }
    }
}

/// A device that the store found for a selection, by id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its row id.
    pub device: DeviceId,
    /// Where it is and what it runs; `None` when it has gone meanwhile.
    pub found: Option<(Address, Option<Box<str>>)>,
}

/// The next page of a selection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelectedPage {
    /// Devices that fit, by id.
    pub addresses: Vec<Address>,
    /// Devices up to this id are done.
    pub after: DeviceId,
    /// There are no more.
    pub is_last: bool,
}

impl Selection {
    /// Cuts a page of at most `max` devices from what the store found after `after` when it was asked for at most `asked`.
    #[must_use]
    pub fn cut(
        &self,
        candidates: Vec<Candidate>,
        (after, asked): (DeviceId, usize),
        max: usize,
    ) -> SelectedPage {
        let found_all = candidates.len() < asked;
        let mut page = SelectedPage {
            addresses: Vec::with_capacity(max.min(candidates.len())),
            after,
            is_last: false,
        };
        for candidate in candidates {
            if page.addresses.len() >= max {
                return page;
            }
            page.after = candidate.device;
            if let Some((address, app_version)) = candidate.found
                && self.fits(address.platform, app_version.as_deref())
            {
                page.addresses.push(address);
            }
        }
        page.is_last = found_all;
        page
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::super::Environment;
    use super::*;

    fn range(min: &str, below: &str) -> VersionRange {
        let bound = |text: &str| (!text.is_empty()).then(|| text.into());
        VersionRange {
            min: bound(min),
            below: bound(below),
        }
    }

    #[test]
    fn versions_are_compared_as_people_read_them() {
        for (range, inside, outside) in [
            (
                range("2.0", ""),
                &["2", "2.0.0", "2.10", "10"][..],
                &["1.9.9", "1"][..],
            ),
            (
                range("", "3"),
                &["2.99.99", "0"],
                &["3", "3.0", "3.0.1", "12"],
            ),
            (
                range("3.1", "3.2"),
                &["3.1", "3.1.4", "3.01", "3.1-beta", "3.1.9+7"],
                &["3.0.9", "3.2"],
            ),
            (
                range("99999999999999999999", ""),
                &["99999999999999999999.1"],
                &["9999"],
            ),
        ] {
            for version in inside {
                assert!(range.holds(Some(version)), "{version} in {range:?}");
            }
            for version in outside.iter().chain(&["", "beta", ".5", "v3.1"]) {
                assert!(!range.holds(Some(version)), "{version} not in {range:?}");
            }
            assert!(!range.holds(None));
        }
        assert!(VersionRange::default().holds(None));
    }

    fn candidate(device: DeviceId, platform: Platform) -> Candidate {
        let address = Address {
            device,
            platform,
            environment: Environment::Production,
            device_token: device.to_string().into(),
        };
        Candidate {
            device,
            found: Some((address, None)),
        }
    }

    #[test]
    fn a_page_ends_where_it_is_full_and_is_the_last_only_when_the_store_had_no_more() {
        let selection = Selection {
            platforms: vec![Platform::Ios],
            ..Selection::default()
        };
        let found = || {
            let of = |device| match device % 2 {
                0 => candidate(device, Platform::Android),
                _ => candidate(device, Platform::Ios),
            };
            (11..=16).map(of).collect::<Vec<_>>()
        };
        let devices = |page: &SelectedPage| -> Vec<DeviceId> {
            page.addresses
                .iter()
                .map(|address| address.device)
                .collect()
        };
        let full = selection.cut(found(), (10, 6), 2);
        assert_eq!(
            (devices(&full), full.after, full.is_last),
            (vec![11, 13], 13, false)
        );
        let scanned = selection.cut(found(), (10, 6), 9);
        assert_eq!(
            (devices(&scanned), scanned.after, scanned.is_last),
            (vec![11, 13, 15], 16, false)
        );
        let last = selection.cut(found(), (10, 7), 9);
        assert!(last.is_last);
        // Full and at the end at once: the next look finds nobody.
        let exact = selection.cut(found(), (10, 7), 3);
        assert_eq!((exact.after, exact.is_last), (15, false));
        let none = selection.cut(Vec::new(), (10, 7), 3);
        assert_eq!((none.after, none.is_last), (10, true));
    }

    #[test]
    fn a_device_that_has_gone_is_passed_over() {
        let gone = Candidate {
            device: 12,
            found: None,
        };
        let page = Selection::default().cut(vec![gone], (0, 5), 5);
        assert_eq!(
            (page.addresses, page.after, page.is_last),
            (vec![], 12, true)
        );
    }
}
