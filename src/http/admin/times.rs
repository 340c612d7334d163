//! Lengths of time and moments as LiteLLM writes them: `30d`, `2026-12-31T00:00:00Z`.

use crate::error::{Error, Result};
use crate::store::{date_of, day_of, day_of_date};

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;
/// Nothing lasts longer than a hundred years.
const LONGEST: i64 = 100 * 366 * DAY;

/// The moment that lies a length of time (`30s`, `30m`, `30h`, `30d`, `2w`, `1mo`) after another.
///
/// # Errors
/// It is no length of time.
pub fn after(from: i64, span: &str) -> Result<i64> {
    let wrong = || Error::invalid("A length of time is a number and s, m, h, d, w or mo, such as \"30d\".");
    let at = span.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = span.split_at(at);
    let number: i64 = number.parse().ok().filter(|n| *n > 0).ok_or_else(wrong)?;
    let unit = match unit {
        "s" => SECOND,
        "m" => 60 * SECOND,
        "h" => 3600 * SECOND,
        "d" => DAY,
        "w" => 7 * DAY,
        "mo" if number <= 1200 => return Ok(months(from, number)),
        _ => return Err(wrong()),
    };
    number.checked_mul(unit).filter(|span| *span <= LONGEST).map(|span| from.saturating_add(span)).ok_or_else(wrong)
}

/// The same time of the same day in a later month, or of its last day.
fn months(from: i64, number: i64) -> i64 {
    let (year, month, day) = date_of(day_of(from));
    let month = year * 12 + month - 1 + number;
    let first = |month: i64| day_of_date(month.div_euclid(12), month.rem_euclid(12) + 1, 1);
    let last = first(month + 1) - first(month);
    (first(month) + day.min(last) - 1) * DAY + from.rem_euclid(DAY)
}

/// A moment in text, UTC.
pub fn iso(at: i64) -> String {
    let (year, month, day) = date_of(day_of(at));
    let rest = at.rem_euclid(DAY);
    let (seconds, micros) = (rest / SECOND, rest % SECOND);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", micros / 1000)
}

/// Reads a date, or a date with a time of day; without a zone it is UTC. RFC 3339, section 5.6.
pub fn read(text: &str) -> Option<i64> {
    let (date, time) = text.trim().split_at_checked(10)?;
    let mut parts = date.split('-');
    let mut next = || parts.next()?.parse::<i64>().ok();
    let (year, month, day) = (next()?, next()?, next()?);
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let midnight = day_of_date(year, month, day) * DAY;
    let time = time.trim_start_matches(['T', 't', ' ']);
    if time.is_empty() {
        return Some(midnight);
    }
    let zone = time.find(['Z', 'z', '+', '-']).unwrap_or(time.len());
    let (time, zone) = time.split_at_checked(zone)?;
    let clock = |text: &str| -> Option<i64> {
        let mut micros = 0;
        for (place, part) in text.split(':').enumerate() {
            let (whole, fraction) = part.split_once('.').unwrap_or((part, ""));
            let limit = if place == 0 { 24 } else { 60 };
            let unit = *[3600 * SECOND, 60 * SECOND, SECOND].get(place)?;
            micros += whole.parse::<i64>().ok().filter(|n| (0..=limit).contains(n))? * unit;
            if !fraction.is_empty() {
                let digits: String = fraction.chars().chain("000000".chars()).take(6).collect();
                micros += digits.parse::<i64>().ok().filter(|n| *n >= 0)?;
            }
        }
        Some(micros)
    };
    let offset = match zone.split_at_checked(1) {
        None | Some(("Z" | "z", _)) => 0,
        Some((sign, rest)) => {
            let rest =
                if rest.contains(':') { rest.to_owned() } else { format!("{}:{}", rest.get(..2)?, rest.get(2..)?) };
            clock(&rest)? * if sign == "-" { -1 } else { 1 }
        }
    };
    Some(midnight + clock(time)? - offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_read_back() {
        let at = read("2026-01-31T12:30:15.250Z").unwrap();
        assert_eq!(iso(at), "2026-01-31T12:30:15.250Z");
        assert_eq!(read("2026-01-31T14:30:15.25+02:00"), Some(at));
        assert_eq!(iso(after(at, "1mo").unwrap()), "2026-02-28T12:30:15.250Z");
        assert_eq!(iso(after(at, "2w").unwrap()), "2026-02-14T12:30:15.250Z");
        assert_eq!(read("2026-01-31").map(iso).as_deref(), Some("2026-01-31T00:00:00.000Z"));
    }

    #[test]
    fn what_is_none_is_refused() {
        for text in ["", "d", "0d", "-1d", "5", "5y", "99999999999999999999d", "9999999999mo", "1é"] {
            assert!(after(0, text).is_err(), "{text}");
        }
        for text in ["", "2026", "2026-13-01", "2026-01-01T", "2026-01-01Tx", "2026-01-01T00:00:00+é", "ééééééé"]
        {
            let read = read(text);
            assert!(read.is_none() || text.ends_with('T'), "{text} {read:?}");
        }
    }
}
