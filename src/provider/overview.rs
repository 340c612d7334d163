//! The table of `docs/providers.md`: what is served of each provider, by the same functions that serve it.
//!
//! With `GATEWAY_BLESS` set the document is written; else it must be what would be written.

use super::compatible::PROVIDERS;
use super::{FOREIGN, Family, KeyNeed, Language, Provider, Quirks, StreamUsage, endpoints, ranking, vectors};

const PLACE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/providers.md");

const INTRODUCTION: &str = "\
# Providers

Written by the program's own tables (`GATEWAY_BLESS=1 cargo test overview`), and checked against them. A deployment names
its provider before the first slash of `model`; rows are defaults, and every address, key and parameter can be set for a
single deployment ([configuration.md](configuration.md)).

How to read it:

- **=** the request goes on in the format that it came in, byte for byte but for what has to differ. Whether the provider
  has that endpoint, and for which of its models, is its own business.
- **~** the request is translated into the provider's language, and the answer back.
- **-** not served: a 501 that says so.
- *Own language* is what it is spoken to in; *stream* how usage comes in a stream: asked for, or by itself.
- *Tools*, *images* and *thinking* say whether those parameters go on; what a single model takes is told by its facts
  (`/model/info`). A parameter that the provider refuses is a 400 that names it, or dropped under `drop_params`.
- *Other* stands for `/v1/moderations`, `/v1/images/*` and `/v1/audio/*`; *~ audio* for transcriptions and speech, *~ pictures* for `/v1/images/generations`,
  translated.

Anthropic's Messages over an upstream of another language, Responses where the upstream makes none, and text completions
where it completes none are made of its chat completions, streams included.
";

fn language(language: Language) -> &'static str {
    match language {
        Language::OpenAi => "OpenAI",
        Language::Anthropic => "Anthropic",
        Language::Gemini => "Gemini",
        Language::Bedrock => "Converse",
        Language::Cohere => "Cohere",
        Language::Ollama => "Ollama",
        Language::Replicate => "Replicate",
        Language::Deepgram => "Deepgram",
        Language::ElevenLabs => "ElevenLabs",
    }
}

/// All languages that its models are spoken to in.
fn languages(quirks: &Quirks) -> String {
    let mut all = vec![language(quirks.language)];
    for Family { dialect, .. } in quirks.families {
        let name = language(dialect.language);
        if !all.contains(&name) {
            all.push(name);
        }
    }
    all.join(", ")
}

fn row(provider: &Provider) -> String {
    let quirks = &provider.quirks;
    let own = quirks.language;
    let is_for_audio_alone = own.is_for_audio_alone();
    let mark = |is_native: bool| match is_native {
        _ if is_for_audio_alone => "-",
        true => "=",
        false => "~",
    };
    let takes = |name: &str| {
        if is_for_audio_alone {
            "-"
        } else if quirks.unsupported.contains(&name) {
            "no"
        } else {
            "yes"
        }
    };
    let is_for_chat_alone = quirks.path.is_for_chat_alone();
    let embeds = match vectors::style(provider, own, provider.base_url.unwrap_or_default()) {
        Ok(None | Some(vectors::Style::Named { .. })) => "=",
        Ok(Some(_)) => "~",
        Err(_) => "-",
    };
    let ranks = match ranking::request(provider, own, b"{}".to_vec()) {
        Ok(_) if !is_for_chat_alone => mark(own == Language::OpenAi),
        _ => "-",
    };
    let key = match (provider.cloud_name(), provider.key_env, provider.key) {
        (Some(cloud), ..) => cloud.to_owned(),
        (_, [], _) => "none".to_owned(),
        (_, [first, ..], KeyNeed::Required) => format!("`{first}`"),
        (_, [first, ..], KeyNeed::Optional) => format!("`{first}`, if any"),
    };
    let sees = if is_for_audio_alone {
        "-"
    } else if quirks.inside.text_roles.contains(&"user") {
        "no"
    } else {
        "yes"
    };
    let stream = match quirks.stream_usage {
        _ if is_for_audio_alone => "-",
        StreamUsage::OnRequest => "asked for",
        StreamUsage::Unasked => "by itself",
    };
    let names = [provider.name].into_iter().chain(provider.synonyms.iter().copied());
    let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    let cells = [
        names.join(" "),
        languages(quirks),
        key,
        mark(own == Language::OpenAi).to_owned(),
        mark(own == Language::Anthropic).to_owned(),
        mark(endpoints::makes_responses(provider, true, None, "*")).to_owned(),
        mark(own == Language::OpenAi && endpoints::has_completions(provider)).to_owned(),
        embeds.to_owned(),
        ranks.to_owned(),
        match own {
            _ if is_for_audio_alone => "~ audio",
            Language::Replicate => "~ pictures",
            Language::OpenAi if !is_for_chat_alone => "=",
            _ => "-",
        }
        .to_owned(),
        stream.to_owned(),
        takes("tools").to_owned(),
        sees.to_owned(),
        takes("reasoning_effort").to_owned(),
    ];
    format!("| {} |\n", cells.join(" | "))
}

impl Provider {
    fn cloud_name(&self) -> Option<&'static str> {
        use super::Cloud;
        Some(match self.quirks.cloud? {
            Cloud::Google => "Google account",
            Cloud::Aws => "AWS account",
            Cloud::Azure | Cloud::AzureAi => "Azure key or Entra",
            Cloud::Ibm => "IBM key",
            Cloud::Databricks => "Databricks token or OAuth",
            Cloud::GithubCopilot => "GitHub token",
        })
    }
}

fn document() -> String {
    let mut text = INTRODUCTION.to_owned();
    let heads = [
        "Provider",
        "Own language",
        "Key",
        "Chat",
        "Messages",
        "Responses",
        "Completions",
        "Embeddings",
        "Rerank",
        "Other",
        "Stream",
        "Tools",
        "Images",
        "Thinking",
    ];
    text += &format!("\n| {} |\n|{}\n", heads.join(" | "), "---|".repeat(heads.len()));
    text.extend(PROVIDERS.iter().map(row));
    let foreign: Vec<String> = FOREIGN.iter().map(|name| format!("`{name}`")).collect();
    text += &format!("\nKnown and not served: {}.\n", foreign.join(", "));
    text
}

#[test]
fn the_table_of_providers_is_current() {
    let wanted = document();
    if std::env::var_os("GATEWAY_BLESS").is_some() {
        std::fs::write(PLACE, &wanted).unwrap();
    }
    let written = std::fs::read_to_string(PLACE).unwrap_or_default();
    assert!(written == wanted, "docs/providers.md is not what the tables say; write it anew with GATEWAY_BLESS=1");
}
