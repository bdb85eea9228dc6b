//! Access tokens, good ones and every forgery that RFC 8725 warns of.
//! Knows nothing of the verifier's insides: forgeries are built from header and claims by hand.

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// 2026-01-01T00:00:00Z in Unix milliseconds.
const NOW: i64 = 1_767_225_600_000;
const NOW_SECS: i64 = NOW / 1000;

fn issuer() -> Issuer {
    Issuer {
        iss: "https://clarion.test".to_owned(),
        aud: "clarion".to_owned(),
    }
}

fn ada() -> PrincipalId {
    "ada@example.com".parse().unwrap()
}

fn orgs() -> BTreeMap<OrgId, Role> {
    BTreeMap::from([
        ("acme".parse().unwrap(), Role::Admin),
        ("globex".parse().unwrap(), Role::Member),
    ])
}

struct World {
    key: SigningKey,
    issuer: AccessTokenIssuer,
    verifier: AccessTokenVerifier,
}

impl World {
    fn new() -> Self {
        let key = SigningKey::generate().unwrap();
        let verifier = AccessTokenVerifier::new(&issuer(), [key.public()]).unwrap();
        Self {
            issuer: AccessTokenIssuer::new(issuer(), &key),
            key,
            verifier,
        }
    }

    fn mint(&self) -> AccessToken {
        self.issuer.mint(&ada(), &orgs(), CLI_TTL, NOW).unwrap()
    }

    fn header(&self) -> Value {
        json!({"alg": "ES256", "typ": "at+jwt", "kid": self.key.public().kid()})
    }

    /// A token of exactly these parts, signed with the real key whatever the header claims.
    fn signed(&self, header: &Value, claims: &Value) -> String {
        let body = format!("{}.{}", part(header), part(claims));
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &self.key.pkcs8);
        let signature = pair
            .unwrap()
            .sign(&SystemRandom::new(), body.as_bytes())
            .unwrap();
        format!("{body}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn refuses(&self, presented: &str, why: &str) {
        let verdict = self.verifier.verify(presented, NOW);
        assert!(verdict.is_err(), "accepted although {why}: {verdict:?}");
    }
}

fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

fn claims() -> Value {
    json!({
        "iss": "https://clarion.test", "aud": "clarion", "sub": "ada@example.com",
        "iat": NOW_SECS, "exp": NOW_SECS + 60, "orgs": {"acme": "admin"},
    })
}

fn with(mut value: Value, name: &str, new: Value) -> Value {
    value[name] = new;
    value
}

fn without(mut value: Value, name: &str) -> Value {
    value.as_object_mut().unwrap().remove(name);
    value
}

#[test]
fn a_minted_token_names_its_holder_and_its_roles() {
    let world = World::new();
    let principal = world.verifier.verify(world.mint().reveal(), NOW).unwrap();
    assert_eq!(
        principal,
        Verified::Minted {
            subject: ada(),
            orgs: orgs()
        }
    );
}

#[test]
fn the_claims_are_the_decided_ones() {
    let world = World::new();
    let access_token = world.mint();
    let parts: Vec<Value> = access_token
        .reveal()
        .split('.')
        .take(2)
        .map(|part| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap())
        .collect();
    assert_eq!(parts[0], world.header());
    let expected = json!({
        "iss": "https://clarion.test", "aud": "clarion", "sub": "ada@example.com",
        "iat": NOW_SECS, "exp": NOW_SECS + 12 * 3600,
        "orgs": {"acme": "admin", "globex": "member"},
    });
    assert_eq!(parts[1], expected);
}

#[test]
fn the_hand_made_token_is_accepted_so_that_the_forgeries_prove_something() {
    let world = World::new();
    let good = world.signed(&world.header(), &claims());
    assert!(world.verifier.verify(&good, NOW).is_ok());
}

#[test]
fn it_expires_to_the_second() {
    let world = World::new();
    let access_token = world.mint();
    let exp = NOW + 12 * 3600 * 1000;
    assert!(
        world
            .verifier
            .verify(access_token.reveal(), exp - 1)
            .is_ok()
    );
    let late = world
        .verifier
        .verify(access_token.reveal(), exp)
        .unwrap_err();
    assert!(matches!(late, AccessTokenError::Expired));
}

#[test]
fn clocks_may_differ_by_a_minute_and_no_more() {
    let world = World::new();
    for name in ["nbf", "iat"] {
        for (ahead, accepted) in [(0, true), (LEEWAY_SECS, true), (LEEWAY_SECS + 1, false)] {
            let claims = with(claims(), "exp", json!(NOW_SECS + 3600));
            let claims = with(claims, name, json!(NOW_SECS + ahead));
            let verdict = world
                .verifier
                .verify(&world.signed(&world.header(), &claims), NOW);
            assert_eq!(verdict.is_ok(), accepted, "{name} {ahead}");
        }
    }
}

#[test]
fn the_algorithm_is_ours_and_not_the_headers() {
    let world = World::new();
    for alg in [
        "none", "None", "HS256", "HS512", "RS256", "PS256", "ES384", "EdDSA", "",
    ] {
        let header = with(world.header(), "alg", json!(alg));
        world.refuses(&world.signed(&header, &claims()), alg);
        world.refuses(&format!("{}.{}.", part(&header), part(&claims())), alg);
    }
}

#[test]
fn the_public_key_is_no_hmac_secret() {
    let world = World::new();
    let public = world.key.public();
    let x = URL_SAFE_NO_PAD.decode(&public.x).unwrap();
    let y = URL_SAFE_NO_PAD.decode(&public.y).unwrap();
    let point = [&[4], &x[..], &y[..]].concat();
    let jwk = serde_json::to_vec(&public).unwrap();
    for secret in [point, jwk, x, public.kid().as_bytes().to_vec()] {
        for alg in ["HS256", "ES256"] {
            let header = with(world.header(), "alg", json!(alg));
            let body = format!("{}.{}", part(&header), part(&claims()));
            let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret), body.as_bytes());
            world.refuses(&format!("{body}.{}", URL_SAFE_NO_PAD.encode(tag)), alg);
        }
    }
}

#[test]
fn keys_named_in_the_header_are_never_used() {
    let (world, thief) = (World::new(), World::new());
    let key = serde_json::to_value(thief.key.public()).unwrap();
    for (name, value) in [
        ("jwk", key),
        ("jku", json!("https://thief.test/jwks.json")),
        ("x5u", json!("https://thief.test/cert.pem")),
        ("x5c", json!(["MIIB"])),
    ] {
        // Signed by the thief: whichever key the header offers, ours decides.
        for header in [world.header(), thief.header()] {
            let header = with(header, name, value.clone());
            world.refuses(&thief.signed(&header, &claims()), name);
        }
        // Signed by us: the extra header is ignored.
        let header = with(world.header(), name, value);
        let verdict = world
            .verifier
            .verify(&world.signed(&header, &claims()), NOW);
        assert!(verdict.is_ok(), "{name}: {verdict:?}");
    }
}

#[test]
fn headers_must_be_those_of_our_access_tokens() {
    let world = World::new();
    let header = world.header();
    for (header, why) in [
        (
            with(header.clone(), "kid", json!("other")),
            "the kid is unknown",
        ),
        (without(header.clone(), "kid"), "there is no kid"),
        (
            with(header.clone(), "typ", json!("JWT")),
            "it is another type of JWT",
        ),
        (without(header.clone(), "typ"), "it has no type"),
        (
            with(header.clone(), "crit", json!(["b64"])),
            "it has a critical extension",
        ),
        (without(header, "alg"), "it has no algorithm"),
    ] {
        world.refuses(&world.signed(&header, &claims()), why);
    }
}

#[test]
fn claims_must_be_complete_and_ours() {
    let world = World::new();
    for name in ["iss", "aud", "sub", "iat", "exp", "orgs"] {
        let claims = without(claims(), name);
        world.refuses(&world.signed(&world.header(), &claims), name);
    }
    for (name, value) in [
        ("iss", json!("https://thief.test")),
        ("iss", json!(["https://clarion.test"])),
        ("aud", json!("other")),
        ("aud", json!(null)),
        ("sub", json!("ada\nlovelace")),
        ("sub", json!("")),
        ("exp", json!("never")),
        ("exp", json!(NOW_SECS)),
        ("exp", json!(-1)),
        ("iat", json!("now")),
        ("nbf", json!("now")),
        ("orgs", json!({"acme": "root"})),
        ("orgs", json!({"ac/me": "admin"})),
        ("orgs", json!(["acme"])),
    ] {
        let claims = with(claims(), name, value.clone());
        world.refuses(
            &world.signed(&world.header(), &claims),
            &format!("{name} is {value}"),
        );
    }
}

#[test]
fn oversized_and_malformed_texts_are_refused() {
    let world = World::new();
    let good = world.mint();
    let good = good.reveal();
    let padding = json!("p".repeat(ACCESS_TOKEN_LEN_MAX));
    let long = world.signed(&world.header(), &with(claims(), "padding", padding));
    let verdict = world.verifier.verify(&long, NOW);
    assert!(matches!(verdict, Err(AccessTokenError::TooLong)));
    for bad in [
        "",
        ".",
        "..",
        "a.b.c",
        &good[..good.len() - 1],
        &format!("{good}.x"),
        &good[1..],
    ] {
        world.refuses(bad, "it is no token");
    }
}

#[test]
fn a_token_that_nobody_could_use_is_not_minted() {
    let world = World::new();
    let mint = |ttl, orgs| world.issuer.mint(&ada(), &orgs, ttl, NOW);
    for ttl in [
        Duration::ZERO,
        Duration::from_millis(999),
        TTL_MAX + Duration::from_secs(1),
    ] {
        let refused = mint(ttl, orgs()).unwrap_err();
        assert!(matches!(refused, AccessTokenError::Lifetime), "{ttl:?}");
    }
    assert!(mint(TTL_MAX, orgs()).is_ok());
    let many = (0..500).map(|n| (format!("organisation-{n}").parse().unwrap(), Role::Member));
    assert!(matches!(
        mint(CLI_TTL, many.collect()),
        Err(AccessTokenError::TooLong)
    ));
}

#[test]
fn old_keys_stay_good_while_pinned() {
    let (old, new, gone) = (World::new(), World::new(), World::new());
    let keys = [new.key.public(), old.key.public()];
    let verifier = AccessTokenVerifier::new(&issuer(), keys).unwrap();
    assert!(verifier.verify(old.mint().reveal(), NOW).is_ok());
    assert!(verifier.verify(new.mint().reveal(), NOW).is_ok());
    assert!(verifier.verify(gone.mint().reveal(), NOW).is_err());

    let crowd = std::iter::repeat_n(new.key.public(), PINNED_KEYS_MAX).chain([old.key.public()]);
    let verifier = AccessTokenVerifier::new(&issuer(), crowd).unwrap();
    assert_eq!(verifier.jwks().keys.len(), PINNED_KEYS_MAX);
    assert!(verifier.verify(old.mint().reveal(), NOW).is_err());
}

#[test]
fn a_signing_key_survives_its_file() {
    let key = SigningKey::generate().unwrap();
    let pem = key.reveal_pem();
    assert!(pem.lines().all(|line| line.len() <= PEM_LINE_LEN));
    let read = SigningKey::from_pem(&pem).unwrap();
    assert_eq!((read.public(), &*read.pkcs8), (key.public(), &*key.pkcs8));
    let crlf = pem.replace('\n', "\r\n");
    assert_eq!(SigningKey::from_pem(&crlf).unwrap().public(), key.public());
    let cut: String = pem.lines().filter(|line| !line.contains("END")).collect();
    let ec = pem.replace("PRIVATE KEY", "EC PRIVATE KEY");
    for bad in ["", "hello", &cut, &ec, &pem.replace('A', "?")] {
        let refused = SigningKey::from_pem(bad).unwrap_err();
        assert!(matches!(refused, AccessTokenError::SigningKey));
    }
}

#[test]
fn the_kid_is_the_thumbprint_of_rfc_7638() {
    // RFC 7515 A.3's key; its thumbprint was computed apart from this code.
    let x = URL_SAFE_NO_PAD
        .decode("f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU")
        .unwrap();
    let y = URL_SAFE_NO_PAD
        .decode("x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0")
        .unwrap();
    let point: [u8; POINT_LEN] = [&[4], &x[..], &y[..]].concat().try_into().unwrap();
    let kid = PublicKey::from_point(&point).kid;
    assert_eq!(kid, "oKIywvGUpTVTyxMQ3bwIIeQUudfr_CkLMjCE19ECD-U");
}

#[test]
fn the_key_set_holds_public_members_only() {
    let world = World::new();
    let jwks = serde_json::to_value(world.verifier.jwks()).unwrap();
    let names: Vec<&String> = jwks["keys"][0].as_object().unwrap().keys().collect();
    assert_eq!(names, ["alg", "crv", "kid", "kty", "use", "x", "y"]);
}

#[test]
fn debug_shows_no_secret() {
    let world = World::new();
    let access_token = world.mint();
    assert_eq!(format!("{access_token:?}"), "AccessToken(..)");
    let shown = format!("{:?} {:?} {:?}", world.key, world.issuer, world.verifier);
    let pem = world.key.reveal_pem();
    assert!(shown.contains(world.key.public().kid()));
    assert!(!shown.contains(pem.lines().nth(1).unwrap()) && !shown.contains("pkcs8"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_changed_character_is_noticed(at in any::<prop::sample::Index>(), other in 0_usize..64) {
        const ALPHABET: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let world = World::new();
        let access_token = world.mint();
        let mut bytes = access_token.reveal().as_bytes().to_vec();
        let at = at.index(bytes.len());
        prop_assume!(bytes[at] != ALPHABET[other]);
        bytes[at] = ALPHABET[other];
        let changed = String::from_utf8(bytes).unwrap();
        prop_assert!(world.verifier.verify(&changed, NOW).is_err());
    }
}

/// The middle part of a token, as clients read it without verifying anything.
fn body(token: &AccessToken) -> Value {
    let part = token.reveal().split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

#[test]
fn an_exchanged_token_has_the_documented_claims_and_names_its_holder() {
    let world = World::new();
    let (id, acme): (ServiceId, OrgId) = ("ServiceId-1".parse().unwrap(), "acme".parse().unwrap());
    let service = Holder::Service(&id, &acme);
    let token = world.issuer.exchange(service, Grant::ApiKey, NOW).unwrap();
    let claims = body(&token);
    assert_eq!(claims["iam_id"], "iam-ServiceId-1");
    assert_eq!(
        (&claims["sub"], &claims["sub_type"]),
        (&json!("ServiceId-1"), &json!("ServiceId"))
    );
    assert_eq!(claims["account"]["bss"], "acme");
    assert_eq!(claims["exp"], claims["iat"].as_i64().unwrap() + 3_600);
    assert_eq!(claims["amr"], json!(["pwd"]));
    for claim in [
        "id",
        "realmid",
        "identifier",
        "iss",
        "grant_type",
        "scope",
        "client_id",
        "acr",
    ] {
        assert!(!claims[claim].is_null(), "{claim}");
    }
    let verified = world.verifier.verify(token.reveal(), NOW).unwrap();
    assert_eq!(verified, Verified::Service(id));
    let late = world.verifier.verify(token.reveal(), NOW + 3_600_000);
    assert!(matches!(late, Err(AccessTokenError::Expired)));

    let (ada, orgs) = (ada(), orgs());
    let person = Holder::Person(&ada, &orgs);
    let token = world.issuer.exchange(person, Grant::Refresh, NOW).unwrap();
    assert_eq!(body(&token)["orgs"], json!(orgs));
    assert!(body(&token)["sub_type"].is_null());
    // Its roles are looked up: what the token says of them counts for others.
    let verified = world.verifier.verify(token.reveal(), NOW).unwrap();
    assert_eq!(verified, Verified::Exchanged(ada));
}

#[test]
fn a_subject_that_is_neither_a_person_nor_a_service_is_refused() {
    let world = World::new();
    for (claim, value) in [("sub_type", "Profile"), ("sub_type", "ServiceId")] {
        let mut claims = claims();
        claims[claim] = json!(value);
        // Nothing was exchanged for it, so no service ID stands behind it.
        world.refuses(&world.signed(&world.header(), &claims), value);
    }
}
