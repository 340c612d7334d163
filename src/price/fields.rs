//! Members of LiteLLM's price map, of `model_info` and of a deployment's parameters.
//!
//! All three use the same names: `BASE[_above_Nk_tokens][_SERVICE]`, dollars for a single unit.

use super::decimal;
use super::rates::{self, Price, Rate, SPECS, SUSPICIOUS, Service, When};
use super::schedule::{self, Window};
use crate::envelope::shorten;
use serde_json::{Map, Value};

/// Other names for the same rate.
const SYNONYMS: &[(&str, Rate)] =
    &[("input_cost_per_token_cache_hit", Rate::CacheRead), ("input_cost_per_audio_per_second", Rate::SecondIn)];

pub(super) const SEARCHES: &[(&str, Rate)] = &[
    ("search_context_size_low", Rate::SearchLow),
    ("search_context_size_medium", Rate::SearchMedium),
    ("search_context_size_high", Rate::SearchHigh),
];

/// What was read, besides the price itself.
#[derive(Debug, Default)]
pub struct Read {
    pub price: Price,
    /// Price members that hold a number and mean nothing here: a unit that is not counted.
    pub unknown: Vec<String>,
    /// Token prices so high that they are likely a slip.
    pub suspicious: Vec<String>,
}

/// The rate that a member names, and its condition.
pub fn rate(member: &str) -> Option<(Rate, When)> {
    let exact = |base: &str| {
        let spec = SPECS.iter().find(|s| !s.field.is_empty() && s.field == base).map(|s| s.rate);
        spec.or_else(|| SYNONYMS.iter().find(|(name, _)| *name == base).map(|(_, rate)| *rate))
    };
    let (base, service) = Service::SPECIAL
        .iter()
        .find_map(|(s, name)| member.strip_suffix(name)?.strip_suffix('_').map(|base| (base, *s)))
        .unwrap_or((member, Service::Standard));
    let (base, above) = match base.strip_suffix("k_tokens").and_then(|b| b.rsplit_once("_above_")) {
        Some((base, thousands)) => (base, thousands.parse::<u64>().ok()?.checked_mul(1000)?),
        None => (base, 0),
    };
    exact(base).map(|rate| (rate, When { service, above, ..When::default() }))
}

/// Reads prices and facts out of an object; members that are neither are left alone.
///
/// # Errors
/// A price is not one; the text names the member.
pub fn read(object: &Map<String, Value>) -> Result<Read, String> {
    let mut read = Read::default();
    let price = &mut read.price;
    for (name, value) in object {
        match rate(name) {
            Some(_) if value.is_null() => (),
            Some((rate, when)) => {
                let pico = amount(name, value)?;
                if rate.spec().per_token && pico > SUSPICIOUS {
                    read.suspicious.push(name.clone());
                }
                // The older twin does not overrule the newer name.
                let is_synonym = SYNONYMS.iter().any(|(synonym, _)| name.starts_with(synonym));
                if !is_synonym || !price.rates.iter().any(|e| e.rate == rate && e.when == when) {
                    price.set(rate, when, pico);
                }
            }
            None if name.contains("cost") && decimal::text_of(value).is_some_and(|t| is_price(&t)) => {
                read.unknown.push(name.clone());
            }
            None => fact(price, name, value),
        }
    }
    if let Some(Value::Object(sizes)) = object.get("search_context_cost_per_query") {
        for (name, rate) in SEARCHES {
            if let Some(value) = sizes.get(*name).filter(|v| !v.is_null()) {
                price.set(*rate, When::default(), amount(name, value)?);
            }
        }
    }
    if let Some(Value::Array(ranges)) = object.get("tiered_pricing") {
        ranges.iter().try_for_each(|range| tier(price, range))?;
    }
    if let Some(Value::Object(off_peak)) = object.get("off_peak_pricing")
        && !night(price, off_peak)?
    {
        read.unknown.push("off_peak_pricing".into());
    }
    Ok(read)
}

fn is_price(text: &str) -> bool {
    decimal::parse(text, decimal::PICO).is_ok_and(|pico| pico > 0)
}

fn amount(name: &str, value: &Value) -> Result<u64, String> {
    let text = decimal::text_of(value).ok_or_else(|| format!("'{name}' is not a number"))?;
    rates::read(&text).map_err(|fault| format!("'{name}' {fault}: {}", shorten(&text)))
}

fn fact(price: &mut Price, name: &str, value: &Value) {
    let facts = &mut price.facts;
    let count = || decimal::text_of(value).and_then(|t| decimal::parse(&t, 0).ok());
    match name {
        "mode" => facts.mode = value.as_str().filter(|t| is_plain(t)).map(str::to_owned),
        "max_input_tokens" => facts.max_input_tokens = count(),
        "max_output_tokens" => facts.max_output_tokens = count().or(facts.max_output_tokens),
        // A legacy name, which usually means the output.
        "max_tokens" => facts.max_output_tokens = facts.max_output_tokens.or_else(count),
        "output_vector_size" => facts.output_vector_size = count(),
        "deprecation_date" => {
            facts.deprecation_date = value.as_str().filter(|t| schedule::day(t).is_some()).map(str::to_owned);
        }
        _ => {
            if let (Some(what), Value::Bool(can)) = (name.strip_prefix("supports_"), value)
                && is_plain(what)
            {
                facts.supports.insert(what.to_owned(), *can);
            }
        }
    }
}

/// Whether a text may stand in a table as it is.
fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-. ".contains(&b)) && text.len() < 80
}

/// One range of `tiered_pricing`: its rates hold for prompts longer than its start.
fn tier(price: &mut Price, range: &Value) -> Result<(), String> {
    let start = range.get("range").and_then(|r| r.get(0)).and_then(decimal::text_of);
    let above = start.and_then(|t| decimal::parse(&t, 0).ok());
    let (Some(above), Some(members)) = (above, range.as_object()) else {
        return Err("'tiered_pricing' has a member without a 'range' of two numbers".into());
    };
    for (name, value) in members.iter().filter(|(_, value)| !value.is_null()) {
        if let Some((rate, when)) = rate(name) {
            price.set(rate, When { above, ..when }, amount(name, value)?);
        }
    }
    Ok(())
}

/// The prices of the off-peak hours; `false` where the hours cannot be made out, so that the peak price holds.
fn night(price: &mut Price, off_peak: &Map<String, Value>) -> Result<bool, String> {
    let windows: Option<Vec<Vec<Window>>> =
        off_peak.get("windows").and_then(Value::as_array).and_then(|w| w.iter().map(windows).collect());
    let windows: Vec<Window> = windows.unwrap_or_default().concat();
    if windows.is_empty() {
        return Ok(false);
    }
    price.off_peak = windows;
    for (name, value) in off_peak.iter().filter(|(_, value)| !value.is_null()) {
        if let Some((rate, when)) = rate(name) {
            price.set(rate, When { off_peak: true, ..when }, amount(name, value)?);
        }
    }
    Ok(true)
}

fn windows(written: &Value) -> Option<Vec<Window>> {
    let weekdays: Vec<u64> = match written.get("weekdays") {
        None | Some(Value::Null) => Vec::new(),
        Some(days) => days.as_array()?.iter().map(Value::as_u64).collect::<Option<_>>()?,
    };
    match written.get("hours_utc")? {
        Value::String(hours) => hours.split(',').map(|h| Window::read(h, &weekdays)).collect(),
        Value::Array(hours) => hours.iter().map(|h| Window::read(h.as_str()?, &weekdays)).collect(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::price::rates::Moment;
    use serde_json::json;

    fn price(value: Value) -> Price {
        read(value.as_object().unwrap()).unwrap().price
    }

    #[test]
    fn suffixes_are_conditions() {
        let when = When::default();
        for (member, expected) in [
            ("input_cost_per_token", Some((Rate::Input, when))),
            ("input_cost_per_token_above_200k_tokens", Some((Rate::Input, When { above: 200_000, ..when }))),
            ("output_cost_per_token_flex", Some((Rate::Output, When { service: Service::Flex, ..when }))),
            (
                "output_cost_per_token_above_272k_tokens_priority",
                Some((Rate::Output, When { above: 272_000, service: Service::Priority, ..when })),
            ),
            (
                "cache_creation_input_token_cost_above_1hr_above_200k_tokens",
                Some((Rate::CacheWrite1h, When { above: 200_000, ..when })),
            ),
            ("output_cost_per_token_ultrafast", Some((Rate::Output, When { service: Service::Ultrafast, ..when }))),
            ("input_cost_per_audio_per_second", Some((Rate::SecondIn, when))),
            ("input_cost_per_token_above_99999999999999999999k_tokens", None),
            ("input_cost_per_image_4K", None),
            ("", None),
        ] {
            assert_eq!(rate(member), expected, "{member}");
        }
    }

    #[test]
    fn ranges_hours_and_searches_are_read() {
        let price = price(json!({
            "input_cost_per_token": "1e-06", "cache_read_input_token_cost": 2e-7, "input_cost_per_token_cache_hit": 9e-7,
            "tiered_pricing": [
                {"range": [0, 32000.0], "output_cost_per_token": 5e-6},
                {"range": [32000.0, 128000], "output_cost_per_token": 9e-6}],
            "off_peak_pricing": {"input_cost_per_token": 5e-7, "windows": [{"hours_utc": ["0-1", "10-12"], "weekdays": [4]}]},
            "search_context_cost_per_query": {"search_context_size_medium": 0.01},
            "max_tokens": "8192", "max_input_tokens": 1e5, "mode": "chat", "supports_vision": true, "tpm": 3,
        }));
        let at = |prompt, at| Moment { prompt, at, ..Moment::default() };
        assert_eq!(price.rate(Rate::Output, at(32_000, 0)), Some(5_000_000));
        assert_eq!(price.rate(Rate::Output, at(32_001, 0)), Some(9_000_000));
        // 1970-01-01 was a Thursday.
        assert_eq!(price.rate(Rate::Input, at(1, 3599)), Some(500_000));
        assert_eq!(price.rate(Rate::Input, at(1, 3600)), Some(1_000_000));
        assert_eq!(price.rate(Rate::Input, at(1, 86_400)), Some(1_000_000));
        assert_eq!(price.rate(Rate::CacheRead, at(1, 0)), Some(200_000));
        assert_eq!(price.rate(Rate::SearchMedium, at(1, 0)), Some(10_000_000_000));
        assert_eq!((price.facts().max_output_tokens, price.facts().max_input_tokens), (Some(8192), Some(100_000)));
    }

    #[test]
    fn what_is_no_price_is_an_error_that_names_it() {
        for (object, named) in [
            (json!({"input_cost_per_token": "free"}), "'input_cost_per_token' is not a number: free"),
            (json!({"output_cost_per_token": -1}), "'output_cost_per_token' is negative"),
            (json!({"output_cost_per_token": []}), "'output_cost_per_token' is not a number"),
            (json!({"tiered_pricing": [{}]}), "'tiered_pricing' has a member without a 'range'"),
        ] {
            let error = read(object.as_object().unwrap()).unwrap_err();
            assert!(error.contains(named), "{error}");
        }
        let read =
            read(json!({"ocr_cost_per_page": 0.001, "input_cost_per_token": 0.01}).as_object().unwrap()).unwrap();
        assert_eq!(
            (read.unknown, read.suspicious),
            (vec!["ocr_cost_per_page".into()], vec!["input_cost_per_token".into()])
        );
    }
}
