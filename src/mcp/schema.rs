//! Whether arguments fit a tool's schema: the part of JSON Schema (2020-12) that tools use. What is not known is let
//! pass; no reference is followed.

use serde_json::Value;

/// Schemas nested deeper are not looked into.
const DEEPEST: usize = 32;

/// # Errors
/// What does not fit, and where.
pub fn check(schema: &Value, value: &Value) -> Result<(), String> {
    at(schema, value, "", 0)
}

fn at(schema: &Value, value: &Value, place: &str, depth: usize) -> Result<(), String> {
    let here = if place.is_empty() { "the arguments" } else { place };
    if schema == &Value::Bool(false) {
        return Err(format!("{here} may not be given"));
    }
    if !schema.is_object() || depth > DEEPEST {
        return Ok(());
    }
    if let Some(kinds) = kinds(&schema["type"])
        && !kinds.iter().any(|kind| is_kind(kind, value))
    {
        return Err(format!("{here} must be of type {}", kinds.join(" or ")));
    }
    if let Some(allowed) = schema["enum"].as_array()
        && !allowed.contains(value)
    {
        let shown: Vec<String> = allowed.iter().take(20).map(Value::to_string).collect();
        return Err(format!("{here} must be one of {}", shown.join(", ")));
    }
    if let Some(constant) = schema.get("const")
        && constant != value
    {
        return Err(format!("{here} must be {constant}"));
    }
    if let Some(number) = value.as_f64() {
        bounds(schema, number, here)?;
    }
    for (word, all) in [("anyOf", false), ("oneOf", false), ("allOf", true)] {
        let Some(options) = schema[word].as_array().filter(|options| !options.is_empty()) else { continue };
        let mut fits = options.iter().map(|option| at(option, value, place, depth + 1));
        if all {
            fits.collect::<Result<(), String>>()?;
        } else if !fits.any(|fit| fit.is_ok()) {
            return Err(format!("{here} is none of the allowed forms"));
        }
    }
    if let Some(members) = value.as_object() {
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if !members.contains_key(name) {
                return Err(format!("'{}' is missing", join(place, name)));
            }
        }
        for (name, member) in members {
            let known = schema["properties"].get(name);
            match (known, &schema["additionalProperties"]) {
                (Some(known), _) => at(known, member, &join(place, name), depth + 1)?,
                (None, Value::Bool(false)) if !schema["patternProperties"].is_object() => {
                    return Err(format!("'{}' is not known", join(place, name)));
                }
                (None, more @ Value::Object(_)) => at(more, member, &join(place, name), depth + 1)?,
                (None, _) => {}
            }
        }
    }
    if let (Some(items), each @ Value::Object(_)) = (value.as_array(), &schema["items"]) {
        for (number, item) in items.iter().enumerate() {
            at(each, item, &format!("{place}[{number}]"), depth + 1)?;
        }
    }
    Ok(())
}

fn bounds(schema: &Value, number: f64, here: &str) -> Result<(), String> {
    let limit = |name: &str| schema[name].as_f64();
    if let Some(least) = limit("minimum").filter(|least| number < *least) {
        return Err(format!("{here} must be at least {least}"));
    }
    if let Some(most) = limit("maximum").filter(|most| number > *most) {
        return Err(format!("{here} must be at most {most}"));
    }
    if let Some(least) = limit("exclusiveMinimum").filter(|least| number <= *least) {
        return Err(format!("{here} must be above {least}"));
    }
    match limit("exclusiveMaximum").filter(|most| number >= *most) {
        Some(most) => Err(format!("{here} must be below {most}")),
        None => Ok(()),
    }
}

fn join(place: &str, name: &str) -> String {
    if place.is_empty() { name.to_owned() } else { format!("{place}.{name}") }
}

fn kinds(kind: &Value) -> Option<Vec<&str>> {
    match kind {
        Value::String(kind) => Some(vec![kind]),
        Value::Array(kinds) => Some(kinds.iter().filter_map(Value::as_str).collect()),
        _ => None,
    }
}

fn is_kind(kind: &str, value: &Value) -> bool {
    match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "number" => value.is_number(),
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn what_does_not_fit_is_said_with_its_place() {
        let schema = json!({"type": "object", "required": ["list"], "additionalProperties": false, "properties": {
            "list": {"enum": ["Shopping", "Work"]},
            "brightness": {"type": "integer", "minimum": 0, "maximum": 100},
            "area": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            "domain": {"type": "array", "items": {"type": "string"}},
        }});
        let fits = |value: Value| check(&schema, &value);
        assert_eq!(fits(json!({"list": "Work", "brightness": 50, "area": null, "domain": ["light"]})), Ok(()));
        for (value, part) in [
            (json!([]), "type object"),
            (json!({}), "'list' is missing"),
            (json!({"list": "Other"}), "one of \"Shopping\", \"Work\""),
            (json!({"list": "Work", "brightness": 101}), "at most 100"),
            (json!({"list": "Work", "brightness": "5"}), "type integer"),
            (json!({"list": "Work", "area": 5}), "none of the allowed"),
            (json!({"list": "Work", "domain": [1]}), "domain[0] must be"),
            (json!({"list": "Work", "more": 1}), "'more' is not known"),
        ] {
            let error = fits(value.clone()).unwrap_err();
            assert!(error.contains(part), "{value}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_schema_is_too_much(depth in 0_usize..200) {
            let mut schema = json!({"type": "string"});
            let mut value = json!(1);
            for _ in 0..depth.min(100) {
                schema = json!({"properties": {"a": schema}, "anyOf": [true]});
                value = json!({"a": value});
            }
            let _ = check(&schema, &value);
        }
    }
}
