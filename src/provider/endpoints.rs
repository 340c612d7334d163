//! Which providers serve more than chat completions in OpenAI's format.

use super::Provider;

/// They keep responses and go on from them (OpenAI's Responses). Others have a route of that name too, but no memory
/// behind it, or not for every model: for them responses are made of chat completions.
const RESPONSES: &[&str] = &["openai", "azure", "xai"];

/// They complete texts (`/completions`), also the middle of one. For others it is made of chat completions.
const COMPLETIONS: &[&str] = &[
    "text-completion-openai",
    "openai_like",
    "litellm_proxy",
    "hosted_vllm",
    "sglang",
    "lm_studio",
    "llama_cpp",
    "llamafile",
    "ollama",
    "together_ai",
    "fireworks_ai",
    "deepinfra",
];

/// Whether a deployment makes responses itself. Behind an address of the operator's own is another server that speaks
/// OpenAI's format; that it has Responses is for him to say, by the mode `responses` in the model's facts.
pub fn makes_responses(provider: &Provider, at_home: bool, mode: Option<&str>, model: &str) -> bool {
    let is_openais = provider.name.starts_with("opencode") && model.starts_with("gpt-");
    mode == Some("responses") || (at_home && (is_openais || RESPONSES.contains(&provider.name)))
}

/// Whether the provider completes texts.
pub fn has_completions(provider: &Provider) -> bool {
    COMPLETIONS.contains(&provider.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::compatible::find;

    #[test]
    fn servers_of_ones_own_make_responses_only_if_it_is_said() {
        let openai = find("openai").unwrap();
        assert!(makes_responses(openai, true, None, "gpt-5"));
        assert!(!makes_responses(openai, false, Some("chat"), "gpt-5"));
        assert!(makes_responses(openai, false, Some("responses"), "gpt-5"));
        assert!(!makes_responses(find("groq").unwrap(), true, None, "gpt-oss"));
        // OpenCode hands each family on to its vendor.
        let zen = find("opencode").unwrap();
        assert!(makes_responses(zen, true, None, "gpt-5.6") && !makes_responses(zen, true, None, "glm-5"));
    }
}
