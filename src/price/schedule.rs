//! Days and hours: prices that end on a date, and prices of the night.

use std::time::{SystemTime, UNIX_EPOCH};

const DAY: u64 = 86_400;

/// Seconds since 1970; times before that count as 1970.
pub fn seconds(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// The start of a day written `YYYY-MM-DD`, UTC, in seconds since 1970. Days before 1970 are not prices' business.
pub fn day(text: &str) -> Option<u64> {
    let bytes = text.as_bytes();
    if bytes.len() != 10 || bytes[4] != b'-' || bytes[7] != b'-' {
        return None;
    }
    let number = |range: std::ops::Range<usize>| {
        text.get(range).filter(|t| t.bytes().all(|b| b.is_ascii_digit())).and_then(|t| t.parse::<u64>().ok())
    };
    let (year, month, of_month) = (number(0..4)?, number(5..7)?, number(8..10)?);
    if year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&of_month) {
        return None;
    }
    let at = days_before(year, month).checked_add(of_month - 1)?.checked_mul(DAY)?;
    // The 31st of a month of 30 days would be the 1st of the next.
    (day_text(at) == text).then_some(at)
}

/// The day of a time, as [`day`] reads it.
pub fn day_text(at: u64) -> String {
    let days = at / DAY;
    let mut year = 1970 + days / 366;
    while days_before(year + 1, 1) <= days {
        year += 1;
    }
    let month = (1..=12).rev().find(|&m| days_before(year, m) <= days).unwrap_or(1);
    format!("{year:04}-{month:02}-{:02}", days - days_before(year, month) + 1)
}

/// Days from the start of 1970 to the start of a month.
fn days_before(year: u64, month: u64) -> u64 {
    const BEFORE: [u64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
    let leaps = |y: u64| y / 4 - y / 100 + y / 400;
    let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let in_year = BEFORE[(month as usize - 1) % 12] + u64::from(is_leap && month > 2);
    (year - 1970) * 365 + leaps(year - 1) - leaps(1969) + in_year
}

/// Hours of the day in which the off-peak price holds, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Bit 0 is Monday. A window past midnight belongs to the day on which it begins.
    days: u8,
    /// Minutes since midnight; `to` is not within.
    from: u16,
    to: u16,
}

const EVERY_DAY: u8 = 0b111_1111;
const MINUTES: u16 = 24 * 60;

impl Window {
    /// Reads `0-8`, `16:30-00:30`, and ISO weekdays (1 is Monday; none means all).
    pub fn read(hours: &str, weekdays: &[u64]) -> Option<Window> {
        let (from, to) = hours.split_once('-')?;
        let (from, to) = (minute(from)?, minute(to)?);
        let mut days = if weekdays.is_empty() { EVERY_DAY } else { 0 };
        for weekday in weekdays {
            days |= 1 << (1..=7).contains(weekday).then(|| weekday - 1)?;
        }
        Some(Window { days, from: from % MINUTES, to })
    }

    /// The window as `HH:MM-HH:MM/1234567`, the days left out where it is every day.
    pub fn text(self) -> String {
        let time = |m: u16| format!("{:02}:{:02}", m / 60, m % 60);
        let days: String = (1..=7).filter(|d| self.days >> (d - 1) & 1 == 1).map(|d| d.to_string()).collect();
        let days = if self.days == EVERY_DAY { String::new() } else { format!("/{days}") };
        format!("{}-{}{days}", time(self.from), time(self.to))
    }

    /// Reads what [`Window::text`] wrote.
    pub fn parse(text: &str) -> Option<Window> {
        let (hours, days) = text.split_once('/').unwrap_or((text, ""));
        let days: Option<Vec<u64>> = days.chars().map(|c| c.to_digit(10).map(u64::from)).collect();
        Window::read(hours, &days?)
    }

    fn holds(self, at: u64) -> bool {
        // The first of January 1970 was a Thursday.
        let weekday = (at / DAY + 3) % 7;
        let minute = (at % DAY / 60) as u16;
        let on = |weekday: u64| self.days >> weekday & 1 == 1;
        if self.from < self.to {
            on(weekday) && (self.from..self.to).contains(&minute)
        } else {
            (on(weekday) && minute >= self.from) || (on((weekday + 6) % 7) && minute < self.to)
        }
    }
}

/// `16`, `16:30`, `24:00` as minutes since midnight.
fn minute(text: &str) -> Option<u16> {
    let (hours, minutes) = text.trim().split_once(':').unwrap_or((text.trim(), "0"));
    let (hours, minutes): (u16, u16) = (hours.parse().ok()?, minutes.parse().ok()?);
    (hours <= 24 && minutes < 60).then(|| hours * 60 + minutes).filter(|minute| *minute <= MINUTES)
}

/// Whether one of the windows holds at that time.
pub fn is_within(windows: &[Window], at: u64) -> bool {
    windows.iter().any(|w| w.holds(at))
}

/// A price that is known to rise.
pub struct Announced {
    pub providers: &'static [&'static str],
    pub models: &'static [&'static str],
    /// Pico-dollars per input token until then. A table that says otherwise is newer, and is left alone.
    pub input: u64,
    pub from: &'static str,
    /// All rates are multiplied by this.
    pub factor: u64,
}

const GOOGLE: &[&str] = &["gemini", "vertex_ai"];

const fn doubles(models: &'static [&'static str], input: u64, from: &'static str) -> Announced {
    Announced { providers: GOOGLE, models, input, from, factor: 2 }
}

/// Introductory prices of Google's that end, as was known in November 2026.
pub const ANNOUNCED: &[Announced] = &[
    doubles(&["gemini-4-argon"], 2_000_000, "2026-12-01"),
    doubles(&["gemini-3.6-flash", "gemini-3.7-flash", "gemini-3.8-flash"], 750_000, "2027-01-01"),
    doubles(&["gemini-3.8-flash-tts", "gemini-3.8-flash-lite-tts"], 500_000, "2027-01-01"),
    doubles(&["gemini-robotics-er-2-preview", "gemini-robotics-er-2-streaming-preview"], 1_000_000, "2027-01-01"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn days_are_read() {
        for (text, at) in [
            ("1970-01-01", Some(0)),
            ("2000-02-29", Some(951_782_400)),
            ("2026-12-01", Some(1_796_083_200)),
            ("2027-01-01", Some(1_798_761_600)),
            ("2026-02-29", None),
            ("2026-13-01", None),
            ("2026-1-01", None),
            ("1969-12-31", None),
            ("20é6-12-1", None),
        ] {
            assert_eq!(day(text), at, "{text}");
        }
        assert!(ANNOUNCED.iter().all(|a| day(a.from).is_some()));
    }

    #[test]
    fn windows_hold_in_their_hours() {
        // 2026-12-01 was a Tuesday.
        let tuesday = 1_796_083_200;
        let hour = |h: u64, m: u64| tuesday + h * 3600 + m * 60;
        let window = Window::read("16:30-00:30", &[]).unwrap();
        for (at, holds) in [(hour(16, 29), false), (hour(16, 30), true), (hour(24, 29), true), (hour(24, 30), false)] {
            assert_eq!(is_within(&[window], at), holds, "{at}");
        }
        let monday_night = Window::read("22-6", &[1]).unwrap();
        assert!(is_within(&[monday_night], hour(5, 59)) && !is_within(&[monday_night], hour(22, 0)));
        assert!(
            Window::read("0-24", &[2]).is_some_and(|w| is_within(&[w], hour(23, 59)) && !is_within(&[w], hour(24, 0)))
        );
        for wrong in ["", "1", "25-3", "1-24:30", "a-b", "1:60-3"] {
            assert_eq!(Window::read(wrong, &[]), None, "{wrong}");
        }
        assert_eq!(Window::read("1-2", &[8]), None);
        assert_eq!(Window::parse(&monday_night.text()), Some(monday_night));
        assert_eq!(Window::parse(&window.text()), Some(window));
        assert_eq!(Window::parse("16230-00:30"), None, "more hours than fit into any number of minutes");
    }

    proptest! {
        #[test]
        fn a_day_comes_back(at in 0u64..200_000_000_000) {
            let text = day_text(at);
            if text.len() == 10 {
                prop_assert_eq!(day(&text), Some(at / DAY * DAY));
            }
        }
    }
}
