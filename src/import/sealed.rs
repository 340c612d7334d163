//! Values that LiteLLM has encrypted, with its salt key or else its master key.
//!
//! Three forms are known: base64 of a 24-byte nonce and NaCl's secretbox (XSalsa20 and Poly1305, the key is the SHA-256
//! of the salt key), and AES-256-GCM behind `v2:gcm:` (the same key) or `v3:gcm:` (a key by HKDF), base64 of a 12-byte
//! nonce, the text and the tag. Base64 is URL-safe, plain in older ones.

use super::Row;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use poly1305::Poly1305;
use poly1305::universal_hash::KeyInit;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, KeyType, Salt};
use salsa20::XSalsa20;
use salsa20::cipher::{KeyIvInit, StreamCipher};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use subtle::ConstantTimeEq;

const NONCE: usize = 24;
const TAG: usize = 16;
/// What the key of `v3` is derived for.
const PURPOSE: &[u8] = b"litellm-at-rest-v3";

/// Opens sealed values.
pub struct Opener {
    /// The salt key, else the master key; none opens nothing.
    key: Option<SecretString>,
}

/// What a text turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub enum Opened {
    /// It is not sealed, as far as one can see.
    Plain,
    Text(String),
    /// It is sealed in a known form, and this is not its key, or it was damaged.
    Shut,
}

impl Opener {
    pub fn new(key: Option<SecretString>) -> Self {
        Opener { key }
    }

    /// Opens a text, if it is sealed.
    pub fn open(&self, text: &str) -> Opened {
        let secret = self.key.as_ref().map(ExposeSecret::expose_secret);
        for (prefix, derive) in [("v2:gcm:", hashed as fn(&str) -> Option<[u8; 32]>), ("v3:gcm:", derived)] {
            if let Some(sealed) = text.strip_prefix(prefix) {
                let opened = secret.and_then(derive).and_then(|key| gcm(&decode(sealed)?, &key));
                return opened.map_or(Opened::Shut, Opened::Text);
            }
        }
        // The older form has no mark: whatever is base64 and long enough may be a key of a provider in clear.
        let Some(bytes) = decode(text).filter(|bytes| bytes.len() >= NONCE + TAG) else { return Opened::Plain };
        let opened = secret.and_then(hashed).and_then(|key| secretbox(&bytes, &key));
        opened.map_or(Opened::Shut, Opened::Text)
    }
}

fn decode(text: &str) -> Option<Vec<u8>> {
    URL_SAFE.decode(text).or_else(|_| STANDARD.decode(text)).ok()
}

fn hashed(secret: &str) -> Option<[u8; 32]> {
    Some(Sha256::digest(secret.as_bytes()).into())
}

fn derived(secret: &str) -> Option<[u8; 32]> {
    struct Length;
    impl KeyType for Length {
        fn len(&self) -> usize {
            32
        }
    }
    let mut key = [0; 32];
    // RFC 5869, section 2.2: no salt is a hash's length of zeros.
    let extracted = Salt::new(HKDF_SHA256, &[0; 32]).extract(secret.as_bytes());
    extracted.expand(&[PURPOSE], Length).ok()?.fill(&mut key).ok()?;
    Some(key)
}

fn gcm(bytes: &[u8], key: &[u8; 32]) -> Option<String> {
    let (nonce, sealed) = bytes.split_at_checked(12)?;
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).ok()?);
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    let mut text = sealed.to_vec();
    let opened = key.open_in_place(nonce, Aad::empty(), &mut text).ok()?;
    String::from_utf8(opened.to_vec()).ok()
}

/// NaCl's `crypto_secretbox`: the first 32 bytes of the stream are the key of the tag, which stands before the text.
fn secretbox(bytes: &[u8], key: &[u8; 32]) -> Option<String> {
    let (nonce, sealed) = bytes.split_at_checked(NONCE)?;
    let nonce: [u8; NONCE] = nonce.try_into().ok()?;
    let (tag, text) = sealed.split_at_checked(TAG)?;
    let mut stream = XSalsa20::new(&(*key).into(), &nonce.into());
    let mut tag_key = [0; 32];
    stream.apply_keystream(&mut tag_key);
    let expected = Poly1305::new(&tag_key.into()).compute_unpadded(text);
    if !bool::from(expected.as_slice().ct_eq(tag)) {
        return None;
    }
    let mut text = text.to_vec();
    stream.apply_keystream(&mut text);
    String::from_utf8(text).ok()
}

/// What is sealed in the tables that are looked at, and whether it can be opened.
#[derive(Debug, Default)]
pub struct Survey {
    pub(super) opened: usize,
    /// By their place.
    pub(super) shut: Vec<String>,
    /// Places in records that are carried over: they stay sealed there.
    kept: Vec<String>,
}

/// Tables whose records are carried over, and what names them.
const CARRIED: [(&str, &str, &[&str]); 3] = [
    ("LiteLLM_VerificationToken", "key_alias", &["metadata", "config", "router_settings"]),
    ("LiteLLM_UserTable", "user_id", &["metadata"]),
    ("LiteLLM_TeamTable", "team_id", &["metadata", "router_settings"]),
];

/// Looks at what is sealed. Neither a value nor a part of it is kept.
pub(super) fn survey(rows: &BTreeMap<&str, Vec<Row>>, opener: &Opener, survey: &mut Survey) {
    for (table, name, columns) in CARRIED {
        for row in rows.get(table).into_iter().flatten() {
            let called = row.get(name).and_then(Value::as_str).unwrap_or("?");
            for column in columns.iter().filter_map(|column| Some((column, row.get(*column)?))) {
                each_text(column.1, column.0, &mut |place, text| {
                    if text.contains(":gcm:") || matches!(opener.open(text), Opened::Text(_)) {
                        survey.kept.push(format!("{table} '{called}': {place}"));
                    }
                });
            }
        }
    }
}

/// Every text in a tree with its path; a text that is itself JSON is looked into.
fn each_text(value: &Value, place: &str, see: &mut impl FnMut(&str, &str)) {
    match value {
        Value::String(text) if text.starts_with(['{', '[']) => match serde_json::from_str::<Value>(text) {
            Ok(inner) => each_text(&inner, place, see),
            Err(_) => see(place, text),
        },
        Value::String(text) => see(place, text),
        Value::Array(items) => items.iter().for_each(|item| each_text(item, place, see)),
        Value::Object(members) => {
            members.iter().for_each(|(name, value)| each_text(value, &format!("{place}.{name}"), see))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => (),
    }
}

impl Survey {
    pub(super) fn told(&self) -> String {
        let mut text = String::new();
        let all = self.opened + self.shut.len();
        if all > 0 {
            text.push_str(&format!("sealed values: {all}, of which {} can be opened\n", self.opened));
        }
        for place in self.shut.iter().take(super::SHOWN) {
            text.push_str(&format!(
                "           {place} cannot be opened: set LITELLM_SALT_KEY, or the master key that sealed it\n"
            ));
        }
        if self.shut.len() > super::SHOWN {
            text.push_str(&format!("           and {} more\n", self.shut.len() - super::SHOWN));
        }
        for place in self.kept.iter().take(super::SHOWN) {
            text.push_str(&format!("           {place} is carried over sealed, and means nothing here; set it anew\n"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opener(key: &str) -> Opener {
        Opener::new(Some(SecretString::from(key)))
    }

    /// The texts were sealed by PyNaCl and by Python's `cryptography`, which LiteLLM uses.
    #[test]
    fn what_litellm_sealed_is_opened_with_its_key_alone() {
        for (sealed, text) in VECTORS {
            assert_eq!(opener("sk-salt-1234").open(sealed), Opened::Text((*text).to_owned()), "{sealed}");
            assert_eq!(opener("sk-other").open(sealed), Opened::Shut);
            assert_eq!(Opener::new(None).open(sealed), Opened::Shut);
        }
    }

    #[test]
    fn what_is_not_sealed_is_left_alone() {
        for text in ["", "gpt-4o", "sk-proj-abc", "https://example.org/v1", "os.environ/OPENAI_API_KEY", "v2:gcm"] {
            assert_eq!(opener("sk-salt-1234").open(text), Opened::Plain, "{text}");
        }
        for text in ["v2:gcm:", "v3:gcm:AAAA", "v2:gcm:not base64", "v3:gcm:"] {
            assert_eq!(opener("sk-salt-1234").open(text), Opened::Shut, "{text}");
        }
    }

    #[test]
    fn a_bit_that_was_turned_is_noticed() {
        for (sealed, _) in VECTORS {
            let (prefix, body) = sealed.rsplit_once(':').map_or(("", *sealed), |(p, b)| (p, b));
            let mut bytes = decode(body).unwrap();
            let last = bytes.len() - 1;
            for place in [0, 13, last] {
                bytes[place] ^= 1;
                let mark = if prefix.is_empty() { String::new() } else { format!("{prefix}:") };
                let turned = format!("{mark}{}", URL_SAFE.encode(&bytes));
                assert_eq!(opener("sk-salt-1234").open(&turned), Opened::Shut, "{place}");
                bytes[place] ^= 1;
            }
        }
    }

    const VECTORS: &[(&str, &str)] = &[
        ("AAECAwQFBgcICQoLDA0ODxAREhMUFRYX_qdEjxMgrq2TIlKzE7r5x4y3-U4ds14782kJnd5Ptg==", "sk-provider-key"),
        ("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXmeHfcvIOFxmVYMT8W6Gv3g==", ""),
        (
            "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXKHzJfH8dkgVyBSapuaB30p78uFEBu00gt3geyMEG77xkxwmKwZQGoisZiSRi25fCYPMqtK0b8YaYW_WZaBc5S-uvAfH7YaeTjIVHrkavkqypCtH_56Nb2-8FlYYwaKfdWygqQs4lD2q_fBFZgIwviptqTCI=",
            "a longer text, über sixty-four bytes, so that more than one block of the stream is used: 0123456789",
        ),
        ("//77//77//77//77//77//77//77//77sol8W5gAgDi9uza5XGpY4o24nWIvwIesAtlwVg==", "plain base64"),
        ("v2:gcm:AAECAwQFBgcICQoL63wyqmNn1bwjvzY9YU04KyLgyNey4wqZe0g=", "sk-gcm-two"),
        ("v3:gcm:AAECAwQFBgcICQoLcCZXsS2OGMyBUQJIwxVjJXF-H2hl-rkGQeQTfvg=", "sk-gcm-thrée"),
    ];
}
