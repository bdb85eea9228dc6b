//! The permission table itself: a row for each operation, a column for each kind of credential.
//! Knows nothing of how a row is judged.

use crate::operation::Operation;
use crate::principal::Role;
use crate::scope::{IamRole, Scope};

/// What a person needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Person {
    /// Nothing but to be one.
    Anybody,
    /// At least this role in the organisation that is meant.
    Role(Role),
    /// As `Role`; where no organisation is named, the role in any of the caller's organisations is
    /// enough, and the answer is about those only.
    RoleSomewhere(Role),
    /// To be the person whom it is about, or at least this role in the organisation that is meant.
    SelfOr(Role),
}

/// What a client application needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Client {
    /// It can never do this.
    No,
    /// Its secret.
    Proven,
    /// Its id.
    Named,
}

/// One row: what each credential kind needs. A later kind is one more field, which the compiler then
/// demands in every row.
pub(super) struct Row {
    pub(super) operation: Operation,
    /// The scope of an API key, on its own tenant.
    pub(super) key: Option<Scope>,
    pub(super) person: Person,
    /// The least IAM role of a service ID on the tenant.
    pub(super) service: Option<IamRole>,
    pub(super) client: Client,
    pub(super) app_secret: bool,
    pub(super) app_id: bool,
}

/// A row's cells in the order of the columns.
type Cells = (Option<Scope>, Person, Option<IamRole>, Client, bool, bool);

const fn row(operation: Operation, cells: Cells) -> Row {
    let (key, person, service, client, app_secret, app_id) = cells;
    Row {
        operation,
        key,
        person,
        service,
        client,
        app_secret,
        app_id,
    }
}

const MEMBER: Person = Person::Role(Role::Member);
const ADMIN: Person = Person::Role(Role::Admin);
const OWNER: Person = Person::Role(Role::Owner);
const SELF_OR_ADMIN: Person = Person::SelfOr(Role::Admin);

const SEND: Option<Scope> = Some(Scope::Send);
const DEVICES: Option<Scope> = Some(Scope::Devices);
const READ: Option<Scope> = Some(Scope::Read);

const READER: Option<IamRole> = Some(IamRole::Reader);
const WRITER: Option<IamRole> = Some(IamRole::Writer);
const MANAGER: Option<IamRole> = Some(IamRole::Manager);

/// On the IBM Push face a member counts as Writer, an admin or owner as Manager.
const AS_WRITER: Person = MEMBER;
const AS_MANAGER: Person = ADMIN;

const YES: bool = true;
const NO: bool = false;

#[rustfmt::skip]
pub(super) const TABLE: &[Row] = &[
    //   operation                             (API key, person,     service, client,         appSecret, app id)
    row(Operation::RegisterDevice,             (DEVICES, MEMBER,     WRITER,  Client::Proven, NO,  NO)),
    row(Operation::UnregisterDevice,           (DEVICES, MEMBER,     MANAGER, Client::Proven, NO,  NO)),
    row(Operation::ListDevices,                (DEVICES, MEMBER,     READER,  Client::No,     YES, NO)),
    row(Operation::ReadDevice,                 (DEVICES, MEMBER,     READER,  Client::Named,  YES, YES)),
    row(Operation::RegisterAnonymousDevice,    (None,    AS_WRITER,  WRITER,  Client::Named,  YES, YES)),
    row(Operation::RegisterUserDevice,         (None,    AS_WRITER,  WRITER,  Client::Proven, YES, NO)),
    row(Operation::UpdateDevice,               (None,    AS_WRITER,  WRITER,  Client::Named,  YES, YES)),
    row(Operation::DeleteDevice,               (None,    AS_MANAGER, MANAGER, Client::Named,  YES, YES)),

    row(Operation::ListTags,                   (DEVICES, MEMBER,     READER,  Client::Named,  YES, YES)),
    row(Operation::WriteTag,                   (DEVICES, AS_WRITER,  WRITER,  Client::No,     YES, NO)),
    row(Operation::DeleteTag,                  (None,    AS_MANAGER, MANAGER, Client::No,     YES, NO)),
    row(Operation::ListSubscriptions,          (DEVICES, MEMBER,     READER,  Client::No,     YES, NO)),
    row(Operation::ReadSubscriptions,          (DEVICES, MEMBER,     READER,  Client::Named,  YES, YES)),
    row(Operation::Subscribe,                  (DEVICES, AS_WRITER,  WRITER,  Client::Named,  YES, YES)),
    row(Operation::Unsubscribe,                (DEVICES, AS_MANAGER, MANAGER, Client::Named,  YES, YES)),

    row(Operation::Send,                       (SEND,    MEMBER,     WRITER,  Client::No,     YES, NO)),
    row(Operation::SendBulk,                   (SEND,    MEMBER,     WRITER,  Client::No,     YES, NO)),
    row(Operation::ReadNotification,           (READ,    MEMBER,     READER,  Client::No,     NO,  NO)),
    row(Operation::ReadFailures,               (READ,    MEMBER,     READER,  Client::No,     NO,  NO)),
    row(Operation::ReadAnalytics,              (READ,    MEMBER,     READER,  Client::No,     YES, NO)),
    row(Operation::ReadMessages,               (None,    MEMBER,     READER,  Client::No,     YES, NO)),
    row(Operation::DeleteMessage,              (None,    AS_MANAGER, MANAGER, Client::No,     YES, NO)),
    row(Operation::PutReceipt,                 (None,    AS_WRITER,  WRITER,  Client::Named,  YES, YES)),

    row(Operation::ReadSettings,               (None,    MEMBER,     READER,  Client::No,     YES, NO)),
    row(Operation::ReadPublicSettings,         (None,    MEMBER,     READER,  Client::Named,  YES, YES)),
    row(Operation::PutSettings,                (None,    AS_MANAGER, MANAGER, Client::No,     YES, NO)),
    row(Operation::DeleteSettings,             (None,    AS_MANAGER, MANAGER, Client::No,     YES, NO)),

    row(Operation::CreateTenant,               (None,    ADMIN,      None,    Client::No,     NO,  NO)),
    row(Operation::ReadTenant,                 (None,    MEMBER,     None,    Client::No,     NO,  NO)),
    row(Operation::ListTenants,                (None,    Person::RoleSomewhere(Role::Member),
                                                                     None,    Client::No,     NO,  NO)),
    row(Operation::UpdateTenant,               (None,    ADMIN,      None,    Client::No,     NO,  NO)),
    row(Operation::DeleteTenant,               (None,    ADMIN,      None,    Client::No,     NO,  NO)),
    row(Operation::CreateApiKey,               (None,    ADMIN,      None,    Client::No,     NO,  NO)),
    row(Operation::ListApiKeys,                (None,    MEMBER,     None,    Client::No,     NO,  NO)),
    row(Operation::UpdateApiKey,               (None,    ADMIN,      None,    Client::No,     NO,  NO)),
    row(Operation::RotateApiKey,               (None,    ADMIN,      None,    Client::No,     NO,  NO)),
    row(Operation::DeleteApiKey,               (None,    ADMIN,      None,    Client::No,     NO,  NO)),
    row(Operation::PutCredential,              (None,    ADMIN,      MANAGER, Client::No,     NO,  NO)),
    row(Operation::ListCredentials,            (None,    ADMIN,      MANAGER, Client::No,     NO,  NO)),
    row(Operation::DeleteCredential,           (None,    ADMIN,      MANAGER, Client::No,     NO,  NO)),
    row(Operation::CreateClient,               (None,    ADMIN,      None,    Client::No,     NO,  NO)),
    row(Operation::ListClients,                (None,    MEMBER,     None,    Client::No,     NO,  NO)),
    row(Operation::SetClientSecret,            (None,    ADMIN,      None,    Client::No,     NO,  NO)),
    row(Operation::DeleteClient,               (None,    ADMIN,      None,    Client::No,     NO,  NO)),
    row(Operation::RotateClientSecret,         (None,    ADMIN,      None,    Client::No,     NO,  NO)),
    row(Operation::ListDeadLetters,            (None,    ADMIN,      None,    Client::No,     NO,  NO)),
    row(Operation::ReplayDeadLetters,          (None,    ADMIN,      None,    Client::No,     NO,  NO)),
    row(Operation::PurgeDeadLetters,           (None,    ADMIN,      None,    Client::No,     NO,  NO)),

    row(Operation::CreateOrg,                  (None,    Person::Anybody, None, Client::No,   NO,  NO)),
    row(Operation::ListOrgs,                   (None,    Person::Anybody, None, Client::No,   NO,  NO)),
    row(Operation::ReadOrg,                    (None,    MEMBER,     None,    Client::No,     NO,  NO)),
    row(Operation::ManageMembers,              (None,    ADMIN,      None,    Client::No,     NO,  NO)),
    row(Operation::RemoveMember,               (None,    SELF_OR_ADMIN, None, Client::No,     NO,  NO)),
    row(Operation::TransferOrg,                (None,    OWNER,      None,    Client::No,     NO,  NO)),
    row(Operation::DeleteOrg,                  (None,    OWNER,      None,    Client::No,     NO,  NO)),
    row(Operation::ReadAudit,                  (None,    ADMIN,      None,    Client::No,     NO,  NO)),
    row(Operation::CreateServiceId,            (None,    ADMIN,      None,    Client::No,     NO,  NO)),
    row(Operation::ListServiceIds,             (None,    MEMBER,     None,    Client::No,     NO,  NO)),
    row(Operation::UpdateServiceId,            (None,    ADMIN,      None,    Client::No,     NO,  NO)),
    row(Operation::DeleteServiceId,            (None,    ADMIN,      None,    Client::No,     NO,  NO)),
    row(Operation::CreateIamKey,               (None,    SELF_OR_ADMIN, None, Client::No,     NO,  NO)),
    row(Operation::ListIamKeys,                (None,    SELF_OR_ADMIN, None, Client::No,     NO,  NO)),
    row(Operation::UpdateIamKey,               (None,    SELF_OR_ADMIN, None, Client::No,     NO,  NO)),
    row(Operation::DeleteIamKey,               (None,    SELF_OR_ADMIN, None, Client::No,     NO,  NO)),
    row(Operation::ReadIamKeyDetails,          (None,    SELF_OR_ADMIN, None, Client::No,     NO,  NO)),
];
