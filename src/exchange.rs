//! What goes upstream for a call, and how the answer becomes the caller's.
//!
//! Where caller and upstream speak the same format, bytes go through, edited at most. Else the call is translated by
//! way of OpenAI chat's wire, the hub: each further format needs two translations, not one for each other format.
//! Pure: bytes in, bytes out.

mod relay;
#[cfg(test)]
mod tests;

use crate::envelope::{Edits, Envelope, Pieces};
use crate::error::{Error, Kind, Origin, Result, from_upstream};
use crate::meter;
use crate::provider::{
    Detour, Endpoint, Facts, Language, Path, Prepared, anthropic, audio, endpoints, foreign, hub, leave_out, prepare,
    prepare_native, prepare_plain, ranking, replicate, tool_names, vectors,
};
use crate::route::Target;
use crate::usage::Usage;
use crate::wire::feed::Framing;
use crate::wire::{self, completions, embeddings, gemini, json, messages, responses};
use actix_web::http::StatusCode;
use bytes::Bytes;
pub use relay::Relay;
use serde_json::Value;
use std::sync::Arc;
use uuid::Uuid;

/// The format that the caller speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Face {
    /// OpenAI's chat completions.
    Chat,
    /// The same, made by the gateway of what a caller has said in another format.
    Hub,
    /// Anthropic's Messages.
    Messages,
    /// OpenAI's Responses.
    Responses,
    /// OpenAI's text completions.
    Completions,
    /// Google's `generateContent`; its request is told in chat already.
    Gemini,
    /// Google's embeddings; their request is told in OpenAI's format already.
    GeminiVectors(gemini::Embeds),
    /// What is no conversation, in OpenAI's format.
    Plain(Plain),
}

/// Endpoints that are no conversations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plain {
    Embeddings,
    /// Cohere's and Jina's form.
    Rerank,
    Moderations,
    Images,
    /// Pictures in a form, or named in JSON.
    ImageEdits,
    ImageVariations,
    /// Audio in a form.
    Transcription,
    /// The same, told in English.
    Translation,
    /// Text that is answered with audio.
    Speech,
}

impl Plain {
    /// Whether the answer is passed on as it comes, in whatever pieces: audio, and streams.
    pub fn is_passed_on(self, streams: bool) -> bool {
        self == Plain::Speech || streams
    }

    fn endpoint(self) -> Endpoint {
        match self {
            Plain::Embeddings => Endpoint::Embeddings,
            Plain::Rerank => Endpoint::Rerank,
            Plain::Moderations => Endpoint::Moderations,
            Plain::Images => Endpoint::Images,
            Plain::ImageEdits => Endpoint::ImageEdits,
            Plain::ImageVariations => Endpoint::ImageVariations,
            Plain::Transcription => Endpoint::Transcriptions,
            Plain::Translation => Endpoint::Translations,
            Plain::Speech => Endpoint::Speech,
        }
    }

    fn words(self) -> &'static str {
        match self {
            Plain::Embeddings => "Embeddings",
            Plain::Rerank => "Reranking",
            Plain::Moderations => "Moderations",
            Plain::Images | Plain::ImageEdits | Plain::ImageVariations => "Images",
            Plain::Transcription | Plain::Translation => "Transcriptions",
            Plain::Speech => "Speech",
        }
    }
}

/// What is asked, and under which name the answer is given.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    pub face: Face,
    pub envelope: &'a Envelope,
    pub streams: bool,
    /// The model as the caller named it.
    pub model: &'a str,
    /// The call's id, for answers that must have one; it says when the call was made (UUIDv7).
    pub id: Uuid,
    /// Requests nested deeper are refused.
    pub max_nesting: usize,
    /// What the response that this call goes on from holds.
    pub history: Option<&'a History>,
}

/// A response that a call goes on from.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// The deployment that keeps it too, under the same id.
    pub kept_by: Option<String>,
    /// Its items: what was asked, and what was answered.
    pub items: Vec<Value>,
}

/// What is sent, and what is to be done with the answer.
#[derive(Debug)]
pub struct Outbound {
    pub endpoint: Endpoint,
    pub body: Pieces,
    /// For the `anthropic-beta` header.
    pub betas: Vec<&'static str>,
    pub back: Back,
    /// How it is sent, where the endpoint alone does not say.
    pub detour: Option<Box<Detour>>,
}

impl Outbound {
    fn new(endpoint: Endpoint, body: Pieces, back: Back) -> Self {
        Outbound { endpoint, body, betas: Vec::new(), back, detour: None }
    }
}

/// The way back of an answer: the caller's format from the upstream's.
#[derive(Debug, Clone)]
pub enum Back {
    /// OpenAI chat, as it comes or translated from another language.
    Chat { from: Option<Box<foreign::Context>>, shows_usage: bool },
    /// Anthropic's Messages as they come.
    Messages,
    /// OpenAI's Responses as they come.
    Responses,
    /// OpenAI's text completions as they come.
    Completions { shows_usage: bool },
    /// One JSON object as it comes, but for vectors that are wanted in base64.
    Plain { in_base64: bool },
    /// Embeddings in the provider's words, of a request of so many bytes.
    Vectors { style: vectors::Style, model: String, asked: usize, in_base64: bool },
    /// Embeddings of any of these ways, in Google's words.
    GeminiVectors(Box<Back>, gemini::Embeds),
    /// A ranking, in whatever words.
    Ranks(Box<ranking::Asked>),
    /// Pictures, one JSON object.
    Pictures,
    /// What was said in audio: one JSON object, or plain text.
    Transcript { is_text: bool },
    /// Pictures that Replicate made.
    Painted { created: u64 },
    /// What was heard, in the provider's words.
    Heard { language: Language, wish: audio::Wish },
    /// Another format, of OpenAI chat, which may be translated itself.
    FromChat { from: Option<Box<foreign::Context>>, to: Teller, shows_usage: bool },
}

/// Tells an answer of OpenAI chat in the caller's format.
#[derive(Debug, Clone)]
pub enum Teller {
    Messages { model: String, id: String, estimated_input: u64, names: Arc<hub::ToolNames> },
    Responses { echo: Box<responses::Echo>, model: String, id: String, created: u64, estimated_input: u64 },
    Completions,
    Gemini { model: String, id: String, thoughts: bool },
}

impl Back {
    /// How the pieces of the upstream's stream follow each other.
    pub fn framing(&self) -> Framing {
        match self {
            Back::Chat { from: Some(from), .. } | Back::FromChat { from: Some(from), .. } => from.framing(),
            Back::Chat { from: None, .. }
            | Back::Messages
            | Back::Responses
            | Back::Completions { .. }
            | Back::Plain { .. }
            | Back::Vectors { .. }
            | Back::GeminiVectors(..)
            | Back::Ranks(_)
            | Back::Pictures
            | Back::Transcript { .. }
            | Back::Painted { .. }
            | Back::Heard { .. }
            | Back::FromChat { from: None, .. } => Framing::Sse,
        }
    }
}

/// Makes the upstream's request.
///
/// # Errors
/// A 400 that names what the upstream cannot take.
pub fn outbound(ask: &Ask<'_>, target: &Target) -> Result<Outbound> {
    let deployment = &target.deployment;
    let language = target.dialect().language;
    let endpoint = if ask.streams { Endpoint::Stream } else { Endpoint::Call };
    match ask.face {
        Face::Messages if language == Language::Anthropic => {
            let body = prepare_native(ask.envelope, &deployment.shape, target.model());
            let body = match is_anthropics_own(target) {
                true => None,
                // It changes with every call, and would keep other vendors from caching the prompt.
                false => messages::strip_billing_header(&body.join()),
            }
            .map_or(body, |stripped| Bytes::from(stripped).into());
            let body = signed_only(body, ask.envelope, target);
            Ok(Outbound::new(endpoint, body, Back::Messages))
        }
        Face::Messages => {
            let bytes = ask.envelope.bytes();
            let chat = messages::to_chat(bytes)?;
            let chat = Envelope::parse(Bytes::from(chat), ask.max_nesting)?;
            let facts = &target.known().facts;
            let chat = leave_out(&chat, deployment.provider, target.model(), facts, ask.max_nesting)?.unwrap_or(chat);
            let shorter = match language {
                Language::OpenAi => tool_names::shorten(&chat, ask.max_nesting)?,
                // Translations see to names themselves.
                _ => None,
            };
            let (chat, names) = shorter.map_or_else(|| (chat, Arc::default()), |(chat, names)| (chat, Arc::new(names)));
            let Spoken { body, betas, from, .. } = spoken(&chat, ask, target, language)?;
            let to = Teller::Messages {
                model: ask.model.to_owned(),
                id: format!("msg_{}", ask.id.simple()),
                estimated_input: messages::estimate_tokens(bytes)?,
                names,
            };
            Ok(Outbound { betas, ..Outbound::new(endpoint, body, Back::FromChat { from, to, shows_usage: true }) })
        }
        Face::Responses if deployment.makes_responses && target.mock().is_none() => {
            let body = native_response(ask, target)?;
            Ok(Outbound::new(Endpoint::Responses, body, Back::Responses))
        }
        Face::Responses => {
            let bytes = ask.envelope.bytes();
            let history = ask.history.map(|history| history.items.clone()).unwrap_or_default();
            let asked = responses::to_chat(bytes, history)?;
            let chat = Envelope::parse(Bytes::from(asked.chat), ask.max_nesting)?;
            let facts = &target.known().facts;
            let chat = leave_out(&chat, deployment.provider, target.model(), facts, ask.max_nesting)?.unwrap_or(chat);
            let Spoken { body, betas, from, .. } = spoken(&chat, ask, target, language)?;
            let to = Teller::Responses {
                echo: Box::new(asked.echo),
                model: ask.model.to_owned(),
                id: ask.id.simple().to_string(),
                created: created(&ask.id),
                estimated_input: meter::estimate(bytes.len()),
            };
            Ok(Outbound { betas, ..Outbound::new(endpoint, body, Back::FromChat { from, to, shows_usage: true }) })
        }
        Face::Gemini => {
            let facts = &target.known().facts;
            let left = leave_out(ask.envelope, deployment.provider, target.model(), facts, ask.max_nesting)?;
            let chat = left.as_ref().unwrap_or(ask.envelope);
            let Spoken { body, betas, from, .. } = spoken(chat, ask, target, language)?;
            let to = Teller::Gemini {
                model: ask.model.to_owned(),
                id: ask.id.simple().to_string(),
                thoughts: ask.envelope.flag(gemini::THOUGHTS),
            };
            Ok(Outbound { betas, ..Outbound::new(endpoint, body, Back::FromChat { from, to, shows_usage: true }) })
        }
        Face::GeminiVectors(embeds) => {
            let others = match language {
                Language::Gemini => None,
                _ => Some(gemini::for_others(ask.envelope.bytes(), language == Language::Cohere)?),
            };
            let others = others.map(|body| Envelope::parse(Bytes::from(body), ask.max_nesting)).transpose()?;
            let envelope = others.as_ref().unwrap_or(ask.envelope);
            let made = outbound(&Ask { face: Face::Plain(Plain::Embeddings), envelope, ..*ask }, target)?;
            Ok(Outbound { back: Back::GeminiVectors(Box::new(made.back), embeds), ..made })
        }
        Face::Completions
            if endpoints::has_completions(deployment.provider)
                && language == Language::OpenAi
                && target.mock().is_none() =>
        {
            let Prepared { body, shows_usage, .. } =
                prepare(ask.envelope, &deployment.shape, target.model(), ask.streams)?;
            let back = Back::Completions { shows_usage };
            Ok(Outbound::new(Endpoint::Completions, body, back))
        }
        Face::Completions => {
            let chat = Envelope::parse(Bytes::from(completions::to_chat(ask.envelope.bytes())?), ask.max_nesting)?;
            let Spoken { body, betas, from, shows_usage } = spoken(&chat, ask, target, language)?;
            let back = Back::FromChat { from, to: Teller::Completions, shows_usage };
            Ok(Outbound { betas, ..Outbound::new(endpoint, body, back) })
        }
        Face::Plain(Plain::Images) if language == Language::Replicate && target.mock().is_none() => {
            let body = prepare_native(ask.envelope, &deployment.shape, target.model()).join();
            let id = ask.id.simple().to_string();
            let facts = facts(ask, target, &id, deployment.shape.drops(ask.envelope));
            let body = replicate::picture_request(&body, &facts)?;
            let back = Back::Painted { created: facts.created };
            Ok(Outbound::new(Endpoint::Images, Bytes::from(body).into(), back))
        }
        Face::Plain(plain) if language.is_for_audio_alone() && target.mock().is_none() => audio_of(plain, ask, target),
        Face::Plain(Plain::Embeddings) if !matches!(deployment.place.path(target.dialect()), Path::VertexRaw(_)) => {
            // What is made up is made up in OpenAI's format.
            let base = &deployment.place.base;
            let own =
                target.mock().is_none().then(|| vectors::style(deployment.provider, language, base)).transpose()?;
            match own.flatten() {
                Some(style) => embeddings_of(style, ask, target),
                None => Ok(as_it_is(Plain::Embeddings, ask, target)),
            }
        }
        Face::Plain(plain)
            if target.mock().is_none() && deployment.place.path(target.dialect()).is_for_chat_alone() =>
        {
            Err(unserved(plain, deployment.provider.name))
        }
        Face::Plain(Plain::Rerank) => {
            let body = prepare_plain(ask.envelope, &deployment.shape, target.model()).join();
            let (body, asked) = ranking::request(deployment.provider, language, body.to_vec())?;
            let (body, back) = (Bytes::from(body).into(), Back::Ranks(Box::new(asked)));
            Ok(Outbound::new(Endpoint::Rerank, body, back))
        }
        Face::Plain(plain) if language == Language::OpenAi => Ok(as_it_is(plain, ask, target)),
        Face::Plain(plain) => Err(unserved(plain, deployment.provider.name)),
        Face::Hub => {
            let facts = &target.known().facts;
            let left = leave_out(ask.envelope, deployment.provider, target.model(), facts, ask.max_nesting)?;
            let chat = left.as_ref().unwrap_or(ask.envelope);
            let Spoken { body, betas, from, .. } = spoken(chat, ask, target, language)?;
            Ok(Outbound { betas, ..Outbound::new(endpoint, body, Back::Chat { from, shows_usage: true }) })
        }
        Face::Chat => {
            let Spoken { body, betas, from, shows_usage } = spoken(ask.envelope, ask, target, language)?;
            Ok(Outbound { betas, ..Outbound::new(endpoint, body, Back::Chat { from, shows_usage }) })
        }
    }
}

fn unserved(plain: Plain, provider: &str) -> Error {
    let message = format!("{} of the provider '{provider}' are not served yet.", plain.words());
    Error::new(Kind::NotServed, message).at_param("model")
}

/// What is no conversation, for an upstream that speaks OpenAI's format.
fn as_it_is(plain: Plain, ask: &Ask<'_>, target: &Target) -> Outbound {
    let body = prepare_plain(ask.envelope, &target.deployment.shape, target.model());
    let said = |name: &str| ask.envelope.string(name);
    let back = match plain {
        Plain::Transcription | Plain::Translation => {
            let format = said("response_format");
            Back::Transcript { is_text: matches!(format.as_deref(), Some("text" | "srt" | "vtt")) }
        }
        Plain::Images | Plain::ImageEdits | Plain::ImageVariations => Back::Pictures,
        _ => Back::Plain { in_base64: said("encoding_format").as_deref() == Some("base64") },
    };
    Outbound::new(plain.endpoint(), body, back)
}

/// Audio of a provider with words of its own.
fn audio_of(plain: Plain, ask: &Ask<'_>, target: &Target) -> Result<Outbound> {
    let (shape, language) = (&target.deployment.shape, target.dialect().language);
    if !matches!(plain, Plain::Transcription | Plain::Translation | Plain::Speech) {
        return Err(unserved(plain, target.deployment.provider.name));
    }
    let body = prepare_native(ask.envelope, shape, target.model()).join();
    let id = ask.id.simple().to_string();
    let facts = facts(ask, target, &id, shape.drops(ask.envelope));
    let audio::Request { path, body, file_alone, wish } = audio::request(language, plain, &body, &facts)?;
    let back = match plain {
        Plain::Speech => Back::Plain { in_base64: false },
        _ => Back::Heard { language, wish },
    };
    let detour = Some(Box::new(Detour { file_alone, ..Detour::path(path) }));
    Ok(Outbound { detour, ..Outbound::new(plain.endpoint(), Bytes::from(body).into(), back) })
}

/// What a translation must know of this call.
fn facts<'a>(ask: &Ask<'_>, target: &'a Target, id: &'a str, drop_params: bool) -> Facts<'a> {
    Facts {
        provider: target.deployment.provider.name,
        model: target.model(),
        streams: ask.streams,
        drop_params,
        max_output: target.known().facts.max_output_tokens,
        id,
        created: created(&ask.id),
    }
}

/// Embeddings of a provider with words of its own.
fn embeddings_of(style: vectors::Style, ask: &Ask<'_>, target: &Target) -> Result<Outbound> {
    let body = prepare_plain(ask.envelope, &target.deployment.shape, target.model()).join();
    let back = Back::Vectors {
        style,
        model: target.model().to_owned(),
        asked: body.len(),
        in_base64: ask.envelope.string("encoding_format").as_deref() == Some("base64"),
    };
    let detour = match style {
        vectors::Style::HuggingFace => {
            Some(Box::new(vectors::pipeline(&target.deployment.place.base, target.model())?))
        }
        _ => None,
    };
    let body = Bytes::from(vectors::request(style, &body, target.model())?).into();
    Ok(Outbound { detour, ..Outbound::new(Endpoint::Embeddings, body, back) })
}

/// A response that the upstream makes itself. What it does not keep of the conversation is sent along.
fn native_response(ask: &Ask<'_>, target: &Target) -> Result<Pieces> {
    let deployment = &target.deployment;
    let kept = |history: &&History| history.kept_by.as_ref() != Some(&deployment.id);
    let Some(history) = ask.history.filter(kept) else {
        return Ok(prepare_native(ask.envelope, &deployment.shape, target.model()));
    };
    let asked = responses::to_chat(ask.envelope.bytes(), history.items.clone())?;
    let items = serde_json::to_vec(&asked.items).map_err(|e| Error::invalid(e.to_string()))?;
    let mut edits = Edits::default();
    if let Some(place) = ask.envelope.find("previous_response_id") {
        edits.remove(place);
    }
    match ask.envelope.get("input") {
        Some(member) => edits.replace(member, items),
        None => edits.insert("input", items),
    }
    let whole = Envelope::parse(edits.apply(ask.envelope), ask.max_nesting)?;
    Ok(prepare_native(&whole, &deployment.shape, target.model()))
}

/// A chat completion in the upstream's language.
struct Spoken {
    body: Pieces,
    betas: Vec<&'static str>,
    from: Option<Box<foreign::Context>>,
    shows_usage: bool,
}

fn spoken(chat: &Envelope, ask: &Ask<'_>, target: &Target, language: Language) -> Result<Spoken> {
    let deployment = &target.deployment;
    let Prepared { body, shows_usage, drop_params } = prepare(chat, &deployment.shape, target.model(), ask.streams)?;
    if language == Language::OpenAi {
        let has_parts = deployment.provider.quirks.content_parts && target.mock().is_none();
        let from = has_parts.then(|| Box::new(foreign::Context::Parts));
        return Ok(Spoken { body, betas: Vec::new(), from, shows_usage });
    }
    let id = ask.id.simple().to_string();
    let facts = facts(ask, target, &id, drop_params);
    let foreign::Foreign { body, betas, context } = foreign::request(language, &body.join(), &facts)?;
    Ok(Spoken { body: Bytes::from(body).into(), betas, from: Some(Box::new(context)), shows_usage })
}

/// Seconds since 1970: the first 48 bits are milliseconds (RFC 9562, section 5.7).
fn created(id: &Uuid) -> u64 {
    id.as_bytes()[..6].iter().fold(0, |sum: u64, byte| sum << 8 | u64::from(*byte)) / 1000
}

/// Without thinking that is signed by nobody, which every server of Anthropic's format refuses.
fn signed_only(body: Pieces, envelope: &Envelope, target: &Target) -> Pieces {
    match anthropic::holds_unsigned(envelope.bytes()) {
        true => match anthropic::signed_only(&body.join(), target.model()) {
            Some(signed) => Bytes::from(signed).into(),
            None => body,
        },
        false => body,
    }
}

fn is_anthropics_own(target: &Target) -> bool {
    target.deployment.calls.host() == Some("api.anthropic.com")
}

/// The body of a `count_tokens` call to an upstream that counts for itself.
pub fn counting(envelope: &Envelope, target: &Target) -> Pieces {
    let mut edits = Edits::default();
    for name in ["max_tokens", "stream"] {
        if let Some(place) = envelope.find(name) {
            edits.remove(place);
        }
    }
    let body = edits.apply(envelope);
    // It was checked when it arrived.
    match Envelope::parse(body.clone(), usize::MAX) {
        Ok(plain) => signed_only(prepare_native(&plain, &target.deployment.shape, target.model()), envelope, target),
        Err(_) => body.into(),
    }
}

/// A whole answer in the caller's format.
#[derive(Debug)]
pub struct Whole {
    pub body: Bytes,
    /// What the call used.
    pub usage: Option<Usage>,
    /// The upstream's id of it.
    pub id: Option<String>,
    /// It is plain text.
    pub is_text: bool,
}

/// A whole answer in the caller's format, and what is to be known of it.
///
/// # Errors
/// The answer is an error in disguise, or makes no sense.
pub fn whole(back: &Back, body: Bytes, origin: &Arc<Origin>) -> Result<Whole> {
    let no_object = || {
        Error::new(
            Kind::Garbled,
            format!(
                "The answer of '{}' is not a JSON object; check that its api_base leads to an API.",
                origin.provider
            ),
        )
    };
    let no_choices = || {
        Error::new(
            Kind::Garbled,
            format!("The answer of '{}' holds no 'choices'; check that its api_base leads to an API.", origin.provider),
        )
    };
    let chat = |body: Bytes| {
        let seen = meter::whole(&body).map_err(|_| no_object())?;
        match (seen.is_error, seen.has_choices) {
            (true, _) => Err(from_upstream(origin, StatusCode::OK, &body)),
            (false, true) => Ok(Whole { body, usage: seen.usage, id: seen.id, is_text: false }),
            (false, false) => Err(no_choices()),
        }
    };
    let chat = |from: &Option<Box<foreign::Context>>, body: Bytes| match from {
        Some(context) => chat(foreign::answer(context, &body, origin)?.into()),
        None => chat(body),
    };
    match back {
        Back::Chat { from, .. } => chat(from, body),
        Back::Messages => match messages::native_usage(&body) {
            (_, true) => Err(from_upstream(origin, StatusCode::OK, &body)),
            (usage, false) => {
                let id = messages::native_id(&body);
                Ok(Whole { body, usage, id, is_text: false })
            }
        },
        Back::Responses => {
            let told = responses::native(&body);
            match told.is_error {
                true => Err(from_upstream(origin, StatusCode::OK, &body)),
                false => Ok(Whole { body, usage: told.usage, id: told.id, is_text: false }),
            }
        }
        Back::Completions { .. } => chat(&None, body),
        Back::Plain { in_base64 } => {
            let told = plain(&body).ok_or_else(no_object)?;
            if told.is_error {
                return Err(from_upstream(origin, StatusCode::OK, &body));
            }
            let encoded = if *in_base64 { embeddings::in_base64(&body) } else { None };
            Ok(Whole { body: encoded.map_or(body, Bytes::from), usage: told.usage, id: told.id, is_text: false })
        }
        Back::Vectors { style: style @ vectors::Style::HuggingFace, model, asked, in_base64 } => {
            let body = Bytes::from(vectors::answer(*style, &body, model, *asked, origin)?);
            let usage = plain(&body).and_then(|told| told.usage);
            let encoded = if *in_base64 { embeddings::in_base64(&body) } else { None };
            Ok(Whole { body: encoded.map_or(body, Bytes::from), usage, id: None, is_text: false })
        }
        Back::Vectors { style, model, asked, in_base64 } => {
            let told = plain(&body).ok_or_else(no_object)?;
            if told.is_error {
                return Err(from_upstream(origin, StatusCode::OK, &body));
            }
            let body = match style {
                vectors::Style::Named { .. } => body,
                _ => vectors::answer(*style, &body, model, *asked, origin)?.into(),
            };
            let usage = plain(&body).and_then(|told| told.usage);
            let encoded = if *in_base64 { embeddings::in_base64(&body) } else { None };
            Ok(Whole { body: encoded.map_or(body, Bytes::from), usage, id: told.id, is_text: false })
        }
        Back::GeminiVectors(inner, embeds) => {
            let told = whole(inner, body, origin)?;
            Ok(Whole { body: gemini::from_embeddings(&told.body, *embeds)?.into(), ..told })
        }
        Back::Ranks(asked) => {
            let told = plain(&body).ok_or_else(no_object)?;
            if told.is_error {
                return Err(from_upstream(origin, StatusCode::OK, &body));
            }
            let (changed, usage, id) = ranking::answer(&body, asked, origin)?;
            Ok(Whole { body: changed.map_or(body, Bytes::from), usage: Some(usage), id, is_text: false })
        }
        Back::Pictures => {
            let told = plain(&body).ok_or_else(no_object)?;
            if told.is_error {
                return Err(from_upstream(origin, StatusCode::OK, &body));
            }
            let usage = Usage { pictures_out: pictures(&body), ..told.usage.unwrap_or_default() };
            Ok(Whole { body, usage: Some(usage), id: told.id, is_text: false })
        }
        Back::Transcript { is_text } => match plain(&body) {
            Some(told) if told.is_error => Err(from_upstream(origin, StatusCode::OK, &body)),
            Some(told) => Ok(Whole { usage: wire::audio::usage(&body), body, id: told.id, is_text: false }),
            None if *is_text && std::str::from_utf8(&body).is_ok() => {
                Ok(Whole { body, usage: None, id: None, is_text: true })
            }
            None => Err(no_object()),
        },
        Back::Painted { created } => {
            let (body, usage) = replicate::painted(&body, *created, origin)?;
            Ok(Whole { body: body.into(), usage: Some(usage), id: None, is_text: false })
        }
        Back::Heard { language, wish } => {
            let heard = audio::heard(*language, &body, origin)?;
            // Else it is as long as its file.
            let told = heard.seconds.and_then(|_| heard.millis());
            let usage = told.map(|millis_in| Usage { millis_in, ..Usage::default() });
            let (body, is_text) = heard.told(*wish);
            Ok(Whole { body: body.into(), usage, id: heard.id, is_text })
        }
        Back::FromChat { from, to, .. } => {
            let answer = chat(from, body)?;
            let body = match to {
                Teller::Messages { model, id, names, .. } => {
                    let named = tool_names::restore(names, &answer.body);
                    messages::from_chat(named.as_deref().unwrap_or(&answer.body), model, id)?
                }
                Teller::Responses { echo, id, created, .. } => responses::from_chat(&answer.body, echo, id, *created)?,
                Teller::Gemini { model, id, thoughts } => gemini::from_chat(&answer.body, model, id, *thoughts)?,
                Teller::Completions => completions::from_chat(&answer.body)?,
            };
            Ok(Whole { body: body.into(), ..answer })
        }
    }
}

/// What is to be known of an answer that is one JSON object; none where it is something else. Its usage has OpenAI's
/// names, or those of Responses (images).
fn plain(body: &[u8]) -> Option<meter::Whole> {
    let mut told = meter::Whole { usage: None, id: None, is_error: false, has_choices: false };
    let (mut error, mut content) = (false, false);
    json::object(body, meter::MAX_DEPTH, |member| match &body[member.key] {
        b"usage" => {
            let text = &body[member.value.span];
            told.usage = Usage::read(text).or_else(|| responses::usage(text)).or_else(|| total(text)).or(told.usage);
        }
        b"id" => told.id = json::short_text(&body[member.value.span]),
        b"error" => error = member.value.kind != json::Kind::Null,
        b"data" | b"results" => content = member.value.kind == json::Kind::Array,
        _ => (),
    })
    .ok()?;
    told.is_error = error && !content;
    Some(told)
}

/// How many pictures an answer holds.
fn pictures(body: &[u8]) -> u64 {
    let mut count = 0;
    let _ = json::object(body, meter::MAX_DEPTH, |member| {
        if &body[member.key] == b"data" && member.value.kind == json::Kind::Array {
            count = member.value.items as u64;
        }
    });
    count
}

/// A usage that tells its total alone.
fn total(json: &[u8]) -> Option<Usage> {
    let total = serde_json::from_slice::<Value>(json).ok()?.get("total_tokens")?.as_u64()?;
    Some(Usage { prompt_tokens: total, ..Usage::default() })
}
