//! How lengths of time and numbers of bytes are written: [`Duration`], [`Age`] and [`Size`] as text, both ways.
//!
//! A message never repeats the text that was refused: it may come from a file that holds secrets.

use super::file::{Age, Duration, Size};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::str::FromStr;

/// The longest duration that may be written: one year of 365 days.
const LONGEST_MS: u64 = 365 * 24 * 3_600_000;

/// Units of time in milliseconds, the largest first, so that the first exact one is the shortest text.
const TIMES: &[(&str, u64)] = &[("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// The longest age that may be written: a hundred years.
const OLDEST_MS: u64 = 100 * LONGEST_MS;

/// Units of [`Age`] that [`Duration`] has not. A month is the longest one: rather kept a day more than a day less.
const AGES: &[(&str, u64)] = &[("y", LONGEST_MS), ("mo", 31 * 86_400_000), ("w", 7 * 86_400_000)];

const SIZES: &[(&str, u64)] = &[
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("kB", 1_000),
    ("B", 1),
];

const NOT_A_TIME: &str =
    "not a length of time: write \"500ms\", \"30s\", \"5m\", \"1h\", \"1d\" or a number of seconds";
const NOT_AN_AGE: &str = "not an age: write \"12h\", \"30d\", \"8w\", \"6mo\", \"2y\" or a number of seconds";
const NOT_A_SIZE: &str = "not a size: write \"512KiB\", \"32MiB\", \"1GiB\", \"10MB\" or a number of bytes";

impl Duration {
    /// That many seconds, in whole milliseconds.
    ///
    /// # Errors
    /// A message for the operator: negative, not a number, under a millisecond but not 0, or over one year.
    pub fn from_seconds(seconds: f64) -> Result<Self, String> {
        let ms = (seconds * 1_000.0).round();
        if seconds.is_nan() || seconds < 0.0 {
            return Err("a length of time cannot be negative".to_owned());
        }
        if ms == 0.0 && seconds > 0.0 {
            return Err("a length of time is 0 or at least a millisecond".to_owned());
        }
        if ms > LONGEST_MS as f64 {
            return Err("a length of time is at most a year (\"365d\")".to_owned());
        }
        Ok(Duration(std::time::Duration::from_millis(ms as u64)))
    }
}

impl FromStr for Duration {
    type Err = String;

    /// Reads `"30s"`, `"500ms"`, `"5m"`, `"1.5h"`, `"1d"`; a bare number is seconds.
    fn from_str(text: &str) -> Result<Self, String> {
        let (number, unit) = split(text).ok_or(NOT_A_TIME)?;
        let unit = if unit.is_empty() { "s" } else { unit };
        let (_, ms) = TIMES.iter().find(|(name, _)| *name == unit).ok_or(NOT_A_TIME)?;
        Duration::from_seconds(number * *ms as f64 / 1_000.0)
    }
}

impl fmt::Display for Duration {
    /// The shortest text that [`FromStr`] reads as the same number of milliseconds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0.as_millis();
        match TIMES.iter().find(|(_, unit)| ms != 0 && ms.is_multiple_of(u128::from(*unit))) {
            Some((name, unit)) => write!(f, "{}{name}", ms / u128::from(*unit)),
            None => f.write_str("0s"),
        }
    }
}

impl Age {
    /// That many seconds, in whole milliseconds.
    ///
    /// # Errors
    /// A message for the operator: negative, not a number, or over a hundred years.
    pub fn from_seconds(seconds: f64) -> Result<Self, String> {
        let ms = (seconds * 1_000.0).round();
        if seconds.is_nan() || seconds < 0.0 {
            return Err("an age cannot be negative".to_owned());
        }
        if ms > OLDEST_MS as f64 {
            return Err("an age is at most a hundred years".to_owned());
        }
        Ok(Age(std::time::Duration::from_millis(ms as u64)))
    }
}

impl FromStr for Age {
    type Err = String;

    /// Reads what [`Duration`] reads, and `"8w"`, `"6mo"`, `"2y"`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (number, unit) = split(text).ok_or(NOT_AN_AGE)?;
        let unit = if unit.is_empty() { "s" } else { unit };
        let (_, ms) = AGES.iter().chain(TIMES).find(|(name, _)| *name == unit).ok_or(NOT_AN_AGE)?;
        Age::from_seconds(number * *ms as f64 / 1_000.0)
    }
}

impl fmt::Display for Age {
    /// As [`Duration`]: in days at most.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Duration(self.0).fmt(f)
    }
}

impl Size {
    /// That many bytes, a part of a byte rounded off.
    ///
    /// # Errors
    /// A message for the operator: negative, not a number, or more than this machine can address.
    pub fn from_bytes(bytes: f64) -> Result<Self, String> {
        if bytes.is_nan() || bytes < 0.0 {
            return Err("a size cannot be negative".to_owned());
        }
        // `isize::MAX` is the largest allocation there is, and a float close to `usize::MAX` would round up past it.
        if bytes >= isize::MAX as f64 {
            return Err("a size that large cannot be addressed".to_owned());
        }
        Ok(Size(bytes.round() as usize))
    }
}

impl FromStr for Size {
    type Err = String;

    /// Reads `"32MiB"`, `"512KiB"`, `"10MB"`, `"10kB"` (upper or lower case); a bare number is bytes.
    fn from_str(text: &str) -> Result<Self, String> {
        let (number, unit) = split(text).ok_or(NOT_A_SIZE)?;
        let unit = if unit.is_empty() { "B" } else { unit };
        let (_, bytes) = SIZES.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).ok_or(NOT_A_SIZE)?;
        Size::from_bytes(number * *bytes as f64)
    }
}

impl fmt::Display for Size {
    /// The shortest text that [`FromStr`] reads as the same number of bytes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0 as u64;
        let plain = bytes.to_string();
        let shortest = SIZES
            .iter()
            .filter(|(_, unit)| bytes != 0 && bytes.is_multiple_of(*unit))
            .map(|(name, unit)| format!("{}{name}", bytes / unit))
            .min_by_key(String::len)
            .filter(|text| text.len() <= plain.len());
        f.write_str(&shortest.unwrap_or(plain))
    }
}

/// `"1.5h"` as 1.5 and `h`; `None` where there is no plain decimal number in front.
fn split(text: &str) -> Option<(f64, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    Some((number.parse().ok()?, unit.trim_start()))
}

/// Reads a value that is a text in [`FromStr`]'s form or a plain number in the base unit.
struct Visitor<T> {
    expected: &'static str,
    number: fn(f64) -> Result<T, String>,
}

impl<T: FromStr<Err = String>> de::Visitor<'_> for Visitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        (self.number)(number as f64).map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        (self.number)(number as f64).map_err(E::custom)
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<T, E> {
        (self.number)(number).map_err(E::custom)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Visitor {
            expected: "a length of time such as \"30s\", or a number of seconds",
            number: Duration::from_seconds,
        })
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Visitor {
            expected: "a size such as \"32MiB\", or a number of bytes",
            number: Size::from_bytes,
        })
    }
}

impl<'de> Deserialize<'de> for Age {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Visitor {
            expected: "an age such as \"30d\", or a number of seconds",
            number: Age::from_seconds,
        })
    }
}

impl Serialize for Age {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A number with its noun: `1 model`, `2 models`.
pub fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Written {
        time: Duration,
        size: Size,
    }

    fn ms(text: &str) -> Result<u128, String> {
        text.parse::<Duration>().map(|d| d.0.as_millis())
    }

    fn bytes(text: &str) -> Result<usize, String> {
        text.parse::<Size>().map(|s| s.0)
    }

    #[test]
    fn times_are_read_in_every_unit() {
        for (text, expected) in [
            ("500ms", 500),
            ("30s", 30_000),
            ("5m", 300_000),
            ("1h", 3_600_000),
            ("1d", 86_400_000),
            ("1.5h", 5_400_000),
            ("60", 60_000),
            ("0.25", 250),
            (" 2 s ", 2_000),
            ("0", 0),
            ("0s", 0),
            ("365d", LONGEST_MS.into()),
        ] {
            assert_eq!(ms(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused_and_not_repeated() {
        for text in [
            "",
            "s",
            "-5s",
            "-1",
            "nan",
            "inf",
            "1e3",
            "5 minutes",
            "1.2.3s",
            "..",
            "366d",
            "99999999999999999999h",
            "0.0001s",
            "5M",
            "sk-secret",
        ] {
            let error = ms(text).unwrap_err();
            assert!(text.len() < 3 || !error.contains(text), "{error}");
        }
        assert!(Duration::from_seconds(f64::NAN).is_err());
        assert!(Duration::from_seconds(f64::INFINITY).is_err());
        assert!(Duration::from_seconds(-0.5).unwrap_err().contains("negative"));
    }

    #[test]
    fn ages_are_times_that_may_be_years() {
        let day = 86_400;
        for (text, seconds, written) in [
            ("30d", 30 * day, "30d"),
            ("2w", 14 * day, "14d"),
            ("6mo", 186 * day, "186d"),
            ("2y", 730 * day, "730d"),
            ("90", 90, "90s"),
        ] {
            let age: Age = text.parse().unwrap();
            assert_eq!((age.0.as_secs(), age.to_string().as_str()), (seconds, written), "{text}");
        }
        for text in ["", "d", "-1d", "101y", "3 fortnights", "nan"] {
            assert!(text.parse::<Age>().is_err(), "{text}");
        }
    }

    #[test]
    fn times_are_written_shortest() {
        for (given, written) in [
            ("0", "0s"),
            ("1000ms", "1s"),
            ("90s", "90s"),
            ("600", "10m"),
            ("3600", "1h"),
            ("24h", "1d"),
            ("1.5s", "1500ms"),
            ("365d", "365d"),
        ] {
            assert_eq!(given.parse::<Duration>().unwrap().to_string(), written);
        }
    }

    #[test]
    fn sizes_are_read_and_written() {
        for (given, expected, written) in [
            ("0", 0, "0"),
            ("1", 1, "1"),
            ("1000", 1_000, "1kB"),
            ("512KiB", 524_288, "512KiB"),
            ("32MiB", 33_554_432, "32MiB"),
            ("32mib", 33_554_432, "32MiB"),
            ("1GiB", 1_073_741_824, "1GiB"),
            ("1024MiB", 1_073_741_824, "1GiB"),
            ("10MB", 10_000_000, "10MB"),
            ("10kB", 10_000, "10kB"),
            ("10KB", 10_000, "10kB"),
            ("0.5MiB", 524_288, "512KiB"),
            ("17B", 17, "17"),
        ] {
            assert_eq!(bytes(given), Ok(expected), "{given}");
            assert_eq!(given.parse::<Size>().unwrap().to_string(), written);
        }
        for text in ["", "MiB", "-1", "nan", "5 apples", "99999999999999999999GiB"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        for ms in [0, 1, 999, 1_000, 59_999, 60_000, 3_600_000, 86_400_000, LONGEST_MS - 1, LONGEST_MS] {
            let time = Duration(std::time::Duration::from_millis(ms));
            assert_eq!(time.to_string().parse(), Ok(time));
        }
        for bytes in [0, 1, 1023, 1024, 1_000_000, 1 << 20, (1 << 30) + 1] {
            assert_eq!(Size(bytes).to_string().parse(), Ok(Size(bytes)));
        }
    }

    #[test]
    fn toml_takes_texts_and_numbers() {
        let expected = Written { time: "1500ms".parse().unwrap(), size: Size(2048) };
        for text in ["time = \"1500ms\"\nsize = \"2KiB\"", "time = 1.5\nsize = 2048"] {
            assert_eq!(toml::from_str::<Written>(text).unwrap(), expected);
        }
        assert_eq!(toml::to_string(&expected).unwrap(), "time = \"1500ms\"\nsize = \"2KiB\"\n");
        for text in [
            "time = -1\nsize = 1",
            "time = nan\nsize = 1",
            "time = true\nsize = 1",
            "time = 1\nsize = -1",
            "time = inf\nsize = 1",
        ] {
            assert!(toml::from_str::<Written>(text).is_err(), "{text}");
        }
    }
}
