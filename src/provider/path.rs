//! Where a call goes behind the base URL of its upstream.

use super::Language;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// What an upstream is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// An answer in one piece.
    Call,
    /// An answer as it is made.
    Stream,
    /// The number of tokens that a call would have (Anthropic's `count_tokens`).
    Count,
    /// A response, in one piece or as it is made (OpenAI's Responses).
    Responses,
    /// A text completion, in one piece or as it is made.
    Completions,
    Embeddings,
    Rerank,
    Moderations,
    Images,
}

/// How a provider writes the path of a language.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path {
    /// As its inventor does, behind these segments: nothing, or text that ends with a slash.
    Behind(&'static str),
}

/// RFC 3986's unreserved characters go as they are; a model's name is one segment, whatever it holds.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

impl Path {
    /// As the inventor of the language writes it.
    pub const OWN: Path = Path::Behind("");

    /// The path and, behind a `?`, the query of a call.
    pub fn write(self, language: Language, endpoint: Endpoint, model: &str) -> String {
        match self {
            Path::Behind(prefix) => format!("{prefix}{}", own(language, endpoint, model)),
        }
    }

    /// Whether the path names the model, so that there is one for each.
    pub fn names_model(self, language: Language) -> bool {
        match self {
            Path::Behind(_) => match language {
                Language::OpenAi | Language::Anthropic => false,
                Language::Gemini => true,
            },
        }
    }

    /// What users paste behind a base, although it is not theirs to write.
    pub fn pasted(self, language: Language) -> Option<String> {
        (!self.names_model(language)).then(|| self.write(language, Endpoint::Call, ""))
    }
}

fn own(language: Language, endpoint: Endpoint, model: &str) -> String {
    match (language, endpoint) {
        (Language::OpenAi, Endpoint::Responses) => "responses".to_owned(),
        (Language::OpenAi, Endpoint::Completions) => "completions".to_owned(),
        (Language::OpenAi, Endpoint::Embeddings) => "embeddings".to_owned(),
        (Language::OpenAi, Endpoint::Rerank) => "rerank".to_owned(),
        (Language::OpenAi, Endpoint::Moderations) => "moderations".to_owned(),
        (Language::OpenAi, Endpoint::Images) => "images/generations".to_owned(),
        (Language::OpenAi, _) => "chat/completions".to_owned(),
        (Language::Anthropic, Endpoint::Count) => "messages/count_tokens".to_owned(),
        (Language::Anthropic, _) => "messages".to_owned(),
        (Language::Gemini, endpoint) => {
            let (kind, model) = match model.split_once('/') {
                Some((kind @ ("models" | "tunedModels"), model)) => (kind, model),
                _ => ("models", model),
            };
            let model = segment(model);
            match endpoint {
                Endpoint::Stream => format!("{kind}/{model}:streamGenerateContent?alt=sse"),
                Endpoint::Count => format!("{kind}/{model}:countTokens"),
                _ => format!("{kind}/{model}:generateContent"),
            }
        }
    }
}

fn segment(text: &str) -> String {
    utf8_percent_encode(text, SEGMENT).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_models_name_is_one_segment() {
        let path = |model| Path::OWN.write(Language::Gemini, Endpoint::Stream, model);
        assert_eq!(path("gemini-2.5-pro"), "models/gemini-2.5-pro:streamGenerateContent?alt=sse");
        assert_eq!(path("models/x"), "models/x:streamGenerateContent?alt=sse");
        assert_eq!(path("../x?y#z"), "models/..%2Fx%3Fy%23z:streamGenerateContent?alt=sse");
    }
}
