//! Who calls: the key of a request, compared in constant time.

use crate::error::{Error, Kind, Result};
use actix_web::http::header::{HeaderMap, HeaderName};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// A caller that may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// Shows the master key.
    Master,
    /// No key is asked for.
    Anonymous,
}

impl Caller {
    /// For logs.
    pub fn name(self) -> &'static str {
        match self {
            Caller::Master => "master",
            Caller::Anonymous => "anonymous",
        }
    }
}

/// Decides who a caller is.
pub struct Auth {
    /// SHA-256 of the master key; none means that no key is asked for.
    master: Option<[u8; 32]>,
    key_header: Option<HeaderName>,
}

impl Auth {
    pub fn new(master_key: Option<&SecretString>, key_header: Option<&str>) -> Self {
        Auth {
            master: master_key.map(|key| digest(key.expose_secret().as_bytes())),
            key_header: key_header.and_then(|name| HeaderName::from_bytes(name.as_bytes()).ok()),
        }
    }

    /// # Errors
    /// 401 without a key, or with one that is not known.
    pub fn caller(&self, headers: &HeaderMap) -> Result<Caller> {
        let Some(master) = &self.master else { return Ok(Caller::Anonymous) };
        let key = self.key(headers).ok_or_else(|| {
            Error::new(
                Kind::Unauthorized,
                "Authentication Error: no API key was passed in. Send it as `Authorization: Bearer KEY`.",
            )
        })?;
        // Equal length and unequal content take the same time, and so do keys of any other length.
        if bool::from(digest(key).ct_eq(master)) {
            return Ok(Caller::Master);
        }
        let message = format!("Authentication Error: the API key {} is not known to this gateway.", hint(key));
        Err(Error::new(Kind::Unauthorized, message).with_type("token_not_found_in_db"))
    }

    /// The first header that holds a key: the configured one, LiteLLM's, then those of OpenAI's, Azure's and
    /// Anthropic's clients.
    fn key<'a>(&self, headers: &'a HeaderMap) -> Option<&'a [u8]> {
        let configured = self.key_header.as_ref().and_then(|name| headers.get(name)).into_iter();
        let usual = ["x-litellm-api-key", "authorization", "api-key", "x-api-key"];
        configured
            .chain(usual.into_iter().filter_map(|name| headers.get(name)))
            .find_map(|value| bare(value.as_bytes()))
    }
}

/// The key in a header's value, with or without `Bearer` before it; none where there is nothing else.
fn bare(value: &[u8]) -> Option<&[u8]> {
    let value = value.trim_ascii();
    let key = match value.split_at_checked(6) {
        Some((word, rest)) if word.eq_ignore_ascii_case(b"bearer") && rest.first().is_none_or(|b| *b == b' ') => {
            rest.trim_ascii()
        }
        _ => value,
    };
    (!key.is_empty()).then_some(key)
}

fn digest(key: &[u8]) -> [u8; 32] {
    Sha256::digest(key).into()
}

/// Enough of a key to find it again, and no more.
fn hint(key: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(key).chars().filter(|c| c.is_ascii_graphic()).collect();
    match text.len() {
        16.. => format!("sk-...{}", &text[text.len() - 4..]),
        _ => "sk-...".to_owned(),
    }
}
