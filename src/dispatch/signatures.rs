//! What a vendor has signed is good for itself alone: thoughts with their signatures, and reasoning that is encrypted.
//! Where a call moves to another vendor they are left out of what was said before.

use crate::envelope::Envelope;
use crate::route::Deployment;
use memchr::memmem;
use serde_json::{Map, Value};

/// Words that stand in every request that holds something signed.
const WORDS: [&[u8]; 5] =
    [b"\"signature\"", b"redacted_thinking", b"reasoning_details", b"thought_signature", b"encrypted_content"];

/// Who signs what this deployment says.
pub fn vendor(deployment: &Deployment) -> &'static str {
    // Both are served by several providers, which take each other's signatures.
    ["claude", "gemini"]
        .into_iter()
        .find(|family| deployment.model.contains(family))
        .unwrap_or(deployment.provider.name)
}

/// The request without them; `None` where it has none. A text that was thought stays, unsigned, in Anthropic's format
/// (`keeps_texts`): what becomes of that is for the upstream's translation to say.
pub fn without(envelope: &Envelope, keeps_texts: bool, max_nesting: usize) -> Option<Envelope> {
    if WORDS.iter().all(|word| memmem::find(envelope.bytes(), word).is_none()) {
        return None;
    }
    let mut changed = Map::new();
    for name in ["messages", "input"] {
        let Some(member) = envelope.get(name) else { continue };
        // It was checked, and its depth bounded, when it arrived.
        let Ok(Value::Array(list)) = serde_json::from_slice(envelope.text(&member.value)) else { continue };
        let said = list.into_iter().filter(|item| !is_signed(item)).map(|message| stripped(message, keeps_texts));
        changed.insert(name.to_owned(), said.collect());
    }
    Envelope::parse(envelope.with(&changed), max_nesting).ok()
}

fn is_signed(item: &Value) -> bool {
    match item["type"].as_str() {
        Some("thinking" | "redacted_thinking") => true,
        Some("reasoning") => item.get("encrypted_content").is_some(),
        _ => false,
    }
}

/// A message without what is signed in it.
fn stripped(mut message: Value, keeps_texts: bool) -> Value {
    let Value::Object(members) = &mut message else { return message };
    members.remove("thinking_blocks");
    members.remove("reasoning_details");
    if let Some(Value::Array(parts)) = members.get_mut("content") {
        for part in parts.iter_mut().filter(|part| keeps_texts && part["type"] == "thinking") {
            part["signature"] = "".into();
        }
        parts.retain(|part| !is_signed(part) || part["signature"] == "");
    }
    for call in members.get_mut("tool_calls").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(Value::Object(fields)) = call.get_mut("provider_specific_fields") {
            fields.remove("thought_signature");
        }
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use serde_json::json;

    fn after(request: &Value) -> Option<Value> {
        let envelope = Envelope::parse(Bytes::from(request.to_string()), 64).unwrap();
        without(&envelope, false, 64).map(|envelope| serde_json::from_slice(envelope.bytes()).unwrap())
    }

    #[test]
    fn what_is_signed_goes_and_what_was_said_stays() {
        let request = json!({"model": "m", "messages": [
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "hm", "signature": "s"}, {"type": "text", "text": "yes"}]},
            {"role": "assistant", "content": "no", "thinking_blocks": [{"type": "thinking", "signature": "s"}],
                "reasoning_content": "hm"}],
            "input": [{"type": "reasoning", "encrypted_content": "x"}, {"type": "message", "role": "user"}]});
        let expected = json!({"model": "m", "messages": [
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": [{"type": "text", "text": "yes"}]},
            {"role": "assistant", "content": "no", "reasoning_content": "hm"}],
            "input": [{"type": "message", "role": "user"}]});
        assert_eq!(after(&request), Some(expected));
        assert_eq!(after(&json!({"messages": [{"role": "user", "content": "hi"}]})), None);
    }

    #[test]
    fn in_anthropics_format_the_texts_stay_unsigned() {
        let request = json!({"messages": [{"role": "assistant", "content": [
            {"type": "thinking", "thinking": "hm", "signature": "s"}, {"type": "redacted_thinking", "data": "x"},
            {"type": "text", "text": "yes"}]}]});
        let envelope = Envelope::parse(Bytes::from(request.to_string()), 64).unwrap();
        let bare = without(&envelope, true, 64).unwrap();
        let told: Value = serde_json::from_slice(bare.bytes()).unwrap();
        let unsigned = json!({"type": "thinking", "thinking": "hm", "signature": ""});
        assert_eq!(told["messages"][0]["content"], json!([unsigned, {"type": "text", "text": "yes"}]));
    }
}
