//! What a provider itself says a call cost.

use super::decimal::{self, NANO};
use crate::wire::json::{self, Kind, Value};

/// A `usage` object is never nested deeper.
const MAX_DEPTH: usize = 64;

/// A tick is 10^-10 dollars: a tenth of a nano-dollar.
const TICK: u32 = 1;

/// The cost in nano-dollars that a provider reports in its `usage` object, read from the decimal text itself:
/// OpenRouter's `cost`, Perplexity's `cost.total_cost`, xAI's `cost_in_usd_ticks`, OpenCode's `opencode.list_cost`.
/// `None` where it reports none; a reported cost goes before any computed one.
pub fn provider_reported(usage_json: &[u8]) -> Option<u64> {
    let cost = member(usage_json, b"cost").and_then(|cost| match cost.kind {
        Kind::Object => amount_of(&usage_json[cost.span], b"total_cost", NANO),
        _ => amount(usage_json, cost, NANO),
    });
    cost.or_else(|| ticks(usage_json)).or_else(|| {
        let own = member(usage_json, b"opencode").filter(|own| own.kind == Kind::Object)?;
        amount_of(&usage_json[own.span], b"list_cost", NANO)
    })
}

fn ticks(usage: &[u8]) -> Option<u64> {
    let ticks = amount_of(usage, b"cost_in_usd_ticks", 0)?;
    Some(ticks / 10u64.pow(TICK) + u64::from(ticks % 10 >= 5))
}

fn amount_of(object: &[u8], name: &[u8], scale: u32) -> Option<u64> {
    amount(object, member(object, name)?, scale)
}

fn amount(text: &[u8], value: Value, scale: u32) -> Option<u64> {
    let span = match value.kind {
        Kind::Number => value.span,
        // Some write money as text, so that it stays exact.
        Kind::String => value.span.start + 1..value.span.end - 1,
        _ => return None,
    };
    decimal::parse(std::str::from_utf8(&text[span]).ok()?, scale).ok()
}

fn member(object: &[u8], name: &[u8]) -> Option<Value> {
    let mut found = None;
    json::object(object, MAX_DEPTH, |m| {
        if &object[m.key] == name {
            found = Some(m.value);
        }
    })
    .ok()?;
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn costs_are_read_as_they_are_written() {
        for (usage, nanos) in [
            (r#"{"prompt_tokens":1,"cost":0.0000315,"cost_details":{}}"#, Some(31_500)),
            (r#"{"cost":3.15e-05}"#, Some(31_500)),
            (r#"{"cost":"0.0000315"}"#, Some(31_500)),
            (r#"{"cost":0}"#, Some(0)),
            (r#"{"cost":0.12345678949999999999}"#, Some(123_456_789)),
            (r#"{"cost":{"input_tokens_cost":1,"total_cost":0.006}}"#, Some(6_000_000)),
            (r#"{"cost_in_usd_ticks":37756000}"#, Some(3_775_600)),
            (r#"{"cost_in_usd_ticks":15}"#, Some(2)),
            (r#"{"opencode":{"list_cost":0.0123}}"#, Some(12_300_000)),
            (r#"{"cost":null,"cost_in_usd_ticks":20}"#, Some(2)),
            (r#"{"cost":-1}"#, None),
            (r#"{"cost":[]}"#, None),
            (r#"{"prompt_tokens":1}"#, None),
            ("", None),
            ("[1]", None),
        ] {
            assert_eq!(provider_reported(usage.as_bytes()), nanos, "{usage}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..60), text in "\\{\"cost\":.{0,20}\\}") {
            let _ = provider_reported(&bytes);
            let _ = provider_reported(text.as_bytes());
        }
    }
}
