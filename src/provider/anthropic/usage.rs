//! Tokens: from Anthropic's counts, where cached ones stand apart, to OpenAI's, where they are a part.

use crate::price::Service;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

/// The counts known so far. Those of a stream are cumulative: later ones replace earlier ones.
#[derive(Debug, Default, Clone)]
pub(super) struct Usage {
    input: u64,
    written: u64,
    read: u64,
    output: u64,
    written_5m: Option<u64>,
    written_1h: Option<u64>,
    thinking: Option<u64>,
    /// The class of service, where it is not the standard one.
    service: Option<String>,
    /// Hosted tools used.
    hosted: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
struct Written {
    input_tokens: Option<f64>,
    cache_creation_input_tokens: Option<f64>,
    cache_read_input_tokens: Option<f64>,
    output_tokens: Option<f64>,
    cache_creation: Option<Creation>,
    output_tokens_details: Option<Details>,
    server_tool_use: Option<Map<String, Value>>,
    service_tier: Option<String>,
    speed: Option<String>,
}

#[derive(Deserialize)]
struct Creation {
    ephemeral_5m_input_tokens: Option<f64>,
    ephemeral_1h_input_tokens: Option<f64>,
}

#[derive(Deserialize)]
struct Details {
    thinking_tokens: Option<f64>,
}

impl Usage {
    /// Takes what a `usage` object says; one that makes no sense says nothing.
    pub(super) fn update(&mut self, usage: &RawValue) {
        let Ok(written) = serde_json::from_str::<Written>(usage.get()) else { return };
        // A later zero is a server that only counts in one place: a cumulative number does not shrink.
        let replace = |known: &mut u64, number: Option<f64>| {
            if let Some(number) = count(number).filter(|number| *number > 0) {
                *known = number;
            }
        };
        replace(&mut self.input, written.input_tokens);
        replace(&mut self.written, written.cache_creation_input_tokens);
        replace(&mut self.read, written.cache_read_input_tokens);
        replace(&mut self.output, written.output_tokens);
        if let Some(creation) = written.cache_creation {
            self.written_5m = count(creation.ephemeral_5m_input_tokens).or(self.written_5m);
            self.written_1h = count(creation.ephemeral_1h_input_tokens).or(self.written_1h);
        }
        self.thinking =
            written.output_tokens_details.and_then(|details| count(details.thinking_tokens)).or(self.thinking);
        self.hosted = written.server_tool_use.or(self.hosted.take());
        let special = |name: &String| Service::named(name) != Service::Standard;
        let told = [written.speed, written.service_tier].into_iter().flatten().find(special);
        self.service = told.or(self.service.take());
    }

    /// For OpenAI's `service_tier`, which stands beside its `usage`; `None` for the standard one. It decides the price.
    pub(super) fn service(&self) -> Option<&str> {
        self.service.as_deref()
    }

    /// The same for the meter, while the stream is under way; `None` as long as nothing is known of the input.
    pub(super) fn so_far(&self) -> Option<crate::usage::Usage> {
        let prompt_tokens = self.input.saturating_add(self.written).saturating_add(self.read);
        (prompt_tokens > 0).then(|| crate::usage::Usage {
            prompt_tokens,
            completion_tokens: self.output,
            cached_tokens: self.read,
            cache_write_tokens: self.written,
            cache_write_1h_tokens: self.written_1h.unwrap_or(0),
            service: self.service().map_or(Service::Standard, Service::named),
            ..crate::usage::Usage::default()
        })
    }

    /// OpenAI's `usage`, with LiteLLM's additions about the cache.
    pub(super) fn openai(&self) -> Value {
        let prompt = self.input.saturating_add(self.written).saturating_add(self.read);
        let mut details = json!({
            "cached_tokens": self.read,
            "cache_creation_tokens": self.written,
            "cache_write_tokens": self.written,
        });
        if self.written_5m.is_some() || self.written_1h.is_some() {
            details["cache_creation_token_details"] = json!({
                "ephemeral_5m_input_tokens": self.written_5m.unwrap_or(0),
                "ephemeral_1h_input_tokens": self.written_1h.unwrap_or(0),
            });
        }
        let mut usage = json!({
            "prompt_tokens": prompt,
            "completion_tokens": self.output,
            "total_tokens": prompt.saturating_add(self.output),
            "prompt_tokens_details": details,
        });
        if let Some(thinking) = self.thinking {
            let text = self.output.saturating_sub(thinking);
            usage["completion_tokens_details"] = json!({"reasoning_tokens": thinking, "text_tokens": text});
        }
        usage["cache_creation_input_tokens"] = self.written.into();
        usage["cache_read_input_tokens"] = self.read.into();
        if let Some(hosted) = &self.hosted {
            usage["server_tool_use"] = hosted.clone().into();
        }
        usage
    }
}

fn count(number: Option<f64>) -> Option<u64> {
    number.map(|number| number.max(0.0) as u64)
}
