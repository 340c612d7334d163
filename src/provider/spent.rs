//! What a call used, read out of an answer whose format nobody has said: all of those that are known here.

use super::{bedrock, cohere, gemini, ranking};
use crate::usage::Usage;
use crate::wire::json::{self, Kind};
use crate::wire::messages::Counts;
use crate::wire::responses;
use actix_web::http::header::HeaderMap;
use serde_json::{Map, Value};

/// Nested deeper, an answer is not looked into.
const MAX_DEPTH: usize = 256;
/// A member that says what was used is not longer.
const MOST: usize = 64 << 10;

/// What the pieces of an answer have said so far. Later ones go before earlier ones.
#[derive(Debug, Default)]
pub struct Spent {
    /// Anthropic's come in parts.
    counts: Counts,
    pub usage: Option<Usage>,
    /// The upstream's id of the answer.
    pub id: Option<String>,
}

impl Spent {
    /// Bedrock tells in headers what a model of its own format used.
    pub fn told_in(&mut self, headers: &HeaderMap) {
        let count = |name: &str| headers.get(name)?.to_str().ok()?.parse::<u64>().ok();
        if let Some(prompt_tokens) = count("x-amzn-bedrock-input-token-count") {
            let completion_tokens = count("x-amzn-bedrock-output-token-count").unwrap_or(0);
            self.usage = Some(Usage { prompt_tokens, completion_tokens, ..Usage::default() });
        }
    }

    /// Looks at a whole answer, or at an event of one.
    pub fn read(&mut self, piece: &[u8]) {
        self.look(piece, 1);
    }

    /// `inner`: how many members may be gone into, one in the other.
    fn look(&mut self, object: &[u8], inner: u8) {
        let (mut id, mut inside) = (None, None);
        // What is no object says nothing, and what is broken behind its usage has said it.
        let _ = json::object(object, MAX_DEPTH, |m| {
            let text = &object[m.value.span.clone()];
            match (&object[m.key.clone()], m.value.kind) {
                (b"usage", Kind::Object) if text.len() < MOST => self.usage(text),
                (b"usageMetadata", Kind::Object) if text.len() < MOST => {
                    if let Ok(told) = serde_json::from_slice(text) {
                        self.usage = Some(gemini::usage(&told, self.usage));
                    }
                }
                (b"meta", Kind::Object) if text.len() < MOST => self.meta(text),
                (b"prompt_eval_count", Kind::Number) => self.count(text, |usage, count| usage.prompt_tokens = count),
                (b"eval_count", Kind::Number) => self.count(text, |usage, count| usage.completion_tokens = count),
                (b"id" | b"responseId" | b"generation_id", Kind::String) => id = json::short_text(text),
                // Anthropic's first event, OpenAI's last of a response, Cohere's last.
                (b"message" | b"response" | b"delta", Kind::Object) => inside = Some(m.value.span),
                _ => (),
            }
        });
        if let (Some(span), true) = (inside, inner > 0) {
            self.look(&object[span], inner - 1);
        }
        self.id = self.id.take().or(id);
    }

    fn usage(&mut self, text: &[u8]) {
        let Ok(told) = serde_json::from_slice::<Value>(text) else { return };
        let has = |name: &str| told.get(name).is_some_and(|value| !value.is_null());
        let usage = if has("inputTokens") {
            bedrock::usage(&told)
        } else if has("billed_units") || has("tokens") {
            cohere::usage(&told)
        } else if has("prompt_tokens") {
            Usage::read(text)
        } else if has("input_tokens_details") || has("total_tokens") {
            responses::usage(text)
        } else {
            self.counts.read(text).then(|| self.counts.usage()).filter(|usage| !usage.is_nothing())
        };
        self.usage = usage.or(self.usage);
    }

    /// Cohere's, of what is no chat and of its first API.
    fn meta(&mut self, text: &[u8]) {
        let Ok(told) = serde_json::from_slice::<Value>(text) else { return };
        if let Some(usage) = cohere::usage(&told) {
            self.usage = Some(usage);
        } else if told["billed_units"].is_object() {
            let mut usage = ranking::usage(&Map::from_iter([("meta".to_owned(), told.clone())]));
            if told["billed_units"]["search_units"].is_null() {
                usage.queries = 0;
            }
            self.usage = Some(usage);
        }
    }

    fn count(&mut self, text: &[u8], set: impl FnOnce(&mut Usage, u64)) {
        if let Some(count) = std::str::from_utf8(text).ok().and_then(|text| text.parse::<u64>().ok()) {
            set(self.usage.get_or_insert_default(), count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spent(pieces: &[&str]) -> (u64, u64, u64) {
        let mut spent = Spent::default();
        pieces.iter().for_each(|piece| spent.read(piece.as_bytes()));
        spent.usage.map_or((0, 0, 0), |usage| (usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens))
    }

    #[test]
    fn usage_is_found_in_all_known_formats() {
        let openai = r#"{"id":"a","choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3}}"#;
        assert_eq!(spent(&[openai]), (7, 3, 0));
        assert_eq!(spent(&[r#"{"data":[],"usage":{"prompt_tokens":7,"total_tokens":7}}"#]), (7, 0, 0));
        let response = r#"{"type":"response.completed","response":{"id":"r","output":[],"usage":{"input_tokens":9,"input_tokens_details":{"cached_tokens":4},"output_tokens":2,"total_tokens":11}}}"#;
        assert_eq!(spent(&[response]), (9, 2, 4));
        let claude = [
            r#"{"type":"message_start","message":{"id":"m","usage":{"input_tokens":5,"cache_read_input_tokens":2,"output_tokens":1}}}"#,
            r#"{"type":"content_block_delta","delta":{"type":"text_delta","text":"\"usage\""}}"#,
            r#"{"type":"message_delta","delta":{},"usage":{"output_tokens":8}}"#,
        ];
        assert_eq!(spent(&claude), (7, 8, 2));
        let gemini =
            r#"{"candidates":[],"usageMetadata":{"promptTokenCount":6,"candidatesTokenCount":2,"totalTokenCount":8}}"#;
        assert_eq!(spent(&[gemini]), (6, 2, 0));
        assert_eq!(spent(&[r#"{"output":{},"usage":{"inputTokens":4,"outputTokens":5,"totalTokens":9}}"#]), (4, 5, 0));
        let cohere = r#"{"type":"message-end","delta":{"usage":{"billed_units":{"input_tokens":3,"output_tokens":4},"tokens":{"input_tokens":30,"output_tokens":4}}}}"#;
        assert_eq!(spent(&[cohere]), (30, 4, 0));
        assert_eq!(spent(&[r#"{"results":[],"meta":{"billed_units":{"search_units":1}}}"#]), (0, 0, 0));
        assert_eq!(spent(&[r#"{"done":true,"prompt_eval_count":11,"eval_count":12}"#]), (11, 12, 0));
    }

    #[test]
    fn what_is_no_answer_says_nothing() {
        for piece in
            ["", "null", "[1]", "{", r#"{"usage":null}"#, r#"{"usage":{}}"#, r#"{"usage":{"input_tokens":"a"}}"#]
        {
            assert_eq!(spent(&[piece]), (0, 0, 0), "{piece}");
        }
    }
}
