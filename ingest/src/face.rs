//! Which face a path belongs to: each has its own shape of refusals, and some their own ways to show a credential.
//! It must not know routes or handlers.

/// A contract that clients were written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Face {
    /// The native API, and everything that is nobody else's.
    Notify,
    /// IBM's push API.
    IbmPush,
    /// IBM's management of service IDs and keys.
    Iam,
    /// IBM's exchange of keys for access tokens.
    IamToken,
    /// What API Connect answers about client ids and secrets, on whatever path these are shown.
    Gateway,
}

/// What precedes the paths of the faces that are not Notify's.
const PREFIXES: [(&str, Face); 4] = [
    ("/imfpush", Face::IbmPush),
    ("/identity", Face::IamToken),
    ("/v1/serviceids", Face::Iam),
    ("/v1/apikeys", Face::Iam),
];

impl Face {
    /// The face of a path, or of a route's template.
    pub(crate) fn of(path: &str) -> Self {
        let begins = |prefix: &str| {
            let rest = path.strip_prefix(prefix);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let found = PREFIXES.into_iter().find(|(prefix, _)| begins(prefix));
        found.map_or(Self::Notify, |(_, face)| face)
    }

    /// Whether its paths also exist below `/v1`, without it being a part of the documented path.
    pub(crate) const fn is_versioned(self) -> bool {
        matches!(self, Self::Notify)
    }

    /// Whether its paths also exist with a slash at their end: some of its clients write them so.
    pub(crate) const fn takes_trailing_slash(self) -> bool {
        !matches!(self, Self::Notify)
    }

    /// Whether browsers of any origin call it.
    pub(crate) const fn is_for_browsers(self) -> bool {
        matches!(self, Self::IbmPush)
    }
}

#[cfg(test)]
mod tests {
    use super::Face;

    #[test]
    fn a_face_is_known_by_whole_parts_of_the_path() {
        for (path, face) in [
            ("/", Face::Notify),
            ("/tenants/t/notify", Face::Notify),
            ("/v1/tenants", Face::Notify),
            ("/v1/apikeys", Face::Iam),
            ("/v1/apikeys/", Face::Iam),
            ("/v1/apikeys/x/lock", Face::Iam),
            ("/v1/serviceids/", Face::Iam),
            ("/v1/apikeysx", Face::Notify),
            ("/identity/token", Face::IamToken),
            ("/imfpush/v1/apps/a/messages", Face::IbmPush),
            ("/imfpushx", Face::Notify),
        ] {
            assert_eq!(Face::of(path), face, "{path}");
        }
    }
}
