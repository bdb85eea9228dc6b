//! Organisations and their members.
//! It must not know what a role allows, nor who else says of itself that it is of an organisation: an access token may name
//! one that has no row here.

use std::collections::BTreeMap;

use async_trait::async_trait;
use clarion_auth::{OrgId, PrincipalId, Role};

use super::Error;
use crate::model::Millis;

/// An organisation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Org {
    /// Its id.
    pub id: OrgId,
    /// What people call it.
    pub name: String,
    /// Who created it.
    pub created_by: String,
    /// When.
    pub created_at: Millis,
}

/// A member of an organisation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The organisation.
    pub org: OrgId,
    /// Who.
    pub subject: PrincipalId,
    /// As what.
    pub role: Role,
    /// Who added this member, or gave it this role.
    pub added_by: String,
    /// When.
    pub added_at: Millis,
}

/// Organisations and members. An organisation has exactly one owner.
#[async_trait]
pub trait Orgs: Send + Sync {
    /// Stores a new organisation with its owner.
    ///
    /// # Errors
    /// [`Error::Conflict`] when the id exists.
    async fn create_org(&self, org: &Org, owner: &PrincipalId) -> Result<(), Error>;

    /// An organisation.
    async fn org(&self, org: &OrgId) -> Result<Option<Org>, Error>;

    /// The organisations of these ids that exist, by id.
    async fn orgs(&self, orgs: &[OrgId]) -> Result<Vec<Org>, Error>;

    /// A person's roles in all organisations that have it as a member.
    async fn roles_of(&self, subject: &PrincipalId) -> Result<BTreeMap<OrgId, Role>, Error>;

    /// The members of an organisation, by subject.
    async fn members(&self, org: &OrgId) -> Result<Vec<Member>, Error>;

    /// Adds a member, or changes its role; never to owner, which [`Orgs::transfer_org`] does.
    ///
    /// # Errors
    /// [`Error::NotFound`] for an unknown organisation, [`Error::Conflict`] when it is the owner's role, before or after.
    async fn put_member(&self, member: &Member) -> Result<(), Error>;

    /// Makes a member the owner, and the owner an admin.
    ///
    /// # Errors
    /// [`Error::NotFound`] for an unknown organisation and for somebody who is no member of it.
    async fn transfer_org(
        &self,
        org: &OrgId,
        owner: &PrincipalId,
        by: &str,
        now: Millis,
    ) -> Result<(), Error>;

    /// Removes a member; `false` when it was none.
    ///
    /// # Errors
    /// [`Error::Conflict`] for the owner.
    async fn remove_member(&self, org: &OrgId, subject: &PrincipalId) -> Result<bool, Error>;

    /// Removes an organisation with its members, its service IDs and their keys; `false` when it was unknown. Its audit log
    /// stays for as long as any.
    ///
    /// # Errors
    /// [`Error::Conflict`] when it still has tenants.
    async fn delete_org(&self, org: &OrgId) -> Result<bool, Error>;
}
