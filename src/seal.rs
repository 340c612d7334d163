//! Secrets at rest: XChaCha20-Poly1305 under a key of the operator, whose id stands in front.
//!
//! `v1:KEYID:BASE64(nonce, ciphertext)`. What the text is sealed for is bound to it, so that one record's secret cannot
//! be put into another. The key is `GATEWAY_SEAL_KEY`, LiteLLM's `LITELLM_SALT_KEY`, or else the master key.

use crate::secret::Secrets;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use std::fmt;

const VERSION: &str = "v1";
const NONCE: usize = 24;
/// Told apart from other uses of the same secret.
const PURPOSE: &[u8] = b"gateway: secrets of the store";

/// A key that seals and opens.
#[derive(Clone)]
pub struct SealKey {
    id: String,
    cipher: XChaCha20Poly1305,
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealKey({})", self.id)
    }
}

impl SealKey {
    pub fn new(secret: &SecretString) -> Self {
        let mut hash = Sha256::new();
        hash.update(PURPOSE);
        hash.update(secret.expose_secret().as_bytes());
        let key: [u8; 32] = hash.finalize().into();
        // Of the key's hash, so that it tells nothing of the key.
        let id = Sha256::digest(key)[..4].iter().fold(String::new(), |id, byte| id + &format!("{byte:02x}"));
        SealKey { id, cipher: XChaCha20Poly1305::new((&key).into()) }
    }

    fn seal(&self, text: &str, about: &str) -> Result<String, String> {
        let nonce: [u8; NONCE] = rand::random();
        let payload = Payload { msg: text.as_bytes(), aad: about.as_bytes() };
        let sealed = self.cipher.encrypt((&nonce).into(), payload).map_err(|_| "it cannot be sealed".to_owned())?;
        Ok(format!("{VERSION}:{}:{}", self.id, STANDARD.encode([&nonce[..], &sealed].concat())))
    }
}

/// The key that seals, and those that only open what was sealed before.
#[derive(Debug, Clone, Default)]
pub struct Seals {
    keys: Vec<SealKey>,
}

impl Seals {
    /// `GATEWAY_SEAL_KEY`, else `LITELLM_SALT_KEY`, else the master key; `GATEWAY_SEAL_KEY_OLD` opens too, and so do
    /// those that are not the first.
    pub fn find(secrets: &Secrets, master_key: Option<&SecretString>) -> Self {
        let names = ["GATEWAY_SEAL_KEY", "LITELLM_SALT_KEY"];
        let mut found: Vec<SecretString> = names.iter().filter_map(|name| secrets.get(name)).collect();
        found.extend(master_key.cloned());
        found.extend(secrets.get("GATEWAY_SEAL_KEY_OLD"));
        Seals { keys: found.iter().map(SealKey::new).collect() }
    }

    /// # Errors
    /// There is no key to seal with.
    pub fn seal(&self, text: &str, about: &str) -> Result<String, String> {
        let key = self.keys.first().ok_or("set GATEWAY_SEAL_KEY or a master key: secrets are not stored in clear")?;
        key.seal(text, about)
    }

    /// # Errors
    /// It was sealed with a key that is not there, for something else, or is damaged.
    pub fn open(&self, sealed: &str, about: &str) -> Result<String, String> {
        let mut parts = sealed.splitn(3, ':');
        let (Some(VERSION), Some(id), Some(rest)) = (parts.next(), parts.next(), parts.next()) else {
            return Err("it is not sealed as it should be".to_owned());
        };
        let key = self.keys.iter().find(|key| key.id == id);
        let key = key.ok_or_else(|| {
            format!("it was sealed with the key {id}, which is not there; set GATEWAY_SEAL_KEY_OLD to it")
        })?;
        let damaged = || "it is damaged, or was sealed for something else".to_owned();
        let bytes = STANDARD.decode(rest).map_err(|_| damaged())?;
        let (nonce, text) = bytes.split_first_chunk::<NONCE>().ok_or_else(damaged)?;
        let opened = key.cipher.decrypt(nonce.into(), Payload { msg: text, aad: about.as_bytes() });
        String::from_utf8(opened.map_err(|_| damaged())?).map_err(|_| damaged())
    }

    /// Whether it is sealed with the key that seals now.
    pub fn is_fresh(&self, sealed: &str) -> bool {
        self.keys.first().is_some_and(|key| sealed.starts_with(&format!("{VERSION}:{}:", key.id)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seals(keys: &[&str]) -> Seals {
        Seals { keys: keys.iter().map(|key| SealKey::new(&SecretString::from(*key))).collect() }
    }

    #[test]
    fn what_was_sealed_is_opened_with_its_key_and_for_its_purpose_alone() {
        let old = seals(&["one"]);
        let sealed = old.seal("sk-secret", "model/a").unwrap();
        assert!(!sealed.contains("sk-secret"));
        assert_eq!(old.open(&sealed, "model/a").unwrap(), "sk-secret");
        assert!(old.open(&sealed, "model/b").is_err());
        assert!(seals(&["two"]).open(&sealed, "model/a").unwrap_err().contains("GATEWAY_SEAL_KEY_OLD"));
        let both = seals(&["two", "one"]);
        assert_eq!(both.open(&sealed, "model/a").unwrap(), "sk-secret");
        assert!(!both.is_fresh(&sealed) && both.is_fresh(&both.seal("x", "y").unwrap()));
        assert!(seals(&[]).seal("x", "y").is_err());
        assert_ne!(old.seal("x", "y").unwrap(), old.seal("x", "y").unwrap());
    }

    #[test]
    fn damage_is_noticed() {
        let seals = seals(&["one"]);
        let sealed = seals.seal("text", "a").unwrap();
        for end in 0..sealed.len() {
            assert!(seals.open(&sealed[..end], "a").is_err());
        }
        assert!(seals.open("text", "a").is_err());
    }
}
