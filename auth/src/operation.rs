//! Everything a caller can ask for, by name. Knows nothing of who may do it.

use std::fmt;

/// What an operation does to what is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Effect {
    /// It only reads.
    Reads,
    /// What backends and apps do all day: devices, sending, receipts.
    Serves,
    /// It creates, changes or deletes what people decide about: it belongs in the audit log.
    Administers,
}

macro_rules! operations {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $effect:ident;)+) => {
        /// Everything a caller can ask for.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Operation {
            $($(#[$doc])* $name,)+
        }

        impl Operation {
            /// All operations.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// Its name in the audit log and in counts of a key's calls: lower case with underscores.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                }
            }

            /// What it does to what is stored.
            #[must_use]
            pub const fn effect(self) -> Effect {
                match self {
                    $(Self::$name => Effect::$effect,)+
                }
            }
        }
    };
}

operations! {
    /// Register one device or many, each for a user (Notify face).
    RegisterDevice = "register_device", Serves;
    /// Unregister a device of a user (Notify face).
    UnregisterDevice = "unregister_device", Serves;
    /// List devices.
    ListDevices = "list_devices", Reads;
    /// Read one device whose id the caller knows.
    ReadDevice = "read_device", Reads;
    /// Register a device that belongs to nobody in particular (IBM Push face).
    RegisterAnonymousDevice = "register_anonymous_device", Serves;
    /// Register or change a device in the name of a user (IBM Push face, a body with `userId`).
    RegisterUserDevice = "register_user_device", Serves;
    /// Change a device whose id the caller knows (IBM Push face, a body without `userId`).
    UpdateDevice = "update_device", Serves;
    /// Delete a device whose id the caller knows (IBM Push face).
    DeleteDevice = "delete_device", Serves;

    /// List tags.
    ListTags = "list_tags", Reads;
    /// Create or change a tag.
    WriteTag = "write_tag", Serves;
    /// Delete a tag with its subscriptions.
    DeleteTag = "delete_tag", Administers;
    /// List the subscriptions of all devices.
    ListSubscriptions = "list_subscriptions", Reads;
    /// Read the subscriptions of one device whose id the caller knows.
    ReadSubscriptions = "read_subscriptions", Reads;
    /// Subscribe a device to tags, or unsubscribe it with `POST …?action=delete`.
    Subscribe = "subscribe", Serves;
    /// Unsubscribe a device with `DELETE`.
    Unsubscribe = "unsubscribe", Serves;

    /// Send one notification.
    Send = "send", Serves;
    /// Send many notifications in one request.
    SendBulk = "send_bulk", Serves;
    /// Read a notification's status counts.
    ReadNotification = "read_notification", Reads;
    /// Read which device tokens of a notification failed, and why.
    ReadFailures = "read_failures", Reads;
    /// Read counts of what was sent, and their course in time.
    ReadAnalytics = "read_analytics", Reads;
    /// List and read messages, their status and reports (IBM Push face).
    ReadMessages = "read_messages", Reads;
    /// Delete a message (IBM Push face).
    DeleteMessage = "delete_message", Administers;
    /// Tell that a device has seen or opened a message (IBM Push face).
    PutReceipt = "put_receipt", Serves;

    /// Read provider settings (IBM Push face).
    ReadSettings = "read_settings", Reads;
    /// Read what apps must know of provider settings: public ids (IBM Push face).
    ReadPublicSettings = "read_public_settings", Reads;
    /// Replace provider settings (IBM Push face).
    PutSettings = "put_settings", Administers;
    /// Delete provider settings (IBM Push face).
    DeleteSettings = "delete_settings", Administers;

    /// Create a tenant in an organisation.
    CreateTenant = "create_tenant", Administers;
    /// Read one tenant.
    ReadTenant = "read_tenant", Reads;
    /// List the tenants of the caller's organisations.
    ListTenants = "list_tenants", Reads;
    /// Change a tenant, its limits included.
    UpdateTenant = "update_tenant", Administers;
    /// Delete a tenant.
    DeleteTenant = "delete_tenant", Administers;
    /// Create an API key.
    CreateApiKey = "create_api_key", Administers;
    /// List a tenant's API keys; never their secrets.
    ListApiKeys = "list_api_keys", Reads;
    /// Change an API key's name, scopes or rate.
    UpdateApiKey = "update_api_key", Administers;
    /// Replace an API key by a new one, both good for a while.
    RotateApiKey = "rotate_api_key", Administers;
    /// Delete an API key.
    DeleteApiKey = "delete_api_key", Administers;
    /// Upload or replace provider credentials.
    PutCredential = "put_credential", Administers;
    /// List provider credentials; never their secrets.
    ListCredentials = "list_credentials", Reads;
    /// Delete provider credentials.
    DeleteCredential = "delete_credential", Administers;
    /// Register a client application.
    CreateClient = "create_client", Administers;
    /// List client applications; never their secrets.
    ListClients = "list_clients", Reads;
    /// Add a secret to a client application that has none.
    SetClientSecret = "set_client_secret", Administers;
    /// Delete a client application.
    DeleteClient = "delete_client", Administers;
    /// Replace a tenant's `clientSecret` or `appSecret`, or switch what they are demanded for.
    RotateClientSecret = "rotate_client_secret", Administers;
    /// List and read dead letters: these hold payloads.
    ListDeadLetters = "list_dead_letters", Reads;
    /// Send dead letters again.
    ReplayDeadLetters = "replay_dead_letters", Administers;
    /// Delete dead letters.
    PurgeDeadLetters = "purge_dead_letters", Administers;

    /// Create an organisation, as its owner.
    CreateOrg = "create_org", Administers;
    /// List the caller's organisations.
    ListOrgs = "list_orgs", Reads;
    /// Read an organisation and its members.
    ReadOrg = "read_org", Reads;
    /// Add members to an organisation and change their roles.
    ManageMembers = "manage_members", Administers;
    /// Take a member out of an organisation.
    RemoveMember = "remove_member", Administers;
    /// Hand an organisation over to another owner.
    TransferOrg = "transfer_org", Administers;
    /// Delete an organisation with its tenants and keys.
    DeleteOrg = "delete_org", Administers;
    /// Read an organisation's audit log.
    ReadAudit = "read_audit", Reads;
    /// Create a service ID.
    CreateServiceId = "create_service_id", Administers;
    /// List and read service IDs.
    ListServiceIds = "list_service_ids", Reads;
    /// Change a service ID's name or grants.
    UpdateServiceId = "update_service_id", Administers;
    /// Delete a service ID with its IAM keys.
    DeleteServiceId = "delete_service_id", Administers;
    /// Create an IAM key, of oneself or of a service ID.
    CreateIamKey = "create_iam_key", Administers;
    /// List and read IAM keys; never their secrets.
    ListIamKeys = "list_iam_keys", Reads;
    /// Change, lock, unlock, disable or enable an IAM key.
    UpdateIamKey = "update_iam_key", Administers;
    /// Delete an IAM key.
    DeleteIamKey = "delete_iam_key", Administers;
    /// Read what stands behind an IAM key that is shown by its value.
    ReadIamKeyDetails = "read_iam_key_details", Reads;
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_tell_the_effect_of_what_is_listed_or_read() {
        let names: BTreeSet<&str> = Operation::ALL.iter().map(|one| one.as_str()).collect();
        assert_eq!(names.len(), Operation::ALL.len());
        for operation in Operation::ALL {
            let name = operation.as_str();
            assert!(
                name.bytes()
                    .all(|byte| byte == b'_' || byte.is_ascii_lowercase())
            );
            let says_read = name.starts_with("read_") || name.starts_with("list_");
            assert_eq!(operation.effect() == Effect::Reads, says_read, "{name}");
        }
    }
}
