//! Money as integers, and the decimal text it is read from and written as.
//!
//! A float never takes part in a sum. Text is read digit by digit into an integer of the wanted scale, and rounded once,
//! half up; floats appear only where JSON wants a number, and then the one nearest to the exact decimal.

use serde_json::{Number, Value};
use std::fmt;

/// Pico-dollars: what a single token costs is a whole number of them.
pub const PICO: u32 = 12;
/// Nano-dollars: what a call costs is a whole number of them.
pub const NANO: u32 = 9;

/// Why a text is not an amount of money.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    NotANumber,
    Negative,
    TooLarge,
    /// Not zero, and yet nothing is left of it at this scale.
    TooSmall,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Fault::NotANumber => "is not a number",
            Fault::Negative => "is negative",
            Fault::TooLarge => "is too large",
            Fault::TooSmall => "is smaller than a pico-dollar",
        })
    }
}

/// More significant digits than any `u64` has; those behind cannot change a rounding that fits into one.
const DIGITS: usize = 30;

/// The number that `text` (a JSON number, exponent allowed) spells, in units of 10^-`scale`, rounded half up.
///
/// # Errors
/// The text is no number, is below zero, or does not fit.
pub fn parse(text: &str, scale: u32) -> Result<u64, Fault> {
    let text = text.trim();
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (digits, exponent) = match text.split_once(['e', 'E']) {
        Some((digits, exponent)) => (digits, exponent_of(exponent)?),
        None => (text, 0),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.len() + fraction.len() == 0 {
        return Err(Fault::NotANumber);
    }
    let (mut mantissa, mut kept, mut shift) = (0u128, 0, i64::from(exponent) + i64::from(scale));
    for (is_fraction, byte) in whole.bytes().map(|b| (false, b)).chain(fraction.bytes().map(|b| (true, b))) {
        if !byte.is_ascii_digit() {
            return Err(Fault::NotANumber);
        }
        let keep = kept < DIGITS;
        if keep {
            mantissa = mantissa * 10 + u128::from(byte - b'0');
            kept += usize::from(mantissa > 0);
        }
        match (keep, is_fraction) {
            (true, true) => shift -= 1,
            (false, false) => shift += 1,
            _ => (),
        }
    }
    if mantissa == 0 {
        return Ok(0);
    }
    if negative {
        return Err(Fault::Negative);
    }
    let power = 10u128.checked_pow(u32::try_from(shift.unsigned_abs()).unwrap_or(u32::MAX));
    let value = match (shift >= 0, power) {
        (true, Some(power)) => mantissa.checked_mul(power).ok_or(Fault::TooLarge)?,
        (true, None) => return Err(Fault::TooLarge),
        (false, Some(power)) => mantissa / power + u128::from((mantissa % power) * 2 >= power),
        (false, None) => 0,
    };
    u64::try_from(value).map_err(|_| Fault::TooLarge)
}

fn exponent_of(text: &str) -> Result<i32, Fault> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Fault::NotANumber);
    }
    // An exponent that does not even fit is as good as the largest that does.
    let size: i32 = digits.parse().unwrap_or(i32::MAX);
    Ok(if text.starts_with('-') { -size } else { size })
}

/// As [`parse`], for a price per unit: what is not zero must not become free by rounding.
///
/// # Errors
/// As [`parse`], and where nothing is left.
pub fn parse_rate(text: &str, scale: u32) -> Result<u64, Fault> {
    let value = parse(text, scale)?;
    let significant = text.split(['e', 'E']).next().is_some_and(|m| m.bytes().any(|b| matches!(b, b'1'..=b'9')));
    if value == 0 && significant { Err(Fault::TooSmall) } else { Ok(value) }
}

/// The text of a JSON number, or of a string that may hold one.
///
/// `serde_json` prints the shortest decimal that reads back as the same float, which is the one that was written.
pub fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::Number(number) => Some(number.to_string()),
        Value::String(text) => Some(text.clone()),
        _ => None,
    }
}

/// `value` units of 10^-`scale` as plain decimal text: no exponent, no zeros that say nothing.
pub fn text(value: u64, scale: u32) -> String {
    let digits = format!("{value:0width$}", width = scale as usize + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale as usize);
    match fraction.trim_end_matches('0') {
        "" => whole.to_owned(),
        fraction => format!("{whole}.{fraction}"),
    }
}

/// `value` units of 10^-`scale` as the JSON number nearest to it.
pub fn number(value: u64, scale: u32) -> Number {
    let exact = text(value, scale);
    exact.parse().ok().and_then(Number::from_f64).unwrap_or_else(|| Number::from(0))
}

/// Nano-dollars as dollars: `31500` is `0.0000315`. This is the text of the header `x-litellm-response-cost`.
pub fn usd_text(nanos: u64) -> String {
    text(nanos, NANO)
}

/// As [`usd_text`], at the end of a longer text.
pub fn put_usd(text: &mut Vec<u8>, nanos: u64) {
    let (whole, mut part) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
    text.extend_from_slice(itoa::Buffer::new().format(whole).as_bytes());
    if part == 0 {
        return;
    }
    text.push(b'.');
    let mut unit = 100_000_000;
    while part > 0 {
        text.push(b'0' + u8::try_from(part / unit).unwrap_or(0));
        (part, unit) = (part % unit, unit / 10);
    }
}

/// Nano-dollars as dollars for a JSON member such as `spend`: it reads back as the same number of nano-dollars.
pub fn usd_number(nanos: u64) -> Number {
    number(nanos, NANO)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_is_read_exactly() {
        for (text, scale, value) in [
            ("2.5e-06", PICO, Ok(2_500_000)),
            ("0.0000025", PICO, Ok(2_500_000)),
            ("2.8000000000000003e-07", PICO, Ok(280_000)),
            ("0.0833333333333333", 6, Ok(83_333)),
            ("25E-1", 0, Ok(3)),
            ("2.4999", 0, Ok(2)),
            ("0", PICO, Ok(0)),
            ("-0.0", PICO, Ok(0)),
            ("0e99999999999", PICO, Ok(0)),
            ("18446744073709551615", 0, Ok(u64::MAX)),
            ("18446744073709551615.5", 0, Err(Fault::TooLarge)),
            ("1e400", PICO, Err(Fault::TooLarge)),
            ("1e-400", PICO, Ok(0)),
            ("1e-99999999999", PICO, Ok(0)),
            ("-1", PICO, Err(Fault::Negative)),
            ("", PICO, Err(Fault::NotANumber)),
            (".", PICO, Err(Fault::NotANumber)),
            ("1e", PICO, Err(Fault::NotANumber)),
            ("1,5", PICO, Err(Fault::NotANumber)),
            ("NaN", PICO, Err(Fault::NotANumber)),
            ("0.00000000000000000000000000000000000000000000000001", PICO, Ok(0)),
            ("100000000000000000000000000000000000000000e-41", 0, Ok(1)),
        ] {
            assert_eq!(parse(text, scale), value, "{text}");
        }
        assert_eq!(parse_rate("1e-13", PICO), Err(Fault::TooSmall));
        assert_eq!(parse_rate("0e5", PICO), Ok(0));
    }

    #[test]
    fn dollars_are_plain_text() {
        for (nanos, text) in
            [(31_500, "0.0000315"), (0, "0"), (1, "0.000000001"), (1_000_000_000, "1"), (12_340_000_000, "12.34")]
        {
            assert_eq!(usd_text(nanos), text);
        }
    }

    proptest! {
        #[test]
        fn money_comes_back_as_it_went(nanos in any::<u64>()) {
            prop_assert_eq!(parse(&usd_text(nanos), NANO), Ok(nanos));
            let mut text = b"$ ".to_vec();
            put_usd(&mut text, nanos);
            prop_assert_eq!(String::from_utf8(text).unwrap(), format!("$ {}", usd_text(nanos)));
        }

        // A double holds 15 digits: up to a million dollars with nine places.
        #[test]
        fn the_json_number_is_the_same_money(nanos in 0..1_000_000_000_000_000u64) {
            prop_assert_eq!(parse(&usd_number(nanos).to_string(), NANO), Ok(nanos));
        }

        #[test]
        fn any_text_is_read_without_panic(text in ".{0,60}", number in "[-+]?[0-9]{0,50}(\\.[0-9]{0,50})?([eE][-+]?[0-9]{0,12})?", scale in 0u32..13) {
            let _ = parse(&text, scale);
            let _ = parse_rate(&number, scale);
        }
    }
}
