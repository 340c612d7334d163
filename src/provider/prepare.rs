//! From the caller's body to the upstream's: which members go on, under which name, with which value.
//!
//! Pure: an [`Envelope`] and the [`Shape`] of a deployment in, bytes out.

use super::inside::{self, member_of};
use super::{Metadata, ModelQuirks, Provider, StreamUsage};
use crate::envelope::{Edits, Envelope, Member, Pieces};
use crate::error::Error;
use crate::pattern;
use crate::wire::json::{self, Kind};

/// Everything about a deployment that decides what its requests look like; made once, when the configuration is read.
#[derive(Debug, Clone)]
pub struct Shape {
    provider: &'static Provider,
    /// The rule for this model; `None` inside where no rule fits, outside where the call names the model.
    rule: Option<Option<&'static ModelQuirks>>,
    allowed: Vec<String>,
    /// Dropped without a word.
    drop: Vec<String>,
    drop_params: bool,
    /// Sent where the caller gives nothing.
    defaults: Vec<(String, Box<[u8]>)>,
    /// Sent whatever the caller gives.
    force: Vec<(String, Box<[u8]>)>,
}

/// What holds for one model of a provider.
struct Rules<'a> {
    shape: &'a Shape,
    rule: Option<&'static ModelQuirks>,
}

impl Rules<'_> {
    fn refuses(&self, name: &str) -> bool {
        let of_model = self.rule.is_some_and(|rule| rule.unsupported.contains(&name));
        (of_model || self.shape.provider.quirks.unsupported.contains(&name)) && !self.allows(name)
    }

    /// What the provider calls this member.
    fn name_for(&self, name: &str) -> Option<&'static str> {
        let renames = self.rule.map_or(&[][..], |rule| rule.rename).iter().chain(self.shape.provider.quirks.rename);
        let found = renames.into_iter().find(|(from, _)| *from == name).map(|(_, to)| *to);
        found.filter(|_| !self.allows(name))
    }

    fn allows(&self, name: &str) -> bool {
        self.shape.allowed.iter().any(|allowed| allowed == name)
    }
}

/// What the operator says about a deployment's parameters.
#[derive(Debug, Default)]
pub struct Wishes {
    pub drop_params: bool,
    pub additional_drop_params: Vec<String>,
    pub allowed_openai_params: Vec<String>,
    /// Names and JSON texts.
    pub params: Vec<(String, Box<[u8]>)>,
    pub extra_body: Vec<(String, Box<[u8]>)>,
}

impl Shape {
    /// The shape of requests to this model of this provider; for a wildcard the model holds a `*`.
    pub fn new(provider: &'static Provider, upstream_model: &str, wishes: Wishes) -> Self {
        let forced = provider.quirks.force.iter().map(|(name, json)| ((*name).to_owned(), json.as_bytes().into()));
        Shape {
            provider,
            rule: (!upstream_model.contains('*')).then(|| rule_for(provider, upstream_model)),
            allowed: wishes.allowed_openai_params,
            drop: wishes.additional_drop_params,
            drop_params: wishes.drop_params,
            defaults: wishes.params,
            force: forced.chain(wishes.extra_body).collect(),
        }
    }

    /// Whether what cannot be sent is to be left out instead of refused.
    pub fn drops(&self, envelope: &Envelope) -> bool {
        self.drop_params || envelope.flag("drop_params")
    }
}

fn rule_for(provider: &Provider, model: &str) -> Option<&'static ModelQuirks> {
    provider.quirks.models.iter().find(|rule| rule.patterns.iter().any(|p| pattern::capture(p, model).is_some()))
}

/// A body made for an upstream.
#[derive(Debug)]
pub struct Prepared {
    pub body: Pieces,
    /// The caller asked to see usage in the stream.
    pub shows_usage: bool,
    /// What cannot be sent is to be left out instead of refused.
    pub drop_params: bool,
}

/// Makes the upstream's body: its model name, its parameter names, nothing that is the gateway's own.
///
/// # Errors
/// A 400 that names a parameter the provider does not take.
pub fn prepare(envelope: &Envelope, shape: &Shape, upstream_model: &str, streams: bool) -> Result<Prepared, Error> {
    let quirks = &shape.provider.quirks;
    let rules = Rules { shape, rule: shape.rule.unwrap_or_else(|| rule_for(shape.provider, upstream_model)) };
    let drop_params = shape.drops(envelope);
    let mut edits = Edits::default();
    let mut saw_model = false;
    let mut shows_usage = false;
    let mut stream_options = None;

    for (place, member) in envelope.members().iter().enumerate() {
        let raw = envelope.name(member);
        let Ok(name) = std::str::from_utf8(raw) else { continue };
        if name == "model" {
            saw_model = true;
            if !is_text(envelope.text(&member.value), upstream_model) {
                edits.replace(member, quote(upstream_model));
            }
        } else if shape.force.iter().any(|(forced, _)| forced == name)
            || shape.drop.iter().any(|dropped| dropped == name)
            || is_ours(name)
            || (name == "metadata" && is_our_metadata(envelope, member, quirks.metadata))
        {
            edits.remove(place);
        } else if name == "stream_options" {
            shows_usage = asks_for_usage(envelope.text(&member.value));
            match quirks.stream_usage {
                StreamUsage::Unasked => edits.remove(place),
                StreamUsage::OnRequest => stream_options = Some(member),
            }
        } else if member.value.kind == Kind::Null && shape.defaults.iter().any(|(known, _)| known == name) {
            // A null is no wish: the default takes its place.
            edits.remove(place);
        } else if rules.refuses(name) || (name == "n" && !quirks.many_choices && asks_for_many(envelope, member)) {
            if !(drop_params || says_nothing(name, envelope.text(&member.value))) {
                return Err(unsupported(name, shape.provider));
            }
            edits.remove(place);
        } else if let Some(word) = refused_value(envelope, member, quirks.refused_values, name) {
            if !drop_params && !rules.allows(name) {
                return Err(unsupported_value(name, word, shape.provider));
            }
            if !rules.allows(name) {
                edits.remove(place);
            }
        } else {
            if let Some(to) = rules.name_for(name) {
                if envelope.find(to).is_some() {
                    edits.remove(place);
                    continue;
                }
                edits.rename(member, to);
            }
            if let Some((_, _, to)) = quirks
                .values
                .iter()
                .find(|(of, from, _)| *of == name && from.as_bytes() == envelope.text(&member.value))
            {
                edits.replace(member, to.as_bytes());
            }
            match name {
                "messages" => {
                    inside::messages(
                        envelope,
                        member,
                        &quirks.inside,
                        upstream_model,
                        quirks.developer_role,
                        &mut edits,
                    );
                }
                "tools" => inside::tools(envelope, member, &quirks.inside, &mut edits),
                _ => (),
            }
        }
    }

    if !saw_model {
        edits.insert("model", quote(upstream_model));
    }
    if streams
        && quirks.stream_usage == StreamUsage::OnRequest
        && !shows_usage
        && !shape.drop.iter().any(|d| d == "stream_options")
    {
        match stream_options {
            Some(member) if member.value.kind == Kind::Object => ask_for_usage(envelope, member, &mut edits),
            Some(member) => edits.replace(member, br#"{"include_usage":true}"#.as_slice()),
            None => edits.insert("stream_options", br#"{"include_usage":true}"#.as_slice()),
        }
    }
    let given = |name: &str| envelope.get(name).is_some();
    for (name, json) in &shape.defaults {
        let sent_as = rules.name_for(name).unwrap_or(name);
        let renamed = envelope.members().iter().any(|m| {
            let name = std::str::from_utf8(envelope.name(m)).unwrap_or_default();
            m.value.kind != Kind::Null && rules.name_for(name) == Some(sent_as)
        });
        if !given(name) && !given(sent_as) && !renamed && !shape.force.iter().any(|(forced, _)| forced == name) {
            edits.insert(sent_as, &**json);
        }
    }
    for (name, json) in &shape.force {
        edits.insert(name, &**json);
    }
    Ok(Prepared { body: edits.pieces(envelope), shows_usage, drop_params })
}

/// Makes the body for an upstream that speaks the caller's own format, which is not OpenAI's: its model name, what the
/// operator adds and takes away, nothing that is the gateway's own, and all the rest as it came.
pub fn prepare_native(envelope: &Envelope, shape: &Shape, upstream_model: &str) -> Pieces {
    let mut edits = own(envelope, shape, upstream_model);
    for (name, json) in &shape.defaults {
        if envelope.get(name).is_none() && !shape.force.iter().any(|(forced, _)| forced == name) {
            if let Some(place) = envelope.find(name) {
                edits.remove(place);
            }
            edits.insert(name, &**json);
        }
    }
    edits.pieces(envelope)
}

/// As [`prepare_native`], for what is no conversation: the operator's defaults are about those.
pub fn prepare_plain(envelope: &Envelope, shape: &Shape, upstream_model: &str) -> Pieces {
    let mut edits = own(envelope, shape, upstream_model);
    // None of these endpoints has any; what comes is LiteLLM's, for the ledger.
    if let Some(place) = envelope.find("metadata") {
        edits.remove(place);
    }
    if envelope.get("model").is_none() {
        if let Some(place) = envelope.find("model") {
            edits.remove(place);
        }
        edits.insert("model", quote(upstream_model));
    }
    edits.pieces(envelope)
}

/// The model's name, what the operator forces, and without what is the gateway's own or the operator takes away.
fn own<'a>(envelope: &Envelope, shape: &'a Shape, upstream_model: &str) -> Edits<'a> {
    let mut edits = Edits::default();
    for (place, member) in envelope.members().iter().enumerate() {
        let Ok(name) = std::str::from_utf8(envelope.name(member)) else { continue };
        if name == "model" {
            if !is_text(envelope.text(&member.value), upstream_model) {
                edits.replace(member, quote(upstream_model));
            }
        } else if shape.force.iter().any(|(forced, _)| forced == name)
            || shape.drop.iter().any(|dropped| dropped == name)
            || is_ours(name)
        {
            edits.remove(place);
        }
    }
    for (name, json) in &shape.force {
        edits.insert(name, &**json);
    }
    edits
}

/// Members that speak to the gateway and never go upstream.
fn is_ours(name: &str) -> bool {
    matches!(
        name,
        "fallbacks"
            | "context_window_fallbacks"
            | "content_policy_fallbacks"
            | "disable_fallbacks"
            | "num_retries"
            | "max_retries"
            | "timeout"
            | "stream_timeout"
            | "cache"
            | "caching"
            | "guardrails"
            | "drop_params"
            | "additional_drop_params"
            | "allowed_openai_params"
            | "tags"
            | "priority"
            | "allowed_model_region"
            | "retry_policy"
            | "no-log"
            | "enable_json_schema_validation"
            | "approved_tool_calls"
            | "proxy_server_request"
    ) || name.starts_with("litellm_")
        || name.starts_with("mock_")
}

/// Whether a value is what the provider would do anyway, so that leaving it out changes nothing. `user` is for
/// statistics alone, and clients send it unasked.
fn says_nothing(name: &str, json: &[u8]) -> bool {
    match name {
        "user" => true,
        "temperature" | "top_p" => matches!(json, b"1" | b"1.0" | b"null"),
        "presence_penalty" | "frequency_penalty" => matches!(json, b"0" | b"0.0" | b"null"),
        _ => matches!(json, b"null" | b"false" | b"{}" | b"[]"),
    }
}

/// Whether `metadata` is meant for the gateway.
fn is_our_metadata(envelope: &Envelope, member: &Member, whose: Metadata) -> bool {
    match whose {
        Metadata::Ours => true,
        Metadata::WhenStored if !envelope.flag("store") => true,
        Metadata::WhenStored | Metadata::Theirs => !is_map_of_texts(envelope.text(&member.value)),
    }
}

fn unsupported(name: &str, provider: &Provider) -> Error {
    Error::invalid(format!(
        "The provider '{}' does not take the parameter '{name}'. Leave it out, or set drop_params to have it dropped.",
        provider.name
    ))
    .at_param(name)
}

/// The word in a member's value that the provider refuses.
fn refused_value<'q>(envelope: &Envelope, member: &Member, refused: &[(&str, &'q str)], name: &str) -> Option<&'q str> {
    let text = envelope.text(&member.value);
    let mut words = refused.iter().filter(|(of, _)| *of == name).map(|(_, word)| *word).peekable();
    words.peek()?;
    let word = match member.value.kind {
        Kind::Object => member_of(text, b"type").map(|kind| &text[kind.span])?,
        _ => text,
    };
    words.find(|refused| is_text(word, refused))
}

fn unsupported_value(name: &str, word: &str, provider: &Provider) -> Error {
    Error::invalid(format!(
        "The provider '{}' does not take the parameter '{name}' with the value '{word}'. Choose another one, or set drop_params to have it dropped.",
        provider.name
    ))
    .at_param(name)
}

/// Whether a JSON text is this string, written without escapes.
fn is_text(json: &[u8], text: &str) -> bool {
    json.len() == text.len() + 2 && &json[1..json.len() - 1] == text.as_bytes() && !text.contains(['"', '\\'])
}

fn quote(text: &str) -> Vec<u8> {
    serde_json::Value::from(text).to_string().into_bytes()
}

fn asks_for_usage(stream_options: &[u8]) -> bool {
    member_of(stream_options, b"include_usage").is_some_and(|v| &stream_options[v.span] == b"true")
}

fn ask_for_usage<'a>(envelope: &'a Envelope, member: &'a Member, edits: &mut Edits<'a>) {
    let text = envelope.text(&member.value);
    let start = member.value.span.start;
    match member_of(text, b"include_usage") {
        Some(value) => edits.splice(start + value.span.start..start + value.span.end, b"true".as_slice()),
        None => {
            let comma = if member.value.items > 0 { "," } else { "" };
            edits.splice(start + 1..start + 1, format!("\"include_usage\":true{comma}").into_bytes());
        }
    }
}

fn asks_for_many(envelope: &Envelope, member: &Member) -> bool {
    envelope.text(&member.value) != b"1"
}

fn is_map_of_texts(json_text: &[u8]) -> bool {
    let mut texts = true;
    let object = json::object(json_text, usize::MAX, |m| texts &= m.value.kind == Kind::String);
    object.is_ok() && texts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::{Auth, KeyNeed, ModelQuirks, Quirks};
    use bytes::Bytes;

    static PLAIN: Provider = Provider {
        name: "plain",
        synonyms: &[],
        base_url: None,
        key_env: &[],
        base_env: &[],
        auth: Auth::Bearer,
        key: KeyNeed::Optional,
        quirks: Quirks::NONE,
    };
    static ODD: Provider = Provider {
        name: "odd",
        quirks: Quirks {
            unsupported: &["logit_bias"],
            rename: &[("max_completion_tokens", "max_tokens"), ("seed", "random_seed")],
            values: &[("tool_choice", "\"required\"", "\"any\"")],
            force: &[("store", "false")],
            developer_role: false,
            many_choices: false,
            stream_usage: StreamUsage::Unasked,
            models: &[ModelQuirks { patterns: &["think-*"], unsupported: &["temperature"], rename: &[] }],
            ..Quirks::NONE
        },
        ..PLAIN
    };

    fn out(body: &str, provider: &'static Provider, wishes: Wishes, model: &str) -> Result<String, Error> {
        let envelope = Envelope::parse(Bytes::copy_from_slice(body.as_bytes()), 32)?;
        let shape = Shape::new(provider, model, wishes);
        let prepared = prepare(&envelope, &shape, model, envelope.flag("stream"))?;
        Ok(String::from_utf8(prepared.body.join().to_vec()).unwrap())
    }

    fn plain(body: &str) -> String {
        out(body, &PLAIN, Wishes::default(), "up").unwrap()
    }

    #[test]
    fn only_the_model_changes_where_nothing_else_must() {
        let body = r#"{"x": 1.10, "model" :"a", "big":12345678901234567890123 , "messages":[{"role":"developer"}]}"#;
        assert_eq!(plain(body), body.replace("\"a\"", "\"up\""));
        assert_eq!(plain(r#"{"model":"up","n":3}"#), r#"{"model":"up","n":3}"#);
        assert_eq!(plain(r#"{"n":3}"#), r#"{"n":3,"model":"up"}"#);
    }

    #[test]
    fn usage_is_always_asked_for_in_streams() {
        let ends = r#""stream_options":{"include_usage":true}}"#;
        assert_eq!(plain(r#"{"model":"up","stream":true}"#), format!(r#"{{"model":"up","stream":true,{ends}"#));
        assert_eq!(
            plain(r#"{"model":"up","stream":true,"stream_options":null}"#),
            format!(r#"{{"model":"up","stream":true,{ends}"#)
        );
        assert_eq!(
            plain(r#"{"model":"up","stream":true,"stream_options":{}}"#),
            format!(r#"{{"model":"up","stream":true,{ends}"#)
        );
        assert_eq!(
            plain(r#"{"stream_options":{"a":1,"include_usage": false},"model":"up","stream":true}"#),
            r#"{"stream_options":{"a":1,"include_usage": true},"model":"up","stream":true}"#
        );
        assert_eq!(
            plain(r#"{"stream_options":{"a":1},"model":"up","stream":true}"#),
            r#"{"stream_options":{"include_usage":true,"a":1},"model":"up","stream":true}"#
        );
    }

    #[test]
    fn what_is_ours_stays_here() {
        assert_eq!(
            plain(r#"{"fallbacks":["b"],"model":"up","metadata":{"tags":["x"]},"litellm_call_id":"1","top_k":3}"#),
            r#"{"model":"up","top_k":3}"#
        );
    }

    #[test]
    fn quirks_of_the_provider_are_met() {
        let odd = |body: &str| out(body, &ODD, Wishes::default(), "up").unwrap();
        assert_eq!(
            odd(r#"{"model":"up","max_completion_tokens":5,"seed":1,"tool_choice":"required"}"#),
            r#"{"model":"up","max_tokens":5,"random_seed":1,"tool_choice":"any","store":false}"#
        );
        assert_eq!(
            odd(r#"{"model":"up","max_completion_tokens":5,"max_tokens":6,"store":true}"#),
            r#"{"model":"up","max_tokens":6,"store":false}"#
        );
        assert_eq!(
            odd(r#"{"model":"up","stream":true,"stream_options":{"include_usage":true},"logit_bias":null}"#),
            r#"{"model":"up","stream":true,"store":false}"#
        );
        assert_eq!(
            odd(
                r#"{"model":"up","messages":[{"role":"developer","content":"\"developer\""},{"content":"x","role":"user"}]}"#
            ),
            r#"{"model":"up","messages":[{"role":"system","content":"\"developer\""},{"content":"x","role":"user"}],"store":false}"#
        );
    }

    #[test]
    fn what_the_provider_does_not_take_is_refused_or_dropped() {
        let body = r#"{"model":"think-1","temperature":0.5,"n":1}"#;
        let refused = out(body, &ODD, Wishes::default(), "think-1").unwrap_err();
        assert_eq!(refused.body()["error"]["param"], "temperature");
        let dropping = || Wishes { drop_params: true, ..Wishes::default() };
        assert_eq!(out(body, &ODD, dropping(), "think-1").unwrap(), r#"{"model":"think-1","n":1,"store":false}"#);
        assert_eq!(
            out(r#"{"model":"up","n":2,"drop_params":true}"#, &ODD, Wishes::default(), "up").unwrap(),
            r#"{"model":"up","store":false}"#
        );
        let allowing = Wishes { allowed_openai_params: vec!["temperature".into()], ..Wishes::default() };
        assert_eq!(
            out(body, &ODD, allowing, "think-1").unwrap(),
            r#"{"model":"think-1","temperature":0.5,"n":1,"store":false}"#
        );
    }

    #[test]
    fn rules_for_single_models_hold_behind_wildcards_too() {
        let envelope = Envelope::parse(Bytes::from_static(br#"{"model":"think-9","temperature":0.5}"#), 8).unwrap();
        let shape = Shape::new(&ODD, "*", Wishes::default());
        assert!(prepare(&envelope, &shape, "think-9", false).is_err());
        assert!(prepare(&envelope, &shape, "talk-9", false).is_ok());
    }

    #[test]
    fn a_default_that_cannot_be_sent_says_nothing() {
        let body = r#"{"model":"think-1","temperature":1.0,"logit_bias":{}}"#;
        assert_eq!(out(body, &ODD, Wishes::default(), "think-1").unwrap(), r#"{"model":"think-1","store":false}"#);
    }

    #[test]
    fn defaults_go_under_the_providers_names() {
        let wishes = || Wishes { params: vec![("max_completion_tokens".into(), b"9"[..].into())], ..Wishes::default() };
        let plain = out(r#"{"model":"up"}"#, &ODD, wishes(), "up").unwrap();
        assert_eq!(plain, r#"{"model":"up","max_tokens":9,"store":false}"#);
        let own = r#"{"model":"up","max_completion_tokens":1}"#;
        assert_eq!(out(own, &ODD, wishes(), "up").unwrap(), r#"{"model":"up","max_tokens":1,"store":false}"#);
    }

    #[test]
    fn defaults_fill_and_extra_body_wins() {
        let wishes = || Wishes {
            additional_drop_params: vec!["user".into()],
            params: vec![("temperature".into(), b"0.5"[..].into()), ("top_p".into(), b"1"[..].into())],
            extra_body: vec![("top_k".into(), b"7"[..].into())],
            ..Wishes::default()
        };
        assert_eq!(
            out(r#"{"model":"up","temperature":1,"top_p":null,"top_k":1,"user":"u"}"#, &PLAIN, wishes(), "up").unwrap(),
            r#"{"model":"up","temperature":1,"top_p":1,"top_k":7}"#
        );
    }
}
