//! Anthropic's usage: reading it, and writing it.

use crate::price::Service;
use crate::usage::Usage;
use crate::wire::MAX_DEPTH;
use crate::wire::json::{self, Kind};
use crate::wire::write::Object;
use serde::Deserialize;

/// Counts as Anthropic gives them. In a stream they come twice, and are cumulative: the later ones replace the earlier.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    input: u64,
    cache_read: u64,
    cache_write: u64,
    cache_write_1h: u64,
    pub output: u64,
    thinking: u64,
    searches: u64,
    service: Service,
}

impl Counts {
    /// Takes over what a `usage` object tells; says whether it was one.
    pub fn read(&mut self, json: &[u8]) -> bool {
        #[derive(Deserialize)]
        struct Written {
            input_tokens: Option<f64>,
            cache_read_input_tokens: Option<f64>,
            cache_creation_input_tokens: Option<f64>,
            cache_creation: Option<Creation>,
            output_tokens: Option<f64>,
            output_tokens_details: Option<Details>,
            server_tool_use: Option<Hosted>,
            service_tier: Option<String>,
            speed: Option<String>,
        }
        #[derive(Deserialize)]
        struct Hosted {
            web_search_requests: Option<f64>,
        }
        #[derive(Deserialize)]
        struct Creation {
            ephemeral_1h_input_tokens: Option<f64>,
        }
        #[derive(Deserialize)]
        struct Details {
            thinking_tokens: Option<f64>,
        }
        let Ok(written) = serde_json::from_slice::<Written>(json) else { return false };
        let take = |count: &mut u64, told: Option<f64>| {
            if let Some(told) = told {
                *count = told.max(0.0) as u64;
            }
        };
        take(&mut self.input, written.input_tokens);
        take(&mut self.cache_read, written.cache_read_input_tokens);
        take(&mut self.cache_write, written.cache_creation_input_tokens);
        take(&mut self.cache_write_1h, written.cache_creation.and_then(|c| c.ephemeral_1h_input_tokens));
        take(&mut self.output, written.output_tokens);
        take(&mut self.thinking, written.output_tokens_details.and_then(|d| d.thinking_tokens));
        take(&mut self.searches, written.server_tool_use.and_then(|h| h.web_search_requests));
        let services = [written.service_tier, written.speed].into_iter().flatten().map(|name| Service::named(&name));
        self.service = services.fold(self.service, |known, told| if told == Service::Standard { known } else { told });
        true
    }

    /// The same in OpenAI's way of counting, whose prompt tokens include those read from and written into a cache.
    pub fn usage(&self) -> Usage {
        Usage {
            prompt_tokens: self.input.saturating_add(self.cache_read).saturating_add(self.cache_write),
            completion_tokens: self.output,
            cached_tokens: self.cache_read,
            cache_write_tokens: self.cache_write,
            cache_write_1h_tokens: self.cache_write_1h.min(self.cache_write),
            reasoning_tokens: self.thinking,
            searches: self.searches,
            service: self.service,
            ..Usage::default()
        }
    }
}

/// What the gateway must know of a whole answer in Anthropic's format: its usage, and whether it is an error, whatever
/// its status said. Bytes that are no JSON object are an error.
pub fn native_usage(body: &[u8]) -> (Option<Usage>, bool) {
    let (mut usage, mut error, mut content) = (None, false, false);
    let read = json::object(body, MAX_DEPTH, |m| match &body[m.key] {
        b"usage" if m.value.kind == Kind::Object => {
            let mut counts = Counts::default();
            usage = counts.read(&body[m.value.span]).then(|| counts.usage());
        }
        b"type" => error |= &body[m.value.span] == b"\"error\"",
        b"error" => error |= m.value.kind != Kind::Null,
        b"content" => content = m.value.kind == Kind::Array,
        _ => (),
    });
    (usage, read.is_err() || (error && !content))
}

/// The id of a whole answer in Anthropic's format.
pub fn native_id(body: &[u8]) -> Option<String> {
    let mut id = None;
    json::object(body, MAX_DEPTH, |m| {
        if &body[m.key] == b"id" {
            id = Some(m.value.span);
        }
    })
    .ok()?;
    json::short_text(&body[id?])
}

/// Writes a usage in Anthropic's way of counting, whose input tokens exclude those read from and written into a cache.
pub fn write(usage: &Usage, out: &mut Vec<u8>) {
    let input = usage.prompt_tokens.saturating_sub(usage.cached_tokens).saturating_sub(usage.cache_write_tokens);
    let mut object = Object::open(out);
    object.json("input_tokens", input.to_string());
    object.json("cache_creation_input_tokens", usage.cache_write_tokens.to_string());
    object.json("cache_read_input_tokens", usage.cached_tokens.to_string());
    if usage.cache_write_1h_tokens > 0 {
        let short = usage.cache_write_tokens.saturating_sub(usage.cache_write_1h_tokens);
        let mut creation = Object::open(object.slot("cache_creation"));
        creation.json("ephemeral_5m_input_tokens", short.to_string());
        creation.json("ephemeral_1h_input_tokens", usage.cache_write_1h_tokens.to_string());
        creation.close();
    }
    object.json("output_tokens", usage.completion_tokens.to_string());
    if usage.reasoning_tokens > 0 {
        let mut details = Object::open(object.slot("output_tokens_details"));
        details.json("thinking_tokens", usage.reasoning_tokens.to_string());
        details.close();
    }
    object.close();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_answer_tells_its_usage_and_whether_it_is_an_error() {
        let body = br#"{"type":"message","content":[],"usage":{"input_tokens":20,"cache_creation_input_tokens":7,
            "cache_read_input_tokens":1500,"cache_creation":{"ephemeral_5m_input_tokens":2,"ephemeral_1h_input_tokens":5},
            "output_tokens":30,"output_tokens_details":{"thinking_tokens":18}}}"#;
        let usage = Usage {
            prompt_tokens: 1527,
            completion_tokens: 30,
            cached_tokens: 1500,
            cache_write_tokens: 7,
            cache_write_1h_tokens: 5,
            reasoning_tokens: 18,
            ..Usage::default()
        };
        assert_eq!(native_usage(body), (Some(usage), false));
        let mut written = Vec::new();
        write(&usage, &mut written);
        let mut counts = Counts::default();
        assert!(counts.read(&written));
        assert_eq!(counts.usage(), usage);
        assert_eq!(native_usage(br#"{"type":"error","error":{"type":"api_error","message":"x"}}"#), (None, true));
        assert_eq!(native_usage(b"<html>"), (None, true));
    }
}
