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
    ImageEdits,
    ImageVariations,
    Transcriptions,
    Translations,
    Speech,
}

/// How a call is sent, where its endpoint alone does not say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Detour {
    /// Its path and query.
    pub path: String,
    /// They stand behind the host, and not behind the base URL.
    pub at_root: bool,
    /// Its file goes alone, and no form around it.
    pub file_alone: bool,
}

impl Detour {
    /// Another path behind the base URL.
    pub fn path(path: String) -> Self {
        Detour { path, at_root: false, file_alone: false }
    }
}

/// How a provider writes the path of a language.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path {
    /// As its inventor does, behind these segments: nothing, or text that ends with a slash.
    Behind(&'static str),
    /// The same behind the name of a deployment, as Azure's dated API has it.
    AzureDeployment,
    /// Vertex AI hands bodies of this vendor's API on to its models.
    VertexRaw(&'static str),
    /// IBM's, whose streams have a path of their own.
    Watsonx,
    /// Databricks': each endpoint of a workspace is invoked by its name, whatever it does.
    Invocations,
}

/// RFC 3986's unreserved characters, and `@`, go as they are; a model's name is one segment, whatever it holds.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'@');

impl Path {
    /// As the inventor of the language writes it.
    pub const OWN: Path = Path::Behind("");

    /// The path and, behind a `?`, the query of a call.
    pub fn write(self, language: Language, endpoint: Endpoint, model: &str) -> String {
        match (self, endpoint) {
            // Vertex AI asks for vectors as for any prediction.
            (Path::Behind("publishers/google/"), Endpoint::Embeddings) => {
                format!("publishers/google/models/{}:predict", segment(model))
            }
            (Path::Behind(prefix), _) => format!("{prefix}{}", own(language, endpoint, model)),
            // Its responses know the model from the body.
            (Path::AzureDeployment, Endpoint::Responses) => "openai/responses".to_owned(),
            (Path::AzureDeployment, _) => {
                format!("openai/deployments/{}/{}", segment(model), own(language, endpoint, model))
            }
            (Path::VertexRaw(vendor), Endpoint::Stream) => {
                format!("publishers/{vendor}/models/{}:streamRawPredict", segment(model))
            }
            (Path::VertexRaw(vendor), Endpoint::Count) => format!("publishers/{vendor}/models/count-tokens:rawPredict"),
            // What is no chat is asked of no such model.
            (Path::VertexRaw(vendor), _) => format!("publishers/{vendor}/models/{}:rawPredict", segment(model)),
            (Path::Invocations, _) => format!("{}/invocations", segment(model)),
            (Path::Watsonx, Endpoint::Stream) => "ml/v1/text/chat_stream".to_owned(),
            (Path::Watsonx, Endpoint::Embeddings) => "ml/v1/text/embeddings".to_owned(),
            (Path::Watsonx, _) => "ml/v1/text/chat".to_owned(),
        }
    }

    /// Whether nothing but conversations has a path there.
    pub fn is_for_chat_alone(self) -> bool {
        matches!(self, Path::VertexRaw(_) | Path::Watsonx)
    }

    /// Whether the path names the model, so that there is one for each.
    pub fn names_model(self, language: Language) -> bool {
        match self {
            Path::Behind(_) => match language {
                Language::OpenAi | Language::Anthropic | Language::Cohere | Language::Ollama => false,
                // Where a model is run.
                Language::Replicate => true,
                // A call names its own.
                Language::Deepgram | Language::ElevenLabs => false,
                Language::Gemini | Language::Bedrock => true,
            },
            Path::AzureDeployment | Path::VertexRaw(_) | Path::Invocations => true,
            Path::Watsonx => false,
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
        (Language::OpenAi, Endpoint::ImageEdits) => "images/edits".to_owned(),
        (Language::OpenAi, Endpoint::ImageVariations) => "images/variations".to_owned(),
        (Language::OpenAi, Endpoint::Transcriptions) => "audio/transcriptions".to_owned(),
        (Language::OpenAi, Endpoint::Translations) => "audio/translations".to_owned(),
        (Language::OpenAi, Endpoint::Speech) => "audio/speech".to_owned(),
        (Language::OpenAi, _) => "chat/completions".to_owned(),
        (Language::Anthropic, Endpoint::Count) => "messages/count_tokens".to_owned(),
        (Language::Anthropic, _) => "messages".to_owned(),
        (Language::Cohere, Endpoint::Embeddings) => "embed".to_owned(),
        (Language::Cohere, Endpoint::Rerank) => "rerank".to_owned(),
        (Language::Cohere, _) => "chat".to_owned(),
        (Language::Ollama, Endpoint::Embeddings) => "api/embed".to_owned(),
        (Language::Ollama, _) => "api/chat".to_owned(),
        (Language::Replicate, _) => super::replicate::route(model).0,
        (Language::Deepgram, Endpoint::Speech) => "speak".to_owned(),
        (Language::Deepgram, _) => "listen".to_owned(),
        (Language::ElevenLabs, Endpoint::Speech) => "v1/text-to-speech".to_owned(),
        (Language::ElevenLabs, _) => "v1/speech-to-text".to_owned(),
        (Language::Bedrock, Endpoint::Stream) => format!("model/{}/converse-stream", whole_segment(model)),
        (Language::Bedrock, Endpoint::Embeddings) => format!("model/{}/invoke", whole_segment(model)),
        (Language::Bedrock, Endpoint::Count) => format!("model/{}/count-tokens", whole_segment(model)),
        (Language::Bedrock, _) => format!("model/{}/converse", whole_segment(model)),
        (Language::Gemini, endpoint) => {
            let (kind, model) = match model.split_once('/') {
                Some((kind @ ("models" | "tunedModels"), model)) => (kind, model),
                _ => ("models", model),
            };
            let model = segment(model);
            match endpoint {
                Endpoint::Stream => format!("{kind}/{model}:streamGenerateContent?alt=sse"),
                Endpoint::Count => format!("{kind}/{model}:countTokens"),
                Endpoint::Embeddings => format!("{kind}/{model}:batchEmbedContents"),
                _ => format!("{kind}/{model}:generateContent"),
            }
        }
    }
}

pub(super) fn segment(text: &str) -> String {
    utf8_percent_encode(text, SEGMENT).to_string()
}

/// The same as Amazon's signatures want it.
fn whole_segment(text: &str) -> String {
    segment(text).replace('@', "%40")
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
        let path = |model| Path::OWN.write(Language::Bedrock, Endpoint::Call, model);
        assert_eq!(path("amazon.nova-pro-v1:0"), "model/amazon.nova-pro-v1%3A0/converse");
    }

    #[test]
    fn clouds_write_paths_of_their_own() {
        let azure = Path::AzureDeployment.write(Language::OpenAi, Endpoint::Stream, "my gpt");
        assert_eq!(azure, "openai/deployments/my%20gpt/chat/completions");
        let claude = |endpoint| Path::VertexRaw("anthropic").write(Language::Anthropic, endpoint, "claude-x@1");
        assert_eq!(claude(Endpoint::Stream), "publishers/anthropic/models/claude-x@1:streamRawPredict");
        assert_eq!(claude(Endpoint::Count), "publishers/anthropic/models/count-tokens:rawPredict");
    }
}
