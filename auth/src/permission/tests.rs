//! The permission matrix, written out a second time from the documents and compared cell by cell, for every kind of
//! credential, every operation, its own tenant and every other.
//! Knows nothing of how `authorize` reaches its verdict, nor of how the table is written.

use std::collections::{BTreeMap, HashSet};

use super::*;
use crate::api_key::ApiKeyKind;
use crate::scope::{Grants, Scopes};

/// The documents' view: for each operation what an API key needs (a scope), a person (a role, or `any`, or `self`), a
/// service ID (an IAM role), a client application (`secret` or `id`), an `appSecret`, and whoever knows an application's id.
const DOCUMENTED: &str = "
    # \"API keys can perform these operations on their tenant\"; apps register with id and secret
    register_device            devices member   Writer  secret no  no
    unregister_device          devices member   Manager secret no  no
    list_devices               devices member   Reader  no     yes no
    # clients read the device before they register it, with a secret or with nothing
    read_device                devices member   Reader  id     yes yes
    # POST devices, PUT devices/{id}: Writer; a secret only with a userId
    register_anonymous_device  no      member   Writer  id     yes yes
    register_user_device       no      member   Writer  secret yes no
    update_device              no      member   Writer  id     yes yes
    # DELETE devices/{id}: Manager; by clients with the secret or nothing
    delete_device              no      admin    Manager id     yes yes
    list_tags                  devices member   Reader  id     yes yes
    write_tag                  devices member   Writer  no     yes no
    delete_tag                 no      admin    Manager no     yes no
    list_subscriptions         devices member   Reader  no     yes no
    read_subscriptions         devices member   Reader  id     yes yes
    subscribe                  devices member   Writer  id     yes yes
    unsubscribe                devices admin    Manager id     yes yes
    # nothing of a client sends
    send                       send    member   Writer  no     yes no
    send_bulk                  send    member   Writer  no     yes no
    # decided: \"a tenant key of that tenant, members of its organisation\"
    read_notification          read    member   Reader  no     no  no
    read_failures              read    member   Reader  no     no  no
    read_analytics             read    member   Reader  no     yes no
    read_messages              no      member   Reader  no     yes no
    delete_message             no      admin    Manager no     yes no
    put_receipt                no      member   Writer  id     yes yes
    # GET settings: Reader, PUT and DELETE: Manager; public ids also for clients
    read_settings              no      member   Reader  no     yes no
    read_public_settings       no      member   Reader  id     yes yes
    put_settings               no      admin    Manager no     yes no
    delete_settings            no      admin    Manager no     yes no
    # \"API keys cannot create, modify, or delete the tenant\"; \"admin or owner\"; any member reads and lists
    create_tenant              no      admin    no      no     no  no
    read_tenant                no      member   no      no     no  no
    list_tenants               no      member   no      no     no  no
    update_tenant              no      admin    no      no     no  no
    delete_tenant              no      admin    no      no     no  no
    # \"API keys cannot create or delete other API keys\"
    create_api_key             no      admin    no      no     no  no
    list_api_keys              no      member   no      no     no  no
    update_api_key             no      admin    no      no     no  no
    rotate_api_key             no      admin    no      no     no  no
    delete_api_key             no      admin    no      no     no  no
    # provider settings are part of modifying the tenant; of IAM callers, a Manager's
    put_credential             no      admin    Manager no     no  no
    list_credentials           no      admin    Manager no     no  no
    delete_credential          no      admin    Manager no     no  no
    create_client              no      admin    no      no     no  no
    list_clients               no      member   no      no     no  no
    set_client_secret          no      admin    no      no     no  no
    delete_client              no      admin    no      no     no  no
    rotate_client_secret       no      admin    no      no     no  no
    # dead letters hold other callers' payloads
    list_dead_letters          no      admin    no      no     no  no
    replay_dead_letters        no      admin    no      no     no  no
    purge_dead_letters         no      admin    no      no     no  no
    # \"only the owner may delete the organization\"; admins manage members; members view it
    create_org                 no      any      no      no     no  no
    list_orgs                  no      any      no      no     no  no
    read_org                   no      member   no      no     no  no
    manage_members             no      admin    no      no     no  no
    remove_member              no      self     no      no     no  no
    transfer_org               no      owner    no      no     no  no
    delete_org                 no      owner    no      no     no  no
    read_audit                 no      admin    no      no     no  no
    create_service_id          no      admin    no      no     no  no
    list_service_ids           no      member   no      no     no  no
    update_service_id          no      admin    no      no     no  no
    delete_service_id          no      admin    no      no     no  no
    # \"own keys; service-ID keys with access\"
    create_iam_key             no      self     no      no     no  no
    list_iam_keys              no      self     no      no     no  no
    update_iam_key             no      self     no      no     no  no
    delete_iam_key             no      self     no      no     no  no
    read_iam_key_details       no      self     no      no     no  no
";

/// A line of [`DOCUMENTED`].
struct Documented {
    operation: Operation,
    key: &'static str,
    person: &'static str,
    service: &'static str,
    client: &'static str,
    app_secret: &'static str,
    app_id: &'static str,
}

fn documented() -> Vec<Documented> {
    let lines = DOCUMENTED.lines().map(str::trim);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    let read = |line: &'static str| {
        let cells: Vec<&str> = line.split_whitespace().collect();
        let mut all = Operation::ALL.iter();
        let operation = *all.find(|one| one.as_str() == cells[0]).expect(line);
        let [key, person, service, client, app_secret, app_id] = cells[1..] else {
            panic!("{line}");
        };
        Documented {
            operation,
            key,
            person,
            service,
            client,
            app_secret,
            app_id,
        }
    };
    lines.map(read).collect()
}

fn tenant(id: &str) -> TenantId {
    id.parse().unwrap()
}

fn org(id: &str) -> OrgId {
    id.parse().unwrap()
}

fn key_of(id: &str, kind: ApiKeyKind, scopes: Scopes) -> Principal {
    Principal::TenantKey {
        tenant: tenant(id),
        key_id: "Ab3dEf9z".parse().unwrap(),
        kind,
        scopes,
    }
}

fn person(orgs: &[(&str, Role)]) -> Principal {
    let orgs: BTreeMap<OrgId, Role> = orgs.iter().map(|(id, role)| (org(id), *role)).collect();
    Principal::Person {
        subject: "ada".parse().unwrap(),
        orgs,
    }
}

fn service(home: &str, everywhere: Option<IamRole>, on: &[(&str, IamRole)]) -> Principal {
    Principal::ServiceId {
        id: "ServiceId-1".parse().unwrap(),
        org: org(home),
        grants: Grants {
            everywhere,
            tenants: on.iter().map(|(id, role)| (tenant(id), *role)).collect(),
        },
    }
}

/// Judges a credential of the tenant `shop` on `shop` and on everything else: `verdict` is the one on `shop`, and whoever
/// can do a thing on its own tenant is a stranger on any other, whether that exists or not.
fn judged_by_tenant(principal: &Principal, operation: Operation, verdict: Result<(), Denied>) {
    let (own, foreign, acme) = (tenant("shop"), tenant("bank"), org("acme"));
    let on = |target| authorize(principal, operation, target);
    for target in [Target::tenant(&own), Target::tenant(&own).owned_by(&acme)] {
        assert_eq!(on(target), verdict, "{operation} {principal:?}");
    }
    let elsewhere = match verdict {
        Err(never @ Denied::NotInList(_)) => Err(never),
        _ => Err(Denied::ForeignTenant),
    };
    for target in [
        Target::tenant(&foreign),
        Target::tenant(&foreign).owned_by(&acme),
        Target::org(&acme),
        Target::unnamed(),
    ] {
        assert_eq!(
            on(target),
            elsewhere,
            "{operation} {principal:?} {target:?}"
        );
    }
}

#[test]
fn the_table_has_each_operation_once() {
    let rows: HashSet<Operation> = TABLE.iter().map(|row| row.operation).collect();
    let named: HashSet<Operation> = documented().iter().map(|line| line.operation).collect();
    let all: HashSet<Operation> = Operation::ALL.iter().copied().collect();
    assert_eq!((rows.len(), documented().len()), (TABLE.len(), TABLE.len()));
    assert_eq!((&rows, &named), (&all, &all));
}

#[test]
fn an_api_key_does_what_its_scopes_say_on_its_own_tenant_and_nothing_else() {
    for line in documented() {
        for (kind, bits) in ApiKeyKind::ALL
            .into_iter()
            .flat_map(|kind| (1..=7).map(move |bits| (kind, bits)))
        {
            let scopes = Scopes::from_bits(bits).unwrap();
            let verdict = match line.key.parse::<Scope>() {
                Err(_) => Err(Denied::NotInList(CredentialType::TenantKey)),
                Ok(needed) if scopes.contains(needed) => Ok(()),
                Ok(needed) => Err(Denied::Scope { needed }),
            };
            judged_by_tenant(&key_of("shop", kind, scopes), line.operation, verdict);
        }
    }
}

#[test]
fn clients_secrets_and_application_ids_do_what_is_documented_and_nothing_else() {
    for line in documented() {
        for (is_proven, named) in [(true, true), (true, false), (false, true)] {
            let client = Principal::ClientApp {
                tenant: tenant("shop"),
                client_id: named.then(|| "c1".parse().unwrap()),
                is_proven,
            };
            let verdict = match (line.client, is_proven) {
                ("id", _) | ("secret", true) => Ok(()),
                ("secret", false) => Err(Denied::Unproven),
                _ => Err(Denied::NotInList(CredentialType::ClientApp)),
            };
            judged_by_tenant(&client, line.operation, verdict);
        }
        let shop = || tenant("shop");
        let legacy = Principal::AppSecret { tenant: shop() };
        let nobody = Principal::AppId { tenant: shop() };
        for (principal, cell) in [(legacy, line.app_secret), (nobody, line.app_id)] {
            let never = Denied::NotInList(principal.credential());
            let verdict = (cell == "yes").then_some(()).ok_or(never);
            judged_by_tenant(&principal, line.operation, verdict);
        }
    }
}

#[test]
fn whoever_holds_no_person_or_service_can_send_only_with_a_key_or_an_app_secret() {
    // The one promise about credentials in shipped apps, said apart from the table.
    for line in documented() {
        if line.operation.as_str().starts_with("send") {
            assert_eq!((line.client, line.app_id), ("no", "no"));
        }
    }
}

#[test]
fn a_person_needs_the_documented_role_in_the_organisation_of_the_tenant() {
    let (shop, acme) = (tenant("shop"), org("acme"));
    for line in documented() {
        for held in Role::ALL {
            // Being an owner elsewhere must not help.
            let caller = person(&[("acme", held), ("other", Role::Owner)]);
            let needed = match line.person {
                "any" => None,
                "self" => Some(Role::Admin),
                role => Some(role.parse().unwrap()),
            };
            let verdict = match needed {
                Some(needed) if held < needed => Err(Denied::Role { needed }),
                _ => Ok(()),
            };
            for target in [Target::tenant(&shop).owned_by(&acme), Target::org(&acme)] {
                let judged = authorize(&caller, line.operation, target);
                assert_eq!(judged, verdict, "{} {held}", line.operation);
            }
        }
    }
}

#[test]
fn what_is_about_a_person_is_that_persons_own() {
    let (ada, bob): (PrincipalId, PrincipalId) = ("ada".parse().unwrap(), "bob".parse().unwrap());
    let acme = org("acme");
    for line in documented() {
        let caller = person(&[]);
        let on = |target| authorize(&caller, line.operation, target);
        let own = match line.person {
            "any" | "self" => Ok(()),
            _ => Err(Denied::ForeignTenant),
        };
        assert_eq!(on(Target::person(&ada)), own, "{}", line.operation);
        assert_eq!(
            on(Target::person(&ada).owned_by(&acme)),
            own,
            "{}",
            line.operation
        );
        if line.person != "any" {
            assert_eq!(
                on(Target::person(&bob)),
                Err(Denied::ForeignTenant),
                "{}",
                line.operation
            );
        }
    }
}

#[test]
fn strangers_are_refused_everything_that_is_not_for_anybody() {
    let (shop, acme) = (tenant("shop"), org("acme"));
    for line in documented().iter().filter(|line| line.person != "any") {
        for caller in [person(&[]), person(&[("other", Role::Owner)])] {
            for target in [Target::tenant(&shop).owned_by(&acme), Target::org(&acme)] {
                let verdict = authorize(&caller, line.operation, target);
                assert_eq!(verdict, Err(Denied::ForeignTenant), "{}", line.operation);
            }
        }
    }
}

#[test]
fn an_unnamed_target_is_enough_only_for_listing_tenants() {
    let shop = tenant("shop");
    let owner = person(&[("acme", Role::Owner)]);
    for line in documented().iter().filter(|line| line.person != "any") {
        let allowed = line.operation == Operation::ListTenants;
        let judged = authorize(&owner, line.operation, Target::unnamed());
        assert_eq!(judged.is_ok(), allowed);
        // A tenant whose organisation was not looked up counts against the caller.
        let unresolved = authorize(&owner, line.operation, Target::tenant(&shop));
        assert_eq!(unresolved, Err(Denied::ForeignTenant), "{}", line.operation);
    }
    let nobody = person(&[]);
    let verdict = authorize(&nobody, Operation::ListTenants, Target::unnamed());
    assert_eq!(verdict, Err(Denied::ForeignTenant));
}

#[test]
fn a_service_id_needs_the_documented_iam_role_on_the_tenant_of_its_organisation() {
    let (shop, acme, other) = (tenant("shop"), org("acme"), org("other"));
    let never = Err(Denied::NotInList(CredentialType::ServiceId));
    for line in documented() {
        let needed = line.service.parse::<IamRole>().ok();
        for held in IamRole::ALL {
            let callers = [
                service("acme", Some(held), &[]),
                // Grants on other tenants must not help.
                service("acme", None, &[("shop", held), ("bank", IamRole::Manager)]),
            ];
            for caller in callers {
                let on = |target| authorize(&caller, line.operation, target);
                let (verdict, foreign) = match needed {
                    None => (never, never),
                    Some(needed) if held < needed => {
                        (Err(Denied::IamRole { needed }), Err(Denied::ForeignTenant))
                    }
                    Some(_) => (Ok(()), Err(Denied::ForeignTenant)),
                };
                let own = Target::tenant(&shop).owned_by(&acme);
                assert_eq!(on(own), verdict, "{} {held}", line.operation);
                for target in [
                    Target::tenant(&shop).owned_by(&other),
                    Target::tenant(&shop),
                    Target::org(&acme),
                    Target::unnamed(),
                ] {
                    assert_eq!(on(target), foreign, "{} {target:?}", line.operation);
                }
            }
        }
        let ungranted = service("acme", None, &[("bank", IamRole::Manager)]);
        let judged = authorize(
            &ungranted,
            line.operation,
            Target::tenant(&shop).owned_by(&acme),
        );
        let verdict = needed.map_or(never, |_| Err(Denied::ForeignTenant));
        assert_eq!(judged, verdict, "{}", line.operation);
    }
}

#[test]
fn refusals_say_what_to_do() {
    let role = Denied::Role {
        needed: Role::Admin,
    };
    let scope = Denied::Scope {
        needed: Scope::Send,
    };
    let iam = Denied::IamRole {
        needed: IamRole::Writer,
    };
    for (denied, says) in [
        (Denied::ForeignTenant, "API key of the tenant itself"),
        (
            Denied::NotInList(CredentialType::TenantKey),
            "an API key cannot do this",
        ),
        (
            Denied::NotInList(CredentialType::AppId),
            "send an access token",
        ),
        (role, "role admin"),
        (scope, "scope send"),
        (iam, "IAM role Writer"),
        (Denied::Unproven, "clientSecret"),
    ] {
        assert!(denied.to_string().contains(says), "{denied}");
    }
    for credential in CredentialType::ALL {
        assert!(!Denied::NotInList(credential).to_string().is_empty());
    }
}
