//! LiteLLM's price map (`model_prices_and_context_window.json`) as rows.

use super::fields;
use super::names;
use super::table::Row;
use crate::envelope::shorten;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// What became of a price map.
#[derive(Debug, Default)]
pub struct Imported {
    pub rows: Vec<Row>,
    pub read: usize,
    /// Entries left out, with the reason.
    pub skipped: Vec<String>,
    /// What the operator should know.
    pub notes: Vec<String>,
}

/// Reads a whole price map. An entry under a name with its provider's prefix wins over the bare name.
///
/// # Errors
/// It is no price map, or an entry is not acceptable; the text names its key.
pub fn read(json: &str) -> Result<Imported, String> {
    let entries: Map<String, Value> =
        serde_json::from_str(json).map_err(|e| format!("the price map is not a JSON object of models: {e}"))?;
    let mut map = Imported::default();
    let mut prefixed = Vec::new();
    let mut units: BTreeMap<String, usize> = BTreeMap::new();
    for (key, value) in &entries {
        // Documentation of the format, with prose where numbers belong.
        if key == "sample_spec" {
            continue;
        }
        map.read += 1;
        let wrong = |what: String| format!("the price map's entry '{}': {what}", shorten(key));
        let object = value.as_object().ok_or_else(|| wrong("is not an object".into()))?;
        let (provider, model) = provider_and_model(key, object).map_err(wrong)?;
        let read = fields::read(object).map_err(wrong)?;
        if !read.price.is_priced() && !read.price.facts().is_known() {
            map.skipped.push(format!("{key}: it has neither a price nor a limit"));
            continue;
        }
        read.unknown.into_iter().for_each(|unit| *units.entry(unit).or_default() += 1);
        for member in read.suspicious {
            map.notes.push(format!(
                "the price map's entry '{}': '{member}' is more than 1000 dollars per million tokens",
                shorten(key)
            ));
        }
        let is_prefixed = model.len() < key.len();
        let row = Row { provider, model, price: read.price };
        if is_prefixed { prefixed.push(row) } else { map.rows.push(row) }
    }
    map.rows.append(&mut prefixed);
    map.notes.extend(
        units.into_iter().map(|(unit, count)| format!("'{unit}' of {count} entries of the price map is not charged")),
    );
    Ok(map)
}

fn provider_and_model(key: &str, object: &Map<String, Value>) -> Result<(String, String), String> {
    if key.is_empty() || key.chars().any(char::is_control) {
        return Err("the name is empty or holds control characters".into());
    }
    let prefix = key.split_once('/').map(|(prefix, _)| prefix);
    let written = object.get("litellm_provider").and_then(Value::as_str).filter(|p| !p.is_empty());
    let provider =
        written.or(prefix).filter(|p| !p.chars().any(char::is_control)).map(names::provider).ok_or(
            "it does not say whose model it is: add \"litellm_provider\", or write the name as provider/model",
        )?;
    let model = key.split_once('/').filter(|(prefix, _)| names::provider(prefix) == provider).map_or(key, |(_, m)| m);
    if model.is_empty() {
        return Err("the name ends behind the provider".into());
    }
    Ok((provider, model.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MAP: &str = r#"{
        "sample_spec": {"input_cost_per_token": "the price of a token", "litellm_provider": "one of ..."},
        "acme/Model-X": {"litellm_provider": "acme", "mode": "chat", "input_cost_per_token": 2e-06, "output_cost_per_token": 1e-05},
        "us.anthropic.claude-x-v1:0": {"litellm_provider": "bedrock_converse", "input_cost_per_token": 3e-06},
        "bedrock/us-east-1/x": {"litellm_provider": "bedrock", "input_cost_per_second": 0.001},
        "gpt-x": {"litellm_provider": "openai", "input_cost_per_token": 1e-06},
        "openai/gpt-x": {"litellm_provider": "openai", "input_cost_per_token": 2e-06, "ocr_cost_per_page": 0.1},
        "plain/y": {"max_tokens": 5},
        "z": {"litellm_provider": "acme", "source": "nowhere"}}"#;

    #[test]
    fn entries_become_rows() {
        let map = read(MAP).unwrap();
        let lines: Vec<String> = map.rows.iter().map(Row::line).collect();
        assert_eq!(
            lines,
            [
                "bedrock\tus.anthropic.claude-x-v1:0\t\tin=3",
                "openai\tgpt-x\t\tin=1",
                "acme\tModel-X\tchat\tin=2;out=10",
                "bedrock\tus-east-1/x\t\tsecond_in=0.001",
                "openai\tgpt-x\t\tin=2",
                "plain\ty\t\tmax_output=5",
            ]
        );
        assert_eq!((map.read, map.skipped.len()), (7, 1));
        assert_eq!(map.notes, ["'ocr_cost_per_page' of 1 entries of the price map is not charged"]);
    }

    #[test]
    fn a_bad_entry_is_named() {
        for (json, named) in [
            ("[]", "not a JSON object"),
            (r#"{"a/b": 1}"#, "entry 'a/b': is not an object"),
            (r#"{"b": {"input_cost_per_token": 1}}"#, "entry 'b': it does not say whose model"),
            (r#"{"a/b": {"input_cost_per_token": "x"}}"#, "entry 'a/b': 'input_cost_per_token' is not a number"),
            (r#"{"a/": {"input_cost_per_token": 1}}"#, "entry 'a/': the name ends"),
            ("{\"a\\tb/c\": {\"input_cost_per_token\": 1}}", "control characters"),
        ] {
            let error = read(json).unwrap_err();
            assert!(error.contains(named), "{error}");
        }
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<f64>().prop_map(|n| serde_json::json!(n)),
            any::<i64>().prop_map(Into::into),
            "[0-9eE.+-]{0,12}|.{0,8}".prop_map(Into::into)
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            let name = "range|windows|hours_utc|weekdays|input_cost_per_token|[a-z]{1,4}";
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
                prop::collection::hash_map(name, inner, 0..4).prop_map(|m| Value::Object(m.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn foreign_maps_do_not_panic(
            key in "([a-z]{0,4}/)?.{0,12}",
            entry in prop::collection::hash_map("(in|out)put_cost_per_(token|image)(_above_[0-9]{1,22}k_tokens)?(_flex)?|tiered_pricing|off_peak_pricing|mode|max_tokens|litellm_provider", value(), 0..5),
            text in ".{0,80}",
        ) {
            let entry = Value::Object(entry.into_iter().collect());
            if let Ok(map) = read(&serde_json::json!({ key: entry }).to_string()) {
                for row in map.rows {
                    let line = row.line();
                    prop_assert_eq!(crate::price::table::parse_line(&line).map(|r| r.line()), Some(line));
                }
            }
            let _ = read(&text);
        }
    }
}
