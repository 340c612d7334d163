//! Which provider a written model means.

use crate::config::file;
use crate::pattern;
use crate::provider::{self, Provider, compatible};

pub(super) enum Named {
    Served(&'static Provider, String),
    /// Known, and not spoken yet.
    Foreign(String, String),
}

/// The escape hatch's row: sends what the client sent.
pub(super) fn fallback() -> &'static Provider {
    compatible::find("openai_like").unwrap_or(&compatible::PROVIDERS[0])
}

/// Which provider is meant: the explicit one, the prefix, the address, the family of a bare name; in this order.
/// Never by a part of a text.
pub(super) fn provider_of(model: &file::Model, base: Option<&str>) -> Result<Named, String> {
    let by_name = |name: &str, upstream: &str| {
        compatible::find(name)
            .map(|p| Named::Served(p, upstream.to_owned()))
            .or_else(|| provider::FOREIGN.contains(&name).then(|| Named::Foreign(name.to_owned(), upstream.to_owned())))
    };
    let text = &model.model;
    if text.is_empty() {
        return Err("`model` is empty; write `provider/model`, such as `openai/gpt-4o`".to_owned());
    }
    if let Some(name) = &model.provider {
        let upstream = text.strip_prefix(name.as_str()).and_then(|rest| rest.strip_prefix('/')).unwrap_or(text);
        return by_name(name, upstream).ok_or_else(|| unknown_provider(name));
    }
    if let Some((name, upstream)) = text.split_once('/')
        && let Some(named) = by_name(name, if text == "openrouter/auto" { text } else { upstream })
    {
        return if upstream.is_empty() {
            Err(format!("`{text}` names no model behind the provider"))
        } else {
            Ok(named)
        };
    }
    if let Some(provider) = base.and_then(compatible::by_base_url) {
        return Ok(Named::Served(provider, text.clone()));
    }
    if let Some(name) = family(text)
        && let Some(named) = by_name(name, text)
    {
        return Ok(named);
    }
    match text.split_once('/') {
        Some((name, _)) => Err(unknown_provider(name)),
        None => Err(format!(
            "`{text}` names no provider: write `provider/{text}`, such as `openai/{text}` for anything that speaks OpenAI's API"
        )),
    }
}

/// The provider of a model that is known by its bare name.
fn family(model: &str) -> Option<&'static str> {
    const FAMILIES: &[(&str, &[&str])] = &[
        ("openai", &["gpt-*", "chatgpt-*", "o1", "o1-*", "o3", "o3-*", "o4-*"]),
        ("anthropic", &["claude-*"]),
        ("vertex_ai", &["gemini-*"]),
        ("cohere_chat", &["command-*"]),
    ];
    FAMILIES
        .iter()
        .find(|(_, patterns)| patterns.iter().any(|p| pattern::capture(p, model).is_some()))
        .map(|(name, _)| *name)
}

fn unknown_provider(name: &str) -> String {
    let hint = compatible::nearest(name).map_or(String::new(), |near| format!(" Did you mean `{near}`?"));
    format!(
        "unknown provider `{name}`.{hint} For a server that speaks OpenAI's API write `openai/MODEL` and set api_base"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lookalike_address_is_no_provider() {
        let model = file::Model { name: "a".into(), model: "llama".into(), ..file::Model::default() };
        assert!(
            matches!(provider_of(&model, Some("https://api.groq.com/openai/v1")), Ok(Named::Served(p, _)) if p.name == "groq")
        );
        for base in [
            "https://evil.example/api.groq.com/openai/v1",
            "https://api.groq.com.evil.example/openai/v1",
            "https://api.groq.com@evil.example/openai/v1",
            "http://api.groq.com/openai/v1",
        ] {
            assert!(provider_of(&model, Some(base)).is_err(), "{base}");
        }
    }
}
