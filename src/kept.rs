//! What is kept of a call where the operator wants prompts and answers kept: the request and the answer, cut to size.
//!
//! Nothing of this is touched where it is off. It stays in memory until the call is settled, and then goes the way of its
//! row, into a table of its own.

mod assembly;

use crate::auth::Caller;
use crate::call::Call;
use crate::store::Prompt;
use assembly::Assembly;
use bytes::Bytes;
use serde_json::{Value, json};

/// A larger text is not read to be made smaller: a worker has other calls to serve.
const MOST_READ: usize = 4 << 20;
/// Strings that are cut become as short as this, and, if that does not do, as the next.
const SHORTER: [usize; 3] = [8 << 10, 1 << 10, 128];
/// LiteLLM's name for the wish of a key, a team or a user that nothing is kept.
const OFF: &str = "turn_off_message_logging";

/// The request and the answer of a call under way.
#[derive(Debug)]
pub struct Kept {
    limit: usize,
    request: Bytes,
    answer: Answer,
}

#[derive(Debug)]
enum Answer {
    None,
    Whole(Bytes),
    Streamed(Box<Assembly>),
}

impl Kept {
    /// What is to be kept of this call: nothing where the operator, the caller or whose key it is do not want it.
    pub fn of(call: &Call) -> Option<Kept> {
        let limit = call.live.config.ledger.prompts?;
        let unwanted = call.envelope.flag("no-log") || is_off(&call.caller);
        (!unwanted).then(|| Kept { limit, request: call.envelope.bytes().clone(), answer: Answer::None })
    }

    /// The answer, in one piece.
    pub fn answer(&mut self, body: &Bytes) {
        self.answer = Answer::Whole(body.clone());
    }

    /// The next event of a streamed answer.
    pub fn event(&mut self, event: &[u8]) {
        if !matches!(self.answer, Answer::Streamed(_)) {
            self.answer = Answer::Streamed(Box::new(Assembly::new(self.limit)));
        }
        if let Answer::Streamed(assembly) = &mut self.answer {
            assembly.push(event);
        }
    }

    /// As the store keeps it; the id is the row's.
    pub fn prompt(self) -> Prompt {
        let response = match self.answer {
            Answer::None => None,
            Answer::Whole(body) => Some(fit(&body, self.limit)),
            Answer::Streamed(assembly) => assembly.whole().map(|value| fit(value.to_string().as_bytes(), self.limit)),
        };
        Prompt { id: String::new(), request: Some(fit(&self.request, self.limit)), response }
    }
}

fn is_off(caller: &Caller) -> bool {
    let Some(holder) = caller.holder() else { return false };
    let of_team = holder.team.as_ref().map(|team| &team.metadata);
    let of_user = holder.user.as_ref().map(|user| &user.metadata);
    let mut all = [Some(&holder.key.metadata), of_team, of_user].into_iter().flatten();
    all.any(|metadata| metadata.get(OFF) == Some(&Value::Bool(true)))
}

/// The text where it is small enough and holds no secret; else the same with its long strings cut, or its size alone.
fn fit(text: &[u8], limit: usize) -> String {
    let has_headers =
        [&b"\"headers\""[..], b"\"authorization\""].iter().any(|n| memchr::memmem::find(text, n).is_some());
    if text.len() <= limit && !has_headers {
        return String::from_utf8_lossy(text).into_owned();
    }
    let omitted = || json!({"omitted_bytes": text.len()}).to_string();
    if text.len() > MOST_READ {
        return omitted();
    }
    let Ok(mut value) = serde_json::from_slice::<Value>(text) else { return omitted() };
    if has_headers {
        hide(&mut value);
    }
    let whole = value.to_string();
    if whole.len() <= limit {
        return whole;
    }
    for most in SHORTER {
        shorten(&mut value, most);
        let shorter = value.to_string();
        if shorter.len() <= limit {
            return shorter;
        }
    }
    omitted()
}

/// What a tool's server is to be shown is its caller's secret.
fn hide(request: &mut Value) {
    for tool in request.get_mut("tools").and_then(Value::as_array_mut).into_iter().flatten() {
        for name in ["headers", "authorization"] {
            if let Some(secret) = tool.get_mut(name) {
                *secret = json!("[redacted]");
            }
        }
    }
}

/// Cuts every string that is longer, pictures and documents above all.
fn shorten(value: &mut Value, most: usize) {
    match value {
        Value::String(text) if text.len() > most => {
            let mut end = most;
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            let left = text.len() - end;
            text.truncate(end);
            text.push_str(&format!("... ({left} more bytes)"));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| shorten(item, most)),
        Value::Object(members) => members.values_mut().for_each(|member| shorten(member, most)),
        _ => (),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_small_stays_as_it_came() {
        let text = r#"{"model":"a", "messages":[{"role":"user","content":"ü"}]}"#;
        assert_eq!(fit(text.as_bytes(), 1000), text);
    }

    #[test]
    fn what_is_large_is_cut_where_it_is_long() {
        let text = json!({"model": "a", "messages": [{"content": "ü".repeat(50_000)}]}).to_string();
        let kept = fit(text.as_bytes(), 2000);
        let value: Value = serde_json::from_str(&kept).unwrap();
        assert!(kept.len() <= 2000 && kept.contains("more bytes)"), "{kept}");
        assert_eq!(value["model"], "a");
        let many: Vec<String> = (0..10_000).map(|n| n.to_string()).collect();
        let text = json!({ "input": many }).to_string();
        assert_eq!(fit(text.as_bytes(), 2000), json!({"omitted_bytes": text.len()}).to_string());
        assert_eq!(fit(&vec![b' '; MOST_READ + 1], 2000), json!({"omitted_bytes": MOST_READ + 1}).to_string());
    }

    #[test]
    fn secrets_of_tools_are_not_kept() {
        let text = json!({"tools": [{"type": "mcp", "headers": {"authorization": "Bearer s3cret"}, "authorization": "s3cret"}]});
        let kept = fit(text.to_string().as_bytes(), 2000);
        assert!(!kept.contains("s3cret") && kept.contains("[redacted]"), "{kept}");
    }
}
