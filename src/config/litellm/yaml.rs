//! YAML text to a JSON tree: the one place that knows the YAML crate.
//!
//! Read as LiteLLM's own parser reads it: YAML 1.1 booleans, anchors and merge keys, and of a repeated key the last.
//! Bounded in depth, size and alias expansion. Errors never quote the file, which may hold keys.

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use serde_saphyr::options::{DuplicateKeyPolicy, MergeKeyPolicy};
use serde_saphyr::{Error, Options};
use std::cell::RefCell;
use std::fmt;

/// A parsed file, and the paths of keys that it gives more than once.
pub struct Document {
    pub tree: Value,
    pub repeated: Vec<String>,
}

/// Parses one YAML document; an empty text is null.
///
/// # Errors
/// `LINE:COLUMN: what is wrong`, without any text of the file.
pub fn parse(text: &str) -> Result<Document, String> {
    let repeated = RefCell::new(Vec::new());
    let root = Node { path: String::new(), repeated: &repeated };
    let tree = serde_saphyr::with_deserializer_from_str_with_options(text, options(), |d| root.deserialize(d))
        .map_err(|error| describe(&error))?;
    Ok(Document { tree, repeated: repeated.into_inner() })
}

fn options() -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: 64,
            flow_nesting_limit: 64,
            // One more than is taken: the second one is refused by name rather than as an excess.
            max_documents: 2,
            max_total_scalar_bytes: 16 * 1024 * 1024,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 100_000,
            max_replay_stack_depth: 32,
        },
        duplicate_keys: DuplicateKeyPolicy::LastWins,
        merge_keys: MergeKeyPolicy::Merge,
        strict_booleans: false,
        with_snippet: false,
    }
}

/// The parser's own words where they describe syntax alone, ours where they might quote a value.
fn describe(error: &Error) -> String {
    let what = reason(error);
    match error.location().filter(|at| at.line() > 0) {
        Some(at) => format!("{}:{}: {what}", at.line(), at.column()),
        None => format!(" {what}"),
    }
}

fn reason(error: &Error) -> String {
    let text = match error {
        Error::WithSnippet { error, .. } | Error::AliasError { error, .. } => return reason(error),
        // Scanner errors: fixed texts that name at most one character of syntax.
        Error::Message { msg, .. } | Error::ExternalMessage { msg, .. } => return format!("not valid YAML: {msg}"),
        Error::Unexpected { expected, .. } => return format!("not valid YAML: expected {expected}"),
        Error::Eof { .. } => "the file ends too early",
        Error::MultipleDocuments { .. } => "more than one YAML document in the file",
        Error::NonFiniteFloat { .. } => "a number out of range (put a text in quotes)",
        Error::InvalidScalar { .. } => "a value that is not of the type its tag says",
        Error::UnknownAnchor { .. } => "an alias whose anchor is not defined above it",
        Error::RecursiveReferencesRequireWeakTypes { .. } => "an alias that contains itself",
        Error::MergeValueNotMapOrSeqOfMaps { .. } => "`<<` needs a map or a list of maps",
        Error::Budget { .. }
        | Error::AliasReplayLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayCounterOverflow { .. } => "too large, too deeply nested, or too many aliases",
        _ => "not valid YAML",
    };
    text.to_owned()
}

/// Builds the value at one path.
struct Node<'a> {
    path: String,
    repeated: &'a RefCell<Vec<String>>,
}

impl Node<'_> {
    fn child(&self, key: &str) -> Self {
        let key = super::shown(key);
        let path = if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) };
        Node { path, repeated: self.repeated }
    }

    fn item(&self, index: usize) -> Self {
        Node { path: format!("{}[{index}]", self.path), repeated: self.repeated }
    }
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        // TOML has no larger integers.
        Ok(i64::try_from(value).map_or_else(|_| Value::from(value as f64), Value::from))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(value) = items.next_element_seed(self.item(list.len()))? {
            list.push(value);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let child = self.child(&key);
            let path = child.path.clone();
            let value = entries.next_value_seed(child)?;
            if map.insert(key, value).is_some() {
                self.repeated.borrow_mut().push(path);
            }
        }
        Ok(Value::Object(map))
    }
}
