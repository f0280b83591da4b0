//! The fleet's key and what is made of it: proofs of knowing it, and keys for one stay of one worker.

use flightpath_proto::v1::SignedTicket;
use flightpath_types::{Error, ErrorKind, Result};
use hmac::{Hmac, KeyInit, Mac};
use prost::Message;
use sha2::Sha256;

pub const KEY_BYTES: usize = 32;
pub(crate) const NONCE_BYTES: usize = 32;

const ROUTER: &[u8] = b"flightpath fleet router";
const SESSION: &[u8] = b"flightpath fleet session";
const TICKETS: &[u8] = b"flightpath fleet tickets";

pub(crate) type Nonce = [u8; NONCE_BYTES];

/// The secret that routers and workers of one fleet share. Never printed, never sent.
#[derive(Clone)]
pub struct FleetKey(Hmac<Sha256>);

impl FleetKey {
    /// At least 64 hexadecimal digits, as `openssl rand -hex 32` makes them.
    pub fn parse(text: &str) -> Result<Self> {
        let bytes = hex::decode(text.trim()).ok().filter(|bytes| bytes.len() >= KEY_BYTES);
        let bytes =
            bytes.ok_or_else(|| Error::invalid("the fleet's key is at least 64 hexadecimal digits; `openssl rand -hex 32` makes one"))?;
        Hmac::new_from_slice(&bytes).map(Self).map_err(|_| Error::invalid("the fleet's key can't be used"))
    }

    fn mac(&self, label: &[u8], seen: &Seen<'_>) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        mac.update(label);
        mac.update(&[0]);
        mac.update(seen.worker_nonce);
        mac.update(seen.router_nonce);
        mac.update(seen.name.as_bytes());
        mac
    }

    pub fn router_proof(&self, seen: &Seen<'_>) -> [u8; KEY_BYTES] {
        self.mac(ROUTER, seen).finalize().into_bytes().into()
    }

    pub fn is_router_proof(&self, seen: &Seen<'_>, proof: &[u8]) -> bool {
        // Compares in constant time.
        self.mac(ROUTER, seen).verify_slice(proof).is_ok()
    }

    /// The key of what the worker says during this stay.
    pub fn session(&self, seen: &Seen<'_>) -> Result<SessionKey> {
        let key: [u8; KEY_BYTES] = self.mac(SESSION, seen).finalize().into_bytes().into();
        Hmac::new_from_slice(&key).map(SessionKey).map_err(|_| Error::internal("a session's key can't be used"))
    }

    /// The key of the tickets that the worker takes during this stay.
    pub fn ticket_key(&self, seen: &Seen<'_>) -> [u8; KEY_BYTES] {
        self.mac(TICKETS, seen).finalize().into_bytes().into()
    }
}

impl std::fmt::Debug for FleetKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FleetKey(..)")
    }
}

/// What both ends have seen of each other; new for each join.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    pub worker_nonce: &'a Nonce,
    pub router_nonce: &'a Nonce,
    pub name: &'a str,
}

#[derive(Clone)]
pub struct SessionKey(Hmac<Sha256>);

impl SessionKey {
    fn mac(&self, purpose: &str, body: &[u8]) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        mac.update(purpose.as_bytes());
        mac.update(&[0]);
        mac.update(body);
        mac
    }

    pub fn sign(&self, purpose: &str, message: &impl Message) -> SignedTicket {
        let body = message.encode_to_vec();
        let mac = self.mac(purpose, &body).finalize().into_bytes().to_vec();
        SignedTicket { body, mac }
    }

    /// The message, once its signature holds.
    pub fn open<M: Message + Default>(&self, purpose: &str, signed: &SignedTicket) -> Result<M> {
        let refused = || Error::new(ErrorKind::Unauthenticated, "the signature doesn't hold: router and worker need the same fleet key");
        self.mac(purpose, &signed.body).verify_slice(&signed.mac).map_err(|_| refused())?;
        M::decode(signed.body.as_slice()).map_err(|e| Error::invalid(format!("malformed {purpose}: {e}")))
    }
}

pub(crate) fn nonce(bytes: &[u8]) -> Result<Nonce> {
    bytes.try_into().map_err(|_| Error::invalid(format!("a nonce has {NONCE_BYTES} bytes")))
}

#[cfg(test)]
mod tests {
    use flightpath_proto::v1::Heartbeat;

    use super::*;

    fn seen<'a>(worker_nonce: &'a Nonce, router_nonce: &'a Nonce, name: &'a str) -> Seen<'a> {
        Seen { worker_nonce, router_nonce, name }
    }

    #[test]
    fn keys_and_proofs_differ_by_use_stay_name_and_fleet() {
        let (one, other) = (FleetKey::parse(&"ab".repeat(32)).unwrap(), FleetKey::parse(&"ac".repeat(32)).unwrap());
        let (a, b) = ([1; NONCE_BYTES], [2; NONCE_BYTES]);
        let first = seen(&a, &b, "w");
        let mut keys = vec![one.router_proof(&first), one.ticket_key(&first), other.ticket_key(&first), one.ticket_key(&seen(&a, &b, "v"))];
        keys.extend([one.ticket_key(&seen(&a, &a, "w")), one.ticket_key(&seen(&b, &b, "w")), one.ticket_key(&seen(&b, &a, "w"))]);
        let different: std::collections::BTreeSet<_> = keys.iter().collect();
        assert_eq!(different.len(), keys.len());
        assert!(one.is_router_proof(&first, &one.router_proof(&first)));
        assert!(!one.is_router_proof(&first, &other.router_proof(&first)) && !one.is_router_proof(&first, &[]));
    }

    #[test]
    fn a_message_is_good_for_its_stay_and_purpose_alone() {
        let key = FleetKey::parse(&"ab".repeat(40)).unwrap();
        let (a, b) = ([1; NONCE_BYTES], [2; NONCE_BYTES]);
        let session = key.session(&seen(&a, &b, "w")).unwrap();
        let signed = session.sign("heartbeat", &Heartbeat { sequence: 7, status: None });
        assert_eq!(session.open::<Heartbeat>("heartbeat", &signed).unwrap().sequence, 7);
        assert!(session.open::<Heartbeat>("registration", &signed).is_err());
        let next = key.session(&seen(&b, &b, "w")).unwrap();
        assert_eq!(next.open::<Heartbeat>("heartbeat", &signed).unwrap_err().kind(), ErrorKind::Unauthenticated);
        assert!(session.open::<Heartbeat>("heartbeat", &SignedTicket { body: vec![8, 8], ..signed }).is_err());
    }

    #[test]
    fn a_key_is_long_and_never_shown() {
        assert!(FleetKey::parse("abcd").is_err() && FleetKey::parse(&"x".repeat(64)).is_err());
        let error = FleetKey::parse("secret").unwrap_err().to_string();
        assert!(!error.contains("secret") && error.contains("openssl"), "{error}");
        assert_eq!(format!("{:?}", FleetKey::parse(&"ab".repeat(32)).unwrap()), "FleetKey(..)");
    }
}
