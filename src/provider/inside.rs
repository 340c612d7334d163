//! What providers want otherwise inside of messages and tools. A message or tool that needs nothing goes on byte for
//! byte; one that does is written anew.

use crate::envelope::{Edits, Envelope, Member};
use crate::pattern;
use crate::wire::json;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use std::ops::Range;

/// Deviations inside of messages and tools.
#[derive(Debug)]
pub struct Inside {
    /// Members of functions, and keywords of their schemas, that are refused. They hold the model to a schema or describe
    /// it; without them the call is the same.
    pub no_keywords: &'static [&'static str],
    /// Roles whose messages may have a `name`; elsewhere it is taken out. All of them where this is empty.
    pub named_roles: &'static [&'static str],
    /// Members of assistant messages that are null are refused; OpenAI's clients send back what they got, nulls too.
    pub no_nulls: bool,
    /// Roles whose content has to be a text where it is a list of texts.
    pub text_roles: &'static [&'static str],
    /// Models that want an assistant's `reasoning_content` back while they think, and refuse a conversation from a client
    /// that did not keep it. A space is taken for it.
    pub recalls: &'static [&'static str],
    /// Ids of calls are nine letters and digits.
    pub short_ids: bool,
    /// An assistant's text that is to be continued has to say so.
    pub marks_prefix: bool,
}

impl Inside {
    /// Nothing differs.
    pub const PLAIN: Inside = Inside {
        no_keywords: &[],
        named_roles: &[],
        no_nulls: false,
        text_roles: &[],
        recalls: &[],
        short_ids: false,
        marks_prefix: false,
    };

    fn may_concern(&self, messages: &[u8], recalls: bool) -> bool {
        let holds = |text: &str| memchr::memmem::find(messages, text.as_bytes()).is_some();
        (!self.named_roles.is_empty() && holds("\"name\""))
            || (self.no_nulls && holds("null"))
            || (!self.text_roles.is_empty() && holds("\"text\""))
            || (self.short_ids && holds("\"tool_call"))
            || ((recalls || self.marks_prefix) && holds("\"assistant\""))
    }
}

/// Edits the messages. Where `developer` is false the role of that name is sent as `system`.
pub fn messages<'a>(
    envelope: &'a Envelope,
    member: &'a Member,
    inside: &Inside,
    model: &str,
    developer: bool,
    edits: &mut Edits<'a>,
) {
    const DEVELOPER: &[u8] = b"\"developer\"";
    let text = envelope.text(&member.value);
    let recalls = inside.recalls.iter().any(|p| pattern::capture(p, model).is_some());
    let renames = !developer && memchr::memmem::find(text, DEVELOPER).is_some();
    let concerned = inside.may_concern(text, recalls);
    if !renames && !concerned {
        return;
    }
    let start = member.value.span.start;
    let all = elements(text);
    for (i, place) in all.iter().enumerate() {
        let message = &text[place.clone()];
        if concerned
            && let Ok(Value::Object(mut value)) = serde_json::from_slice(message)
            && change(&mut value, inside, recalls, i + 1 == all.len())
        {
            if renames && value.get("role").is_some_and(|role| role == "developer") {
                value.insert("role".to_owned(), "system".into());
            }
            edits.splice(start + place.start..start + place.end, Value::Object(value).to_string().into_bytes());
        } else if renames
            && let Some(role) = member_of(message, b"role").map(|role| role.span)
            && &message[role.clone()] == DEVELOPER
        {
            let start = start + place.start;
            edits.splice(start + role.start..start + role.end, b"\"system\"".as_slice());
        }
    }
}

/// Takes out of tools what the provider refuses in them.
pub fn tools<'a>(envelope: &'a Envelope, member: &'a Member, inside: &Inside, edits: &mut Edits<'a>) {
    let text = envelope.text(&member.value);
    let holds = |text: &[u8]| inside.no_keywords.iter().any(|w| memchr::memmem::find(text, w.as_bytes()).is_some());
    if !holds(text) {
        return;
    }
    let start = member.value.span.start;
    for place in elements(text).into_iter().filter(|place| holds(&text[place.clone()])) {
        if let Ok(mut tool) = serde_json::from_slice::<Value>(&text[place.clone()])
            && let Some(function) = tool.get_mut("function").and_then(Value::as_object_mut)
        {
            let mut changed = remove(function, inside.no_keywords);
            if let Some(schema) = function.get_mut("parameters") {
                changed |= clean(schema, inside.no_keywords);
            }
            if changed {
                edits.splice(start + place.start..start + place.end, tool.to_string().into_bytes());
            }
        }
    }
}

/// Makes one message fit; says whether it did not before.
fn change(message: &mut Map<String, Value>, inside: &Inside, recalls: bool, is_last: bool) -> bool {
    let mut changed = false;
    let role = message.get("role").and_then(Value::as_str).unwrap_or_default().to_owned();
    let (role, is_assistant) = (role.as_str(), role == "assistant");
    if !inside.named_roles.is_empty() && !inside.named_roles.contains(&role) {
        changed |= message.shift_remove("name").is_some();
    }
    if inside.no_nulls && is_assistant {
        let before = message.len();
        message.retain(|_, value| !value.is_null());
        changed |= message.len() < before;
    }
    if inside.text_roles.contains(&role)
        && let Some(content) = message.get_mut("content")
        && let Some(text) = joined(content)
    {
        *content = text.into();
        changed = true;
    }
    if inside.short_ids {
        if let Some(id) = message.get_mut("tool_call_id") {
            changed |= shorten(id);
        }
        for call in message.get_mut("tool_calls").and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(id) = call.get_mut("id") {
                changed |= shorten(id);
            }
        }
    }
    let says = |name: &str| message.get(name).and_then(Value::as_str).is_some_and(|text| !text.is_empty());
    if recalls && is_assistant && !says("reasoning_content") {
        message.insert("reasoning_content".to_owned(), " ".into());
        changed = true;
    }
    if inside.marks_prefix && is_assistant && is_last && !message.contains_key("prefix") {
        message.insert("prefix".to_owned(), true.into());
        changed = true;
    }
    changed
}

/// The text that a list of nothing but texts comes to.
fn joined(content: &Value) -> Option<String> {
    let parts = content.as_array().filter(|parts| !parts.is_empty())?;
    let text = |part: &Value| part["text"].as_str().filter(|_| part["type"] == "text").map(str::to_owned);
    Some(parts.iter().map(text).collect::<Option<Vec<_>>>()?.join("\n"))
}

/// Gives an id that does not fit another one: the same for a call and its result, in every request.
fn shorten(id: &mut Value) -> bool {
    const LENGTH: usize = 9;
    const DIGITS: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let Some(text) = id.as_str().filter(|id| id.len() != LENGTH || !id.bytes().all(|b| b.is_ascii_alphanumeric()))
    else {
        return false;
    };
    let hash = Sha256::digest(text.as_bytes());
    let short: String =
        hash[..LENGTH].iter().map(|byte| char::from(DIGITS[usize::from(*byte) % DIGITS.len()])).collect();
    *id = short.into();
    true
}

/// Takes keywords out of a schema, and of the schemas in it. What is called so among its `properties` is no keyword.
fn clean(schema: &mut Value, keywords: &[&str]) -> bool {
    match schema {
        Value::Array(list) => list.iter_mut().fold(false, |changed, part| clean(part, keywords) | changed),
        Value::Object(members) => {
            let mut changed = remove(members, keywords);
            for (name, value) in members {
                changed |= match name.as_str() {
                    "properties" | "$defs" | "definitions" => {
                        let parts = value.as_object_mut().into_iter().flat_map(Map::values_mut);
                        parts.fold(false, |changed, part| clean(part, keywords) | changed)
                    }
                    // Values, which only look like schemas.
                    "enum" | "const" | "default" | "examples" | "required" => false,
                    _ => clean(value, keywords),
                };
            }
            changed
        }
        _ => false,
    }
}

fn remove(members: &mut Map<String, Value>, names: &[&str]) -> bool {
    let before = members.len();
    members.retain(|name, _| !names.contains(&name.as_str()));
    members.len() < before
}

/// Where the objects of an array stand in it. All of it was checked when the body was parsed.
fn elements(array: &[u8]) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let _ = json::array(array, usize::MAX, |item| found.push(item.span));
    found
}

/// The member of an object's text, which was checked as a part of the whole body before.
pub fn member_of(object: &[u8], name: &[u8]) -> Option<json::Value> {
    let mut found = None;
    json::object(object, usize::MAX, |m| {
        if &object[m.key] == name {
            found = Some(m.value);
        }
    })
    .ok()?;
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn sent(inside: &Inside, model: &str, body: &str) -> String {
        let envelope = Envelope::parse(Bytes::copy_from_slice(body.as_bytes()), 32).unwrap();
        let mut edits = Edits::default();
        for member in envelope.members() {
            match envelope.name(member) {
                b"messages" => messages(&envelope, member, inside, model, false, &mut edits),
                b"tools" => tools(&envelope, member, inside, &mut edits),
                _ => (),
            }
        }
        String::from_utf8(edits.apply(&envelope).to_vec()).unwrap()
    }

    #[test]
    fn messages_that_need_nothing_stay_as_they_were_written() {
        let all = Inside {
            no_keywords: &["strict"],
            named_roles: &["user"],
            no_nulls: true,
            text_roles: &["user"],
            recalls: &["think-*"],
            short_ids: true,
            marks_prefix: true,
        };
        let body = r#"{"messages":[ {"role" : "user","name":"a","content":"\u0041 name null text"}],"tools":[ {"function":{"name":"strictly"}}]}"#;
        assert_eq!(sent(&all, "m", body), body);
        assert_eq!(sent(&Inside::PLAIN, "m", body), body);
    }

    #[test]
    fn names_and_nulls_leave_where_they_are_refused() {
        let inside = Inside { named_roles: &["user"], no_nulls: true, ..Inside::PLAIN };
        assert_eq!(
            sent(
                &inside,
                "m",
                r#"{"messages":[{"role":"user","name":"a","content":null},{"role":"assistant","name":"b","content":"x","refusal":null,"audio":null}]}"#
            ),
            r#"{"messages":[{"role":"user","name":"a","content":null},{"role":"assistant","content":"x"}]}"#
        );
    }

    #[test]
    fn lists_of_texts_become_a_text_and_others_stay() {
        let inside = Inside { text_roles: &["user", "system"], ..Inside::PLAIN };
        assert_eq!(
            sent(
                &inside,
                "m",
                r#"{"messages":[{"role":"developer","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]},{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url","image_url":{}}]},{"role":"system","content":[{"type":"text","text":"c"}]}]}"#
            ),
            r#"{"messages":[{"role":"system","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]},{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url","image_url":{}}]},{"role":"system","content":"c"}]}"#
        );
    }

    #[test]
    fn lost_reasoning_is_stood_in_for_by_a_space() {
        let inside = Inside { recalls: &["think-*"], ..Inside::PLAIN };
        let body = r#"{"messages":[{"role":"user","content":"x"},{"role":"assistant","content":"y"},{"role":"assistant","content":"z","reasoning_content":"r"}]}"#;
        assert_eq!(
            sent(&inside, "think-1", body),
            body.replace(r#""content":"y""#, r#""content":"y","reasoning_content":" ""#)
        );
        assert_eq!(sent(&inside, "other", body), body);
    }

    #[test]
    fn ids_of_calls_and_of_their_results_stay_the_same_to_each_other() {
        let inside = Inside { short_ids: true, marks_prefix: true, ..Inside::PLAIN };
        let body = r#"{"messages":[{"role":"assistant","tool_calls":[{"id":"call_abc"},{"id":"a1b2c3d4e"}]},{"role":"tool","tool_call_id":"call_abc"},{"role":"tool","tool_call_id":"a1b2c3d4e"},{"role":"assistant","content":"{"}]}"#;
        let sent: Value = serde_json::from_str(&sent(&inside, "m", body)).unwrap();
        let id = sent["messages"][0]["tool_calls"][0]["id"].as_str().unwrap();
        assert!(id.len() == 9 && sent["messages"][1]["tool_call_id"] == id, "{sent}");
        assert_eq!(sent["messages"][2]["tool_call_id"], "a1b2c3d4e");
        assert_eq!((&sent["messages"][3]["prefix"], sent["messages"][0].get("prefix")), (&Value::Bool(true), None));
    }

    #[test]
    fn keywords_leave_schemas_and_properties_of_that_name_stay() {
        let inside = Inside { no_keywords: &["strict", "additionalProperties", "$schema"], ..Inside::PLAIN };
        let body = r#"{"tools":[{"type":"function","function":{"name":"f","strict":true,"parameters":{"$schema":"s","type":"object","properties":{"strict":{"type":"object","additionalProperties":false}},"additionalProperties":false}}},{"type":"function","function":{"name":"g"}}]}"#;
        assert_eq!(
            sent(&inside, "m", body),
            r#"{"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object","properties":{"strict":{"type":"object"}}}}},{"type":"function","function":{"name":"g"}}]}"#
        );
    }
}
