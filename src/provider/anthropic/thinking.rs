//! Thinking: from `reasoning_effort`, or the caller's own `thinking`, to what the model takes.
//!
//! Source: the "extended thinking", "adaptive thinking" and "effort" pages; the budgets are LiteLLM's defaults.

use super::model::Traits;
use crate::error::Error;
use serde_json::{Value, json};

/// The smallest budget that Anthropic takes.
const SMALLEST_BUDGET: u64 = 1024;

/// What is sent about thinking.
#[derive(Debug, Default, Clone, PartialEq)]
pub(in crate::provider) struct Plan {
    pub thinking: Option<Value>,
    /// For `output_config.effort`.
    pub effort: Option<&'static str>,
}

impl Plan {
    /// Reads `reasoning_effort` (a word, or an object that holds one) and `thinking`; the latter wins. `None` where the
    /// effort cannot be had from this model.
    ///
    /// # Errors
    /// A 400 for an effort that is none.
    pub(in crate::provider) fn read(
        effort: &Value,
        thinking: Option<Value>,
        traits: Traits,
    ) -> Result<Option<Plan>, Error> {
        if let Some(thinking) = thinking {
            return Ok(Some(Plan::native(thinking, traits)));
        }
        let word = effort.as_str().or_else(|| effort["effort"].as_str());
        let Some(word) = word else {
            return if effort.is_null() || effort.is_object() { Ok(Some(Plan::default())) } else { Err(no_effort()) };
        };
        let Some(level) = Level::read(word) else { return Err(no_effort()) };
        if level == Level::None {
            return Ok(Some(Plan::off(traits)));
        }
        if !traits.thinks {
            return Ok(None);
        }
        Ok(Some(if traits.adaptive {
            // Without it the text of the thinking is left out.
            let thinking = Some(json!({"type": "adaptive", "display": "summarized"}));
            Plan { thinking, effort: Some(level.effort(traits)) }
        } else {
            Plan { thinking: Some(enabled(level.budget())), effort: None }
        }))
    }

    /// The caller's own, in the form which the model knows.
    fn native(thinking: Value, traits: Traits) -> Plan {
        match thinking["type"].as_str() {
            Some("disabled") if traits.always_thinks => Plan::default(),
            Some("enabled") if !traits.budget && traits.adaptive => {
                let budget = thinking["budget_tokens"].as_u64().unwrap_or(0);
                let level = Level::of_budget(budget);
                let display = thinking["display"].as_str().unwrap_or("summarized");
                Plan {
                    thinking: Some(json!({"type": "adaptive", "display": display})),
                    effort: Some(level.effort(traits)),
                }
            }
            Some("adaptive") if !traits.adaptive => {
                Plan { thinking: Some(enabled(Level::High.budget())), effort: None }
            }
            _ => Plan { thinking: Some(thinking), effort: None },
        }
    }

    /// No thinking, as far as the model allows that. Newer models think unless they are told not to.
    pub(in crate::provider) fn off(traits: Traits) -> Plan {
        let thinking = (traits.adaptive && !traits.always_thinks).then(|| json!({"type": "disabled"}));
        Plan { thinking, effort: None }
    }

    pub(in crate::provider) fn is_on(&self) -> bool {
        self.kind().is_some_and(|kind| kind != "disabled")
    }

    /// With a budget of its own, thinking bears neither forced calls nor sampling.
    pub(in crate::provider) fn has_budget(&self) -> bool {
        self.kind() == Some("enabled")
    }

    fn kind(&self) -> Option<&str> {
        self.thinking.as_ref()?["type"].as_str()
    }

    /// Makes room: the budget is a part of `max_tokens`, which grows by it where it is too small, but not beyond the
    /// model's limit; there it is the budget that shrinks, if need be to nothing.
    pub(in crate::provider) fn fit(&mut self, max_tokens: u64, limit: Option<u64>, traits: Traits) -> u64 {
        let budget = match &self.thinking {
            Some(thinking) if self.has_budget() => thinking["budget_tokens"].as_u64(),
            _ => None,
        };
        let Some(budget) = budget.filter(|budget| max_tokens <= *budget) else { return max_tokens };
        let grown = max_tokens.saturating_add(budget);
        let Some(limit) = limit.map(|limit| limit.max(max_tokens)).filter(|limit| grown > *limit) else {
            return grown;
        };
        let room = limit - max_tokens.min(limit / 2).max(1).min(limit);
        if room >= SMALLEST_BUDGET {
            if let Some(thinking) = &mut self.thinking {
                thinking["budget_tokens"] = budget.min(room).into();
            }
            return limit;
        }
        *self = Plan::off(traits);
        max_tokens
    }
}

fn enabled(budget: u64) -> Value {
    json!({"type": "enabled", "budget_tokens": budget})
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    None,
    Minimal,
    Low,
    Medium,
    High,
    Xhigh,
    Max,
}

impl Level {
    fn read(word: &str) -> Option<Level> {
        Some(match word {
            "none" | "disable" => Level::None,
            "minimal" => Level::Minimal,
            "low" => Level::Low,
            "medium" => Level::Medium,
            "high" => Level::High,
            "xhigh" => Level::Xhigh,
            "max" => Level::Max,
            _ => return None,
        })
    }

    fn budget(self) -> u64 {
        match self {
            Level::None | Level::Minimal | Level::Low => SMALLEST_BUDGET,
            Level::Medium => 2048,
            Level::High => 4096,
            Level::Xhigh => 8192,
            Level::Max => 16384,
        }
    }

    fn of_budget(budget: u64) -> Level {
        match budget {
            8192.. => Level::Xhigh,
            4096.. => Level::High,
            2048.. => Level::Medium,
            _ => Level::Low,
        }
    }

    fn effort(self, traits: Traits) -> &'static str {
        match self {
            Level::None | Level::Minimal | Level::Low => "low",
            Level::Medium => "medium",
            Level::Xhigh if traits.effort_xhigh => "xhigh",
            Level::Max if traits.effort_max => "max",
            Level::High | Level::Xhigh | Level::Max => "high",
        }
    }
}

fn no_effort() -> Error {
    Error::invalid("'reasoning_effort' must be one of: none, minimal, low, medium, high, xhigh, max.")
        .at_param("reasoning_effort")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(effort: Value, model: &str) -> Plan {
        Plan::read(&effort, None, Traits::of(model)).unwrap().unwrap()
    }

    #[test]
    fn efforts_become_what_the_model_takes() {
        assert_eq!(plan(json!("medium"), "claude-sonnet-4-5").thinking, Some(enabled(2048)));
        let adaptive = plan(json!({"effort": "xhigh"}), "claude-opus-4-6");
        assert_eq!((adaptive.effort, adaptive.kind()), (Some("high"), Some("adaptive")));
        assert_eq!(plan(json!("xhigh"), "claude-opus-4-8").effort, Some("xhigh"));
        assert_eq!(plan(json!("none"), "claude-opus-5-5"), Plan::default());
        assert_eq!(plan(json!("none"), "claude-haiku-5-5").kind(), Some("disabled"));
        assert!(Plan::read(&json!("low"), None, Traits::of("claude-3-5-sonnet-20241022")).unwrap().is_none());
        assert!(Plan::read(&json!("huge"), None, Traits::of("claude-opus-5")).is_err());
    }

    #[test]
    fn thinking_of_another_age_is_translated() {
        let read = |thinking, model| Plan::read(&Value::Null, Some(thinking), Traits::of(model)).unwrap().unwrap();
        let new = read(enabled(5000), "claude-opus-5");
        assert_eq!((new.kind(), new.effort), (Some("adaptive"), Some("high")));
        assert_eq!(read(json!({"type": "adaptive"}), "claude-sonnet-4-5").thinking, Some(enabled(4096)));
        let own = json!({"type": "between_tools"});
        assert_eq!(read(own.clone(), "claude-opus-5").thinking, Some(own));
    }

    #[test]
    fn the_budget_is_always_smaller_than_the_limit() {
        for max_tokens in [1, 100, 1024, 4000, 4096, 5000, 70_000, u64::MAX] {
            for limit in [None, Some(100), Some(1500), Some(4096), Some(64_000)] {
                for budget in [1024, 4096, 60_000, u64::MAX] {
                    let traits = Traits::of("claude-sonnet-4-5");
                    let mut plan = Plan { thinking: Some(enabled(budget)), effort: None };
                    let fitted = plan.fit(max_tokens, limit, traits);
                    let budget = plan.thinking.map_or(0, |thinking| thinking["budget_tokens"].as_u64().unwrap());
                    assert!(budget < fitted || fitted == u64::MAX, "{max_tokens} {limit:?}: {budget} {fitted}");
                    assert!(fitted >= max_tokens.min(limit.unwrap_or(u64::MAX)));
                }
            }
        }
    }
}
