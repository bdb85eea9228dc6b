//! Sealing of provider credentials at rest, so that a stolen database gives nothing away.
//! Knows nothing of what is sealed, of where the master key is kept or of the rows.
//!
//! ```text
//! format 1 byte │ master key id 8 bytes │ nonce 12 bytes │ AES-256-GCM ciphertext, tag 16 bytes
//! ```
//!
//! Each tenant has a data key of its own, derived from the master key by HKDF-SHA256 with the tenant id
//! in its info. Random 96-bit nonces are safe for 2^32 messages under one key: derivation makes that a
//! bound per tenant, which nobody reaches. Nothing is wrapped and stored, so nothing can be lost; a new
//! master key means opening each row with the old one and sealing it again.
//!
//! The associated data binds a sealed text to its tenant, credential and version: a row copied to
//! another tenant, or an old version put back in place of a new one, does not open.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::{hkdf, rand};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::CryptoUnavailable;
use crate::ids::{CredentialId, TenantId};
use crate::mac::{MAC_KEY_LEN, MacKey};

/// Length of a master key, in bytes.
pub const MASTER_KEY_LEN: usize = 32;
/// Largest secret that is sealed, in bytes: many times a service account or a .p12.
pub const SECRET_LEN_MAX: usize = 64 * 1024;

const FORMAT: u8 = 1;
const KEY_ID_LEN: usize = 8;
const TAG_LEN: usize = 16;
const HEADER_LEN: usize = 1 + KEY_ID_LEN + NONCE_LEN;

const INFO_KEY_ID: &[u8] = b"clarion master key id v1";
const INFO_TENANT: &[u8] = b"clarion tenant data key v1";
const INFO_MAC: &[u8] = b"clarion mac key v1";

/// Which master key sealed something: derived from it, and safe to show.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct MasterKeyId([u8; KEY_ID_LEN]);

impl fmt::Display for MasterKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for MasterKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MasterKeyId({self})")
    }
}

/// Why something could not be sealed or opened. Never holds any of the secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Not 32 bytes in base64.
    #[error(
        "a master key is 32 bytes in base64 (44 characters): make one with `head -c 32 /dev/urandom | base64`"
    )]
    MasterKey,
    /// The secret is too large.
    #[error("the credential has {len} bytes, at most {SECRET_LEN_MAX} are stored: check the file")]
    TooLong {
        /// Its size, in bytes.
        len: usize,
    },
    /// Not something this version sealed.
    #[error("the stored credential is damaged or of a newer format: upload it again")]
    Format,
    /// Sealed under another master key.
    #[error(
        "the stored credential needs the master key {needed}, configured is {configured}: restore that key"
    )]
    OtherMasterKey {
        /// The key that sealed it.
        needed: MasterKeyId,
        /// The key that was asked to open it.
        configured: MasterKeyId,
    },
    /// Changed since it was sealed, or sealed for another tenant, credential or version.
    #[error("the stored credential was changed or belongs to another row: upload it again")]
    Tampered,
    /// The crypto library failed.
    #[error(transparent)]
    Crypto(#[from] CryptoUnavailable),
}

/// The row that a sealed text belongs to. It opens for exactly this row.
#[derive(Debug, Clone, Copy)]
pub struct SealedFor<'a> {
    /// The tenant.
    pub tenant: &'a TenantId,
    /// The credential.
    pub credential: &'a CredentialId,
    /// The credential's version, one more with each upload.
    pub version: u64,
}

/// The one secret from which all of a server's keys for stored data are derived. Wiped when dropped.
pub struct MasterKey {
    bytes: Zeroizing<[u8; MASTER_KEY_LEN]>,
    id: MasterKeyId,
}

impl MasterKey {
    /// Draws a new master key.
    ///
    /// # Errors
    /// [`SealError::Crypto`] when the system has no random bytes.
    pub fn generate() -> Result<Self, SealError> {
        let mut bytes = Zeroizing::new([0; MASTER_KEY_LEN]);
        rand::fill(&mut *bytes).map_err(|_| CryptoUnavailable {
            doing: "drawing random bytes",
        })?;
        Self::from_bytes(&bytes)
    }

    /// The master key made of these bytes; the caller wipes its own copy.
    ///
    /// # Errors
    /// [`SealError::Crypto`] when the key's id cannot be derived.
    pub fn from_bytes(bytes: &[u8; MASTER_KEY_LEN]) -> Result<Self, SealError> {
        let bytes = Zeroizing::new(*bytes);
        let mut id = [0; KEY_ID_LEN];
        derive(&bytes, INFO_KEY_ID, b"", &mut id)?;
        Ok(Self {
            bytes,
            id: MasterKeyId(id),
        })
    }

    /// Reads standard base64 with padding; surrounding white space (a file's last newline) is ignored.
    ///
    /// # Errors
    /// [`SealError::MasterKey`] when it is not 32 bytes.
    pub fn from_base64(text: &str) -> Result<Self, SealError> {
        let mut bytes = Zeroizing::new([0; MASTER_KEY_LEN]);
        match STANDARD.decode_slice(text.trim(), &mut *bytes) {
            Ok(MASTER_KEY_LEN) => Self::from_bytes(&bytes),
            Ok(_) | Err(_) => Err(SealError::MasterKey),
        }
    }

    /// The key in base64, for the file it is kept in and for nothing else.
    #[must_use]
    pub fn reveal_base64(&self) -> Zeroizing<String> {
        Zeroizing::new(STANDARD.encode(*self.bytes))
    }

    /// Which key this is.
    #[must_use]
    pub const fn id(&self) -> MasterKeyId {
        self.id
    }

    /// The MAC key for one purpose, as in "notification id"; other purposes get unrelated keys.
    ///
    /// # Errors
    /// [`SealError::Crypto`] when it cannot be derived.
    pub fn mac_key(&self, purpose: &str) -> Result<MacKey, SealError> {
        let mut bytes = Zeroizing::new([0; MAC_KEY_LEN]);
        derive(&self.bytes, INFO_MAC, purpose.as_bytes(), &mut *bytes)?;
        Ok(MacKey::new(&bytes))
    }

    /// Seals `secret` for one row.
    ///
    /// # Errors
    /// [`SealError::TooLong`], or [`SealError::Crypto`] when the crypto library fails.
    pub fn seal(&self, row: SealedFor<'_>, secret: &[u8]) -> Result<Vec<u8>, SealError> {
        if secret.len() > SECRET_LEN_MAX {
            return Err(SealError::TooLong { len: secret.len() });
        }
        // The final size from the start: growing would leave copies of the secret behind.
        let mut text = Zeroizing::new(Vec::with_capacity(secret.len() + TAG_LEN));
        text.extend_from_slice(secret);
        let nonce = self
            .data_key(row.tenant)?
            .seal_in_place_append_tag(Aad::from(associated_data(self.id, row)), &mut *text)
            .map_err(|_| CryptoUnavailable { doing: "sealing" })?;

        let mut sealed = Vec::with_capacity(HEADER_LEN + text.len());
        sealed.push(FORMAT);
        sealed.extend_from_slice(&self.id.0);
        sealed.extend_from_slice(nonce.as_ref());
        sealed.extend_from_slice(&text);
        Ok(sealed)
    }

    /// Opens what [`MasterKey::seal`] sealed for the same row.
    ///
    /// # Errors
    /// [`SealError::Format`], [`SealError::OtherMasterKey`] or [`SealError::Tampered`].
    pub fn open(&self, row: SealedFor<'_>, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let longest = HEADER_LEN + SECRET_LEN_MAX + TAG_LEN;
        if sealed.len() < HEADER_LEN + TAG_LEN || sealed.len() > longest || sealed[0] != FORMAT {
            return Err(SealError::Format);
        }
        let (key_id, rest) = sealed[1..].split_at(KEY_ID_LEN);
        let (nonce, text) = rest.split_at(NONCE_LEN);
        if key_id != self.id.0 {
            let mut needed = [0; KEY_ID_LEN];
            needed.copy_from_slice(key_id);
            let needed = MasterKeyId(needed);
            return Err(SealError::OtherMasterKey {
                needed,
                configured: self.id,
            });
        }
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealError::Format)?;
        let mut text = Zeroizing::new(text.to_vec());
        let len = self
            .data_key(row.tenant)?
            .open_in_place(nonce, Aad::from(associated_data(self.id, row)), &mut text)
            .map_err(|_| SealError::Tampered)?
            .len();
        text.truncate(len);
        Ok(text)
    }

    fn data_key(&self, tenant: &TenantId) -> Result<RandomizedNonceKey, SealError> {
        let mut bytes = Zeroizing::new([0; MASTER_KEY_LEN]);
        derive(
            &self.bytes,
            INFO_TENANT,
            tenant.as_str().as_bytes(),
            &mut *bytes,
        )?;
        RandomizedNonceKey::new(&AES_256_GCM, &*bytes).map_err(|_| {
            CryptoUnavailable {
                doing: "setting up AES-256-GCM",
            }
            .into()
        })
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MasterKey")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// The output length of HKDF, which the library wants as a type.
struct Length(usize);

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// HKDF-SHA256. `label` is a constant none of which begins another, `context` comes last: no two pairs
/// give the same info.
fn derive(
    key: &[u8; MASTER_KEY_LEN],
    label: &[u8],
    context: &[u8],
    out: &mut [u8],
) -> Result<(), CryptoUnavailable> {
    let failed = |_| CryptoUnavailable {
        doing: "deriving a key",
    };
    hkdf::Salt::none(hkdf::HKDF_SHA256)
        .extract(key)
        .expand(&[label, context], Length(out.len()))
        .map_err(failed)?
        .fill(out)
        .map_err(failed)
}

/// Format, key id, tenant, credential and version, each after its length.
fn associated_data(key_id: MasterKeyId, row: SealedFor<'_>) -> Vec<u8> {
    let version = row.version.to_be_bytes();
    let parts: [&[u8]; 5] = [
        &[FORMAT],
        &key_id.0,
        row.tenant.as_str().as_bytes(),
        row.credential.as_str().as_bytes(),
        &version,
    ];
    let mut data = Vec::with_capacity(parts.iter().map(|part| 8 + part.len()).sum());
    for part in parts {
        data.extend_from_slice(&(part.len() as u64).to_be_bytes());
        data.extend_from_slice(part);
    }
    data
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECRET: &[u8] = b"-----BEGIN PRIVATE KEY-----";

    fn master(byte: u8) -> MasterKey {
        MasterKey::from_bytes(&[byte; MASTER_KEY_LEN]).unwrap()
    }

    struct Row(TenantId, CredentialId, u64);

    impl Row {
        fn new(tenant: &str, credential: &str, version: u64) -> Self {
            Self(
                tenant.parse().unwrap(),
                credential.parse().unwrap(),
                version,
            )
        }

        fn get(&self) -> SealedFor<'_> {
            SealedFor {
                tenant: &self.0,
                credential: &self.1,
                version: self.2,
            }
        }
    }

    #[test]
    fn what_is_sealed_opens_for_its_row_and_is_not_readable() {
        let (key, row) = (master(1), Row::new("shop", "apns", 1));
        let sealed = key.seal(row.get(), SECRET).unwrap();
        assert_eq!(&*key.open(row.get(), &sealed).unwrap(), SECRET);
        assert_eq!(sealed.len(), HEADER_LEN + SECRET.len() + TAG_LEN);
        assert!(!sealed.windows(8).any(|window| window == &SECRET[..8]));
    }

    #[test]
    fn each_sealing_draws_its_own_nonce() {
        let (key, row) = (master(1), Row::new("shop", "apns", 1));
        let first = key.seal(row.get(), SECRET).unwrap();
        let second = key.seal(row.get(), SECRET).unwrap();
        assert_ne!(first[..HEADER_LEN], second[..HEADER_LEN]);
        assert_ne!(first[HEADER_LEN..], second[HEADER_LEN..]);
    }

    #[test]
    fn a_swapped_row_does_not_open() {
        let key = master(1);
        let sealed = key.seal(Row::new("shop", "apns", 7).get(), SECRET).unwrap();
        for other in [
            Row::new("bank", "apns", 7),
            Row::new("shop", "fcm", 7),
            Row::new("shop", "apns", 6),
            // The same characters, divided differently.
            Row::new("shopa", "pns", 7),
            Row::new("sho", "papns", 7),
        ] {
            let opened = key.open(other.get(), &sealed);
            assert_eq!(
                opened.unwrap_err(),
                SealError::Tampered,
                "{:?}",
                other.get()
            );
        }
    }

    #[test]
    fn tenants_have_unrelated_data_keys() {
        let key = master(1);
        let row = Row::new("shop", "apns", 1);
        let mut sealed = key.seal(row.get(), SECRET).unwrap();
        let bank = key.data_key(&"bank".parse().unwrap()).unwrap();
        let nonce = Nonce::try_assume_unique_for_key(&sealed[9..HEADER_LEN]).unwrap();
        // Even with the right associated data the key of another tenant does not open it.
        let aad = Aad::from(associated_data(key.id(), row.get()));
        assert!(
            bank.open_in_place(nonce, aad, &mut sealed[HEADER_LEN..])
                .is_err()
        );
    }

    #[test]
    fn another_master_key_is_named_in_the_error() {
        let row = Row::new("shop", "apns", 1);
        let sealed = master(1).seal(row.get(), SECRET).unwrap();
        let (needed, configured) = (master(1).id(), master(2).id());
        let error = master(2).open(row.get(), &sealed).unwrap_err();
        assert_eq!(error, SealError::OtherMasterKey { needed, configured });
        assert!(error.to_string().contains(&needed.to_string()));
    }

    #[test]
    fn sizes_are_bounded_both_ways() {
        let (key, row) = (master(1), Row::new("shop", "apns", 1));
        let longest = vec![7; SECRET_LEN_MAX];
        let sealed = key.seal(row.get(), &longest).unwrap();
        assert_eq!(*key.open(row.get(), &sealed).unwrap(), longest);
        let len = SECRET_LEN_MAX + 1;
        let refused = key.seal(row.get(), &vec![7; len]);
        assert_eq!(refused, Err(SealError::TooLong { len }));
        let empty = key.seal(row.get(), b"").unwrap();
        assert!(key.open(row.get(), &empty).unwrap().is_empty());
    }

    #[test]
    fn base64_round_trips_and_refuses_other_lengths() {
        let key = MasterKey::generate().unwrap();
        let text = key.reveal_base64();
        assert_eq!(text.len(), 44);
        let read = MasterKey::from_base64(&format!("{}\n", *text)).unwrap();
        assert_eq!((read.id(), &*read.bytes), (key.id(), &*key.bytes));
        for bad in [
            "",
            "AAAA",
            "not base64 at all",
            &"A".repeat(48),
            &text[..43],
        ] {
            assert_eq!(
                MasterKey::from_base64(bad).unwrap_err(),
                SealError::MasterKey,
                "{bad:?}"
            );
        }
    }

    #[test]
    fn mac_keys_differ_by_purpose_and_by_master_key() {
        let tag = |key: &MasterKey, purpose| key.mac_key(purpose).unwrap().tag32(&[b"x"]);
        assert_eq!(
            tag(&master(1), "notification id"),
            tag(&master(1), "notification id")
        );
        assert_ne!(
            tag(&master(1), "notification id"),
            tag(&master(1), "device token")
        );
        assert_ne!(
            tag(&master(1), "notification id"),
            tag(&master(2), "notification id")
        );
    }

    #[test]
    fn no_derivation_label_begins_another() {
        let labels = [INFO_KEY_ID, INFO_TENANT, INFO_MAC];
        for (at, label) in labels.iter().enumerate() {
            let others = labels.iter().enumerate().filter(|(other, _)| *other != at);
            assert!(
                others
                    .into_iter()
                    .all(|(_, other)| !other.starts_with(label))
            );
        }
    }

    #[test]
    fn debug_shows_only_the_id() {
        let key = master(0xAB);
        let shown = format!("{key:?}");
        assert!(shown.contains(&key.id().to_string()));
        assert!(!shown.contains("171") && !shown.contains(&*key.reveal_base64()));
    }

    proptest! {
        #[test]
        fn every_changed_or_missing_byte_is_noticed(
            secret in prop::collection::vec(any::<u8>(), 0..200),
            at in any::<prop::sample::Index>(),
            flip in 1..=255_u8,
        ) {
            let (key, row) = (master(1), Row::new("shop", "apns", 1));
            let sealed = key.seal(row.get(), &secret).unwrap();
            prop_assert_eq!(&*key.open(row.get(), &sealed).unwrap(), &secret);
            let at = at.index(sealed.len());
            let mut changed = sealed.clone();
            changed[at] ^= flip;
            prop_assert!(key.open(row.get(), &changed).is_err());
            prop_assert!(key.open(row.get(), &sealed[..at]).is_err());
        }

        #[test]
        fn no_bytes_make_opening_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            prop_assert!(master(1).open(Row::new("shop", "apns", 1).get(), &bytes).is_err());
        }
    }
}
