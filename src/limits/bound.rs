//! The most that a call may cost: for budgets that are never to be exceeded.
//!
//! A token has at least one byte, so a prompt has no more tokens than its body has bytes; an answer has no more than its
//! limit, which is set or lowered to what the budget affords. What has no bound (a picture or file that is only named, a
//! tool that the provider runs and charges for, a model of unknown price) is refused by name.

use super::Strict;
use super::demand::{Demand, OUTPUT_LIMITS};
use crate::envelope::{Edits, Envelope};
use crate::error::{Error, Result};
use crate::exchange::{Face, Plain};
use crate::price::Service;
use crate::route::Tariff;
use crate::usage::Usage;
use serde_json::Value;

/// More tokens than any model counts for one picture (OpenAI's vision guide: 2,833 and 5,667 for each of eight tiles).
const PICTURE_TOKENS: u64 = 50_000;
/// What providers add to a prompt for tools and roles, generously (Anthropic's page on tool use: up to 735 a tool).
const FRAME_TOKENS: u64 = 1_000;
/// More than any effort is translated to.
const THINKING_TOKENS: u64 = 32_768;
/// The limit of an answer that has none, where the model's own is not known.
const USUAL_LIMIT: u64 = 4_096;
/// An answer of fewer tokens is of no use; OpenAI's Responses take no smaller limit.
const LEAST_OUTPUT: u64 = 16;
/// Members nested deeper hold nothing that counts.
const MAX_DEPTH: usize = 64;

/// What bounds a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    /// Tokens of the prompt, at most.
    prompt: u64,
    /// Tokens of one answer, at most; the caller's limit or the model's.
    output: u64,
    /// The caller gives a limit.
    is_said: bool,
    /// What the translation for a provider may add to that limit for thinking.
    thinking: u64,
    /// To be spoken.
    characters: u64,
    answers: u64,
    service: Option<Service>,
}

/// What a call reserves, and the limit of its answer where that differs from what the caller says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reserved {
    pub nanos: i64,
    pub output: Option<u64>,
}

impl Bound {
    /// # Errors
    /// A 400: something in the body has no bound.
    pub fn of(face: Face, envelope: &Envelope, demand: &Demand, model_limit: Option<u64>) -> Result<Self> {
        let is_plain = match face {
            Face::Plain(Plain::Images | Plain::ImageEdits | Plain::ImageVariations) => {
                return Err(unbounded("a picture that the model makes", "model"));
            }
            Face::Plain(Plain::Transcription | Plain::Translation) => return Err(unbounded("audio", "file")),
            // Its text has a price by the letter, or no bound.
            Face::Plain(Plain::Speech) => {
                let characters = characters(envelope);
                let bound =
                    Bound { prompt: 0, output: 0, is_said: true, thinking: 0, characters, answers: 1, service: None };
                return Ok(bound);
            }
            Face::Plain(_) | Face::GeminiVectors(_) => true,
            Face::Chat | Face::Hub | Face::Messages | Face::Responses | Face::Completions | Face::Gemini => false,
        };
        let body: Value = serde_json::from_slice(envelope.bytes()).map_err(|_| unbounded("this body", "body"))?;
        let mut found = Found::default();
        found.top(&body)?;
        found.walk(&body, MAX_DEPTH)?;
        let prompt = (demand.prompt_bytes as u64)
            .saturating_add(found.pictures.saturating_mul(PICTURE_TOKENS))
            .saturating_add(found.tools.saturating_mul(FRAME_TOKENS));
        let service = body["service_tier"].as_str().map(|tier| match tier {
            // The provider chooses, and may choose the dearer one.
            "auto" => Service::Priority,
            name => Service::named(name),
        });
        let output = if is_plain { 0 } else { demand.max_output.or(model_limit).unwrap_or(USUAL_LIMIT) };
        let thinking = found.thinking;
        // Text completions answer each of several prompts.
        let prompts = body["prompt"].as_array().filter(|all| all.first().is_some_and(|one| !one.is_number()));
        let answers = demand.answers.saturating_mul(prompts.map_or(1, |all| all.len() as u64));
        Ok(Bound {
            prompt,
            output,
            is_said: is_plain || demand.max_output.is_some(),
            thinking,
            characters: 0,
            answers,
            service,
        })
    }

    /// The most that the call costs with answers of so many tokens each; none where something of it has no price.
    pub fn nanos(&self, tariff: &Tariff, output: u64) -> Option<i64> {
        let output = output.saturating_add(self.thinking).saturating_mul(self.answers);
        let plain = Usage {
            prompt_tokens: self.prompt,
            completion_tokens: output,
            characters_in: self.characters,
            ..Usage::default()
        };
        let all = self.prompt;
        // Whatever the tokens turn out to be, one of these is no cheaper.
        let kinds = [
            plain,
            Usage { cache_write_tokens: all, ..plain },
            Usage { cache_write_tokens: all, cache_write_1h_tokens: all, ..plain },
            Usage { audio_in_tokens: all, ..plain },
            Usage { reasoning_tokens: output, ..plain },
            Usage { audio_out_tokens: output, ..plain },
        ];
        let services = [Some(Service::Standard), self.service];
        let costs = services.into_iter().flatten().flat_map(|service| kinds.map(|usage| Usage { service, ..usage }));
        let costs: Option<Vec<u64>> = costs.map(|usage| tariff.cost(&usage)).collect();
        i64::try_from(costs?.into_iter().max()?).ok()
    }

    /// Of a call whose limit is decided already.
    pub fn of_call(strict: Strict) -> Self {
        Bound { output: strict.output, is_said: true, ..strict.bound }
    }

    /// With this limit of an answer in the place of the one that is said.
    pub fn strict(self, output: Option<u64>) -> Strict {
        Strict { bound: self, output: output.unwrap_or(self.output), is_set: output.is_some() }
    }

    /// What to reserve where so much is free: the whole bound, or with a lower limit what fits; where nothing useful
    /// fits the whole bound, which is then refused.
    pub fn within(&self, tariff: &Tariff, free: i64) -> Option<Reserved> {
        let whole = self.nanos(tariff, self.output)?;
        if whole <= free {
            return Some(Reserved { nanos: whole, output: (!self.is_said).then_some(self.output) });
        }
        let (mut fits, mut too_much) = (0, self.output);
        while fits + 1 < too_much {
            let middle = fits + (too_much - fits) / 2;
            if self.nanos(tariff, middle)? <= free { fits = middle } else { too_much = middle }
        }
        if fits < LEAST_OUTPUT.min(self.output) {
            return Some(Reserved { nanos: whole, output: None });
        }
        Some(Reserved { nanos: self.nanos(tariff, fits)?, output: Some(fits) })
    }
}

/// The body with this limit of an answer, in the member that its format has for it.
///
/// # Errors
/// Never for a body that was read before.
pub fn limited(envelope: &Envelope, face: Face, output: u64, max_nesting: usize) -> Result<Envelope> {
    let mut edits = Edits::default();
    let text = output.to_string();
    let mut is_there = false;
    for name in OUTPUT_LIMITS {
        if let Some(member) = envelope.get(name) {
            edits.replace(member, text.clone().into_bytes());
            is_there = true;
        }
    }
    if !is_there {
        let name = match face {
            // Renamed for the providers that want another name.
            Face::Chat | Face::Hub | Face::Messages | Face::Completions | Face::Gemini => "max_tokens",
            Face::Responses => "max_output_tokens",
            // Nothing that is answered has a length that could be limited.
            Face::Plain(_) | Face::GeminiVectors(_) => return Envelope::parse(envelope.bytes().clone(), max_nesting),
        };
        edits.insert(name, text.into_bytes());
    }
    Envelope::parse(edits.apply(envelope), max_nesting)
}

/// What a body holds that counts more than its bytes.
#[derive(Default)]
struct Found {
    pictures: u64,
    tools: u64,
    thinking: u64,
}

fn unbounded(what: &str, param: &str) -> Error {
    Error::invalid(format!(
        "A budget of this call is strict (budget_mode), and nobody can say beforehand what {what} costs at most. Leave it out, send it inline, or use a key whose budget_mode is compatible."
    ))
    .at_param(param)
}

/// Letters that are to be spoken.
pub fn characters(envelope: &Envelope) -> u64 {
    envelope.string("input").map_or(0, |text| text.chars().count() as u64)
}

/// The price of the model is not known.
pub fn unpriced(model: &str) -> Error {
    Error::invalid(format!(
        "A budget of this call is strict (budget_mode), and the price of the model '{model}' is not known. Use another model, or have its price configured (input_cost_per_token, output_cost_per_token)."
    ))
    .at_param("model")
}

impl Found {
    /// Members of the outermost object.
    fn top(&mut self, body: &Value) -> Result<()> {
        for name in ["web_search_options", "plugins", "previous_response_id", "conversation", "prediction", "container"]
        {
            if !body[name].is_null() {
                return Err(unbounded(&format!("'{name}'"), name));
            }
        }
        let thinks = ["reasoning_effort", "reasoning", "thinking"].iter().any(|name| !body[*name].is_null());
        if thinks {
            self.thinking = body["thinking"]["budget_tokens"].as_u64().unwrap_or(0).max(THINKING_TOKENS);
        }
        if body["prompt"].is_object() {
            return Err(unbounded("a stored prompt", "prompt"));
        }
        let kinds = body["modalities"].as_array().into_iter().flatten().filter_map(Value::as_str);
        if kinds.clone().any(|kind| kind == "image") {
            return Err(unbounded("a picture that the model makes", "modalities"));
        }
        for (place, tool) in body["tools"].as_array().into_iter().flatten().enumerate() {
            self.tools += 1;
            let kind = tool["type"].as_str().unwrap_or("function");
            // Those of the caller's own machine cost what their definitions cost.
            let is_callers = matches!(kind, "function" | "custom")
                || ["bash_", "text_editor_", "computer_", "memory_"].iter().any(|own| kind.starts_with(own));
            if !is_callers {
                return Err(unbounded("a tool that the provider runs", &format!("tools[{place}].type")));
            }
        }
        Ok(())
    }

    fn walk(&mut self, value: &Value, depth: usize) -> Result<()> {
        match value {
            _ if depth == 0 => Err(unbounded("what is nested so deeply", "messages")),
            Value::Array(items) => items.iter().try_for_each(|item| self.walk(item, depth - 1)),
            Value::Object(members) => {
                self.part(value)?;
                members.values().try_for_each(|member| self.walk(member, depth - 1))
            }
            _ => Ok(()),
        }
    }

    /// A part of a message that is no text.
    fn part(&mut self, part: &Value) -> Result<()> {
        let is_inline = |url: &str| url.starts_with("data:");
        match part["type"].as_str() {
            Some("image_url" | "input_image") => {
                let url = part["image_url"]["url"].as_str().or_else(|| part["image_url"].as_str());
                if !url.is_some_and(is_inline) {
                    return Err(unbounded("a picture that is only named", "messages"));
                }
                self.pictures += 1;
            }
            Some("image") => {
                if part["source"]["type"].as_str().is_some_and(|kind| kind != "base64") {
                    return Err(unbounded("a picture that is only named", "messages"));
                }
                self.pictures += 1;
            }
            Some("document") if matches!(part["source"]["type"].as_str(), Some("text" | "content")) => (),
            Some("file" | "input_file" | "document" | "video_url" | "container_upload" | "item_reference") => {
                return Err(unbounded("a file", "messages"));
            }
            _ => (),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::price::Prices;
    use crate::route::Known;
    use bytes::Bytes;
    use proptest::prelude::*;
    use serde_json::json;
    use std::sync::Arc;

    fn tariff(own: Value) -> Tariff {
        let own = own.as_object().cloned().unwrap_or_default();
        Tariff::new(Arc::new(Known::find(Prices::built_in(), "openai", "nobody-knows-it", &own).unwrap()))
    }

    fn priced() -> Tariff {
        tariff(json!({"input_cost_per_token": 1e-6, "output_cost_per_token": 1e-5}))
    }

    fn envelope(body: &Value) -> Envelope {
        Envelope::parse(Bytes::from(body.to_string()), 64).unwrap()
    }

    fn bound(body: &Value) -> Result<Bound> {
        let envelope = envelope(body);
        Bound::of(Face::Chat, &envelope, &Demand::of(&envelope), None)
    }

    #[test]
    fn what_has_no_bound_is_refused_by_name() {
        let message = |part: Value| json!({"messages": [{"role": "user", "content": [part]}]});
        for (body, param) in [
            (message(json!({"type": "image_url", "image_url": {"url": "https://x.example/a.png"}})), "messages"),
            (message(json!({"type": "input_image", "image_url": "http://x.example/a.png"})), "messages"),
            (message(json!({"type": "image", "source": {"type": "url", "url": "https://x.example"}})), "messages"),
            (message(json!({"type": "document", "source": {"type": "base64", "data": "AA=="}})), "messages"),
            (message(json!({"type": "file", "file": {"file_id": "f"}})), "messages"),
            (json!({"tools": [{"type": "function"}, {"type": "web_search_20250305"}]}), "tools[1].type"),
            (json!({"web_search_options": {}}), "web_search_options"),
            (json!({"modalities": ["text", "image"]}), "modalities"),
        ] {
            let error = bound(&body).unwrap_err();
            assert_eq!((error.status().as_u16(), &error.body()["error"]["param"]), (400, &json!(param)), "{body}");
        }
        for body in [
            message(json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}})),
            message(json!({"type": "document", "source": {"type": "text", "data": "a"}})),
            json!({"tools": [{"type": "function"}, {"name": "old"}, {"type": "bash_20250124", "name": "bash"}]}),
            json!({"web_search_options": null, "prompt": "text"}),
        ] {
            assert!(bound(&body).is_ok(), "{body}");
        }
    }

    #[test]
    fn the_limit_of_an_answer_is_set_or_lowered_to_what_is_free() {
        let tariff = priced();
        let plain = bound(&json!({"messages": [], "max_tokens": 100})).unwrap();
        let whole = plain.nanos(&tariff, 100).unwrap();
        assert_eq!(plain.within(&tariff, whole), Some(Reserved { nanos: whole, output: None }));
        // Ten tokens of output cost 100 micro-dollars.
        let less = plain.within(&tariff, whole - 500_000).unwrap();
        assert_eq!(less, Reserved { nanos: whole - 500_000, output: Some(50) });
        assert_eq!(plain.within(&tariff, 0).unwrap().output, None);
        let open = bound(&json!({"messages": []})).unwrap();
        assert_eq!(open.within(&tariff, i64::MAX).unwrap().output, Some(USUAL_LIMIT));
        assert_eq!(plain.within(&super::tests::tariff(json!({})), i64::MAX), None);
    }

    #[test]
    fn the_limit_is_written_where_the_format_has_it() {
        for (body, expected) in [
            (json!({"max_tokens": 9, "n": 1}), json!({"max_tokens": 5, "n": 1})),
            (
                json!({"max_completion_tokens": 9, "max_tokens": 8}),
                json!({"max_completion_tokens": 5, "max_tokens": 5}),
            ),
            (json!({"n": 2}), json!({"n": 2, "max_tokens": 5})),
        ] {
            let limited = limited(&envelope(&body), Face::Chat, 5, 64).unwrap();
            assert_eq!(serde_json::from_slice::<Value>(limited.bytes()).unwrap(), expected);
        }
    }

    proptest! {
        /// Whatever a call really uses within its limits costs no more than its bound.
        #[test]
        fn no_usage_within_the_limits_costs_more_than_the_bound(
            text in ".{0,200}",
            max in 1..5000_u64,
            parts in proptest::array::uniform6(0.0..=1.0_f64),
        ) {
            let tariff = tariff(json!({
                "input_cost_per_token": 1e-6, "output_cost_per_token": 1e-5, "cache_read_input_token_cost": 1e-7,
                "cache_creation_input_token_cost": 1.25e-6, "cache_creation_input_token_cost_above_1hr": 2e-6,
                "output_cost_per_reasoning_token": 2e-5, "input_cost_per_audio_token": 4e-6,
            }));
            let bound = bound(&json!({"messages": [{"role": "user", "content": text}], "max_tokens": max})).unwrap();
            let part = |of: u64, n: usize| (of as f64 * parts[n]) as u64;
            let (prompt, completion) = (part(bound.prompt, 0), part(max, 1));
            let cached = part(prompt, 2);
            let written = part(prompt - cached, 3);
            let usage = Usage {
                prompt_tokens: prompt,
                completion_tokens: completion,
                cached_tokens: cached,
                cache_write_tokens: written,
                cache_write_1h_tokens: part(written, 4),
                reasoning_tokens: part(completion, 5),
                ..Usage::default()
            };
            let cost = i64::try_from(tariff.cost(&usage).unwrap()).unwrap();
            prop_assert!(cost <= bound.nanos(&tariff, max).unwrap());
        }
    }
}
