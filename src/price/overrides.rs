//! Prices of a single deployment, and prices as `/model/info` shows them.

use super::decimal::{self, PICO};
use super::fields;
use super::rates::{Price, Rate, Service};
use super::schedule;
use serde_json::{Map, Value};
use std::time::SystemTime;

impl Price {
    /// The price of a deployment that states some of it itself, with LiteLLM's names (`input_cost_per_token`, ...);
    /// members that are no prices and no facts are left alone. `None` where nothing is known.
    ///
    /// What is stated replaces what would contradict it. `input_cost_per_token` replaces all that `base` says about
    /// input (a cache or long-context price of the list does not fit an own price), `output_cost_per_token` all about
    /// output; a price by another unit (second, image, query, ...) replaces all of `base`; any other rate replaces
    /// itself alone.
    ///
    /// # Errors
    /// A price is not one; the text names the member.
    pub fn from_overrides(base: Option<&Price>, overrides: &Map<String, Value>) -> Result<Option<Price>, String> {
        let own = fields::read(overrides)?.price;
        let mut price = base.cloned().unwrap_or_default();
        let states = |rate: Rate| own.rates.iter().any(|e| e.rate == rate && e.when.is_plain());
        let by_unit = own.rates.iter().any(|e| !e.rate.spec().per_token && !e.rate.is_search());
        if by_unit {
            price.rates.clear();
        }
        price
            .rates
            .retain(|e| e.rate.is_search() || !states(if e.rate.is_output() { Rate::Output } else { Rate::Input }));
        // Rates of the night and of dates to come are the list's, not the operator's.
        price.rates.retain(|e| {
            !own.rates.iter().any(|o| o.rate == e.rate && o.when.is_plain() && (e.when.off_peak || e.when.from > 0))
        });
        own.rates.iter().for_each(|e| price.set(e.rate, e.when, e.pico));
        if !own.off_peak.is_empty() {
            price.off_peak.clone_from(&own.off_peak);
        }
        price.facts.take(own.facts);
        Ok(price.is_priced().then_some(price))
    }

    /// The price and the facts as they hold at that time, as members of LiteLLM's `model_info`.
    pub fn to_model_info(&self, at: SystemTime) -> Map<String, Value> {
        let at = schedule::seconds(at);
        let mut info = Map::new();
        let mut rates = self.rates.clone();
        // Of a rate that changes with time, the newest comes last and is the one that stays.
        rates.retain(|e| !e.when.off_peak && e.when.from <= at);
        rates.sort_by_key(|e| (e.when.from, e.rate, e.when));
        for entry in rates {
            let spec = entry.rate.spec();
            let above = entry.when.above;
            if spec.field.is_empty() || above % 1000 != 0 {
                continue;
            }
            let mut name = spec.field.to_owned();
            if above > 0 {
                name.push_str(&format!("_above_{}k_tokens", above / 1000));
            }
            if entry.when.service != Service::Standard {
                name.push_str(&format!("_{}", entry.when.service.name()));
            }
            info.insert(name, Value::Number(decimal::number(entry.pico, PICO)));
        }
        let searches: Map<String, Value> = fields::SEARCHES
            .iter()
            .filter_map(|(name, rate)| {
                let entry = self.rates.iter().find(|e| e.rate == *rate)?;
                Some(((*name).to_owned(), Value::Number(decimal::number(entry.pico, PICO))))
            })
            .collect();
        if !searches.is_empty() {
            info.insert("search_context_cost_per_query".into(), Value::Object(searches));
        }
        self.facts.show(&mut info);
        info
    }
}

/// Members of a deployment that look like prices and mean nothing here: a slip of the pen, or a unit that is not
/// counted. They are for a warning.
pub fn not_charged(overrides: &Map<String, Value>) -> Vec<String> {
    fields::read(overrides).map(|read| read.unknown).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::price::Tokens;
    use crate::price::table::parse_line;
    use serde_json::json;

    fn base() -> Price {
        parse_line(
            "acme\tx\tchat\tin=2;in>200000=4;in@batches=1;read=0.2;out=10;out>200000=15;reasoning=10;search_medium=0.01;\
             context=1000;can=v",
        )
        .unwrap()
        .price
    }

    fn over(value: Value) -> Price {
        Price::from_overrides(Some(&base()), value.as_object().unwrap()).unwrap().unwrap()
    }

    fn line(price: Price) -> String {
        crate::price::table::Row { provider: "a".into(), model: "x".into(), price }.line()
    }

    #[test]
    fn an_override_replaces_what_it_contradicts() {
        for (overrides, expected) in [
            (json!({"input_cost_per_token": 1e-6}), "in=1;out=10;out>200000=15;reasoning=10;"),
            (json!({"output_cost_per_token": 0}), "in=2;in@batches=1;in>200000=4;read=0.2;out=0;"),
            (json!({"input_cost_per_token": 0, "output_cost_per_token": 0.0}), "in=0;out=0;"),
            (
                json!({"cache_read_input_token_cost": 1e-7}),
                "in=2;in@batches=1;in>200000=4;out=10;out>200000=15;read=0.1;reasoning=10;",
            ),
            (
                json!({"input_cost_per_token_above_200k_tokens": 8e-6}),
                "in=2;in@batches=1;in>200000=8;out=10;out>200000=15;read=0.2;reasoning=10;",
            ),
        ] {
            let line = line(over(overrides.clone()));
            let mut rates: Vec<&str> = line.split(['\t', ';']).filter(|f| f.contains('=')).collect();
            let mut expected: Vec<&str> = expected.split(';').filter(|f| !f.is_empty()).collect();
            expected.extend(["search_medium=0.01", "context=1000", "can=v"]);
            rates.sort_unstable();
            expected.sort_unstable();
            assert_eq!(rates, expected, "{overrides}");
        }
        let by_time = over(json!({"input_cost_per_second": 0.001, "max_input_tokens": 7, "supports_vision": false}));
        assert_eq!(line(by_time), "a\tx\tchat\tsecond_in=0.001;context=7;can=V");
    }

    #[test]
    fn without_a_list_price_the_own_one_stands_alone() {
        let own = |value: Value| Price::from_overrides(None, value.as_object().unwrap());
        assert_eq!(own(json!({"max_tokens": 5, "api_key": "x"})), Ok(None));
        let price = own(json!({"input_cost_per_token": "2.5e-06", "output_cost_per_token": 1e-05})).unwrap().unwrap();
        let tokens = Tokens { prompt: 1000, completion: 100, cached: 500, ..Tokens::default() };
        // 1000 x 2.5 + 100 x 10 millionths of a dollar; cached ones cost what the others do.
        assert_eq!(price.charge(&tokens, SystemTime::UNIX_EPOCH).nanos, 3_500_000);
        let slip = json!({"input_cost_per_tokens": 1e-6, "input_cost_per_token": 1e-6, "api_key": "x"});
        assert_eq!(not_charged(slip.as_object().unwrap()), ["input_cost_per_tokens"]);
        assert!(own(json!({"output_cost_per_token": "much"})).unwrap_err().contains("'output_cost_per_token'"));
    }

    #[test]
    fn model_info_has_litellms_names_and_exact_numbers() {
        let at = |secs| SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(secs);
        let price = parse_line("acme\tx\tchat\tin=2.5;in>272000=5;in^2026-12-01=3;out@flex=0.1;search_high=0.035;context=1000;max_output=10;can=v").unwrap().price;
        let info = Value::Object(price.to_model_info(at(0)));
        assert_eq!(
            info,
            json!({"input_cost_per_token": 2.5e-6, "input_cost_per_token_above_272k_tokens": 5e-6,
                "output_cost_per_token_flex": 1e-7,
                "search_context_cost_per_query": {"search_context_size_high": 0.035},
                "mode": "chat", "max_input_tokens": 1000, "max_output_tokens": 10, "max_tokens": 10, "supports_vision": true})
        );
        assert_eq!(price.to_model_info(at(1_800_000_000))["input_cost_per_token"], json!(3e-6));
        let again = fields::read(info.as_object().unwrap()).unwrap().price;
        assert_eq!(
            line(again),
            line(
                parse_line(
                    "acme\tx\tchat\tin=2.5;in>272000=5;out@flex=0.1;search_high=0.035;context=1000;max_output=10;can=v"
                )
                .unwrap()
                .price
            )
        );
    }
}
