//! The permission matrix, written out a second time from the documents and compared cell by cell.
//! Knows nothing of how `authorize` reaches its verdict.

use std::collections::{BTreeMap, HashSet};

use super::*;
use crate::api_key::ApiKeyKind;
use crate::ids::PrincipalId;

/// The documents' view of a row: may a tenant key do it on its own tenant; the weakest role.
const DOCUMENTED: [(Operation, bool, Role); 21] = [
    // "API keys can perform these operations on their tenant"
    (Operation::RegisterDevice, true, Role::Member),
    (Operation::UnregisterDevice, true, Role::Member),
    (Operation::ListDevices, true, Role::Member),
    (Operation::Send, true, Role::Member),
    (Operation::SendBulk, true, Role::Member),
    // decided: "a tenant key of that tenant, members of its organisation"
    (Operation::ReadNotification, true, Role::Member),
    (Operation::ReadFailures, true, Role::Member),
    // "API keys cannot create, modify, or delete the tenant"; "admin or owner"
    (Operation::CreateTenant, false, Role::Admin),
    (Operation::UpdateTenant, false, Role::Admin),
    (Operation::DeleteTenant, false, Role::Admin),
    // reading and listing: any member
    (Operation::ReadTenant, false, Role::Member),
    (Operation::ListTenants, false, Role::Member),
    (Operation::ListApiKeys, false, Role::Member),
    // "API keys cannot create or delete other API keys"
    (Operation::CreateApiKey, false, Role::Admin),
    (Operation::DeleteApiKey, false, Role::Admin),
    // provider settings are part of modifying the tenant
    (Operation::PutCredential, false, Role::Admin),
    (Operation::ListCredentials, false, Role::Admin),
    (Operation::DeleteCredential, false, Role::Admin),
    // dead letters hold other callers' payloads
    (Operation::ListDeadLetters, false, Role::Admin),
    (Operation::ReplayDeadLetters, false, Role::Admin),
    (Operation::PurgeDeadLetters, false, Role::Admin),
];

fn tenant(id: &str) -> TenantId {
    id.parse().unwrap()
}

fn org(id: &str) -> OrgId {
    id.parse().unwrap()
}

fn key_of(id: &str) -> Principal {
    let key_id = "Ab3dEf9z".parse().unwrap();
    Principal::TenantKey {
        tenant: tenant(id),
        key_id,
        kind: ApiKeyKind::Live,
    }
}

fn person(orgs: &[(&str, Role)]) -> Principal {
    let subject: PrincipalId = "ada".parse().unwrap();
    let orgs: BTreeMap<OrgId, Role> = orgs.iter().map(|(id, role)| (org(id), *role)).collect();
    Principal::Person { subject, orgs }
}

#[test]
fn the_table_has_each_operation_once() {
    let rows: HashSet<Operation> = TABLE.iter().map(|row| row.operation).collect();
    let documented: HashSet<Operation> = DOCUMENTED.iter().map(|row| row.0).collect();
    assert_eq!(rows.len(), TABLE.len());
    assert_eq!(rows, documented);
    // Fails to compile when an operation is added, until it is counted here and has its rows.
    for operation in rows {
        match operation {
            Operation::RegisterDevice
            | Operation::UnregisterDevice
            | Operation::ListDevices
            | Operation::Send
            | Operation::SendBulk
            | Operation::ReadNotification
            | Operation::ReadFailures
            | Operation::CreateTenant
            | Operation::ReadTenant
            | Operation::ListTenants
            | Operation::UpdateTenant
            | Operation::DeleteTenant
            | Operation::CreateApiKey
            | Operation::ListApiKeys
            | Operation::DeleteApiKey
            | Operation::PutCredential
            | Operation::ListCredentials
            | Operation::DeleteCredential
            | Operation::ListDeadLetters
            | Operation::ReplayDeadLetters
            | Operation::PurgeDeadLetters => {}
        }
    }
}

#[test]
fn a_tenant_key_does_what_is_documented_on_its_own_tenant_and_nothing_else() {
    let (own, foreign, acme) = (tenant("shop"), tenant("bank"), org("acme"));
    let key = key_of("shop");
    for (operation, allowed, _) in DOCUMENTED {
        let on = |target| authorize(&key, operation, target);
        let (own_verdict, foreign_verdict) = if allowed {
            (Ok(()), Err(Denied::ForeignTenant))
        } else {
            (Err(Denied::NotInList), Err(Denied::NotInList))
        };
        assert_eq!(on(Target::tenant(&own)), own_verdict, "{operation:?}");
        assert_eq!(
            on(Target::tenant(&own).owned_by(&acme)),
            own_verdict,
            "{operation:?}"
        );
        // Same organisation, other tenant: still foreign. Known or unknown makes no difference,
        // because the tenant is not looked up.
        for target in [
            Target::tenant(&foreign),
            Target::tenant(&foreign).owned_by(&acme),
            Target::org(&acme),
            Target::unnamed(),
        ] {
            assert_eq!(on(target), foreign_verdict, "{operation:?} {target:?}");
        }
    }
}

#[test]
fn test_keys_have_the_powers_of_live_ones() {
    let own = tenant("shop");
    let key_id = "Ab3dEf9z".parse().unwrap();
    let test = Principal::TenantKey {
        tenant: own.clone(),
        key_id,
        kind: ApiKeyKind::Test,
    };
    for (operation, _, _) in DOCUMENTED {
        let target = Target::tenant(&own);
        let live = authorize(&key_of("shop"), operation, target);
        assert_eq!(authorize(&test, operation, target), live);
    }
}

#[test]
fn a_person_needs_the_documented_role_in_the_organisation_of_the_tenant() {
    let (shop, acme) = (tenant("shop"), org("acme"));
    let target = Target::tenant(&shop).owned_by(&acme);
    for (operation, _, needed) in DOCUMENTED {
        for held in Role::ALL {
            let verdict = if held >= needed {
                Ok(())
            } else {
                Err(Denied::Role { needed })
            };
            // Being an owner elsewhere must not help.
            let caller = person(&[("acme", held), ("other", Role::Owner)]);
            assert_eq!(
                authorize(&caller, operation, target),
                verdict,
                "{operation:?} {held}"
            );
            assert_eq!(authorize(&caller, operation, Target::org(&acme)), verdict);
        }
    }
}

#[test]
fn strangers_are_refused_everything() {
    let (shop, acme) = (tenant("shop"), org("acme"));
    for (operation, _, _) in DOCUMENTED {
        for caller in [person(&[]), person(&[("other", Role::Owner)])] {
            for target in [Target::tenant(&shop).owned_by(&acme), Target::org(&acme)] {
                let verdict = authorize(&caller, operation, target);
                assert_eq!(verdict, Err(Denied::ForeignTenant), "{operation:?}");
            }
        }
    }
}

#[test]
fn an_unnamed_target_is_enough_only_for_listing_tenants() {
    let shop = tenant("shop");
    let owner = person(&[("acme", Role::Owner)]);
    for (operation, _, _) in DOCUMENTED {
        let allowed = operation == Operation::ListTenants;
        assert_eq!(
            authorize(&owner, operation, Target::unnamed()).is_ok(),
            allowed
        );
        // A tenant whose organisation was not looked up counts against the caller.
        let unresolved = authorize(&owner, operation, Target::tenant(&shop));
        assert_eq!(unresolved, Err(Denied::ForeignTenant), "{operation:?}");
    }
    let nobody = person(&[]);
    let verdict = authorize(&nobody, Operation::ListTenants, Target::unnamed());
    assert_eq!(verdict, Err(Denied::ForeignTenant));
}

#[test]
fn refusals_say_what_to_do() {
    let role = Denied::Role {
        needed: Role::Admin,
    };
    for (denied, says) in [
        (Denied::ForeignTenant, "API key of the tenant itself"),
        (Denied::NotInList, "use an access token"),
        (role, "role admin"),
    ] {
        assert!(denied.to_string().contains(says), "{denied}");
    }
}
