//! Languages other than OpenAI's, behind one door: a request out of the hub's, an answer back into it.
//!
//! Each language is a folder beside this file and an arm in each of the functions here.

#[cfg(test)]
mod tests;

use super::hub::{self, Fault, Frames, Out, Sink, Whole};
use super::{Facts, Language, anthropic, audio, bedrock, cohere, gemini, ollama, parts, replicate};
use crate::error::{Error, Kind, Origin, Result, from_upstream};
use crate::usage::Usage;
use crate::wire::feed::Framing;
use crate::wire::messages;
use actix_web::http::StatusCode;
use bytes::{Bytes, BytesMut};
use serde_json::json;
use std::borrow::Cow;

/// A body for an upstream that is not spoken to in OpenAI's language.
#[derive(Debug)]
pub struct Foreign {
    /// The JSON to send.
    pub body: Vec<u8>,
    /// Values that the `anthropic-beta` header must hold for this body.
    pub betas: Vec<&'static str>,
    /// What the answer's translation needs.
    pub context: Context,
}

/// What the way back of an answer must know about the request.
#[derive(Debug, Clone)]
pub enum Context {
    Anthropic {
        context: anthropic::Context,
        created: u64,
    },
    Hub {
        language: Language,
        context: hub::Context,
    },
    /// OpenAI's format, but for lists where that has texts.
    Parts,
}

/// The body that means the same as a checked chat completion (members that are the gateway's alone have left it).
///
/// # Errors
/// A 400 that names what cannot be said in this language.
pub fn request(language: Language, chat: &[u8], facts: &Facts<'_>) -> Result<Foreign> {
    let made = match language {
        // Nobody translates what is the same.
        Language::OpenAi | Language::Anthropic => {
            let own =
                anthropic::Facts { model: facts.model, drop_params: facts.drop_params, max_output: facts.max_output };
            let anthropic::Foreign { body, betas, context } = anthropic::request(chat, &own)?;
            return Ok(Foreign { body, betas, context: Context::Anthropic { context, created: facts.created } });
        }
        Language::Gemini => gemini::request(chat, facts),
        Language::Bedrock => bedrock::request(chat, facts),
        Language::Cohere => cohere::request(chat, facts),
        Language::Ollama => ollama::request(chat, facts),
        Language::Replicate => replicate::request(chat, facts),
        Language::Deepgram | Language::ElevenLabs => {
            let message = format!("The provider '{}' serves audio alone, and no conversations.", facts.provider);
            return Err(Error::new(Kind::NotServed, message).at_param("model"));
        }
    };
    let (body, context) = made?;
    Ok(Foreign { body, betas: Vec::new(), context: Context::Hub { language, context } })
}

/// Reads an answer in one language: pieces of a stream, or the whole.
#[derive(Debug)]
enum Reader {
    Gemini(gemini::Reader),
    Bedrock(bedrock::Reader),
    Cohere(cohere::Reader),
    Ollama(ollama::Reader),
    Replicate(replicate::Reader),
}

impl Reader {
    fn new(language: Language) -> Self {
        match language {
            Language::OpenAi | Language::Anthropic | Language::Gemini | Language::Deepgram | Language::ElevenLabs => {
                Reader::Gemini(gemini::Reader)
            }
            Language::Bedrock => Reader::Bedrock(bedrock::Reader),
            Language::Cohere => Reader::Cohere(cohere::Reader),
            Language::Ollama => Reader::Ollama(ollama::Reader),
            Language::Replicate => Reader::Replicate(replicate::Reader),
        }
    }

    /// Takes a piece of a stream; true where it was the last.
    fn piece(&mut self, data: &[u8], out: &mut Out<impl Sink>) -> std::result::Result<bool, Fault> {
        match self {
            Reader::Gemini(reader) => reader.piece(data, out),
            Reader::Bedrock(reader) => reader.piece(data, out),
            Reader::Cohere(reader) => reader.piece(data, out),
            Reader::Ollama(reader) => reader.piece(data, out),
            Reader::Replicate(reader) => reader.piece(data, out),
        }
    }

    fn whole(&mut self, body: &[u8], out: &mut Out<impl Sink>) -> std::result::Result<(), Fault> {
        match self {
            // An answer is a stream of one piece.
            Reader::Gemini(reader) => reader.piece(body, out).map(drop),
            Reader::Bedrock(reader) => reader.whole(body, out),
            Reader::Cohere(reader) => reader.whole(body, out),
            Reader::Ollama(reader) => reader.whole(body, out),
            Reader::Replicate(reader) => reader.whole(body, out),
        }
    }
}

/// The chat completion that means the same as a whole answer.
///
/// # Errors
/// The upstream's own error if the body is one, or [`Kind::Garbled`].
pub fn answer(context: &Context, body: &[u8], origin: &Origin) -> Result<Vec<u8>> {
    match context {
        Context::Parts => Ok(parts::flatten(body).unwrap_or_else(|| body.to_vec())),
        Context::Anthropic { context, created } => {
            let (_, is_error) = messages::native_usage(body);
            if is_error {
                return Err(from_upstream(origin, StatusCode::OK, &anthropic::error(body)));
            }
            anthropic::answer(body, context, *created)
        }
        Context::Hub { language, context } => {
            let mut out = Out::new(context.clone(), Whole::default());
            match Reader::new(*language).whole(body, &mut out) {
                Ok(()) => Ok(out.completion()),
                Err(fault) => Err(failed(&fault, origin)),
            }
        }
    }
}

/// What a whole answer means that is none.
pub(super) fn failed(fault: &Fault, origin: &Origin) -> Error {
    let told = fault.frame(origin.provider);
    match fault {
        Fault::Garbled(_) => Error::new(Kind::Garbled, told["error"]["message"].as_str().unwrap_or_default()),
        Fault::Told { .. } => from_upstream(origin, fault.status(), told.to_string().as_bytes()),
    }
}

/// What an error status means, in OpenAI's words.
#[derive(Debug)]
pub struct Refusal<'a> {
    pub status: StatusCode,
    pub body: Cow<'a, [u8]>,
    /// Seconds after which another try may succeed, where only the body says so.
    pub retry_after: Option<u64>,
}

impl<'a> Refusal<'a> {
    pub(super) fn plain(status: StatusCode, body: &'a [u8]) -> Self {
        Refusal { status, body: Cow::Borrowed(body), retry_after: None }
    }

    pub(super) fn told(status: u16, message: &str, kind: &str, code: Option<&str>) -> Self {
        let mut error = json!({"message": message});
        if !kind.is_empty() {
            error["type"] = kind.into();
        }
        if let Some(code) = code {
            error["code"] = code.into();
        }
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
        Refusal { status, body: Cow::Owned(json!({"error": error}).to_string().into_bytes()), retry_after: None }
    }
}

/// The body of an error status as an OpenAI-like upstream would have written it, for [`crate::error::from_upstream`].
/// What is not in the language's shape comes back as it was. `name` is what a header calls it, or nothing.
pub fn error<'a>(language: Language, status: StatusCode, name: &str, body: &'a [u8]) -> Refusal<'a> {
    match language {
        Language::OpenAi => Refusal::plain(status, body),
        Language::Anthropic => Refusal { status, body: anthropic::error(body), retry_after: None },
        Language::Gemini => gemini::error(status, body),
        Language::Bedrock => bedrock::error(status, name, body),
        Language::Cohere => cohere::error(status, body),
        Language::Ollama => ollama::error(status, body),
        Language::Replicate => replicate::error(status, body),
        Language::Deepgram => audio::deepgram_error(status, body),
        Language::ElevenLabs => audio::elevenlabs_error(status, body),
    }
}

/// A streamed answer on its way.
#[derive(Debug)]
pub struct Stream(Way);

#[derive(Debug)]
enum Way {
    Anthropic { stream: Box<anthropic::Stream>, out: BytesMut },
    Hub { reader: Reader, out: Box<Out<Frames>>, has_ended: bool },
    Parts(BytesMut),
}

impl Stream {
    pub fn new(context: Context) -> Self {
        Stream(match context {
            Context::Anthropic { context, created } => {
                Way::Anthropic { stream: Box::new(anthropic::Stream::new(context, created)), out: BytesMut::new() }
            }
            Context::Parts => Way::Parts(BytesMut::new()),
            Context::Hub { language, context } => Way::Hub {
                reader: Reader::new(language),
                out: Box::new(Out::new(context, Frames::default())),
                has_ended: false,
            },
        })
    }

    /// Takes a piece. An error, and what makes no sense, becomes a frame with an `error`, after which nothing follows.
    pub fn piece(&mut self, data: &[u8]) {
        match &mut self.0 {
            Way::Anthropic { stream, out } => stream.event(data, out),
            Way::Parts(out) => {
                for line in parts::flatten(data).as_deref().unwrap_or(data).split(|&b| b == b'\n') {
                    out.extend_from_slice(b"data: ");
                    out.extend_from_slice(line);
                    out.extend_from_slice(b"\n");
                }
                out.extend_from_slice(b"\n");
            }
            Way::Hub { has_ended: true, .. } => (),
            // Proxies of any API end their streams in OpenAI's way.
            Way::Hub { .. } if data.trim_ascii() == b"[DONE]" => (),
            Way::Hub { reader, out, has_ended } => match reader.piece(data, out) {
                Ok(false) => (),
                Ok(true) => {
                    out.done();
                    *has_ended = true;
                }
                Err(fault) => {
                    out.fail(&fault);
                    *has_ended = true;
                }
            },
        }
    }

    /// The upstream has closed the stream. One that did not end before is cut, and gets no end here either: who reads
    /// the frames sees that `[DONE]` is missing.
    pub fn end(&mut self) {
        match &mut self.0 {
            Way::Anthropic { stream, out } => stream.end(out),
            Way::Parts(_) => (),
            Way::Hub { out, has_ended, .. } => {
                if !*has_ended && out.has_finished() {
                    out.done();
                }
                *has_ended = true;
            }
        }
    }

    /// The chunks that were not taken yet.
    pub fn take(&mut self) -> Bytes {
        match &mut self.0 {
            Way::Anthropic { out, .. } | Way::Parts(out) => out.split().freeze(),
            Way::Hub { out, .. } => out.sink.take(),
        }
    }

    /// What is known of the usage before the end, for a stream that does not get there.
    pub fn usage_so_far(&self) -> Option<Usage> {
        match &self.0 {
            Way::Anthropic { stream, .. } => stream.usage_so_far(),
            Way::Hub { out, .. } => out.usage,
            Way::Parts(_) => None,
        }
    }
}

impl Context {
    pub fn framing(&self) -> Framing {
        match self {
            Context::Anthropic { .. } | Context::Parts => Framing::Sse,
            Context::Hub { language, .. } => language.framing(),
        }
    }
}
