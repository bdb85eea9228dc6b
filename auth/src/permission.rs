//! Who may do what: one table of credential kind × operation, and the one function that reads it.
//! Knows nothing of requests, status codes or stored rows; the caller says which tenant is meant.
//!
//! Sources: the API-key document's lists of what a key can and cannot do, the organisations page for the roles, IBM's
//! table of Reader, Writer and Manager and what its client libraries do with a secret or with nothing, and the decisions
//! for what those leave open (keys read status and failures of their own tenant; any other tenant, known or not, is
//! refused the same way; a service ID on the Notify face reads, sends and deletes as its IAM role says, and never touches
//! tenants, keys or organisations).

mod table;

use crate::ids::{OrgId, PrincipalId, TenantId};
pub use crate::operation::Operation;
use crate::principal::{CredentialType, Principal, Role};
use crate::scope::{IamRole, Scope};

use table::{Client, Person, Row, TABLE};

/// The organisation of those who run the deployment. Its people see the dead letters of all tenants, and alone those that
/// belong to no tenant. Nobody is in it but whoever got an access token that says so.
///
/// # Panics
/// Never: it is a constant of allowed characters.
#[must_use]
#[expect(clippy::expect_used, reason = "a constant of allowed characters")]
pub fn operators() -> OrgId {
    "operators".parse().expect("an organisation's id")
}

/// What an operation is about.
///
/// For whatever belongs to one tenant the tenant of the path is enough, so that a foreign key is refused before anything is
/// looked up. For people and service IDs the organisation comes from the tenant's row, or from the request that
/// creates one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Target<'a> {
    /// The tenant that the request names.
    pub tenant: Option<&'a TenantId>,
    /// The organisation that owns it, or that will.
    pub org: Option<&'a OrgId>,
    /// The person whom it is about: the owner of an IAM key, a member.
    pub person: Option<&'a PrincipalId>,
}

impl<'a> Target<'a> {
    /// A tenant whose organisation is not known yet: enough to judge an API key.
    #[must_use]
    pub const fn tenant(tenant: &'a TenantId) -> Self {
        Self {
            tenant: Some(tenant),
            ..Self::unnamed()
        }
    }

    /// An organisation.
    #[must_use]
    pub const fn org(org: &'a OrgId) -> Self {
        Self {
            org: Some(org),
            ..Self::unnamed()
        }
    }

    /// A person's own things.
    #[must_use]
    pub const fn person(person: &'a PrincipalId) -> Self {
        Self {
            person: Some(person),
            ..Self::unnamed()
        }
    }

    /// The same target with its organisation.
    #[must_use]
    pub const fn owned_by(self, org: &'a OrgId) -> Self {
        Self {
            org: Some(org),
            ..self
        }
    }

    /// No tenant and no organisation: a list of all that the caller may see.
    #[must_use]
    pub const fn unnamed() -> Self {
        Self {
            tenant: None,
            org: None,
            person: None,
        }
    }
}

/// Why a verified caller may not do what it asks for. The text is for the caller and says what to do;
/// it does not tell whether the tenant exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The tenant is not the credential's, or not of an organisation of the caller.
    #[error(
        "this credential is not for this tenant: use an API key of the tenant itself, or an access \
         token of a member of its organisation"
    )]
    ForeignTenant,
    /// An operation that this kind of credential can never do.
    #[error("{}", never(*.0))]
    NotInList(CredentialType),
    /// The API key was made for less.
    #[error(
        "this API key was made without the scope {needed}: use another, or have its scopes changed"
    )]
    Scope {
        /// The scope that is missing.
        needed: Scope,
    },
    /// The person's role is too weak.
    #[error(
        "this needs the role {needed} in the tenant's organisation: ask one of its owners for it"
    )]
    Role {
        /// The weakest role that is enough.
        needed: Role,
    },
    /// The service ID's role is too weak.
    #[error(
        "this needs the IAM role {needed} on the tenant: ask an admin of its organisation to grant it"
    )]
    IamRole {
        /// The weakest role that is enough.
        needed: IamRole,
    },
    /// Only for whoever shows the secret as well.
    #[error("this needs a secret: send clientSecret, or X-IBM-Client-Secret beside the client id")]
    Unproven,
}

fn never(credential: CredentialType) -> &'static str {
    match credential {
        CredentialType::TenantKey => {
            "an API key cannot do this: it registers and lists devices, sends, and reads what it sent; \
             use an access token instead"
        }
        CredentialType::Person => "an access token cannot do this",
        CredentialType::ServiceId => {
            "a service ID cannot do this: it works on devices, messages and settings of the tenants that \
             it is granted; use an access token of a person instead"
        }
        CredentialType::ClientApp => {
            "a client application cannot do this: it registers devices and subscribes them; use an \
             access token instead"
        }
        CredentialType::AppSecret => {
            "an appSecret cannot do this: it works on the push API of its application only; use an \
             access token instead"
        }
        CredentialType::AppId => {
            "no credential: send an access token in Authorization as Bearer, or an appSecret where \
             the application allows it"
        }
    }
}

/// Whether `principal` may do `operation` on `target`. The only place where this is decided.
///
/// # Errors
/// [`Denied`], with the reason that the caller can act on. Whatever the target leaves open counts
/// against the caller.
pub fn authorize(
    principal: &Principal,
    operation: Operation,
    target: Target<'_>,
) -> Result<(), Denied> {
    let never = Err(Denied::NotInList(principal.credential()));
    // An operation without a row is one nobody may do; a test holds the table complete.
    let Some(row) = TABLE.iter().find(|row| row.operation == operation) else {
        return never;
    };
    if let Principal::Person { subject, .. } = principal {
        return judge_person(principal, subject, row, target);
    }
    if let Principal::ServiceId { org, grants, .. } = principal {
        let Some(needed) = row.service else {
            return never;
        };
        let tenant = target.tenant.filter(|_| target.org == Some(org));
        let held = tenant.and_then(|tenant| grants.role_on(tenant));
        return enough(held, needed, Denied::IamRole { needed });
    }
    let is_listed = match principal {
        Principal::TenantKey { .. } => row.key.is_some(),
        Principal::ClientApp { .. } => row.client != Client::No,
        Principal::AppSecret { .. } => row.app_secret,
        Principal::AppId { .. } => row.app_id,
        Principal::Person { .. } | Principal::ServiceId { .. } => false,
    };
    if !is_listed {
        return never;
    }
    if target.tenant.is_none() || principal.own_tenant() != target.tenant {
        return Err(Denied::ForeignTenant);
    }
    match (principal, row.key) {
        (Principal::TenantKey { scopes, .. }, Some(needed)) if !scopes.contains(needed) => {
            Err(Denied::Scope { needed })
        }
        (Principal::ClientApp { is_proven, .. }, _)
            if !is_proven && row.client == Client::Proven =>
        {
            Err(Denied::Unproven)
        }
        _ => Ok(()),
    }
}

fn judge_person(
    principal: &Principal,
    subject: &PrincipalId,
    row: &Row,
    target: Target<'_>,
) -> Result<(), Denied> {
    let held = target.org.and_then(|org| principal.role_in(org));
    let role = |held, needed| enough(held, needed, Denied::Role { needed });
    match row.person {
        Person::Anybody => Ok(()),
        Person::SelfOr(_) if target.person == Some(subject) => Ok(()),
        Person::RoleSomewhere(needed) if target == Target::unnamed() => {
            role(principal.strongest_role(), needed)
        }
        Person::Role(needed) | Person::RoleSomewhere(needed) | Person::SelfOr(needed) => {
            role(held, needed)
        }
    }
}

fn enough<T: Ord>(held: Option<T>, needed: T, too_weak: Denied) -> Result<(), Denied> {
    match held {
        None => Err(Denied::ForeignTenant),
        Some(role) if role < needed => Err(too_weak),
        Some(_) => Ok(()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests;
