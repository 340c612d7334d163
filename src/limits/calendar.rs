//! Windows of budgets: where one begins and ends, worked out from the time at which somebody asks.
//!
//! No job resets anything: a call at five past midnight is in another window than one at five to, and its sum is another
//! row. Windows are aligned as LiteLLM aligns them (its page "Budgets, rate limits", `budget_duration`): days at
//! midnight, seven days on Monday, thirty days and months on the first, hours and shorter ones at their multiples. Wall
//! clocks count, so a day may have 23 or 25 hours.

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, ToSpan};
use std::cell::RefCell;

/// A length of time as budgets have it: `30s`, `30m`, `30h`, `30d`, `2w`, `1mo`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Length {
    Seconds(i64),
    Days(i64),
    Months(i64),
}

/// When a window is under way: from `start` on, before `end`, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    pub start: i64,
    pub end: i64,
}

const MICROS: i64 = 1_000_000;
const DAY: i64 = 86_400;
/// A hundred years.
const LONGEST: i64 = 100 * 366 * DAY;

fn read(span: &str) -> Option<Length> {
    let at = span.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = span.split_at(at);
    let number: i64 = number.parse().ok().filter(|n| (1..=LONGEST).contains(n))?;
    let length = match unit {
        "s" => Length::Seconds(number),
        "m" => Length::Seconds(number.checked_mul(60)?),
        // A whole number of days by another name.
        "h" if number % 24 == 0 => Length::Days(number / 24),
        "h" => Length::Seconds(number.checked_mul(3600)?),
        // Thirty days are a month, as in LiteLLM.
        "d" if number == 30 => Length::Months(1),
        "d" => Length::Days(number),
        "w" => Length::Days(number.checked_mul(7)?),
        "mo" => Length::Months(number),
        _ => return None,
    };
    let is_bearable = match length {
        Length::Seconds(n) => n <= LONGEST,
        Length::Days(n) => n <= LONGEST / DAY,
        Length::Months(n) => n <= 1200,
    };
    is_bearable.then_some(length)
}

/// Whether this is a length of time that a budget may have.
pub fn is_length(span: &str) -> bool {
    read(span).is_some()
}

/// As [`window`]; those that are under way are remembered, since every call of a budget asks for the same few.
pub fn current(span: &str, zone: &TimeZone, now: i64) -> Option<Window> {
    const MOST: usize = 16;
    thread_local! {
        static KNOWN: RefCell<Vec<(String, TimeZone, Window)>> = const { RefCell::new(Vec::new()) };
    }
    KNOWN.with_borrow_mut(|known| {
        let is_it = |(of, at, window): &(String, TimeZone, Window)| {
            of == span && at == zone && (window.start..window.end).contains(&now)
        };
        if let Some((_, _, window)) = known.iter().find(|one| is_it(one)) {
            return Some(*window);
        }
        let found = window(span, zone, now)?;
        if known.len() >= MOST {
            known.remove(0);
        }
        known.push((span.to_owned(), zone.clone(), found));
        Some(found)
    })
}

/// The window of this length that `now` lies in; none where it is no length.
pub fn window(span: &str, zone: &TimeZone, now: i64) -> Option<Window> {
    let length = read(span)?;
    let at = Timestamp::from_microsecond(now).ok()?;
    let local = at.to_zoned(zone.clone()).datetime();
    let instant = |civil: DateTime| Some(civil.to_zoned(zone.clone()).ok()?.timestamp().as_microsecond());
    let (start, end) = match length {
        Length::Seconds(seconds) => return seconds_of(seconds, local, zone, now),
        Length::Days(days) => {
            let start = floor_days(local.date(), days)?;
            (start, start.checked_add(days.days()).ok()?)
        }
        Length::Months(months) => {
            let count = i64::from(local.year()) * 12 + i64::from(local.month()) - 1;
            let first = |count: i64| {
                let (year, month) = (count.div_euclid(12), count.rem_euclid(12) + 1);
                Date::new(i16::try_from(year).ok()?, i8::try_from(month).ok()?, 1).ok()
            };
            let start = count - count.rem_euclid(months);
            (first(start)?, first(start + months)?)
        }
    };
    let midnight = |date: Date| instant(date.at(0, 0, 0, 0));
    Some(Window { start: midnight(start)?, end: midnight(end)? })
}

/// The date on which a window of so many days begins: those of weeks on a Monday.
fn floor_days(date: Date, days: i64) -> Option<Date> {
    // 1970-01-05 was a Monday.
    let origin = if days % 7 == 0 { Date::constant(1970, 1, 5) } else { Date::constant(1970, 1, 1) };
    let since = i64::from(origin.until(date).ok()?.get_days());
    origin.checked_add(Span::new().try_days(since - since.rem_euclid(days)).ok()?).ok()
}

/// Windows shorter than a day begin at multiples on the wall clock where a day is a whole number of them; others are
/// counted from 1970, UTC.
fn seconds_of(seconds: i64, local: DateTime, zone: &TimeZone, now: i64) -> Option<Window> {
    let length = seconds * MICROS;
    if DAY % seconds != 0 {
        let start = now - now.rem_euclid(length);
        return Some(Window { start, end: start + length });
    }
    if seconds >= 3600 {
        // An hour that comes twice is one window, twice as long.
        let midnight = local.date().at(0, 0, 0, 0);
        let in_day = i64::from(local.hour()) * 3600 + i64::from(local.minute()) * 60 + i64::from(local.second());
        let at = |seconds: i64| {
            let civil = midnight.checked_add(Span::new().try_seconds(seconds).ok()?).ok()?;
            Some(civil.to_zoned(zone.clone()).ok()?.timestamp().as_microsecond())
        };
        let from = in_day - in_day % seconds;
        let found = Window { start: at(from)?, end: at(from + seconds)? };
        if (found.start..found.end).contains(&now) {
            return Some(found);
        }
    }
    // Within such an hour shorter windows come twice too: none goes beyond the moment at which clocks are put back.
    let at = Timestamp::from_microsecond(now).ok()?;
    let offset = i64::from(zone.to_offset(at).seconds()) * MICROS;
    let start = (now + offset).div_euclid(length) * length - offset;
    let after = Timestamp::from_microsecond(now + 1).ok()?;
    let changed = zone.preceding(after).next().map_or(i64::MIN, |t| t.timestamp().as_microsecond());
    let changes = zone.following(at).next().map_or(i64::MAX, |t| t.timestamp().as_microsecond());
    Some(Window { start: start.max(changed), end: (start + length).min(changes) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn zone(name: &str) -> TimeZone {
        TimeZone::get(name).unwrap()
    }

    fn micros(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_microsecond()
    }

    fn shown(window: Window) -> (String, String) {
        let text = |at: i64| Timestamp::from_microsecond(at).unwrap().to_string();
        (text(window.start), text(window.end))
    }

    #[test]
    fn windows_are_aligned_in_their_zone() {
        for (span, name, at, start, end) in [
            ("1d", "UTC", "2026-11-27T23:59:59Z", "2026-11-27T00:00:00Z", "2026-11-28T00:00:00Z"),
            ("24h", "Europe/Berlin", "2026-11-27T23:30:00Z", "2026-11-27T23:00:00Z", "2026-11-28T23:00:00Z"),
            ("7d", "UTC", "2026-11-27T12:00:00Z", "2026-11-23T00:00:00Z", "2026-11-30T00:00:00Z"),
            ("1w", "Asia/Tokyo", "2026-11-29T16:00:00Z", "2026-11-29T15:00:00Z", "2026-12-06T15:00:00Z"),
            ("30d", "UTC", "2026-11-27T12:00:00Z", "2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z"),
            ("1mo", "America/New_York", "2026-11-01T03:59:59Z", "2026-10-01T04:00:00Z", "2026-11-01T04:00:00Z"),
            ("3mo", "UTC", "2026-11-27T12:00:00Z", "2026-10-01T00:00:00Z", "2027-01-01T00:00:00Z"),
            ("30m", "UTC", "2026-11-27T12:31:00Z", "2026-11-27T12:30:00Z", "2026-11-27T13:00:00Z"),
            ("6h", "Asia/Kolkata", "2026-11-27T12:31:00Z", "2026-11-27T12:30:00Z", "2026-11-27T18:30:00Z"),
            ("30s", "UTC", "2026-11-27T12:00:31Z", "2026-11-27T12:00:30Z", "2026-11-27T12:01:00Z"),
            // A day of 25 hours, and one of 23.
            ("1d", "Europe/Berlin", "2026-10-25T12:00:00Z", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"),
            ("1d", "Europe/Berlin", "2026-03-29T12:00:00Z", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"),
            // The hour that comes twice, and the one that does not come.
            ("1h", "Europe/Berlin", "2026-10-25T00:30:00Z", "2026-10-25T00:00:00Z", "2026-10-25T02:00:00Z"),
            ("1h", "Europe/Berlin", "2026-03-29T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-29T02:00:00Z"),
            // A midnight that does not come: the day begins an hour later.
            ("1d", "America/Havana", "2026-03-08T12:00:00Z", "2026-03-08T05:00:00Z", "2026-03-09T04:00:00Z"),
        ] {
            let found = window(span, &zone(name), micros(at)).unwrap();
            assert_eq!(shown(found), (start.to_owned(), end.to_owned()), "{span} {name} {at}");
        }
    }

    #[test]
    fn what_is_no_length_has_no_window() {
        for span in ["", "d", "0d", "5", "5y", "-1d", "99999999999999999999d", "9999mo", "99999999999s", "1é"] {
            assert_eq!(window(span, &TimeZone::UTC, 0), None, "{span}");
        }
    }

    proptest! {
        /// Each moment lies in its window, and every moment of that window in the same one: nothing is counted twice or
        /// left out, whatever clocks do in between.
        #[test]
        fn windows_follow_each_other_without_a_gap(
            span in prop_oneof![Just("30s"), Just("15m"), Just("1h"), Just("7h"), Just("1d"), Just("7d"), Just("10d"), Just("30d"), Just("1mo")],
            name in prop_oneof![Just("UTC"), Just("Europe/Berlin"), Just("America/Havana"), Just("Asia/Kolkata"), Just("Australia/Lord_Howe")],
            at in 1_700_000_000_000_000..1_900_000_000_000_000_i64,
            part in 0.0..1.0_f64,
        ) {
            let zone = zone(name);
            let first = window(span, &zone, at).unwrap();
            prop_assert!(first.start <= at && at < first.end);
            let within = first.start + ((first.end - first.start - 1) as f64 * part) as i64;
            prop_assert_eq!(window(span, &zone, within), Some(first));
            prop_assert_eq!(window(span, &zone, first.end).map(|w| w.start), Some(first.end));
            prop_assert_eq!(window(span, &zone, first.start - 1).map(|w| w.end), Some(first.start));
        }
    }
}
