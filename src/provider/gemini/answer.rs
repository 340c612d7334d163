//! What comes back: a `GenerateContentResponse`, or a stream of them, each with new parts.

use super::errors;
use crate::provider::hub::{Delta, Fault, Out, SIGNED, Sink};
use crate::usage::Usage;
use serde::Deserialize;
use serde_json::{Value, json};
use std::borrow::Cow;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Response<'a> {
    #[serde(borrow, default)]
    candidates: Vec<Candidate<'a>>,
    #[serde(default)]
    prompt_feedback: Value,
    #[serde(default)]
    usage_metadata: Value,
    #[serde(borrow, default)]
    model_version: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    response_id: Option<Cow<'a, str>>,
    #[serde(default)]
    error: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Candidate<'a> {
    #[serde(default)]
    index: usize,
    #[serde(borrow, default)]
    content: Option<Content<'a>>,
    #[serde(borrow, default)]
    finish_reason: Option<Cow<'a, str>>,
    #[serde(default)]
    grounding_metadata: Value,
    #[serde(default)]
    logprobs_result: Value,
}

#[derive(Deserialize)]
struct Content<'a> {
    #[serde(borrow, default)]
    parts: Vec<Part<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Part<'a> {
    #[serde(borrow, default)]
    text: Option<Cow<'a, str>>,
    #[serde(default)]
    thought: bool,
    #[serde(borrow, default)]
    thought_signature: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    inline_data: Option<Blob<'a>>,
    #[serde(default)]
    function_call: Option<Call>,
    #[serde(default)]
    executable_code: Value,
    #[serde(default)]
    code_execution_result: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Blob<'a> {
    #[serde(borrow, default)]
    mime_type: Cow<'a, str>,
    #[serde(borrow, default)]
    data: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Call {
    #[serde(default)]
    id: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    args: Value,
}

/// Reads the pieces of one answer.
#[derive(Debug, Default)]
pub struct Reader;

impl Reader {
    /// Takes one response; it never is known to be the last.
    ///
    /// # Errors
    /// It is an error, or makes no sense.
    pub fn piece(&mut self, data: &[u8], out: &mut Out<impl Sink>) -> Result<bool, Fault> {
        // Errors of a stream may be wrapped in a list.
        let data = match data.trim_ascii_start().first() {
            Some(b'[') => {
                let read: Value = serde_json::from_slice(data).map_err(|_| Fault::Garbled("it is no JSON"))?;
                let first = read.get(0).filter(|first| first["error"].is_object());
                return Err(first.map_or(Fault::Garbled("it is a list"), |first| errors::fault(&first["error"])));
            }
            _ => data,
        };
        let response: Response<'_> =
            serde_json::from_slice(data).map_err(|_| Fault::Garbled("a part of it is not as it should be"))?;
        if !response.error.is_null() {
            return Err(errors::fault(&response.error));
        }
        let says_anything = !response.candidates.is_empty()
            || response.usage_metadata.is_object()
            || response.prompt_feedback.is_object();
        if !says_anything {
            return Err(Fault::Garbled("it has no 'candidates'"));
        }
        out.begin(response.response_id.as_deref(), response.model_version.as_deref());
        if response.usage_metadata.is_object() {
            out.usage = Some(usage(&response.usage_metadata, out.usage));
            let tier = response.usage_metadata["trafficType"].as_str().unwrap_or_default();
            if tier.ends_with("PRIORITY") {
                out.service = Some("priority".to_owned());
            } else if tier.ends_with("FLEX") {
                out.service = Some("flex".to_owned());
            }
        }
        if response.prompt_feedback["blockReason"].is_string() {
            out.put(0, Delta::Field("prompt_feedback", &response.prompt_feedback))?;
            out.finish(0, "content_filter")?;
        }
        for candidate in response.candidates {
            self.candidate(candidate, out)?;
        }
        Ok(false)
    }

    fn candidate(&mut self, candidate: Candidate<'_>, out: &mut Out<impl Sink>) -> Result<(), Fault> {
        let index = candidate.index;
        for part in candidate.content.into_iter().flat_map(|content| content.parts) {
            self.part(index, part, out)?;
        }
        if candidate.grounding_metadata.is_object() {
            let sources = &candidate.grounding_metadata;
            for annotation in annotations(sources) {
                out.put(index, Delta::Annotation(&annotation))?;
            }
            out.put(index, Delta::Field("grounding_metadata", sources))?;
            let queries = sources["webSearchQueries"].as_array().map_or(0, Vec::len) as u64;
            if let Some(usage) = &mut out.usage {
                usage.searches = usage.searches.max(queries.min(1));
            }
        }
        let items = logprobs(&candidate.logprobs_result);
        if !items.is_empty() {
            out.put(index, Delta::Logprobs(&items.into()))?;
        }
        if let Some(reason) = candidate.finish_reason {
            out.finish(index, finish_reason(&reason))?;
        }
        Ok(())
    }

    fn part(&mut self, index: usize, part: Part<'_>, out: &mut Out<impl Sink>) -> Result<(), Fault> {
        let signature = part.thought_signature.filter(|signature| !signature.is_empty());
        if let Some(call) = part.function_call {
            let fields = signature.as_ref().map(|signature| json!({"thought_signature": signature}));
            let id = match &signature {
                // A client that keeps nothing but the id brings the proof back all the same.
                Some(signature) => {
                    let id = if call.id.is_empty() { out.mint(index)? } else { call.id };
                    format!("{id}{SIGNED}{}", signature.replace('+', "-").replace('/', "_").trim_end_matches('='))
                }
                None => call.id,
            };
            out.call(index, &id, &call.name, fields.as_ref())?;
            if !call.args.is_null() {
                out.arguments(index, &call.args.to_string())?;
            }
            return out.close(index);
        }
        if let Some(text) = &part.text {
            out.put(index, if part.thought { Delta::Reasoning(text) } else { Delta::Text(text) })?;
        }
        if let Some(signature) = signature {
            out.put(index, Delta::Field("thought_signatures", &json!([signature])))?;
        }
        if let Some(blob) = part.inline_data {
            let data = blob.data.replace('-', "+").replace('_', "/");
            if blob.mime_type.starts_with("image/") {
                out.put(index, Delta::Image(&format!("data:{};base64,{data}", blob.mime_type)))?;
            } else {
                let blob = json!({"mimeType": blob.mime_type, "data": data});
                out.put(index, Delta::Field("inline_data", &blob))?;
            }
        }
        for (name, value) in
            [("executable_code", &part.executable_code), ("code_execution_result", &part.code_execution_result)]
        {
            if !value.is_null() {
                out.put(index, Delta::Field(name, value))?;
            }
        }
        Ok(())
    }
}

fn finish_reason(reason: &str) -> &'static str {
    match reason {
        "MAX_TOKENS" | "CONTINUATION" => "length",
        "SAFETY" | "RECITATION" | "LANGUAGE" | "BLOCKLIST" | "PROHIBITED_CONTENT" | "SPII" | "OTHER" | "ESCALATION"
        | "MODEL_ARMOR" | "NO_IMAGE" => "content_filter",
        image if image.starts_with("IMAGE_") => "content_filter",
        _ => "stop",
    }
}

/// A number that may be written as a text.
fn count(value: &Value) -> u64 {
    value.as_u64().or_else(|| value.as_str()?.parse().ok()).unwrap_or(0)
}

/// Counts are cumulative: later ones replace earlier ones.
pub fn usage(told: &Value, before: Option<Usage>) -> Usage {
    let of = |name: &str| count(&told[name]);
    let prompt = of("promptTokenCount") + of("toolUsePromptTokenCount");
    let (candidates, thoughts, total) = (of("candidatesTokenCount"), of("thoughtsTokenCount"), of("totalTokenCount"));
    // Some count their thoughts among the candidates already.
    let is_part = thoughts > 0 && total == prompt + candidates;
    let modality = |details: &str, name: &str| {
        let list = told[details].as_array().into_iter().flatten();
        list.filter(|part| part["modality"] == name).map(|part| count(&part["tokenCount"])).sum()
    };
    let before = before.unwrap_or_default();
    Usage {
        prompt_tokens: prompt.max(before.prompt_tokens),
        completion_tokens: if is_part { candidates } else { candidates + thoughts }.max(before.completion_tokens),
        cached_tokens: of("cachedContentTokenCount").max(before.cached_tokens),
        reasoning_tokens: thoughts.max(before.reasoning_tokens),
        audio_in_tokens: modality("promptTokensDetails", "AUDIO"),
        image_in_tokens: modality("promptTokensDetails", "IMAGE"),
        audio_out_tokens: modality("candidatesTokensDetails", "AUDIO"),
        image_out_tokens: modality("candidatesTokensDetails", "IMAGE"),
        searches: before.searches,
        ..Usage::default()
    }
}

/// OpenAI's form of what the answer rests on.
fn annotations(sources: &Value) -> Vec<Value> {
    let chunks = sources["groundingChunks"].as_array().map_or(&[][..], Vec::as_slice);
    let mut made = Vec::new();
    for support in sources["groundingSupports"].as_array().into_iter().flatten() {
        let segment = &support["segment"];
        for place in support["groundingChunkIndices"].as_array().into_iter().flatten() {
            let chunk = place.as_u64().and_then(|place| chunks.get(usize::try_from(place).ok()?));
            let Some(web) = chunk.map(|chunk| &chunk["web"]).filter(|web| web["uri"].is_string()) else { continue };
            let inner = json!({
                "start_index": count(&segment["startIndex"]),
                "end_index": count(&segment["endIndex"]),
                "url": web["uri"],
                "title": web["title"].as_str().unwrap_or_default(),
            });
            made.push(json!({"type": "url_citation", "url_citation": inner}));
        }
    }
    made
}

/// OpenAI's form of the probabilities of tokens.
fn logprobs(result: &Value) -> Vec<Value> {
    let one = |token: &Value| {
        let text = token["token"].as_str().unwrap_or_default();
        json!({"token": text, "logprob": token["logProbability"], "bytes": text.as_bytes()})
    };
    let chosen = result["chosenCandidates"].as_array().into_iter().flatten();
    chosen
        .enumerate()
        .map(|(at, token)| {
            let mut told = one(token);
            let top = result["topCandidates"][at]["candidates"].as_array().into_iter().flatten();
            told["top_logprobs"] = top.map(one).collect();
            told
        })
        .collect()
}
