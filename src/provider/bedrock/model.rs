//! What a model's name says: where it runs, and what its family takes.

use crate::provider::anthropic::Traits;

/// A name taken apart, as LiteLLM's users write it: `converse/us-east-1/anthropic.claude-x`.
#[derive(Debug, PartialEq, Eq)]
pub struct Named<'a> {
    /// The region in front of the model, or in its ARN.
    pub region: Option<&'a str>,
    /// What stands in the path of a call.
    pub id: &'a str,
}

/// Takes the name of a model apart.
pub fn named(model: &str) -> Named<'_> {
    let mut rest = model;
    for route in ["converse/", "converse_like/", "invoke/"] {
        rest = rest.strip_prefix(route).unwrap_or(rest);
    }
    let mut region = None;
    if let Some((first, id)) = rest.split_once('/')
        && is_region(first)
    {
        (region, rest) = (Some(first), id);
    }
    if let Some(arn) = rest.strip_prefix("arn:") {
        region = arn.split(':').nth(2).filter(|region| is_region(region)).or(region);
    }
    Named { region, id: rest }
}

fn is_region(text: &str) -> bool {
    let words: Vec<&str> = text.split('-').collect();
    let letters = |word: &&str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase());
    match words.split_last() {
        Some((number, before)) if (2..=3).contains(&before.len()) => {
            before.iter().all(letters) && number.len() == 1 && number.bytes().all(|b| b.is_ascii_digit())
        }
        _ => false,
    }
}

/// Whose model it is, as far as that decides about a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    Claude(Traits),
    Nova,
    /// OpenAI's open models.
    GptOss,
    Mistral,
    Other,
}

impl Family {
    pub(super) fn of(model: &str) -> Family {
        let has = |part: &str| model.contains(part);
        if has("claude") {
            Family::Claude(Traits::of(model))
        } else if has("nova") {
            Family::Nova
        } else if has("gpt-oss") {
            Family::GptOss
        } else if has("mistral.") {
            Family::Mistral
        } else {
            Family::Other
        }
    }

    /// Takes marks of what to cache; the others answer them with a 400.
    pub(super) fn caches(self) -> bool {
        matches!(self, Family::Claude(_) | Family::Nova)
    }

    /// Takes a choice that forces a call.
    pub(super) fn is_forceable(self) -> bool {
        match self {
            Family::Claude(traits) => traits.forced_tool,
            Family::Nova | Family::Mistral => true,
            Family::GptOss | Family::Other => false,
        }
    }

    /// Takes a schema for its answer.
    pub(super) fn is_structured(self) -> bool {
        matches!(self, Family::Claude(traits) if traits.structured)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart() {
        let of = |model| {
            let Named { region, id } = named(model);
            (region, id)
        };
        assert_eq!(of("amazon.nova-pro-v1:0"), (None, "amazon.nova-pro-v1:0"));
        assert_eq!(of("converse/us.anthropic.claude-x-v1:0"), (None, "us.anthropic.claude-x-v1:0"));
        assert_eq!(of("us-gov-west-1/anthropic.claude-x"), (Some("us-gov-west-1"), "anthropic.claude-x"));
        let arn = "arn:aws:bedrock:eu-west-3:123:inference-profile/eu.anthropic.claude-x";
        assert_eq!(of(arn), (Some("eu-west-3"), arn));
    }
}
