//! Under which names a model may stand in a table.
//!
//! Nothing is guessed: a name is only ever freed of its region, its date, or its tag, never compared by its beginning.

/// Longer names are no model's.
const LONGEST: usize = 512;

/// LiteLLM's variants of a provider's name that share its prices.
const VARIANTS: &[(&str, &str)] = &[
    ("ai21_chat", "ai21"),
    ("azure_text", "azure"),
    ("bedrock_converse", "bedrock"),
    ("bigmodel", "zai"),
    ("cohere_chat", "cohere"),
    ("fireworks_ai-embedding-models", "fireworks_ai"),
    ("ollama_chat", "ollama"),
    ("qwen_ai_platform", "dashscope"),
    ("qwencloud", "dashscope"),
    ("sagemaker_chat", "sagemaker"),
    ("vertex_ai_beta", "vertex_ai"),
    ("watsonx_text", "watsonx"),
];

/// The provider under whose name the prices stand, in lower case.
pub fn provider(name: &str) -> String {
    let name = name.to_ascii_lowercase();
    if let Some((_, of)) = VARIANTS.iter().find(|(variant, _)| *variant == name) {
        return (*of).to_owned();
    }
    match name.strip_prefix("text-completion-") {
        Some(base) => base.to_owned(),
        None if name.starts_with("vertex_ai-") => "vertex_ai".to_owned(),
        None => name,
    }
}

/// Resellers whose models cost what their vendors ask: `(vendor in the name, provider)`.
const RESOLD: &[(&str, &str)] =
    &[("anthropic", "anthropic"), ("openai", "openai"), ("google", "gemini"), ("x-ai", "xai"), ("xai", "xai")];

/// The vendor's own provider and model for a `vendor/model` of a reseller that adds nothing to the price of a token.
pub fn vendor<'a>(provider: &str, model: &'a str) -> Option<(&'static str, &'a str)> {
    if !matches!(provider, "openrouter" | "vercel_ai_gateway") || is_free(model) {
        return None;
    }
    let (vendor, model) = model.split_once('/')?;
    RESOLD.iter().find(|(name, _)| vendor.eq_ignore_ascii_case(name)).map(|(_, provider)| (*provider, model))
}

/// The names to look for, the most exact first.
pub fn names(provider: &str, model: &str) -> Vec<String> {
    let model = model.to_ascii_lowercase();
    if model.is_empty() || model.len() > LONGEST {
        return Vec::new();
    }
    let mut names = vec![model.as_str()];
    if let Some((prefix, rest)) = model.split_once('/')
        && prefix == provider
    {
        names.push(rest);
    }
    let whole = names.last().copied().unwrap_or(&model);
    if provider == "gemini" {
        names.extend(whole.strip_prefix("models/"));
    }
    let mut place = whole;
    // Bedrock's names may have a route, a place and a group of places in front: `converse/us-east-1/us.`.
    for _ in 0..3 {
        let Some(rest) = without_place(provider, place) else { break };
        names.push(rest);
        place = rest;
    }
    let mut all: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    // Every name in its first form, then every name a suffix shorter, and so on: the exact comes first.
    let mut shorter = names;
    for _ in 0..4 {
        shorter = shorter.into_iter().filter_map(|name| without_suffix(provider, name)).collect();
        all.extend(shorter.iter().map(|name| (*name).to_owned()));
    }
    if provider == "fireworks_ai" && !model.contains('/') {
        all.push(format!("accounts/fireworks/models/{model}"));
    }
    if provider == "vertex_ai" {
        let base = whole.split('@').next().unwrap_or(whole);
        all.push(format!("{base}@default"));
    }
    // Some names hold the provider once more, in a spelling of its own: `amazon-nova/nova-pro-v1`.
    if provider.contains('_') && !whole.contains('/') {
        all.push(format!("{}/{whole}", provider.replace('_', "-")));
    }
    all
}

/// Without the region in which the model runs.
fn without_place<'a>(provider: &str, model: &'a str) -> Option<&'a str> {
    match provider {
        "bedrock" | "bedrock_mantle" => {
            if let Some((first, rest)) = model.split_once('/')
                && (is_region(first) || matches!(first, "converse" | "invoke" | "converse_like"))
            {
                return Some(rest);
            }
            let (first, rest) = model.split_once('.')?;
            matches!(first, "us" | "eu" | "apac" | "global" | "au" | "jp" | "ca" | "sa" | "us-gov").then_some(rest)
        }
        "azure" | "azure_ai" => {
            let (first, rest) = model.split_once('/')?;
            matches!(first, "us" | "eu" | "apac" | "global" | "global-standard").then_some(rest)
        }
        _ => None,
    }
}

/// `us-east-1`, `us-gov-west-1`.
fn is_region(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let words = |parts: &[&str]| parts.iter().all(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_lowercase()));
    match parts.split_last() {
        Some((number, before)) if (2..=3).contains(&before.len()) => {
            before[0].len() == 2 && words(before) && number.len() == 1 && number.bytes().all(|b| b.is_ascii_digit())
        }
        _ => false,
    }
}

fn is_free(model: &str) -> bool {
    model.ends_with(":free")
}

/// Without one of the endings that tell releases of the same model apart.
fn without_suffix<'a>(provider: &str, model: &'a str) -> Option<&'a str> {
    if let Some(tuned) = model.strip_prefix("ft:") {
        // `ft:MODEL:ORGANISATION:NAME:ID`; a tuned model never has the price of the one it came from.
        return match tuned.split_once(':') {
            Some((base, _)) => Some(&model[..3 + base.len()]),
            None => without_date(model),
        };
    }
    if let Some((base, tag)) = model.rsplit_once(':')
        && !tag.contains('/')
    {
        // What is free must not be taken for the model that is not.
        return (!is_free(model) && !base.is_empty()).then_some(base);
    }
    if let Some((base, _)) = model.rsplit_once('@')
        && !base.is_empty()
        && !base.ends_with('/')
    {
        return Some(base);
    }
    if let Some(base) = model.strip_suffix("-latest") {
        return Some(base);
    }
    if provider == "bedrock"
        && let Some((base, version)) = model.rsplit_once("-v")
        && !version.is_empty()
        && version.bytes().all(|b| b.is_ascii_digit())
    {
        return Some(base);
    }
    without_date(model)
}

/// Without `-2025-08-07` or `-20250807`.
fn without_date(model: &str) -> Option<&str> {
    let date = |length: usize, day: &dyn Fn(&str) -> Option<String>| {
        let base = model.get(..model.len().checked_sub(length + 1)?)?;
        let text = model.get(base.len()..)?.strip_prefix('-')?;
        (!base.is_empty() && super::schedule::day(&day(text)?).is_some()).then_some(base)
    };
    date(10, &|text| Some(text.to_owned()))
        .or_else(|| date(8, &|text| Some(format!("{}-{}-{}", text.get(..4)?, text.get(4..6)?, text.get(6..)?))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_lose_region_date_and_tag() {
        for (provider, model, expected) in [
            ("openai", "GPT-4o-2024-08-06", &["gpt-4o-2024-08-06", "gpt-4o"][..]),
            ("openai", "openai/gpt-4o", &["openai/gpt-4o", "gpt-4o"]),
            ("openai", "gpt-4o-mini", &["gpt-4o-mini"]),
            ("openai", "gpt-4o-2024-13-06", &["gpt-4o-2024-13-06"]),
            ("anthropic", "claude-3-5-haiku-latest", &["claude-3-5-haiku-latest", "claude-3-5-haiku"]),
            (
                "openai",
                "ft:gpt-4o-2024-08-06:org::id",
                &["ft:gpt-4o-2024-08-06:org::id", "ft:gpt-4o-2024-08-06", "ft:gpt-4o"],
            ),
            ("openrouter", "a/b:free", &["a/b:free"]),
            ("openrouter", "a/b:nitro", &["a/b:nitro", "a/b"]),
            (
                "vertex_ai",
                "claude-x@20250929",
                &["claude-x@20250929", "claude-x", "claude-x@default", "vertex-ai/claude-x@20250929"],
            ),
            ("azure", "eu/gpt-4o", &["eu/gpt-4o", "gpt-4o"]),
            ("openai", "eu/gpt-4o", &["eu/gpt-4o"]),
            ("cloudflare", "@cf/meta/x", &["@cf/meta/x"]),
            ("gemini", "models/gemini-x", &["models/gemini-x", "gemini-x"]),
        ] {
            assert_eq!(names(provider, model), expected, "{model}");
        }
        let bedrock = names("bedrock", "us-east-1/eu.anthropic.claude-x-20250929-v1:0");
        assert_eq!(bedrock[..3].last().map(String::as_str), Some("anthropic.claude-x-20250929-v1:0"));
        assert_eq!(bedrock.last().map(String::as_str), Some("anthropic.claude-x"));
    }

    #[test]
    fn providers_share_the_prices_of_their_variants() {
        for (name, expected) in [
            ("bedrock_converse", "bedrock"),
            ("vertex_ai-anthropic_models", "vertex_ai"),
            ("text-completion-openai", "openai"),
            ("Ollama_chat", "ollama"),
            ("acme", "acme"),
        ] {
            assert_eq!(provider(name), expected);
        }
        assert_eq!(vendor("openrouter", "anthropic/claude-x"), Some(("anthropic", "claude-x")));
        assert_eq!(vendor("openrouter", "anthropic/claude-x:free"), None);
        assert_eq!(vendor("deepinfra", "anthropic/claude-x"), None);
    }

    proptest! {
        #[test]
        fn any_name_is_taken_apart(model in ".{0,40}", provider in "bedrock|azure|openai|vertex_ai|gemini|fireworks_ai") {
            prop_assert!(names(&provider, &model).len() <= 32);
        }
    }
}
