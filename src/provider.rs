//! Upstream APIs: who they are, where they listen, which key they want, and how they differ from OpenAI.
//!
//! This file holds the vocabulary; the providers themselves are rows of [`compatible::PROVIDERS`]. Those that speak
//! another language than OpenAI's have a translation beside it.
//! Nothing here does I/O, reads a clock or the environment: a provider is a description, and [`prepare`] is a pure
//! function from the caller's bytes to the upstream's.

pub mod anthropic;
pub mod audio;
pub mod bedrock;
pub mod catalog;
pub mod cohere;
pub mod compatible;
pub mod credential;
pub mod endpoints;
mod fit;
pub mod foreign;
pub mod gemini;
pub mod hub;
mod inside;
mod leave_out;
pub mod ollama;
#[cfg(test)]
mod overview;
mod parts;
mod path;
mod prepare;
pub mod ranking;
pub mod replicate;
pub mod sigv4;
mod spent;
pub mod tool_names;
pub mod vectors;

use crate::pattern;
use crate::wire::feed::Framing;
use actix_web::http::header::{self, HeaderName, HeaderValue};
pub use fit::fit;
pub use inside::Inside;
pub use leave_out::{leave_out, wants_reasoning};
pub use path::{Detour, Endpoint, Path};
pub use prepare::{Prepared, Shape, Wishes, prepare, prepare_native, prepare_plain};
pub use spent::Spent;

/// An upstream API, as a row of a table.
#[derive(Debug)]
pub struct Provider {
    /// The prefix before the first `/` of a `provider/model` text, in lower case.
    pub name: &'static str,
    /// Other prefixes that mean the same provider.
    pub synonyms: &'static [&'static str],
    /// Default base URL, without a trailing slash; `None` where the operator must give one.
    /// `{NAME}` parts are filled from the environment variable of that name.
    pub base_url: Option<&'static str>,
    /// Environment variables that may hold the key, in the order in which they are tried.
    pub key_env: &'static [&'static str],
    /// Environment variables that may hold the base URL, in order.
    pub base_env: &'static [&'static str],
    /// How the key is shown to the upstream.
    pub auth: Auth,
    /// Whether a call without any key makes sense (a local server, a public test tier).
    pub key: KeyNeed,
    /// What differs from OpenAI's own API.
    pub quirks: Quirks,
}

/// Where the provider's key goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Auth {
    /// `Authorization: Bearer KEY`
    Bearer,
    /// `Authorization: WORD KEY`
    Scheme(&'static str),
    /// A header of the provider's own that holds the bare key.
    Header(&'static str),
    /// `x-api-key: KEY`, but `Authorization: Bearer KEY` for a token of Anthropic's OAuth and for `Bearer KEY`.
    Anthropic,
}

/// The wire format that an upstream speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// OpenAI's chat completions.
    OpenAi,
    /// Anthropic's Messages.
    Anthropic,
    /// Google's `generateContent`.
    Gemini,
    /// Amazon Bedrock's Converse.
    Bedrock,
    /// Cohere's chat.
    Cohere,
    /// Ollama's own chat.
    Ollama,
    /// Replicate's predictions.
    Replicate,
    /// Deepgram's audio, and nothing else.
    Deepgram,
    /// ElevenLabs' audio, and nothing else.
    ElevenLabs,
}

impl Language {
    /// How the pieces of a streamed answer follow each other.
    pub fn framing(self) -> Framing {
        match self {
            Language::OpenAi | Language::Anthropic | Language::Gemini | Language::Cohere => Framing::Sse,
            Language::Ollama => Framing::Lines,
            Language::Bedrock => Framing::EventStream,
            Language::Replicate => Framing::Named,
            // Nothing of theirs is translated piece by piece.
            Language::Deepgram | Language::ElevenLabs => Framing::Sse,
        }
    }

    /// Whether it is for audio, and nothing else.
    pub fn is_for_audio_alone(self) -> bool {
        matches!(self, Language::Deepgram | Language::ElevenLabs)
    }
}

/// What a translation must know of a call beyond its body.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    pub provider: &'static str,
    /// The upstream's name of the model: what it takes is told by its family and version.
    pub model: &'a str,
    pub streams: bool,
    /// Parameters without a twin are left out instead of refused.
    pub drop_params: bool,
    /// The model's output limit, if known.
    pub max_output: Option<u64>,
    /// The call's id, for answers that have none of their own.
    pub id: &'a str,
    /// Seconds since 1970.
    pub created: u64,
}

impl Auth {
    /// The header that shows `key`; none where the key holds characters that cannot stand in one.
    pub fn header(self, key: &str) -> Option<(HeaderName, HeaderValue)> {
        let (name, text) = match self {
            Auth::Bearer => (header::AUTHORIZATION, format!("Bearer {key}")),
            Auth::Scheme(word) => (header::AUTHORIZATION, format!("{word} {key}")),
            Auth::Header(name) => (HeaderName::from_static(name), key.to_owned()),
            Auth::Anthropic => {
                return match key.strip_prefix(anthropic::BEARER) {
                    Some(token) => Auth::Bearer.header(token),
                    None if anthropic::is_oauth(key) => Auth::Bearer.header(key),
                    None => Auth::Header("x-api-key").header(key),
                };
            }
        };
        let mut value = HeaderValue::from_str(&text).ok()?;
        value.set_sensitive(true);
        Some((name, value))
    }
}

/// Whether a deployment may be called without a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyNeed {
    /// A missing key is a configuration error.
    Required,
    /// No key, no header: never an empty bearer.
    Optional,
}

/// How an upstream reports usage in a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamUsage {
    /// It honours `stream_options.include_usage`, which is then always asked for.
    OnRequest,
    /// It must not be sent `stream_options`; usage comes by itself, or not at all.
    Unasked,
}

/// What a request's `metadata` is for. A map with values other than texts is always the gateway's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metadata {
    /// The gateway's alone.
    Ours,
    /// The provider's together with `store: true`, the gateway's otherwise.
    WhenStored,
    /// The provider's.
    Theirs,
}

/// Deviations from OpenAI's chat API. All member names are top-level members of the request body.
#[derive(Debug)]
pub struct Quirks {
    pub language: Language,
    /// How it writes the path of a call.
    pub path: Path,
    /// Models that are spoken to in another language: the first family whose pattern fits.
    pub families: &'static [Family],
    /// Whose accounts, regions and short-lived tokens its calls need.
    pub cloud: Option<Cloud>,
    /// Members the provider refuses: a 400 that names the member, or dropped under `drop_params`.
    pub unsupported: &'static [&'static str],
    /// `(from, to)`: members the provider knows under another name.
    pub rename: &'static [(&'static str, &'static str)],
    /// `(member, from, to)`: JSON texts of values that the provider spells differently.
    pub values: &'static [(&'static str, &'static str, &'static str)],
    /// `(member, word)`: values the provider refuses, where it takes others: the text itself, or the `type` of an object.
    /// A 400, or the member dropped under `drop_params`.
    pub refused_values: &'static [(&'static str, &'static str)],
    /// What differs inside of messages and tools.
    pub inside: Inside,
    /// `(member, json)`: members that are always sent with this value.
    pub force: &'static [(&'static str, &'static str)],
    /// Static request headers.
    pub headers: &'static [(&'static str, &'static str)],
    /// Put in front of an upstream model name without a path.
    pub model_prefix: &'static str,
    /// Whether messages of role `developer` are understood; elsewhere the role is sent as `system`.
    pub developer_role: bool,
    /// Whether `n` greater than 1 is served.
    pub many_choices: bool,
    /// Whose business `metadata` is.
    pub metadata: Metadata,
    /// Put behind an operator's base URL that has no path of its own: users write `http://host:11434` for Ollama.
    /// Anthropic's is put behind any that does not end with it.
    pub base_path: &'static str,
    /// Whether content of its answers may be a list of parts, where OpenAI has a text.
    pub content_parts: bool,
    /// How usage is asked for in a stream.
    pub stream_usage: StreamUsage,
    /// What is special about single models: the first rule whose pattern fits adds to the above.
    pub models: &'static [ModelQuirks],
}

/// A cloud: an address that depends on the account, and credentials other than a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cloud {
    Google,
    Aws,
    /// Azure OpenAI.
    Azure,
    /// The other models of Azure.
    AzureAi,
    /// IBM watsonx.
    Ibm,
    Databricks,
    GithubCopilot,
}

/// How some models of a provider are spoken to, in whole.
#[derive(Debug)]
pub struct Family {
    /// Patterns of upstream model names; `*` stands for any text.
    pub patterns: &'static [&'static str],
    pub dialect: Dialect,
}

/// The way in which a model is spoken to.
#[derive(Debug, Clone, Copy)]
pub struct Dialect {
    pub language: Language,
    pub path: Path,
    pub auth: Auth,
    /// Static request headers.
    pub headers: &'static [(&'static str, &'static str)],
}

impl Provider {
    /// How the model of this name is spoken to.
    pub fn dialect(&self, model: &str) -> Dialect {
        let Quirks { language, path, headers, families, .. } = self.quirks;
        let fits = |family: &&Family| family.patterns.iter().any(|p| pattern::capture(p, model).is_some());
        let family = families.iter().find(fits);
        family.map_or(Dialect { language, path, auth: self.auth, headers }, |family| family.dialect)
    }
}

/// Deviations of some models of a provider.
#[derive(Debug)]
pub struct ModelQuirks {
    /// Patterns of upstream model names; `*` stands for any text.
    pub patterns: &'static [&'static str],
    /// As [`Quirks::unsupported`].
    pub unsupported: &'static [&'static str],
    /// As [`Quirks::rename`].
    pub rename: &'static [(&'static str, &'static str)],
}

impl Quirks {
    /// An upstream that takes whatever OpenAI's own API takes.
    pub const NONE: Quirks = Quirks {
        language: Language::OpenAi,
        path: Path::OWN,
        families: &[],
        cloud: None,
        unsupported: &[],
        rename: &[],
        values: &[],
        refused_values: &[],
        inside: Inside::PLAIN,
        force: &[],
        headers: &[],
        model_prefix: "",
        developer_role: true,
        many_choices: true,
        metadata: Metadata::Ours,
        base_path: "",
        content_parts: false,
        stream_usage: StreamUsage::OnRequest,
        models: &[],
    };
}

/// Providers that are known and speak a language of their own, which is not served yet.
pub const FOREIGN: &[&str] = &[
    "sagemaker",
    "sagemaker_chat",
    "watsonx_text",
    "sap",
    "oci",
    "gigachat",
    "predibase",
    "nlp_cloud",
    "bytez",
    "triton",
    "stability",
    "recraft",
    "fal_ai",
    "black_forest_labs",
    "palm",
    "petals",
    "maritalk",
    "aleph_alpha",
    "text-completion-codestral",
    "ragflow",
    "langgraph",
    "langflow",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anthropics_keys_and_tokens_are_told_apart() {
        for (key, name, value) in [
            ("sk-ant-api03-x", "x-api-key", "sk-ant-api03-x"),
            ("sk-ant-oat01-x", "authorization", "Bearer sk-ant-oat01-x"),
            ("Bearer other", "authorization", "Bearer other"),
        ] {
            let (header, shown) = Auth::Anthropic.header(key).unwrap();
            assert_eq!((header.as_str(), shown.to_str().unwrap()), (name, value));
        }
    }
}
