//! A request that comes in Anthropic's own format, on its way to an upstream of that format: thinking that nobody has
//! signed. It is what the gateway tells of another model's reasoning; clients send it back as it came, and Anthropic
//! refuses it.

use super::messages::{Seen, lost_thinking};
use super::model::Traits;
use super::thinking::Plan;
use memchr::memmem;
use serde_json::{Map, Value};

/// The request without it; `None` where there is none. Where a loop of tools has lost its thinking that way, the rest of
/// the loop goes on without: Anthropic does not think on from calls that it did not think about.
pub fn signed_only(body: &[u8], model: &str) -> Option<Vec<u8>> {
    let mut request: Map<String, Value> = serde_json::from_slice(body).ok()?;
    let messages = request.get_mut("messages")?.as_array_mut()?;
    let mut removed = false;
    messages.retain_mut(|message| {
        let Some(content) = message["content"].as_array_mut().filter(|content| !content.is_empty()) else {
            return true;
        };
        let before = content.len();
        content.retain(|block| !is_unsigned(block));
        removed |= content.len() < before;
        // A turn of nothing is refused.
        !content.is_empty()
    });
    if !removed {
        return None;
    }
    let seen: Vec<Seen> = messages.iter().map(seen).collect();
    let traits = Traits::of(model);
    if lost_thinking(&seen) && !traits.always_thinks && request.get("thinking").is_some_and(|t| t["type"] != "disabled")
    {
        match Plan::off(traits).thinking {
            Some(off) => drop(request.insert("thinking".to_owned(), off)),
            None => drop(request.shift_remove("thinking")),
        }
    }
    serde_json::to_vec(&request).ok()
}

/// Whether there is a `"signature":""`, with or without white space. Most requests that hold signatures hold none of
/// these, and need not be read.
pub fn holds_unsigned(body: &[u8]) -> bool {
    const NAME: &[u8] = b"\"signature\"";
    memmem::find_iter(body, NAME).any(|at| {
        let rest = body[at + NAME.len()..].trim_ascii_start();
        rest.strip_prefix(b":").is_some_and(|rest| rest.trim_ascii_start().starts_with(b"\"\""))
    })
}

fn is_unsigned(block: &Value) -> bool {
    block["type"] == "thinking" && block["signature"] == ""
}

fn seen(message: &Value) -> Seen {
    let blocks = message["content"].as_array().map_or(&[][..], Vec::as_slice);
    let is = |block: &Value, kinds: &[&str]| block["type"].as_str().is_some_and(|kind| kinds.contains(&kind));
    Seen {
        is_models: message["role"] == "assistant",
        thinks: blocks.iter().any(|block| is(block, &["thinking", "redacted_thinking"])),
        answers: blocks.iter().any(|block| is(block, &["tool_result"])),
        only_answers: !blocks.is_empty() && blocks.iter().all(|block| is(block, &["tool_result"])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn after(request: &Value, model: &str) -> Option<Value> {
        signed_only(request.to_string().as_bytes(), model).map(|body| serde_json::from_slice(&body).unwrap())
    }

    fn a_loop(signature: &str) -> Value {
        json!({"thinking": {"type": "enabled", "budget_tokens": 1024}, "messages": [
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm", "signature": signature},
                {"type": "tool_use", "id": "a", "name": "f", "input": {}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a", "content": "1"}]}]})
    }

    #[test]
    fn thinking_that_nobody_signed_goes_and_the_loop_goes_on_without() {
        assert_eq!(after(&a_loop("s"), "claude-sonnet-4-5"), None);
        let old = after(&a_loop(""), "claude-sonnet-4-5").unwrap();
        assert_eq!((old.get("thinking"), old["messages"][1]["content"].as_array().unwrap().len()), (None, 1));
        assert_eq!(after(&a_loop(""), "claude-opus-4-8").unwrap()["thinking"], json!({"type": "disabled"}));
        assert_eq!(after(&a_loop(""), "claude-opus-5-5").unwrap()["thinking"]["type"], "enabled");
    }

    #[test]
    fn a_new_turn_thinks_again_and_an_empty_one_is_left_out() {
        let mut request = a_loop("");
        let unsigned = json!({"type": "thinking", "thinking": "x", "signature": ""});
        let messages = request["messages"].as_array_mut().unwrap();
        messages.push(json!({"role": "assistant", "content": [unsigned, {"type": "text", "text": "done"}]}));
        messages.push(json!({"role": "user", "content": "and now?"}));
        let told = after(&request, "claude-sonnet-4-5").unwrap();
        assert_eq!(told["messages"][3]["content"], json!([{"type": "text", "text": "done"}]));
        assert_eq!(told["thinking"]["type"], "enabled");
        let empty =
            json!({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": [unsigned]}]});
        assert_eq!(after(&empty, "claude").unwrap()["messages"].as_array().unwrap().len(), 1);
        // A text about signatures is no signature.
        let quoted = json!({"messages": [{"role": "user", "content": "\"signature\":\"\""}]});
        assert_eq!((holds_unsigned(quoted.to_string().as_bytes()), after(&quoted, "claude")), (false, None));
        assert!(holds_unsigned(br#"{"signature" : ""}"#) && !holds_unsigned(br#"{"signature" : "s"}"#));
    }
}
