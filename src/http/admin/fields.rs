//! Members of JSON as fields of a record, and back: what a field holds is said once, for both ways and all routes.

use super::times;
use crate::error::{Error, Result};
use crate::price::usd_number;
use serde_json::{Map, Value};

/// A field of a record, by what it holds.
pub enum Slot<'a> {
    Text(&'a mut Option<String>),
    /// Names.
    Texts(&'a mut Vec<String>),
    /// Anything; an object where there is nothing.
    Tree(&'a mut Value),
    /// Dollars, kept as nano-dollars.
    Usd(&'a mut Option<i64>),
    Count(&'a mut Option<i64>),
    Flag(&'a mut bool),
    /// A length of time, as it was written.
    Span(&'a mut Option<String>),
    /// A moment, in microseconds.
    Moment(&'a mut Option<i64>),
}

/// A record whose fields have LiteLLM's names.
pub trait Fields {
    const NAMES: &'static [&'static str];
    fn slot(&mut self, name: &str) -> Option<Slot<'_>>;
    /// Members that have no column.
    fn extra(&mut self) -> &mut Value;
}

/// Declares which member is which field.
macro_rules! fields {
    ($Name:ty { $($member:literal => $kind:ident $field:ident,)* }) => {
        impl $crate::http::admin::fields::Fields for $Name {
            const NAMES: &'static [&'static str] = &[$($member,)*];

            fn slot(&mut self, name: &str) -> Option<$crate::http::admin::fields::Slot<'_>> {
                match name {
                    $($member => Some($crate::http::admin::fields::Slot::$kind(&mut self.$field)),)*
                    _ => None,
                }
            }

            fn extra(&mut self) -> &mut serde_json::Value {
                &mut self.extra
            }
        }
    };
}
pub(super) use fields;

/// The largest amount that is taken: a billion dollars.
const MOST_USD: f64 = 1e9;
/// Texts, lists and objects of a request are stored up to these sizes: what is remembered of a key stays small.
const MOST_TEXT: usize = 1024;
const MOST_NAMES: usize = 1000;
const MOST_TREE: usize = 64 << 10;
/// Members without a column are kept up to this many.
const MOST_EXTRA: usize = 64;

/// Puts the members of a request into a record, but for those that the route handles itself. A null empties a field.
///
/// # Errors
/// A 400 that names the member of a wrong type.
pub fn apply<T: Fields>(record: &mut T, body: &Map<String, Value>, handled: &[&str]) -> Result<()> {
    for (name, value) in body.iter().filter(|(name, _)| !handled.contains(&name.as_str())) {
        match record.slot(name) {
            Some(slot) => set(slot, name, value)?,
            None => keep(record.extra(), name, value)?,
        }
    }
    Ok(())
}

/// A member that has no column is given back as it came.
fn keep(extra: &mut Value, name: &str, value: &Value) -> Result<()> {
    if !extra.is_object() {
        *extra = Value::Object(Map::new());
    }
    if let Value::Object(members) = extra {
        if value.is_null() {
            members.remove(name);
        } else if members.len() < MOST_EXTRA || members.contains_key(name) {
            members.insert(name.to_owned(), small(name, value)?);
        } else {
            return Err(
                Error::invalid(format!("More than {MOST_EXTRA} members that mean nothing here.")).at_param(name)
            );
        }
    }
    Ok(())
}

fn set(slot: Slot<'_>, name: &str, value: &Value) -> Result<()> {
    let wrong =
        |expected: &str| Error::invalid(format!("Invalid type for '{name}': expected {expected}.")).at_param(name);
    match slot {
        Slot::Text(field) => {
            *field = match value {
                Value::Null => None,
                // Forms send what was not filled in; nothing is called so.
                Value::String(text) if text.is_empty() => None,
                Value::String(text) if text.len() <= MOST_TEXT => Some(text.clone()),
                Value::String(_) => return Err(wrong("a text of at most 1024 bytes")),
                _ => return Err(wrong("a text")),
            }
        }
        Slot::Texts(field) => *field = texts(name, value)?,
        Slot::Tree(field) => {
            crate::limits::terms::check(name, value).map_err(|why| Error::invalid(why).at_param(name))?;
            *field = if value.is_null() { Value::Object(Map::new()) } else { small(name, value)? };
        }
        Slot::Usd(field) => {
            *field = match value {
                Value::Null => None,
                _ => Some(nanos(name, value)?),
            }
        }
        Slot::Count(field) => {
            *field = match value {
                Value::Null => None,
                _ => Some(
                    value.as_i64().filter(|n| *n >= 0).ok_or_else(|| wrong("a whole number that is not negative"))?,
                ),
            }
        }
        Slot::Flag(field) => {
            *field = match value {
                Value::Null => false,
                _ => value.as_bool().ok_or_else(|| wrong("true or false"))?,
            }
        }
        Slot::Span(field) => {
            *field = match value {
                Value::Null => None,
                _ => {
                    let text = value.as_str().ok_or_else(|| wrong("a length of time such as \"30d\""))?;
                    times::after(0, text).map_err(|e| e.at_param(name))?;
                    Some(text.to_owned())
                }
            }
        }
        Slot::Moment(field) => {
            *field = match value {
                Value::Null => None,
                _ => Some(
                    value
                        .as_str()
                        .and_then(times::read)
                        .ok_or_else(|| wrong("a time such as \"2026-12-31T00:00:00Z\""))?,
                ),
            }
        }
    }
    Ok(())
}

/// A value that is not too large to be stored.
fn small(name: &str, value: &Value) -> Result<Value> {
    if value.to_string().len() > MOST_TREE {
        return Err(Error::invalid(format!("'{name}' is larger than 64 KiB.")).at_param(name));
    }
    Ok(value.clone())
}

/// A list of texts; null is none.
pub fn texts(name: &str, value: &Value) -> Result<Vec<String>> {
    let wrong = || Error::invalid(format!("Invalid type for '{name}': expected a list of texts.")).at_param(name);
    match value {
        Value::Null => Ok(Vec::new()),
        Value::Array(items) if items.len() > MOST_NAMES => {
            Err(Error::invalid(format!("'{name}' has more than {MOST_NAMES} entries.")).at_param(name))
        }
        Value::Array(items) => items.iter().map(|item| item.as_str().map(str::to_owned).ok_or_else(wrong)).collect(),
        _ => Err(wrong()),
    }
}

/// Dollars as nano-dollars.
pub fn nanos(name: &str, value: &Value) -> Result<i64> {
    let usd = value.as_f64().filter(|usd| (0.0..=MOST_USD).contains(usd));
    let usd = usd.ok_or_else(|| {
        Error::invalid(format!("'{name}' must be an amount of dollars from 0 to 1e9.")).at_param(name)
    })?;
    Ok((usd * 1e9).round() as i64)
}

/// Nano-dollars as a member. What was set below zero shows as nothing spent.
pub fn usd(nanos: i64) -> Value {
    usd_number(u64::try_from(nanos).unwrap_or(0)).into()
}

/// All fields as members.
pub fn show<T: Fields + Clone>(record: &T) -> Map<String, Value> {
    let mut record = record.clone();
    let mut shown = Map::new();
    if let Value::Object(extra) = std::mem::take(record.extra()) {
        shown.extend(extra);
    }
    for name in T::NAMES {
        let value = match record.slot(name) {
            Some(Slot::Text(field) | Slot::Span(field)) => field.clone().into(),
            Some(Slot::Texts(field)) => field.clone().into(),
            Some(Slot::Tree(field)) if field.is_null() => Value::Object(Map::new()),
            Some(Slot::Tree(field)) => field.clone(),
            Some(Slot::Usd(field)) => field.map_or(Value::Null, usd),
            Some(Slot::Count(field)) => (*field).into(),
            Some(Slot::Flag(field)) => (*field).into(),
            Some(Slot::Moment(field)) => field.map(times::iso).into(),
            None => continue,
        };
        shown.insert((*name).to_owned(), value);
    }
    shown
}
