//! What this server hands out and gets back: tickets, prepared handles, session tokens and
//! cookies, each in a signed envelope. Nothing in an envelope is believed before its MAC, its
//! purpose, its expiry and, where it has one, its principal were checked.
//!
//! ```text
//! version 1 | key id 1 | purpose 1 | expiry, unix seconds 8 | principal hash 16 | payload | HMAC-SHA256 32
//! ```
//! The MAC also covers the audience, which isn't sent.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use flightpath_types::{Error, ErrorKind, Principal, Result};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use crate::config::SigningKey;

const VERSION: u8 = 1;
const HEADER_BYTES: usize = 1 + 1 + 1 + 8 + 16;
const MAC_BYTES: usize = 32;

/// What an envelope is for; one kind is never accepted as another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Purpose {
    Ticket = 1,
    Prepared = 2,
    Token = 3,
    Cookie = 4,
}

impl Purpose {
    fn noun(self) -> &'static str {
        match self {
            Purpose::Ticket => "ticket",
            Purpose::Prepared => "prepared statement handle",
            Purpose::Token => "session token",
            Purpose::Cookie => "session cookie",
        }
    }
}

/// An envelope whose MAC and expiry hold.
#[derive(Debug)]
pub(crate) struct Opened<'a> {
    pub payload: &'a [u8],
    pub expires: SystemTime,
    principal_hash: [u8; 16],
    purpose: Purpose,
}

impl<'a> Opened<'a> {
    /// The payload, if the envelope was made for this principal.
    pub fn payload_of(&self, principal: &Principal) -> Result<&'a [u8]> {
        if self.principal_hash == principal_hash(principal) {
            return Ok(self.payload);
        }
        Err(Error::new(ErrorKind::PermissionDenied, format!("this {} belongs to another user", self.purpose.noun())))
    }
}

/// Signs and verifies. Replicas with the same keys and audience accept each other's envelopes.
pub(crate) struct Signer {
    keys: Vec<(u8, Hmac<Sha256>)>,
}

impl Signer {
    /// The first key signs, all verify; without any, a random one is made.
    pub fn new(keys: &[SigningKey], audience: &str) -> Self {
        let random;
        let keys = if keys.is_empty() {
            random = [SigningKey { id: 0, secret: rand::random() }];
            &random[..]
        } else {
            keys
        };
        Self { keys: keys.iter().map(|key| (key.id, keyed(&key.secret, audience))).collect() }
    }

    pub fn seal(&self, purpose: Purpose, principal: &Principal, lifetime: Duration, payload: &[u8]) -> Vec<u8> {
        let (key_id, key) = &self.keys[0];
        let expiry = unix_seconds(SystemTime::now()).saturating_add(lifetime.as_secs());
        let mut out = Vec::with_capacity(HEADER_BYTES + payload.len() + MAC_BYTES);
        out.extend_from_slice(&[VERSION, *key_id, purpose as u8]);
        out.extend_from_slice(&expiry.to_be_bytes());
        out.extend_from_slice(&principal_hash(principal));
        out.extend_from_slice(payload);
        let mut mac = key.clone();
        mac.update(&out);
        out.extend_from_slice(&mac.finalize().into_bytes());
        out
    }

    pub fn open<'a>(&self, purpose: Purpose, sealed: &'a [u8]) -> Result<Opened<'a>> {
        let noun = purpose.noun();
        let kind = match purpose {
            Purpose::Token | Purpose::Cookie => ErrorKind::Unauthenticated,
            Purpose::Ticket | Purpose::Prepared => ErrorKind::InvalidArgument,
        };
        let bad = || Error::new(kind, format!("this {noun} wasn't issued by this server, or was changed"));
        if sealed.len() < HEADER_BYTES + MAC_BYTES || sealed[0] != VERSION || sealed[2] != purpose as u8 {
            return Err(bad());
        }
        let (signed, mac) = sealed.split_at(sealed.len() - MAC_BYTES);
        let (_, key) = self.keys.iter().find(|(id, _)| *id == sealed[1]).ok_or_else(bad)?;
        let mut expected = key.clone();
        expected.update(signed);
        expected.verify_slice(mac).map_err(|_| bad())?;

        let expires = UNIX_EPOCH + Duration::from_secs(u64::from_be_bytes(fixed(&signed[3..11])));
        if expires <= SystemTime::now() {
            let kind = if kind == ErrorKind::Unauthenticated { kind } else { ErrorKind::NotFound };
            return Err(Error::new(kind, format!("this {noun} has expired; ask for a new one")));
        }
        Ok(Opened { payload: &signed[HEADER_BYTES..], expires, principal_hash: fixed(&signed[11..27]), purpose })
    }
}

fn keyed(secret: &[u8; 32], audience: &str) -> Hmac<Sha256> {
    // The audience is hashed into the key, so that it needs no place in the envelope.
    let key = Sha256::new().chain_update(secret).chain_update(audience.as_bytes()).finalize();
    // HMAC takes keys of any length: this can't fail.
    Hmac::<Sha256>::new_from_slice(&key).unwrap_or_else(|_| unreachable!("HMAC takes keys of any length"))
}

fn principal_hash(principal: &Principal) -> [u8; 16] {
    fixed(&Sha256::digest(principal.as_str().as_bytes())[..16])
}

/// The first `N` bytes; zeros where there are fewer, which no caller passes.
pub(crate) fn fixed<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    let n = N.min(bytes.len());
    out[..n].copy_from_slice(&bytes[..n]);
    out
}

fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signer(secret: u8, audience: &str) -> Signer {
        Signer::new(&[SigningKey { id: 7, secret: [secret; 32] }], audience)
    }

    #[test]
    fn an_envelope_opens_for_its_purpose_and_principal_only() {
        let ann = Principal::new("ann");
        let sealed = signer(1, "a").seal(Purpose::Ticket, &ann, Duration::from_secs(60), b"payload");
        let same_keys = signer(1, "a");
        assert_eq!(same_keys.open(Purpose::Ticket, &sealed).unwrap().payload_of(&ann).unwrap(), b"payload");
        let stolen = same_keys.open(Purpose::Ticket, &sealed).unwrap();
        assert_eq!(stolen.payload_of(&Principal::new("bob")).unwrap_err().kind(), ErrorKind::PermissionDenied);
        assert!(same_keys.open(Purpose::Prepared, &sealed).is_err());
        assert!(signer(1, "b").open(Purpose::Ticket, &sealed).is_err());
        assert!(signer(2, "a").open(Purpose::Ticket, &sealed).is_err());
    }

    #[test]
    fn any_changed_byte_and_any_cut_is_refused() {
        let signer = signer(1, "");
        let sealed = signer.seal(Purpose::Ticket, &Principal::new("ann"), Duration::from_secs(60), b"x");
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(signer.open(Purpose::Ticket, &changed).is_err(), "byte {at}");
            assert!(signer.open(Purpose::Ticket, &sealed[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn an_expired_envelope_says_so() {
        let signer = signer(1, "");
        let sealed = signer.seal(Purpose::Ticket, &Principal::new("ann"), Duration::ZERO, b"x");
        let error = signer.open(Purpose::Ticket, &sealed).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.message().contains("expired"));
    }
}
