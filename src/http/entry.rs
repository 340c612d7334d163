//! What a request says about itself for the ledger: ids, tags, session, end user, and where it comes from.
//!
//! Names of headers and members are LiteLLM's (its documentation of request headers, tags and session logs). All of it
//! is the caller's word: kept short, and never a reason to refuse a call.

use crate::auth::Caller;
use crate::envelope::Envelope;
use crate::exchange::{Face, Plain};
use crate::store::LedgerRow;
use actix_web::HttpRequest;
use actix_web::http::header::{HeaderMap, HeaderName, USER_AGENT};
use serde_json::{Map, Value, json};

/// Longer ids, names and tags are cut.
const MOST_TEXT: usize = 256;
const MOST_TAGS: usize = 32;
/// Larger metadata are not kept in the ledger.
const MOST_METADATA: usize = 8 << 10;

static CLIENT_ID: [HeaderName; 2] =
    [HeaderName::from_static("x-litellm-call-id"), HeaderName::from_static("x-request-id")];
static SESSION_ID: [HeaderName; 2] =
    [HeaderName::from_static("x-litellm-session-id"), HeaderName::from_static("x-claude-code-session-id")];
static TRACE_ID: [HeaderName; 1] = [HeaderName::from_static("x-litellm-trace-id")];
static AGENT_ID: [HeaderName; 1] = [HeaderName::from_static("x-litellm-agent-id")];
static END_USER: [HeaderName; 2] =
    [HeaderName::from_static("x-litellm-customer-id"), HeaderName::from_static("x-litellm-end-user-id")];
static REDACTION: HeaderName = HeaderName::from_static("x-litellm-enable-message-redaction");
static TAGS: HeaderName = HeaderName::from_static("x-litellm-tags");

/// The row of a call, with what its request says.
pub fn of(request: &HttpRequest, envelope: &Envelope, face: Face) -> LedgerRow {
    let (call_type, endpoint) = match face {
        Face::Chat | Face::Hub => ("acompletion", "/v1/chat/completions"),
        Face::Messages => ("anthropic_messages", "/v1/messages"),
        Face::Responses => ("aresponses", "/v1/responses"),
        Face::Gemini => ("agenerate_content", "/v1beta/models:generateContent"),
        Face::Completions => ("atext_completion", "/v1/completions"),
        Face::GeminiVectors(_) => ("aembedding", "/v1beta/models:embedContent"),
        Face::Plain(Plain::Embeddings) => ("aembedding", "/v1/embeddings"),
        Face::Plain(Plain::Rerank) => ("arerank", "/v1/rerank"),
        Face::Plain(Plain::Moderations) => ("amoderation", "/v1/moderations"),
        Face::Plain(Plain::Images) => ("aimage_generation", "/v1/images/generations"),
        Face::Plain(Plain::ImageEdits) => ("aimage_edit", "/v1/images/edits"),
        Face::Plain(Plain::ImageVariations) => ("aimage_variation", "/v1/images/variations"),
        Face::Plain(Plain::Transcription) => ("atranscription", "/v1/audio/transcriptions"),
        Face::Plain(Plain::Translation) => ("atranslation", "/v1/audio/translations"),
        Face::Plain(Plain::Speech) => ("aspeech", "/v1/audio/speech"),
    };
    let said = Said { headers: request.headers(), envelope, metadata: metadata(envelope) };
    LedgerRow {
        call_type: call_type.to_owned(),
        endpoint: endpoint.to_owned(),
        client_id: said.one(&CLIENT_ID, &["litellm_call_id"], &["request_id"]),
        session_id: said.one(&SESSION_ID, &["litellm_session_id"], &["session_id", "litellm_session_id"]),
        trace_id: said.one(&TRACE_ID, &["litellm_trace_id"], &["trace_id"]),
        agent_id: said.one(&AGENT_ID, &[], &["agent_id"]),
        end_user: user_header(request).or_else(|| said.one(&END_USER, &["user"], &["user_id"])),
        tags: said.tags(),
        ip: super::address::of(request).map(|ip| ip.to_string()),
        user_agent: said.one(&[USER_AGENT], &[], &[]),
        metadata: said.told(),
        ..LedgerRow::default()
    }
}

/// The end user by the header that the operator names.
fn user_header(request: &HttpRequest) -> Option<String> {
    let live = super::reply::worker(request).ok()?.gateway.live();
    short(request.headers().get(live.config.server.user_header.as_deref()?)?.to_str().ok()?)
}

/// In the metadata of a row: the caller wants neither prompt nor answer to be kept.
pub const REDACTED: &str = "enable_message_redaction";

/// The session that the request names.
pub fn session(headers: &HeaderMap, envelope: &Envelope) -> Option<String> {
    let said = Said { headers, envelope, metadata: metadata(envelope) };
    said.one(&SESSION_ID[..1], &["litellm_session_id"], &["session_id", "litellm_session_id"])
}

/// The tags of the request, and those of its key.
pub fn tags(headers: &HeaderMap, envelope: &Envelope, caller: &Caller) -> Vec<String> {
    let mut tags = Said { headers, envelope, metadata: metadata(envelope) }.tags();
    if let Some(holder) = caller.holder() {
        holder.add_tags(&mut tags);
    }
    tags
}

struct Said<'a> {
    headers: &'a HeaderMap,
    envelope: &'a Envelope,
    metadata: Option<(Map<String, Value>, usize)>,
}

/// The member that is meant for the ledger, and its size.
fn metadata(envelope: &Envelope) -> Option<(Map<String, Value>, usize)> {
    ["litellm_metadata", "metadata"].iter().find_map(|name| {
        let text = envelope.text(&envelope.get(name)?.value);
        Some((serde_json::from_slice(text).ok()?, text.len()))
    })
}

impl Said<'_> {
    /// The first of these that is there: headers, members of the body, members of its metadata.
    fn one(&self, headers: &[HeaderName], members: &[&str], metadata: &[&str]) -> Option<String> {
        let header = headers.iter().find_map(|name| short(self.headers.get(name)?.to_str().ok()?));
        let member = || members.iter().find_map(|name| short(&self.envelope.string(name)?));
        let last = || {
            let (metadata_of, _) = self.metadata.as_ref()?;
            metadata.iter().find_map(|name| short(metadata_of.get(*name)?.as_str()?))
        };
        header.or_else(member).or_else(last)
    }

    /// The metadata that is kept with the row.
    fn told(self) -> Value {
        let mut told = match self.metadata {
            // That there was more is said in its place.
            Some((_, size)) if size > MOST_METADATA => json!({"omitted_bytes": size}),
            Some((metadata, _)) => Value::Object(metadata),
            None => Value::Null,
        };
        let header = self.headers.get(&REDACTION);
        if header.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"true")) {
            told[REDACTED] = true.into();
        }
        told
    }

    /// Those of the header, the body and its metadata, each once.
    fn tags(&self) -> Vec<String> {
        let mut tags: Vec<String> = Vec::new();
        let mut add = |tag: &str| {
            if let Some(tag) = short(tag).filter(|tag| tags.len() < MOST_TAGS && !tags.contains(tag)) {
                tags.push(tag);
            }
        };
        let header = self.headers.get(&TAGS).and_then(|value| value.to_str().ok());
        header.into_iter().flat_map(|list| list.split(',')).for_each(&mut add);
        let of_body = self.envelope.get("tags").map(|member| self.envelope.text(&member.value));
        let of_body: Vec<Value> = of_body.and_then(|text| serde_json::from_slice(text).ok()).unwrap_or_default();
        of_body.iter().filter_map(Value::as_str).for_each(&mut add);
        let of_metadata = self.metadata.as_ref().and_then(|(metadata, _)| metadata.get("tags")?.as_array());
        of_metadata.into_iter().flatten().filter_map(Value::as_str).for_each(&mut add);
        tags
    }
}

/// The text without what surrounds it, cut to a bearable length; none where nothing is left.
fn short(text: &str) -> Option<String> {
    let text = text.trim();
    let end = text.char_indices().nth(MOST_TEXT).map_or(text.len(), |(end, _)| end);
    (!text.is_empty()).then(|| text[..end].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;
    use bytes::Bytes;

    fn row(headers: &[(&str, &str)], body: &str) -> LedgerRow {
        let request = headers.iter().fold(TestRequest::default(), |r, header| r.insert_header(*header));
        let envelope = Envelope::parse(Bytes::copy_from_slice(body.as_bytes()), 64).unwrap();
        of(&request.to_http_request(), &envelope, Face::Chat)
    }

    #[test]
    fn a_header_goes_before_a_member_and_that_before_metadata() {
        let body = r#"{"user":"body","metadata":{"user_id":"meta","session_id":"s","request_id":"r","tags":["a","b"]},"tags":["b","c"]}"#;
        let said = row(&[("x-litellm-customer-id", "head"), ("x-litellm-tags", "x, a,,x")], body);
        assert_eq!(said.end_user.as_deref(), Some("head"));
        assert_eq!((said.session_id.as_deref(), said.client_id.as_deref()), (Some("s"), Some("r")));
        assert_eq!(said.tags, ["x", "a", "b", "c"]);
        assert_eq!(row(&[], body).end_user.as_deref(), Some("body"));
        assert_eq!(row(&[("x-claude-code-session-id", "c")], "{}").session_id.as_deref(), Some("c"));
        let all = row(&[("x-request-id", " mine ")], r#"{"metadata":{"user_id":"meta"}}"#);
        assert_eq!((all.end_user.as_deref(), all.client_id.as_deref()), (Some("meta"), Some("mine")));
    }

    #[test]
    fn nothing_that_is_said_is_too_long_or_of_a_wrong_type() {
        let long = "ü".repeat(5000);
        let said = row(&[], &format!(r#"{{"user":"{long}","tags":[1,null,"{long}"],"metadata":{{"a":"{long}"}}}}"#));
        assert_eq!(said.end_user.map(|user| user.chars().count()), Some(MOST_TEXT));
        assert_eq!(said.tags.len(), 1);
        assert_eq!(said.metadata, json!({"omitted_bytes": 10_008}));
        let odd = row(&[], r#"{"user":7,"tags":"a","metadata":[1]}"#);
        assert_eq!((odd.end_user, odd.tags.len()), (None, 0));
    }
}
