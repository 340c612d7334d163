//! APIs other than OpenAI's and Anthropic's: each file checks a request as its provider would. Pure functions.

pub mod azure;
pub mod bedrock;
pub mod cohere;
pub mod databricks;
pub mod deepgram;
pub mod elevenlabs;
pub mod gemini;
pub mod huggingface;
pub mod ollama;
pub mod replicate;

use super::upstream::Seen;
use serde_json::{Map, Value};

/// What is wrong with a request.
pub type Wrong = String;

/// The members of an object, of which all must be known.
pub fn members<'a>(value: &'a Value, place: &str, known: &[&str]) -> Result<&'a Map<String, Value>, Wrong> {
    let members = value.as_object().ok_or_else(|| format!("{place}: expected an object, got {value}"))?;
    match members.keys().find(|name| !known.contains(&name.as_str())) {
        Some(name) => Err(format!("Invalid JSON payload received. Unknown name \"{name}\" at '{place}'")),
        None => Ok(members),
    }
}

/// The items of a list that is not empty.
pub fn items<'a>(value: &'a Value, place: &str) -> Result<&'a [Value], Wrong> {
    match value.as_array() {
        Some(list) if !list.is_empty() => Ok(list),
        _ => Err(format!("{place}: expected a list with items, got {value}")),
    }
}

/// The text of a member that must be one, and not empty.
pub fn text<'a>(value: &'a Value, name: &str, place: &str) -> Result<&'a str, Wrong> {
    value[name]
        .as_str()
        .filter(|text| !text.trim().is_empty())
        .ok_or_else(|| format!("{place}.{name}: expected a text"))
}

/// The only member of a union.
pub fn only<'a>(value: &'a Value, place: &str, known: &[&'static str]) -> Result<(&'static str, &'a Value), Wrong> {
    let found: Vec<&&str> = known.iter().filter(|name| !value[**name].is_null()).collect();
    match found[..] {
        [name] => Ok((name, &value[*name])),
        _ => Err(format!("{place}: exactly one of {known:?} must be set, not {found:?}: {value}")),
    }
}

/// The names and values of the query, which must be escaped as it should be.
pub fn query(seen: &Seen) -> Result<Vec<(String, String)>, Wrong> {
    let query = seen.target.split_once('?').map_or("", |(_, query)| query);
    let plain = |text: &str| {
        let plain = percent_encoding::percent_decode_str(text).decode_utf8().map_err(|e| e.to_string())?;
        Ok::<_, Wrong>(plain.into_owned())
    };
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| pair.split_once('=').map_or(Err(format!("no value: {pair}")), |(n, v)| Ok((plain(n)?, plain(v)?))))
        .collect()
}

pub fn is_base64(text: &str) -> bool {
    text.len().is_multiple_of(4) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/=".contains(&b))
}

/// Headers of a caller's connection, and of other providers, that must never reach an upstream.
pub fn no_strange_headers(seen: &Seen, own: &[&str]) -> Result<(), Wrong> {
    let never =
        ["api-key", "x-api-key", "x-goog-api-key", "authorization", "x-litellm-api-key", "cookie", "anthropic-version"];
    for name in never.iter().filter(|name| !own.contains(name)) {
        if seen.header(name).is_some() {
            return Err(format!("the header {name} is not for this provider"));
        }
    }
    match seen.header("content-type").as_deref() {
        Some("application/json") => Ok(()),
        other => Err(format!("content-type {other:?}")),
    }
}
