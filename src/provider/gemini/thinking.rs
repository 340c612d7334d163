//! From `reasoning_effort`, or a budget, to `thinkingConfig`. Source: the "Gemini thinking" page; the budgets are
//! LiteLLM's defaults.

use super::model::Traits;
use crate::provider::hub::{Effort, Wish};
use serde_json::{Value, json};

/// The `thinkingConfig`; `None` where the model cannot be told so.
pub(super) fn config(wish: Wish, traits: Traits) -> Option<Value> {
    if !traits.thinks() {
        return None;
    }
    let shown = wish != Wish::Off;
    if traits.levels() {
        let lowest = if traits.pro { "LOW" } else { "MINIMAL" };
        let level = match wish {
            Wish::Free => None,
            Wish::Off => Some(lowest),
            Wish::Budget(0) => Some(lowest),
            Wish::Effort(effort) => Some(level(effort, lowest, traits)),
            Wish::Budget(budget) => Some(level(Effort::of_budget(budget), lowest, traits)),
        };
        let mut config = json!({"includeThoughts": shown});
        if let Some(level) = level {
            config["thinkingLevel"] = level.into();
        }
        return Some(config);
    }
    // The largest budget of `pro`, and the smallest of each.
    let (least, most): (u64, u64) = match (traits.pro, traits.lite) {
        (true, _) => (128, 32768),
        (_, true) => (512, 24576),
        _ => (1, 24576),
    };
    let budget = match wish {
        Wish::Free => return Some(json!({"includeThoughts": true, "thinkingBudget": -1})),
        // `pro` cannot be kept from it.
        Wish::Off | Wish::Budget(0) => {
            if traits.pro {
                least
            } else {
                0
            }
        }
        Wish::Effort(Effort::Minimal) => least,
        Wish::Effort(effort) => effort.budget().clamp(least, most),
        Wish::Budget(budget) => budget.clamp(least, most),
    };
    Some(json!({"includeThoughts": shown && budget > 0, "thinkingBudget": budget}))
}

fn level(effort: Effort, lowest: &'static str, traits: Traits) -> &'static str {
    match effort {
        Effort::Minimal => lowest,
        Effort::Low => "LOW",
        // The first of its line knows two levels only.
        Effort::Medium if traits.pro && traits.version == (3, 0) => "HIGH",
        Effort::Medium => "MEDIUM",
        Effort::High | Effort::Xhigh | Effort::Max => "HIGH",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn efforts_become_what_the_model_takes() {
        let config = |wish, model| config(wish, Traits::of(model));
        assert_eq!(config(Wish::Effort(Effort::High), "gemini-1.5-pro"), None);
        let told = config(Wish::Off, "gemini-2.5-pro").unwrap();
        assert_eq!(told, json!({"includeThoughts": false, "thinkingBudget": 128}));
        assert_eq!(config(Wish::Off, "gemini-2.5-flash").unwrap()["thinkingBudget"], 0);
        assert_eq!(config(Wish::Effort(Effort::Minimal), "gemini-2.5-flash-lite").unwrap()["thinkingBudget"], 512);
        assert_eq!(config(Wish::Budget(100_000), "gemini-2.5-flash").unwrap()["thinkingBudget"], 24576);
        assert_eq!(config(Wish::Effort(Effort::Medium), "gemini-3-pro-preview").unwrap()["thinkingLevel"], "HIGH");
        assert_eq!(config(Wish::Effort(Effort::Medium), "gemini-3.1-pro").unwrap()["thinkingLevel"], "MEDIUM");
        assert_eq!(config(Wish::Off, "gemini-3-flash").unwrap()["thinkingLevel"], "MINIMAL");
    }
}
