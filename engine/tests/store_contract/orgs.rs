//! Clauses about organisations and their members. They must not know tables.

use std::collections::BTreeMap;

use clarion_auth::{OrgId, PrincipalId, Role};
use clarion_engine::store::{Error, IamOwner, Member, Org, Store};

use crate::contract;
use crate::iam::{iam_key, service};
use crate::place::{NOW, Place, tenant};

contract!(
    an_organisation_is_created_once_with_its_owner,
    members_come_go_and_change,
    there_is_always_exactly_one_owner,
    an_organisation_goes_when_its_tenants_are_gone_and_takes_its_services_along,
);

fn id(text: &str) -> OrgId {
    text.parse().unwrap()
}

fn who(text: &str) -> PrincipalId {
    text.parse().unwrap()
}

fn org(name: &str) -> Org {
    Org {
        id: id(name),
        name: format!("The {name} \0 company"),
        created_by: "ada".into(),
        created_at: NOW,
    }
}

fn member(subject: &str, role: Role) -> Member {
    Member {
        org: id("acme"),
        subject: who(subject),
        role,
        added_by: "ada".into(),
        added_at: NOW + 1,
    }
}

async fn roles(store: &dyn Store) -> Vec<(String, Role)> {
    let members = store.members(&id("acme")).await.unwrap();
    let one = |member: Member| (member.subject.to_string(), member.role);
    members.into_iter().map(one).collect()
}

async fn an_organisation_is_created_once_with_its_owner(place: Place) {
    let store = place.open().await;
    store.create_org(&org("acme"), &who("ada")).await.unwrap();
    let again = store.create_org(&org("acme"), &who("eve")).await;
    assert!(matches!(again, Err(Error::Conflict(_))));
    store.create_org(&org("other"), &who("ada")).await.unwrap();
    assert_eq!(store.org(&id("acme")).await.unwrap(), Some(org("acme")));
    assert_eq!(store.org(&id("nobody")).await.unwrap(), None);
    let some = store.orgs(&[id("other"), id("nobody"), id("acme")]).await;
    assert_eq!(some.unwrap(), [org("acme"), org("other")]);
    let owned = BTreeMap::from([(id("acme"), Role::Owner), (id("other"), Role::Owner)]);
    assert_eq!(store.roles_of(&who("ada")).await.unwrap(), owned);
    assert_eq!(store.roles_of(&who("eve")).await.unwrap(), BTreeMap::new());
}

async fn members_come_go_and_change(place: Place) {
    let store = place.open().await;
    let nowhere = store.put_member(&member("bob", Role::Member)).await;
    assert!(matches!(nowhere, Err(Error::NotFound(_))));
    store.create_org(&org("acme"), &who("ada")).await.unwrap();
    store
        .put_member(&member("bob", Role::Member))
        .await
        .unwrap();
    let all = store.members(&id("acme")).await.unwrap();
    assert_eq!(all.last(), Some(&member("bob", Role::Member)));
    store.put_member(&member("bob", Role::Admin)).await.unwrap();
    let expected = [
        ("ada".to_owned(), Role::Owner),
        ("bob".to_owned(), Role::Admin),
    ];
    assert_eq!(roles(&*store).await, expected);
    assert!(store.remove_member(&id("acme"), &who("bob")).await.unwrap());
    assert!(!store.remove_member(&id("acme"), &who("bob")).await.unwrap());
    assert_eq!(roles(&*store).await, expected[..1]);
}

async fn there_is_always_exactly_one_owner(place: Place) {
    let store = place.open().await;
    store.create_org(&org("acme"), &who("ada")).await.unwrap();
    store
        .put_member(&member("bob", Role::Member))
        .await
        .unwrap();
    for refused in [
        store.put_member(&member("bob", Role::Owner)).await,
        store.put_member(&member("ada", Role::Member)).await,
        store
            .remove_member(&id("acme"), &who("ada"))
            .await
            .map(drop),
    ] {
        assert!(matches!(refused, Err(Error::Conflict(_))));
    }
    let stranger = store
        .transfer_org(&id("acme"), &who("eve"), "ada", NOW + 2)
        .await;
    assert!(matches!(stranger, Err(Error::NotFound(_))));
    let before = [
        ("ada".to_owned(), Role::Owner),
        ("bob".to_owned(), Role::Member),
    ];
    assert_eq!(roles(&*store).await, before);
    store
        .transfer_org(&id("acme"), &who("bob"), "ada", NOW + 2)
        .await
        .unwrap();
    let after = [
        ("ada".to_owned(), Role::Admin),
        ("bob".to_owned(), Role::Owner),
    ];
    assert_eq!(roles(&*store).await, after);
    // To oneself it changes nothing.
    store
        .transfer_org(&id("acme"), &who("bob"), "bob", NOW + 3)
        .await
        .unwrap();
    assert_eq!(roles(&*store).await, after);
}

async fn an_organisation_goes_when_its_tenants_are_gone_and_takes_its_services_along(place: Place) {
    let store = place.open().await;
    store.create_org(&org("acme"), &who("ada")).await.unwrap();
    let mut shop = tenant("shop");
    shop.org = id("acme");
    store.create_tenant(&shop, &[]).await.unwrap();
    let (ours, theirs) = (
        service("ServiceId-1", "acme"),
        service("ServiceId-2", "other"),
    );
    store.create_service_id(&ours).await.unwrap();
    store.create_service_id(&theirs).await.unwrap();
    let mut keys = Vec::new();
    for (number, service) in [(1, &ours), (2, &theirs)] {
        let owner = IamOwner::Service(service.id.clone());
        keys.push(iam_key(number, owner));
        store.create_iam_key(&keys[keys.len() - 1]).await.unwrap();
    }
    let early = store.delete_org(&id("acme")).await;
    assert!(matches!(early, Err(Error::Conflict(_))));
    assert_eq!(roles(&*store).await.len(), 1);
    store.delete_tenant(&shop.id, NOW).await.unwrap();
    assert!(store.delete_org(&id("acme")).await.unwrap());
    assert!(!store.delete_org(&id("acme")).await.unwrap());
    assert_eq!(store.org(&id("acme")).await.unwrap(), None);
    assert_eq!(roles(&*store).await, []);
    assert_eq!(store.service_id(&ours.id).await.unwrap(), None);
    assert_eq!(store.iam_key(&keys[0].id).await.unwrap(), None);
    assert_eq!(
        store.iam_key(&keys[1].id).await.unwrap(),
        Some(keys[1].clone())
    );
    assert_eq!(store.service_id(&theirs.id).await.unwrap(), Some(theirs));
}
