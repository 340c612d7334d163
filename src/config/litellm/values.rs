//! Single values of the YAML tree as the types of our written form, and the report of what did not fit.
//!
//! Null and the empty text are "absent". A message names the path, the kind of value found and the kind expected,
//! never the value.

use super::{Note, type_name};
use crate::config::file::{Age, Duration, Json, Size};
use crate::secret::Written;
use serde_json::{Map, Value};

const REFERENCE: &str = "os.environ/";

/// Errors and notes, in the order in which they came up.
#[derive(Default)]
pub struct Report {
    pub errors: Vec<String>,
    notes: Vec<(Note, usize)>,
}

impl Report {
    /// Adds a note; the same one again is only counted.
    pub fn note(&mut self, path: impl Into<String>, reason: impl Into<String>) {
        let note = Note::new(path, reason);
        match self.notes.iter_mut().find(|(known, _)| *known == note) {
            Some((_, count)) => *count += 1,
            None => self.notes.push((note, 1)),
        }
    }

    pub fn wrong(&mut self, path: &str, found: &Value, expected: &str) {
        self.errors.push(format!("{path}: found {}, expected {expected}", type_name(found)));
    }

    /// The notes, those about model entries with the number of entries they stand for.
    pub fn into_notes(self) -> Vec<Note> {
        let counted = |(note, count): (Note, usize)| match count {
            _ if !note.path.starts_with("model_list[]") => note,
            1 => Note { path: format!("{} (1 model)", note.path), ..note },
            _ => Note { path: format!("{} ({count} models)", note.path), ..note },
        };
        self.notes.into_iter().map(counted).collect()
    }

    /// A map; `None` if absent or, with an error, something else.
    pub fn map<'a>(&mut self, path: &str, value: Option<&'a Value>) -> Option<&'a Map<String, Value>> {
        match value? {
            Value::Null => None,
            Value::Object(map) => Some(map),
            other => {
                self.wrong(path, other, "a map");
                None
            }
        }
    }

    /// A list; empty if absent.
    pub fn list<'a>(&mut self, path: &str, value: Option<&'a Value>) -> &'a [Value] {
        match value {
            None | Some(Value::Null) => &[],
            Some(Value::Array(list)) => list,
            Some(other) => {
                self.wrong(path, other, "a list");
                &[]
            }
        }
    }

    /// A text, in which `os.environ/NAME` has become `env:NAME`.
    pub fn text(&mut self, path: &str, value: Option<&Value>) -> Option<String> {
        match value? {
            Value::Null => None,
            Value::String(text) if text.is_empty() => None,
            Value::String(text) => Some(refer(text)),
            number @ Value::Number(_) => {
                self.wrong(path, number, "a text (put it in quotes)");
                None
            }
            other => {
                self.wrong(path, other, "a text");
                None
            }
        }
    }

    /// A list of texts, or one text alone.
    pub fn texts(&mut self, path: &str, value: Option<&Value>) -> Vec<String> {
        match value {
            Some(one @ Value::String(_)) => self.text(path, Some(one)).into_iter().collect(),
            value => self.list(path, value).iter().filter_map(|item| self.text(path, Some(item))).collect(),
        }
    }

    /// A map whose values are texts, numbers or booleans, all taken as texts.
    pub fn scalars(&mut self, path: &str, value: Option<&Value>) -> Vec<(String, Written)> {
        let Some(map) = self.map(path, value) else {
            return Vec::new();
        };
        let mut pairs = Vec::new();
        for (key, value) in map {
            match value {
                Value::Null => {}
                Value::String(text) => pairs.push((key.clone(), Written(refer(text)))),
                Value::Bool(_) | Value::Number(_) => pairs.push((key.clone(), Written(value.to_string()))),
                other => self.wrong(&format!("{path}.{}", super::shown(key)), other, "a text"),
            }
        }
        pairs
    }

    /// A map as a part of our written form, member by member: what it does not have is a note, what has another type is
    /// an error.
    pub fn part<T: Default + serde::de::DeserializeOwned>(&mut self, path: &str, value: Option<&Value>) -> T {
        let Some(map) = self.map(path, value) else {
            return T::default();
        };
        let mut whole = Map::new();
        for (key, value) in map.iter().filter(|(_, value)| !value.is_null()) {
            let one = Map::from_iter([(key.clone(), value.clone())]);
            match serde_json::from_value::<T>(Value::Object(one)) {
                Ok(_) => {
                    whole.insert(key.clone(), value.clone());
                }
                Err(e) if e.to_string().starts_with("unknown field") => {
                    self.note(format!("{path}.{}", super::shown(key)), "it is not used for new ones");
                }
                Err(_) => self.wrong(&format!("{path}.{}", super::shown(key)), value, "what the management API takes"),
            }
        }
        serde_json::from_value(Value::Object(whole)).unwrap_or_default()
    }

    /// A boolean, also as `"yes"`, `"no"`, `"on"`, `"off"`, `"true"` or `"false"`.
    pub fn flag(&mut self, path: &str, value: Option<&Value>) -> Option<bool> {
        let value = self.settled(path, value?)?;
        let flag = match value {
            Value::Bool(flag) => Some(*flag),
            Value::String(text) => match text.to_ascii_lowercase().as_str() {
                "true" | "yes" | "on" => Some(true),
                "false" | "no" | "off" => Some(false),
                _ => None,
            },
            _ => None,
        };
        if flag.is_none() {
            self.wrong(path, value, "true or false");
        }
        flag
    }

    /// A number, also as a text.
    pub fn number(&mut self, path: &str, value: Option<&Value>) -> Option<f64> {
        let value = self.settled(path, value?)?;
        let number = match value {
            Value::Number(number) => number.as_f64(),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        if number.is_none() {
            self.wrong(path, value, "a number");
        }
        number
    }

    /// A number of seconds; 0 is absent, as in LiteLLM.
    pub fn seconds(&mut self, path: &str, value: Option<&Value>) -> Option<Duration> {
        let seconds = self.number(path, value).filter(|seconds| *seconds != 0.0)?;
        self.kept(path, Duration::from_seconds(seconds))
    }

    /// A length of time as LiteLLM writes it (`30d`, `6mo`), or a number of seconds.
    pub fn age(&mut self, path: &str, value: Option<&Value>) -> Option<Age> {
        match self.settled(path, value?)? {
            Value::Number(number) => self.kept(path, Age::from_seconds(number.as_f64().unwrap_or(-1.0))),
            Value::String(text) => self.kept(path, text.trim().parse()),
            other => {
                self.wrong(path, other, "a length of time such as 30d");
                None
            }
        }
    }

    /// A number of mebibytes, which is what LiteLLM calls MB.
    pub fn mebibytes(&mut self, path: &str, value: Option<&Value>) -> Option<Size> {
        let mebibytes = self.number(path, value)?;
        self.kept(path, Size::from_bytes(mebibytes * 1_048_576.0))
    }

    /// A whole number from 0 on.
    pub fn whole(&mut self, path: &str, value: Option<&Value>) -> Option<u32> {
        let number = self.number(path, value)?;
        if number < 0.0 || number > f64::from(u32::MAX) || number.fract() != 0.0 {
            self.errors.push(format!("{path}: expected a whole number from 0 on"));
            return None;
        }
        Some(number as u32)
    }

    /// A count that is at least 1.
    pub fn count(&mut self, path: &str, value: Option<&Value>) -> Option<usize> {
        let number = self.number(path, value)?;
        if number < 1.0 || number > f64::from(u32::MAX) || number.fract() != 0.0 {
            self.errors.push(format!("{path}: expected a whole number from 1 on"));
            return None;
        }
        Some(number as usize)
    }

    /// The value, unless it is null or a reference, which only texts may be.
    fn settled<'a>(&mut self, path: &str, value: &'a Value) -> Option<&'a Value> {
        match value {
            Value::Null => None,
            Value::String(text) if text.is_empty() => None,
            Value::String(text) if text.starts_with(REFERENCE) => {
                self.note(path, "`os.environ/NAME` is looked up for texts only: write the value itself");
                None
            }
            value => Some(value),
        }
    }

    fn kept<T>(&mut self, path: &str, result: Result<T, String>) -> Option<T> {
        result.map_err(|error| self.errors.push(format!("{path}: {error}"))).ok()
    }
}

fn refer(text: &str) -> String {
    match text.strip_prefix(REFERENCE) {
        Some(name) => format!("env:{name}"),
        None => text.to_owned(),
    }
}

/// A free value without its nulls, which our written form cannot hold.
pub fn without_nulls(value: &Value) -> Option<Json> {
    match value {
        Value::Null => None,
        Value::Array(list) => Some(list.iter().filter_map(without_nulls).collect()),
        Value::Object(map) => {
            let kept = map.iter().filter_map(|(key, value)| Some((key.clone(), without_nulls(value)?)));
            Some(Value::Object(kept.collect()))
        }
        other => Some(other.clone()),
    }
}
