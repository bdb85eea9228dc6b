//! Who may do what: one table of credential kind × operation, and the one function that reads it.
//! Knows nothing of requests, status codes or stored rows; the caller says which tenant is meant.
//!
//! Sources: the API-key document's lists of what a key can and cannot do, the organisations page for
//! the roles, and the decisions for what those leave open (keys read status and failures of their own
//! tenant; any other tenant, known or not, is refused the same way).

use crate::ids::{OrgId, TenantId};
use crate::principal::{Principal, Role};

/// Everything a caller can ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Operation {
    /// Register one device or many.
    RegisterDevice,
    /// Unregister a device.
    UnregisterDevice,
    /// List the devices of a user.
    ListDevices,
    /// Send one notification.
    Send,
    /// Send many notifications in one request.
    SendBulk,
    /// Read a notification's status counts.
    ReadNotification,
    /// Read which device tokens of a notification failed, and why.
    ReadFailures,
    /// Create a tenant in an organisation.
    CreateTenant,
    /// Read one tenant.
    ReadTenant,
    /// List the tenants of the caller's organisations.
    ListTenants,
    /// Change a tenant, its limits included.
    UpdateTenant,
    /// Delete a tenant.
    DeleteTenant,
    /// Create an API key.
    CreateApiKey,
    /// List a tenant's API keys; never their secrets.
    ListApiKeys,
    /// Delete an API key.
    DeleteApiKey,
    /// Upload or replace provider credentials.
    PutCredential,
    /// List provider credentials; never their secrets.
    ListCredentials,
    /// Delete provider credentials.
    DeleteCredential,
    /// List and read dead letters: these hold payloads.
    ListDeadLetters,
    /// Send dead letters again.
    ReplayDeadLetters,
    /// Delete dead letters.
    PurgeDeadLetters,
}

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

/// What a credential kind needs for an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// Not in the list of what this credential can do.
    Never,
    /// Allowed on the tenant that the credential belongs to.
    OwnTenant,
    /// Needs at least this role in the organisation that is meant.
    Role(Role),
    /// As `Role`; where no organisation is named, the role in any of the caller's organisations is
    /// enough, and the answer is about those only.
    RoleSomewhere(Role),
}

/// One row: what each credential kind needs. A later kind is one more field, which the compiler then
/// demands in every row.
struct Row {
    operation: Operation,
    tenant_key: Rule,
    person: Rule,
}

const fn row(operation: Operation, tenant_key: Rule, person: Rule) -> Row {
    Row {
        operation,
        tenant_key,
        person,
    }
}

const MEMBER: Rule = Rule::Role(Role::Member);
const ADMIN: Rule = Rule::Role(Role::Admin);

#[rustfmt::skip]
const TABLE: [Row; 21] = [
    //  operation                     tenant key       person
    row(Operation::RegisterDevice,    Rule::OwnTenant, MEMBER),
    row(Operation::UnregisterDevice,  Rule::OwnTenant, MEMBER),
    row(Operation::ListDevices,       Rule::OwnTenant, MEMBER),
    row(Operation::Send,              Rule::OwnTenant, MEMBER),
    row(Operation::SendBulk,          Rule::OwnTenant, MEMBER),
    row(Operation::ReadNotification,  Rule::OwnTenant, MEMBER),
    row(Operation::ReadFailures,      Rule::OwnTenant, MEMBER),
    row(Operation::CreateTenant,      Rule::Never,     ADMIN),
    row(Operation::ReadTenant,        Rule::Never,     MEMBER),
    row(Operation::ListTenants,       Rule::Never,     Rule::RoleSomewhere(Role::Member)),
    row(Operation::UpdateTenant,      Rule::Never,     ADMIN),
    row(Operation::DeleteTenant,      Rule::Never,     ADMIN),
    row(Operation::CreateApiKey,      Rule::Never,     ADMIN),
    row(Operation::ListApiKeys,       Rule::Never,     MEMBER),
    row(Operation::DeleteApiKey,      Rule::Never,     ADMIN),
    row(Operation::PutCredential,     Rule::Never,     ADMIN),
    row(Operation::ListCredentials,   Rule::Never,     ADMIN),
    row(Operation::DeleteCredential,  Rule::Never,     ADMIN),
    row(Operation::ListDeadLetters,   Rule::Never,     ADMIN),
    row(Operation::ReplayDeadLetters, Rule::Never,     ADMIN),
    row(Operation::PurgeDeadLetters,  Rule::Never,     ADMIN),
];

/// What an operation is about.
///
/// For an API key the tenant of the path is enough, so that a foreign key is refused before anything is
/// looked up. For a person the organisation comes from the tenant's row, or from the request that
/// creates one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Target<'a> {
    /// The tenant that the request names.
    pub tenant: Option<&'a TenantId>,
    /// The organisation that owns it, or that will.
    pub org: Option<&'a OrgId>,
}

impl<'a> Target<'a> {
    /// A tenant whose organisation is not known yet: enough to judge an API key.
    #[must_use]
    pub const fn tenant(tenant: &'a TenantId) -> Self {
        Self {
            tenant: Some(tenant),
            org: None,
        }
    }

    /// An organisation.
    #[must_use]
    pub const fn org(org: &'a OrgId) -> Self {
        Self {
            tenant: None,
            org: Some(org),
        }
    }

    /// The same target with its organisation.
    #[must_use]
    pub const fn owned_by(self, org: &'a OrgId) -> Self {
        Self {
            tenant: self.tenant,
            org: Some(org),
        }
    }

    /// No tenant and no organisation: a list of all that the caller may see.
    #[must_use]
    pub const fn unnamed() -> Self {
        Self {
            tenant: None,
            org: None,
        }
    }
}

/// Why a verified caller may not do what it asks for. The text is for the caller and says what to do;
/// it does not tell whether the tenant exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The tenant is not the key's, or not of an organisation of the person.
    #[error(
        "this credential is not for this tenant: use an API key of the tenant itself, or an access \
         token of a member of its organisation"
    )]
    ForeignTenant,
    /// An operation that this kind of credential can never do.
    #[error(
        "an API key cannot do this: it registers and lists devices, sends, and reads what it sent; \
         use an access token instead"
    )]
    NotInList,
    /// The person's role is too weak.
    #[error(
        "this needs the role {needed} in the tenant's organisation: ask one of its owners for it"
    )]
    Role {
        /// The weakest role that is enough.
        needed: Role,
    },
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
    // An operation without a row is one nobody may do; a test holds the table complete.
    let Some(row) = TABLE.iter().find(|row| row.operation == operation) else {
        return Err(Denied::NotInList);
    };
    let (rule, own_tenant) = match principal {
        Principal::TenantKey { tenant, .. } => (row.tenant_key, Some(tenant)),
        Principal::Person { .. } => (row.person, None),
    };
    match rule {
        Rule::Never => Err(Denied::NotInList),
        Rule::OwnTenant if own_tenant.is_some() && own_tenant == target.tenant => Ok(()),
        Rule::OwnTenant => Err(Denied::ForeignTenant),
        Rule::RoleSomewhere(needed) if target == Target::unnamed() => {
            enough(principal.strongest_role(), needed)
        }
        Rule::Role(needed) | Rule::RoleSomewhere(needed) => {
            enough(target.org.and_then(|org| principal.role_in(org)), needed)
        }
    }
}

fn enough(held: Option<Role>, needed: Role) -> Result<(), Denied> {
    match held {
        None => Err(Denied::ForeignTenant),
        Some(role) if role < needed => Err(Denied::Role { needed }),
        Some(_) => Ok(()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests;
