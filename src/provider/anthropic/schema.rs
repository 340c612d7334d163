//! JSON Schemas, cut to what Anthropic takes.
//!
//! Source: the "structured outputs" page (supported and refused keywords) and the tool reference (`input_schema` is an
//! object at its root, without `oneOf`, `anyOf` or `allOf` there).

use serde_json::{Map, Value, json};
use std::collections::HashSet;

/// Keywords of the subset that output can be held to.
const STRICT: &[&str] = &[
    "type",
    "properties",
    "required",
    "items",
    "enum",
    "const",
    "anyOf",
    "allOf",
    "$ref",
    "$defs",
    "definitions",
    "description",
    "title",
    "default",
    "format",
    "pattern",
    "additionalProperties",
    "minItems",
];

const FORMATS: &[&str] = &["date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"];

/// The `input_schema` of a tool: always an object. Alternatives at the root become one object that fits all of them.
pub(super) fn of_tool(schema: &Value) -> Value {
    let Value::Object(schema) = schema else {
        return json!({"type": "object", "properties": {}});
    };
    let mut schema = schema.clone();
    for (keyword, all_hold) in [("allOf", true), ("anyOf", false), ("oneOf", false)] {
        if let Some(Value::Array(parts)) = schema.shift_remove(keyword) {
            merge(&mut schema, &parts, all_hold);
        }
    }
    if schema.get("type").is_none_or(|kind| kind != "object") {
        schema.insert("type".to_owned(), "object".into());
    }
    schema.entry("properties").or_insert_with(|| json!({}));
    schema.into()
}

/// Joins the properties of several object schemas; required is what each of them requires, or any if `all_hold`.
fn merge(schema: &mut Map<String, Value>, parts: &[Value], all_hold: bool) {
    fn required(part: &Value) -> HashSet<&str> {
        part["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
    }
    let mut properties = match schema.remove("properties") {
        Some(Value::Object(properties)) => properties,
        _ => Map::new(),
    };
    for part in parts {
        for (name, property) in part["properties"].as_object().into_iter().flatten() {
            properties.entry(name.clone()).or_insert_with(|| property.clone());
        }
    }
    let mut needed: Vec<String> = match schema.get("required") {
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    };
    let mut sets = parts.iter().map(required);
    let first = sets.next().unwrap_or_default();
    let more = match all_hold {
        true => sets.fold(first, |all, set| &all | &set),
        false => sets.fold(first, |all, set| &all & &set),
    };
    let known: HashSet<String> = needed.iter().cloned().collect();
    // In the order of the properties, so that equal schemas are spelled equally.
    let more = properties.keys().filter(|name| more.contains(name.as_str()) && !known.contains(*name));
    needed.extend(more.cloned());
    if !needed.is_empty() {
        schema.insert("required".to_owned(), needed.into());
    }
    schema.insert("properties".to_owned(), properties.into());
}

/// The schema in the subset that Anthropic holds output to. A bound outside of it, such as `minLength`, is told in the
/// description instead. `None` where that would change which values fit: objects with free member names.
pub(super) fn strict(schema: &Value) -> Option<Value> {
    let Value::Object(schema) = schema else {
        // `true`, `false` or worse.
        return None;
    };
    let mut made = Map::with_capacity(schema.len() + 1);
    let mut told = Vec::new();
    for (keyword, value) in schema {
        match keyword.as_str() {
            "properties" | "$defs" | "definitions" => {
                let parts = value.as_object()?.iter();
                let parts = parts.map(|(name, part)| Some((name.clone(), strict(part)?)));
                made.insert(keyword.clone(), Value::Object(parts.collect::<Option<_>>()?));
            }
            "items" => _ = made.insert(keyword.clone(), strict(value)?),
            "anyOf" | "allOf" | "oneOf" => {
                let parts = value.as_array()?.iter().map(strict).collect::<Option<Vec<_>>>()?;
                // Of alternatives that exclude each other, one that fits is as good.
                let keyword = if keyword == "oneOf" { "anyOf" } else { keyword };
                made.insert(keyword.to_owned(), parts.into());
            }
            "additionalProperties" if value.is_object() => return None,
            "additionalProperties" | "$schema" | "$id" | "$comment" => (),
            "patternProperties" | "propertyNames" | "not" | "if" | "dependentSchemas" => return None,
            "format" if !value.as_str().is_some_and(|format| FORMATS.contains(&format)) => {
                told.push(format!("{keyword}: {value}"));
            }
            "minItems" if !matches!(value.as_u64(), Some(0 | 1)) => told.push(format!("{keyword}: {value}")),
            known if STRICT.contains(&known) => _ = made.insert(keyword.clone(), value.clone()),
            _ => told.push(format!("{keyword}: {value}")),
        }
    }
    let is_object = match schema.get("type") {
        Some(Value::String(kind)) => kind == "object",
        Some(Value::Array(kinds)) => kinds.iter().any(|kind| kind == "object"),
        _ => schema.contains_key("properties"),
    };
    if is_object {
        // Without any named member, all of them are free.
        let names_none = schema.get("properties").and_then(Value::as_object).is_none_or(Map::is_empty);
        if names_none && schema.get("additionalProperties").is_none_or(|free| *free != false) {
            return None;
        }
        made.insert("additionalProperties".to_owned(), false.into());
    }
    if !told.is_empty() {
        let before = made.get("description").and_then(Value::as_str).unwrap_or_default();
        let text = format!("{before} ({})", told.join(", "));
        made.insert("description".to_owned(), text.trim_start().into());
    }
    Some(made.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alternatives_at_the_root_become_one_object() {
        let schema = json!({"oneOf": [
            {"properties": {"a": {"type": "string"}, "c": {}}, "required": ["a", "c"]},
            {"properties": {"b": {"type": "string"}}, "required": ["b", "c"]},
        ]});
        let made = of_tool(&schema);
        let expected = json!({"type": "object", "properties": {"a": {"type": "string"}, "c": {}, "b": {"type": "string"}}, "required": ["c"]});
        assert_eq!(made, expected);
        assert_eq!(of_tool(&Value::Null), json!({"type": "object", "properties": {}}));
    }

    #[test]
    fn bounds_are_told_and_free_members_are_not_strict() {
        let schema =
            json!({"type": "object", "properties": {"n": {"type": "integer", "minimum": 1, "description": "Count"}}});
        let expected = json!({"type": "object", "properties": {"n": {"type": "integer", "description": "Count (minimum: 1)"}}, "additionalProperties": false});
        assert_eq!(strict(&schema), Some(expected));
        assert_eq!(strict(&json!({"type": "object", "additionalProperties": {"type": "string"}})), None);
        assert_eq!(strict(&json!({"type": "object"})), None);
    }
}
