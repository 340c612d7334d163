//! What a model takes, told by its name: the family and version of `claude-FAMILY-MAJOR-MINOR-DATE` and of the older
//! `claude-MAJOR-MINOR-FAMILY`, wherever in the name they stand.
//!
//! Source: Anthropic's model and feature pages (extended thinking, effort, structured outputs, tool choice).

/// Abilities and refusals of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::provider) struct Traits {
    /// Takes `thinking` at all.
    pub thinks: bool,
    /// Takes `thinking: {type: adaptive}`.
    pub adaptive: bool,
    /// Takes `thinking: {type: enabled, budget_tokens}`.
    pub budget: bool,
    /// Refuses `thinking: {type: disabled}`.
    pub always_thinks: bool,
    /// Takes `output_config.effort`.
    pub effort: bool,
    /// Knows `output_config.effort` only with a beta header.
    pub effort_is_beta: bool,
    /// The efforts above `high`.
    pub effort_xhigh: bool,
    pub effort_max: bool,
    /// Takes `temperature`, `top_p` and `top_k`.
    pub sampling: bool,
    /// Takes `temperature` and `top_p` in one request.
    pub temperature_and_top_p: bool,
    /// Takes `output_config.format` and strict tools.
    pub structured: bool,
    /// Takes a `tool_choice` that forces a call.
    pub forced_tool: bool,
    /// Takes `system` messages in the midst of the conversation.
    pub mid_system: bool,
}

impl Traits {
    /// The traits of the model of that name. A name that says no version is taken for a server of someone else's that
    /// speaks the format: what all of them understand.
    pub(in crate::provider) fn of(model: &str) -> Traits {
        let Some(Claude { family, version }) = Claude::read(&model.to_ascii_lowercase()) else {
            return Traits {
                thinks: true,
                adaptive: false,
                budget: true,
                always_thinks: false,
                effort: false,
                effort_is_beta: false,
                effort_xhigh: false,
                effort_max: false,
                sampling: true,
                temperature_and_top_p: true,
                structured: false,
                forced_tool: true,
                mid_system: false,
            };
        };
        let new_line = matches!(family, Family::Fable | Family::Mythos);
        let at_least = |wanted: (u8, u8)| version >= wanted || new_line;
        let flagship = matches!(family, Family::Opus | Family::Sonnet);
        // The first Mythos has no number and refuses forced tools as its successor does.
        let unforced = (flagship && version >= (5, 5))
            || (new_line && version >= (5, 1))
            || (family == Family::Mythos && version == (0, 0));
        Traits {
            thinks: at_least((3, 7)),
            adaptive: at_least((4, 6)),
            budget: at_least((3, 7)) && version < (4, 7) && !new_line,
            always_thinks: new_line || (flagship && version >= (5, 5)),
            effort: at_least((4, 6)) || (family == Family::Opus && version == (4, 5)),
            effort_is_beta: family == Family::Opus && version == (4, 5),
            effort_xhigh: at_least((4, 7)),
            effort_max: at_least((4, 6)),
            sampling: !at_least((4, 7)),
            temperature_and_top_p: version < (4, 1) && !new_line,
            structured: at_least((4, 5)),
            forced_tool: !unforced,
            mid_system: at_least((4, 8)),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Opus,
    Sonnet,
    Haiku,
    Fable,
    Mythos,
    Other,
}

struct Claude {
    family: Family,
    /// Zeros for a member of a new line without a number.
    version: (u8, u8),
}

impl Claude {
    fn read(name: &str) -> Option<Claude> {
        let rest = &name[name.find("claude-")? + "claude-".len()..];
        let mut family = Family::Other;
        let mut numbers: Vec<u8> = Vec::new();
        let mut version_ended = false;
        for word in rest.split(['-', '.', '@', ':', '/', '_']) {
            match word.parse::<u8>() {
                // Longer numbers are dates.
                Ok(number) if word.len() <= 2 && !version_ended && numbers.len() < 2 => numbers.push(number),
                _ => version_ended = !numbers.is_empty(),
            }
            family = match word {
                "opus" => Family::Opus,
                "sonnet" => Family::Sonnet,
                "haiku" => Family::Haiku,
                "fable" => Family::Fable,
                "mythos" => Family::Mythos,
                _ => family,
            };
        }
        if numbers.is_empty() && !matches!(family, Family::Fable | Family::Mythos) {
            return None;
        }
        let number = |at: usize| numbers.get(at).copied().unwrap_or(0);
        Some(Claude { family, version: (number(0), number(1)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_every_age_and_host_are_read() {
        for (name, family, version) in [
            ("claude-3-7-sonnet-20250219", Family::Sonnet, (3, 7)),
            ("claude-sonnet-4-20250514", Family::Sonnet, (4, 0)),
            ("us.anthropic.claude-opus-4-7-v1:0", Family::Opus, (4, 7)),
            ("anthropic/claude-opus-4.6", Family::Opus, (4, 6)),
            ("claude-haiku-4-5@20251001", Family::Haiku, (4, 5)),
            ("claude-fable-5-1", Family::Fable, (5, 1)),
            ("claude-mythos-preview", Family::Mythos, (0, 0)),
            ("claude-2.1", Family::Other, (2, 1)),
        ] {
            let claude = Claude::read(name).unwrap();
            assert_eq!((claude.family, claude.version), (family, version), "{name}");
        }
        assert!(Claude::read("MiniMax-M2").is_none());
    }

    #[test]
    fn what_a_model_takes_follows_its_version() {
        let old = Traits::of("claude-3-5-haiku-latest");
        assert!(!old.thinks && old.sampling && !old.structured && old.forced_tool);
        let both = Traits::of("claude-opus-4-6");
        assert!(both.adaptive && both.budget && both.sampling && both.effort_max && !both.effort_xhigh);
        let new = Traits::of("claude-sonnet-5-5");
        assert!(new.always_thinks && !new.forced_tool && !new.sampling && new.mid_system);
        let haiku = Traits::of("claude-haiku-5-5");
        assert!(!haiku.always_thinks && haiku.forced_tool && !haiku.sampling);
        assert!(Traits::of("deepseek-chat").budget);
    }
}
