//! The lists of models that providers give: where they are asked for, and what they hold. Pure.

use super::{Cloud, Detour, Language, Provider};
use serde_json::Value;

/// More models than these are not listed.
const MOST: usize = 5000;
/// A longer name is none.
const LONGEST: usize = 256;

/// Where a provider lists its models; none where it has no list, or one of something else (Azure's is of models, and not
/// of deployments).
pub fn place(provider: &Provider, language: Language) -> Option<Detour> {
    if !matches!(provider.quirks.cloud, None | Some(Cloud::GithubCopilot)) {
        return None;
    }
    let (path, at_root) = match language {
        Language::OpenAi => ("models", false),
        Language::Anthropic => ("models?limit=1000", false),
        Language::Gemini => ("models?pageSize=1000", false),
        Language::Ollama => ("api/tags", false),
        // Its list has not moved to the second version.
        Language::Cohere => ("v1/models?page_size=1000&endpoint=chat", true),
        Language::Bedrock | Language::Replicate | Language::Deepgram | Language::ElevenLabs => return None,
    };
    Some(Detour { at_root, ..Detour::path(path.to_owned()) })
}

/// The names in a list; none where it is no list of models.
pub fn read(body: &[u8]) -> Option<Vec<String>> {
    let told: Value = serde_json::from_slice(body).ok()?;
    let list = told.as_array().or_else(|| told["data"].as_array()).or_else(|| told["models"].as_array())?;
    let converses = |model: &Value| match model["supportedGenerationMethods"].as_array() {
        Some(methods) => methods.iter().any(|method| method == "generateContent"),
        None => true,
    };
    let name = |model: &Value| {
        let name = ["id", "name", "model"].iter().find_map(|name| model[*name].as_str()).or(model.as_str())?;
        let name = name.strip_prefix("models/").unwrap_or(name);
        let is_one = !name.is_empty() && name.len() <= LONGEST && !name.contains(|c: char| c == '*' || c.is_control());
        is_one.then(|| name.to_owned())
    };
    Some(list.iter().filter(|model| converses(model)).filter_map(name).take(MOST).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::compatible::find;

    #[test]
    fn lists_of_all_forms_are_read() {
        let read = |text: &str| read(text.as_bytes()).map(|names| names.join(" "));
        assert_eq!(read(r#"{"object":"list","data":[{"id":"a"},{"id":"b/c"}]}"#).as_deref(), Some("a b/c"));
        assert_eq!(read(r#"[{"id":"a","type":"chat"},{"id":"*"},{"id":""},7]"#).as_deref(), Some("a"));
        assert_eq!(read(r#"{"models":[{"name":"qwen3:8b","model":"qwen3:8b"}]}"#).as_deref(), Some("qwen3:8b"));
        let gemini = r#"{"models":[{"name":"models/gemini-x","supportedGenerationMethods":["generateContent"]},
            {"name":"models/embed","supportedGenerationMethods":["embedContent"]}]}"#;
        assert_eq!(read(gemini).as_deref(), Some("gemini-x"));
        assert_eq!((read("{}"), read("<html>"), read(r#"{"data":[]}"#)), (None, None, Some(String::new())));
    }

    #[test]
    fn only_who_lists_models_is_asked() {
        let path = |name: &str| {
            let provider = find(name).unwrap();
            place(provider, provider.quirks.language).map(|detour| (detour.path, detour.at_root))
        };
        assert_eq!(path("groq"), Some(("models".to_owned(), false)));
        assert_eq!(path("cohere").map(|(_, at_root)| at_root), Some(true));
        assert_eq!((path("azure"), path("bedrock"), path("deepgram"), path("vertex_ai")), (None, None, None, None));
    }
}
