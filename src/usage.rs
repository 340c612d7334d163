//! What a call used: tokens, and what else a provider charges for.

use crate::price::{self, Service, Tokens};
use serde::Deserialize;

/// What a call used, as the upstream counts it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Cached ones included.
    pub prompt_tokens: u64,
    /// Reasoning included.
    pub completion_tokens: u64,
    /// Read from the upstream's cache; a part of `prompt_tokens`.
    pub cached_tokens: u64,
    /// Written into the upstream's cache, for however long; a part of `prompt_tokens`.
    pub cache_write_tokens: u64,
    /// Those of `cache_write_tokens` that are kept for an hour, at a price of their own.
    pub cache_write_1h_tokens: u64,
    pub reasoning_tokens: u64,
    /// Parts of `prompt_tokens` and of `completion_tokens` that may have prices of their own.
    pub audio_in_tokens: u64,
    pub audio_out_tokens: u64,
    pub image_in_tokens: u64,
    pub image_out_tokens: u64,
    /// Web searches that the provider made.
    pub searches: u64,
    /// What is charged by other units than tokens: pictures made, audio heard and spoken in milliseconds, letters to be
    /// spoken, queries of a reranker.
    pub pictures_out: u64,
    pub millis_in: u64,
    pub millis_out: u64,
    pub characters_in: u64,
    pub queries: u64,
    /// The class of service that the call got.
    pub service: Service,
    /// What the provider itself says the call cost, in nano-dollars.
    pub reported_nanos: Option<u64>,
    /// Tokens in and out that the provider charges for, where these are others than it counts: Cohere's.
    pub billed: Option<(u64, u64)>,
}

impl Usage {
    /// Reads an OpenAI `usage` object; numbers may be floats, and members may be missing. Tokens written into a cache are
    /// no part of OpenAI's own shape: LiteLLM and OpenRouter each have names for them, and all of them are known. DeepSeek
    /// and Moonshot have their own names for tokens read from it, and xAI counts reasoning beside the completion.
    pub fn read(json: &[u8]) -> Option<Usage> {
        #[derive(Deserialize)]
        struct Written {
            prompt_tokens: Option<f64>,
            completion_tokens: Option<f64>,
            total_tokens: Option<f64>,
            cached_tokens: Option<f64>,
            prompt_cache_hit_tokens: Option<f64>,
            cache_creation_input_tokens: Option<f64>,
            prompt_tokens_details: Option<Prompt>,
            completion_tokens_details: Option<Completion>,
            server_tool_use: Option<Hosted>,
            num_search_queries: Option<f64>,
            billed_units: Option<Billed>,
        }
        #[derive(Deserialize)]
        struct Billed {
            input_tokens: Option<f64>,
            output_tokens: Option<f64>,
        }
        #[derive(Deserialize, Default)]
        struct Prompt {
            cached_tokens: Option<f64>,
            audio_tokens: Option<f64>,
            image_tokens: Option<f64>,
            cache_creation_tokens: Option<f64>,
            cache_write_tokens: Option<f64>,
            cache_creation_token_details: Option<Creation>,
        }
        #[derive(Deserialize)]
        struct Creation {
            ephemeral_1h_input_tokens: Option<f64>,
        }
        #[derive(Deserialize, Default)]
        struct Completion {
            reasoning_tokens: Option<f64>,
            audio_tokens: Option<f64>,
            image_tokens: Option<f64>,
        }
        #[derive(Deserialize)]
        struct Hosted {
            web_search_requests: Option<f64>,
        }
        let written: Written = serde_json::from_slice(json).ok()?;
        let count = |number: Option<f64>| number.map_or(0, |n| n.max(0.0) as u64);
        if written.prompt_tokens.is_none() && written.completion_tokens.is_none() {
            return None;
        }
        let prompt = written.prompt_tokens_details.unwrap_or_default();
        let completion = written.completion_tokens_details.unwrap_or_default();
        let one_hour = count(prompt.cache_creation_token_details.and_then(|d| d.ephemeral_1h_input_tokens));
        let reads = [prompt.cached_tokens, written.cached_tokens, written.prompt_cache_hit_tokens];
        let (prompt_tokens, said) = (count(written.prompt_tokens), count(written.completion_tokens));
        let reasoning = count(completion.reasoning_tokens);
        let apart = prompt_tokens.saturating_add(said).saturating_add(reasoning);
        let reasons_apart = written.total_tokens.is_some_and(|total| count(Some(total)) == apart);
        let writes = [prompt.cache_creation_tokens, prompt.cache_write_tokens, written.cache_creation_input_tokens];
        Some(Usage {
            prompt_tokens,
            completion_tokens: if reasons_apart { said.saturating_add(reasoning) } else { said },
            cached_tokens: reads.into_iter().map(count).fold(0, u64::max),
            // Where several names are given they say the same; one of them may be a zero that says nothing.
            cache_write_tokens: writes.into_iter().map(count).fold(one_hour, u64::max),
            cache_write_1h_tokens: one_hour,
            reasoning_tokens: reasoning,
            audio_in_tokens: count(prompt.audio_tokens),
            audio_out_tokens: count(completion.audio_tokens),
            image_in_tokens: count(prompt.image_tokens),
            image_out_tokens: count(completion.image_tokens),
            searches: count(written.server_tool_use.and_then(|h| h.web_search_requests).or(written.num_search_queries)),
            billed: written
                .billed_units
                .and_then(|b| Some((count(Some(b.input_tokens?)), count(Some(b.output_tokens?))))),
            reported_nanos: memchr::memmem::find(json, b"cost").and_then(|_| price::provider_reported(json)),
            ..Usage::default()
        })
    }

    /// Whether nothing was used.
    pub fn is_nothing(&self) -> bool {
        let counts = [self.prompt_tokens, self.completion_tokens, self.pictures_out, self.millis_in, self.millis_out];
        counts.iter().all(|count| *count == 0) && self.characters_in == 0 && self.queries == 0
    }

    /// The same as what prices are applied to.
    pub fn tokens(&self) -> Tokens {
        let (prompt, completion) = self.billed.unwrap_or((self.prompt_tokens, self.completion_tokens));
        Tokens {
            prompt,
            completion,
            cached: self.cached_tokens.min(prompt),
            cache_write: self.cache_write_tokens,
            cache_write_1h: self.cache_write_1h_tokens,
            reasoning: self.reasoning_tokens,
            audio_in: self.audio_in_tokens,
            audio_out: self.audio_out_tokens,
            image_in: self.image_in_tokens,
            image_out: self.image_out_tokens,
            searches: self.searches,
            pictures_out: self.pictures_out,
            millis_in: self.millis_in,
            millis_out: self.millis_out,
            characters_in: self.characters_in,
            queries: self.queries,
            ..Tokens::default()
        }
    }
}

/// The class of service that the JSON text of an answer's `service_tier` names.
pub fn service(json: &[u8]) -> Service {
    let name = json.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
    name.and_then(|name| std::str::from_utf8(name).ok()).map_or(Service::Standard, Service::named)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_written_into_a_cache_are_known_by_all_their_names() {
        for (told, written, one_hour) in [
            (r#"{"prompt_tokens":9,"cache_creation_input_tokens":5}"#, 5, 0),
            (r#"{"prompt_tokens":9,"prompt_tokens_details":{"cache_write_tokens":4}}"#, 4, 0),
            (
                r#"{"prompt_tokens":9,"cache_creation_input_tokens":0,"prompt_tokens_details":{"cached_tokens":1,
                    "cache_creation_tokens":6,"cache_creation_token_details":{"ephemeral_1h_input_tokens":2}}}"#,
                6,
                2,
            ),
            (r#"{"prompt_tokens":9,"prompt_tokens_details":null}"#, 0, 0),
        ] {
            let usage = Usage::read(told.as_bytes()).unwrap();
            let found = (usage.prompt_tokens, usage.cache_write_tokens, usage.cache_write_1h_tokens);
            assert_eq!(found, (9, written, one_hour), "{told}");
        }
    }

    #[test]
    fn vendors_counts_of_cached_and_of_reasoning_tokens_are_known() {
        for (told, completion, cached, reasoning) in [
            (
                r#"{"prompt_tokens":9,"completion_tokens":4,"prompt_cache_hit_tokens":6,"prompt_cache_miss_tokens":3}"#,
                4,
                6,
                0,
            ),
            (r#"{"prompt_tokens":9,"completion_tokens":4,"total_tokens":13,"cached_tokens":5}"#, 4, 5, 0),
            // xAI
            (
                r#"{"prompt_tokens":9,"completion_tokens":4,"total_tokens":33,"completion_tokens_details":{"reasoning_tokens":20}}"#,
                24,
                0,
                20,
            ),
            // OpenAI
            (
                r#"{"prompt_tokens":9,"completion_tokens":24,"total_tokens":33,"completion_tokens_details":{"reasoning_tokens":20}}"#,
                24,
                0,
                20,
            ),
        ] {
            let usage = Usage::read(told.as_bytes()).unwrap();
            let found = (usage.completion_tokens, usage.cached_tokens, usage.reasoning_tokens);
            assert_eq!(found, (completion, cached, reasoning), "{told}");
        }
    }
}
