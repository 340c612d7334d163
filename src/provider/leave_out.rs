//! Additions to OpenAI's chat format that only some upstreams take, left out for the others.
//!
//! A call that comes in Anthropic's format carries them: marks of what to cache, blocks of thinking, `top_k`. They are
//! hints; strict upstreams answer them with a 400. A caller who writes OpenAI's format says what he means, and his body is
//! not looked through for them.

use super::Provider;
use crate::envelope::{Edits, Envelope};
use crate::error::Result;
use crate::price::Facts;
use crate::wire::json::Kind;
use serde_json::Value;

/// Upstreams that hand `cache_control` on, or act on it.
const CACHES: &[&str] = &["openrouter", "litellm_proxy", "vercel_ai_gateway", "dashscope"];
/// Upstreams that take `thinking_blocks` with their signatures.
const SIGNS: &[&str] = &["litellm_proxy"];
/// Upstreams that take their `reasoning_content` back, or want it.
const REMEMBERS: &[&str] = &[
    "deepseek",
    "moonshot",
    "zai",
    "bigmodel",
    "minimax",
    "dashscope",
    "xiaomi_mimo",
    "litellm_proxy",
    "openai_like",
    "hosted_vllm",
    "sglang",
    "llama_cpp",
    "llamafile",
    "lm_studio",
    "ollama",
];
/// Upstreams that refuse `top_k`.
const NO_TOP_K: &[&str] = &["openai", "mistral", "codestral", "groq", "cerebras", "xai", "github", "github_copilot"];

/// The body without what the provider does not take; `None` where nothing has to go.
///
/// # Errors
/// The changed body is not acceptable, which does not happen to one that was.
pub fn leave_out(chat: &Envelope, provider: &Provider, facts: &Facts, max_nesting: usize) -> Result<Option<Envelope>> {
    let among = |list: &[&str]| list.contains(&provider.name);
    let mut gone: Vec<&str> = Vec::new();
    if !among(CACHES) {
        gone.push("cache_control");
    }
    if !among(SIGNS) {
        gone.push("thinking_blocks");
    }
    if !among(REMEMBERS) {
        gone.push("reasoning_content");
    }
    let mut edits = Edits::default();
    for name in ["messages", "tools"] {
        let Some(member) = chat.get(name).filter(|m| m.value.kind == Kind::Array) else { continue };
        let text = chat.text(&member.value);
        if !gone.iter().any(|name| memchr::memmem::find(text, name.as_bytes()).is_some()) {
            continue;
        }
        if let Ok(mut value) = serde_json::from_slice::<Value>(text)
            && remove(&mut value, &gone)
        {
            edits.replace(member, value.to_string().into_bytes());
        }
    }
    let mut without = |name: &str| {
        if let Some(place) = chat.find(name) {
            edits.remove(place);
        }
    };
    if among(NO_TOP_K) {
        without("top_k");
    }
    // Of a model that does not reason, or of which nothing is known, reasoning is not asked for.
    if facts.supports("reasoning") != Some(true) {
        without("reasoning_effort");
    }
    if edits.is_empty() {
        return Ok(None);
    }
    Envelope::parse(edits.apply(chat), max_nesting).map(Some)
}

/// Removes the members from messages, tools and their parts; says whether there were any. What a tool's schema or
/// a call's arguments hold is the caller's own.
fn remove(list: &mut Value, names: &[&str]) -> bool {
    let mut removed = false;
    for item in list.as_array_mut().into_iter().flatten() {
        let Some(members) = item.as_object_mut() else { continue };
        for name in names {
            removed |= members.shift_remove(*name).is_some();
        }
        for inner in ["content", "tool_calls"] {
            if let Some(parts) = members.get_mut(inner) {
                removed |= remove(parts, names);
            }
        }
        if let Some(function) = members.get_mut("function").and_then(Value::as_object_mut) {
            removed |= function.shift_remove("cache_control").is_some() && names.contains(&"cache_control");
        }
    }
    removed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::compatible::find;
    use bytes::Bytes;

    fn left(provider: &str, body: &'static str) -> String {
        let chat = Envelope::parse(Bytes::from_static(body.as_bytes()), 32).unwrap();
        let changed = leave_out(&chat, find(provider).unwrap(), &Facts::default(), 32).unwrap();
        String::from_utf8(changed.map_or(chat.bytes().to_vec(), |e| e.bytes().to_vec())).unwrap()
    }

    #[test]
    fn hints_stay_where_they_are_taken() {
        let body = r#"{"model":"m","top_k":3,"messages":[{"role":"user","content":[{"type":"text","text":"cache_control","cache_control":{"type":"ephemeral"}}]},{"role":"assistant","content":"x","reasoning_content":"r","thinking_blocks":[]}]}"#;
        assert_eq!(
            left("openai", body),
            r#"{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"cache_control"}]},{"role":"assistant","content":"x"}]}"#
        );
        assert!(left("openrouter", body).contains(r#""cache_control":{"#));
        assert!(left("deepseek", body).contains(r#""reasoning_content":"r""#));
        assert_eq!(left("litellm_proxy", body), body);
        let plain = r#"{"model":"m","messages":[{"role":"user","content":"cache_control"}]}"#;
        assert_eq!(left("openai", plain), plain);
    }
}
