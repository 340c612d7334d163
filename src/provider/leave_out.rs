//! Additions to OpenAI's chat format that only some upstreams take, left out for the others, and wishes beyond what a
//! model can, cut to that.
//!
//! A call that comes in Anthropic's format carries them: marks of what to cache, blocks of thinking, `top_k`, Claude's
//! output limit and efforts. They are hints; strict upstreams answer them with a 400. A caller who writes OpenAI's format
//! says what he means, and his body is not looked through for them.

use super::{Language, Provider};
use crate::envelope::{Edits, Envelope};
use crate::error::{Error, Result};
use crate::pattern;
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

/// Upstreams that take a link in the place of a file, in LiteLLM's form.
const LINKS: &[&str] = &["litellm_proxy", "openai_like"];
/// Upstreams that cut efforts above `high` to what their models know, or hand them on.
const EFFORTS: &[&str] = &["openrouter", "litellm_proxy", "openai_like"];
/// OpenAI's models that know `xhigh`.
const XHIGH: &[&str] = &["gpt-5.1-codex-max*", "gpt-5.2*", "gpt-5.3*", "gpt-5.4*", "gpt-5.5*", "gpt-5.6*", "gpt-6*"];

/// Whether an upstream wants its `reasoning_content` back with the calls that came of it.
pub fn wants_reasoning(provider: &Provider) -> bool {
    REMEMBERS.contains(&provider.name)
}

/// The body without what the provider does not take; `None` where nothing has to go.
///
/// # Errors
/// A 400 about what cannot be left out.
pub fn leave_out(
    chat: &Envelope,
    provider: &Provider,
    model: &str,
    facts: &Facts,
    max_nesting: usize,
) -> Result<Option<Envelope>> {
    // A translation knows for itself what has a twin, and cuts what its models do not know.
    let translated = provider.dialect(model).language != Language::OpenAi;
    let among = |list: &[&str]| translated || list.contains(&provider.name);
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
            if name == "messages" {
                value.as_array_mut().into_iter().flatten().for_each(join_texts);
            }
            edits.replace(member, value.to_string().into_bytes());
        }
    }
    if !among(LINKS) {
        refuse_links(chat, provider)?;
    }
    let mut without = |name: &str| {
        if let Some(place) = chat.find(name) {
            edits.remove(place);
        }
    };
    if !translated && among(NO_TOP_K) {
        without("top_k");
    }
    // Of a model that does not reason, or of which nothing is known, reasoning is not asked for.
    if facts.supports("reasoning") != Some(true) {
        without("reasoning_effort");
    } else if let (false, Some(member)) = (among(EFFORTS), chat.get("reasoning_effort")) {
        let known = |effort: &str| facts.supports(&format!("{effort}_reasoning_effort"));
        let xhigh = known("xhigh").unwrap_or_else(|| {
            matches!(provider.name, "openai" | "github_copilot")
                && XHIGH.iter().any(|p| pattern::capture(p, model).is_some())
        });
        let best = if xhigh { br#""xhigh""#.as_slice() } else { br#""high""# };
        match chat.text(&member.value) {
            br#""max""# if known("max") != Some(true) => edits.replace(member, best),
            br#""xhigh""# if !xhigh => edits.replace(member, best),
            _ => (),
        }
    }
    // Claude's clients ask for what Claude can.
    if let (Some(limit), Some(member)) = (facts.max_output_tokens, chat.get("max_tokens"))
        && chat.number("max_tokens").is_some_and(|wanted| wanted > limit as f64)
    {
        edits.replace(member, limit.to_string().into_bytes());
    }
    if edits.is_empty() {
        return Ok(None);
    }
    Envelope::parse(edits.apply(chat), max_nesting).map(Some)
}

/// A message of texts alone is a text, as it would have been without a mark on one of them: a single one, or the
/// parts of a system prompt.
fn join_texts(message: &mut Value) {
    let system = message["role"] == "system";
    let Some(parts) = message["content"].as_array() else { return };
    let plain = |part: &Value| part["type"] == "text" && part.as_object().is_some_and(|members| members.len() == 2);
    if parts.is_empty() || !parts.iter().all(plain) || (parts.len() > 1 && !system) {
        return;
    }
    let texts: Vec<&str> = parts.iter().filter_map(|part| part["text"].as_str()).collect();
    message["content"] = texts.join("\n\n").into();
}

/// OpenAI's format has no place for a document that is only linked.
fn refuse_links(chat: &Envelope, provider: &Provider) -> Result<()> {
    // As the translation writes it; in a text its quotes would be escaped.
    let linked = br#""file":{"file_id":"http"#;
    let messages = chat.get("messages").map_or(&b""[..], |m| chat.text(&m.value));
    match memchr::memmem::find(messages, linked) {
        None => Ok(()),
        Some(_) => Err(Error::invalid(format!(
            "messages: a document that is given by its URL cannot be sent to '{}'; send its content, as a base64 source.",
            provider.name
        ))
        .at_param("messages")),
    }
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
        let changed = leave_out(&chat, find(provider).unwrap(), "m", &Facts::default(), 32).unwrap();
        String::from_utf8(changed.map_or(chat.bytes().to_vec(), |e| e.bytes().to_vec())).unwrap()
    }

    #[test]
    fn hints_stay_where_they_are_taken() {
        let body = r#"{"model":"m","top_k":3,"messages":[{"role":"user","content":[{"type":"text","text":"cache_control","cache_control":{"type":"ephemeral"}}]},{"role":"assistant","content":"x","reasoning_content":"r","thinking_blocks":[]}]}"#;
        assert_eq!(
            left("openai", body),
            r#"{"model":"m","messages":[{"role":"user","content":"cache_control"},{"role":"assistant","content":"x"}]}"#
        );
        assert!(left("openrouter", body).contains(r#""cache_control":{"#));
        assert!(left("deepseek", body).contains(r#""reasoning_content":"r""#));
        assert_eq!(left("litellm_proxy", body), body);
        let plain = r#"{"model":"m","messages":[{"role":"user","content":"cache_control"}]}"#;
        assert_eq!(left("openai", plain), plain);
    }

    #[test]
    fn texts_that_were_divided_for_a_mark_are_joined_again() {
        let mark = r#","cache_control":{"type":"ephemeral"}"#;
        let body = format!(
            r#"{{"messages":[{{"role":"system","content":[{{"type":"text","text":"a"}},{{"type":"text","text":"b"{mark}}}]}},{{"role":"user","content":[{{"type":"text","text":"c"}},{{"type":"text","text":"d"{mark}}}]}}]}}"#
        );
        assert_eq!(
            left("groq", body.leak()),
            r#"{"messages":[{"role":"system","content":"a\n\nb"},{"role":"user","content":[{"type":"text","text":"c"},{"type":"text","text":"d"}]}]}"#
        );
    }

    #[test]
    fn wishes_beyond_the_model_are_cut_to_what_it_can() {
        let facts = Facts {
            max_output_tokens: Some(16_384),
            supports: [("reasoning".into(), true)].into_iter().collect(),
            ..Facts::default()
        };
        let cut = |provider: &str, model: &str, effort: &str| {
            let body = format!(r#"{{"messages":[],"max_tokens":32000,"reasoning_effort":"{effort}"}}"#);
            let chat = Envelope::parse(Bytes::from(body), 32).unwrap();
            let changed = leave_out(&chat, find(provider).unwrap(), model, &facts, 32).unwrap().unwrap();
            assert_eq!(changed.number("max_tokens"), Some(16_384.0));
            changed.string("reasoning_effort").unwrap().into_owned()
        };
        assert_eq!(cut("openai", "gpt-5", "max"), "high");
        assert_eq!(cut("openai", "gpt-5.2", "max"), "xhigh");
        assert_eq!(cut("openai", "gpt-5.2", "low"), "low");
        assert_eq!(cut("groq", "x", "xhigh"), "high");
        assert_eq!(cut("openrouter", "x", "max"), "max");
    }

    #[test]
    fn a_linked_document_is_refused_where_it_has_no_place() {
        let body =
            r#"{"messages":[{"role":"user","content":[{"type":"file","file":{"file_id":"https://x.test/a.pdf"}}]}]}"#;
        let chat = Envelope::parse(Bytes::from_static(body.as_bytes()), 32).unwrap();
        let refused = leave_out(&chat, find("openai").unwrap(), "m", &Facts::default(), 32).unwrap_err();
        assert!(refused.to_string().contains("by its URL"), "{refused}");
        assert_eq!(left("litellm_proxy", body), body);
    }
}
