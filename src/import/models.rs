//! Models and credentials of LiteLLM's database: opened with its key, and kept here sealed with ours.
//!
//! A record is carried over whole or not at all: one value that cannot be opened keeps it out, by name.

use super::sealed::{Opened, Opener, Survey};
use super::{Notes, Row, Unsealed};
use crate::config::litellm;
use crate::config::stored::{CREDENTIAL, MODEL, model as readable};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

pub const MODELS: &str = "LiteLLM_ProxyModelTable";
pub const CREDENTIALS: &str = "LiteLLM_CredentialsTable";

/// What can be carried over of the two tables; what cannot is noted.
pub(super) fn read(
    rows: &BTreeMap<&str, Vec<Row>>,
    opener: &Opener,
    notes: &mut Notes,
    survey: &mut Survey,
) -> Vec<Unsealed> {
    let of = |table: &str| rows.get(table).map(Vec::as_slice).unwrap_or_default();
    let mut found = Vec::new();
    let mut credentials = BTreeMap::new();
    for row in of(CREDENTIALS) {
        let name = text(row, "credential_name").unwrap_or_default();
        let what = format!("credential '{name}'");
        if name.is_empty() || name.len() > 512 {
            notes.say(format!("{what} as a whole: its name is empty or too long"));
            continue;
        }
        let mut opening = Opening { opener, survey, of: format!("{CREDENTIALS} '{name}'"), is_shut: false };
        let values = opening.column(row, "credential_values");
        match (opening.is_shut, values) {
            (true, _) => notes.say(format!("{what} as a whole: a value of it cannot be opened")),
            (_, Some(values)) if !values.is_empty() => {
                credentials.insert(name.to_owned(), values.clone());
                let info = column(row, "credential_info").unwrap_or_default();
                let value = json!({"credential_values": values, "credential_info": info});
                found.push(Unsealed { kind: CREDENTIAL, id: name.to_owned(), value });
            }
            _ => notes.say(format!("{what} as a whole: it holds no values")),
        }
    }
    for row in of(MODELS) {
        let (name, id) = (text(row, "model_name").unwrap_or_default(), text(row, "model_id").unwrap_or_default());
        let what = format!("model '{name}' ({id})");
        if row.get("blocked") == Some(&Value::Bool(true)) {
            notes.say(format!("{what} as a whole: it is blocked"));
            continue;
        }
        let mut opening = Opening { opener, survey, of: format!("{MODELS} '{name}'"), is_shut: false };
        let params = opening.column(row, "litellm_params");
        if opening.is_shut {
            notes.say(format!("{what} as a whole: a value of it cannot be opened"));
            continue;
        }
        let mut info = column(row, "model_info").unwrap_or_default();
        info.insert("id".to_owned(), id.into());
        let model = json!({"model_name": name, "litellm_params": params.unwrap_or_default(), "model_info": info});
        match problem(&model, &credentials) {
            Some(why) => notes.say(format!("{what} as a whole: {why}")),
            None => found.push(Unsealed { kind: MODEL, id: id.to_owned(), value: model }),
        }
    }
    found
}

/// Why it could not be served.
fn problem(model: &Value, credentials: &BTreeMap<String, Map<String, Value>>) -> Option<String> {
    let mut entry = model.as_object()?.clone();
    let named = entry["litellm_params"].get("litellm_credential_name").and_then(Value::as_str).map(str::to_owned);
    if !litellm::give_credentials(&mut entry, credentials) {
        return Some(format!("its credential '{}' is not carried over", named.unwrap_or_default()));
    }
    readable(&entry).err()
}

fn text<'a>(row: &'a Row, name: &str) -> Option<&'a str> {
    row.get(name).and_then(Value::as_str)
}

/// A map; LiteLLM has also written it as a text of JSON.
pub(super) fn column(row: &Row, name: &str) -> Option<Map<String, Value>> {
    match row.get(name)? {
        Value::Object(map) => Some(map.clone()),
        Value::String(text) => serde_json::from_str(text).ok(),
        _ => None,
    }
}

/// Opens the values of one record.
pub(super) struct Opening<'a> {
    pub opener: &'a Opener,
    pub survey: &'a mut Survey,
    /// The record, for whoever has to find it.
    pub of: String,
    pub is_shut: bool,
}

impl Opening<'_> {
    pub fn column(&mut self, row: &Row, name: &str) -> Option<Map<String, Value>> {
        let mut map = column(row, name)?;
        for (member, value) in &mut map {
            self.open(value, &format!("{name}.{member}"));
        }
        Some(map)
    }

    fn open(&mut self, value: &mut Value, place: &str) {
        match value {
            Value::String(text) => match self.opener.open(text) {
                Opened::Plain => (),
                Opened::Text(opened) => {
                    self.survey.opened += 1;
                    *text = opened;
                }
                Opened::Shut => {
                    self.survey.shut.push(format!("{}: {place}", self.of));
                    self.is_shut = true;
                }
            },
            Value::Array(items) => items.iter_mut().for_each(|item| self.open(item, place)),
            Value::Object(members) => {
                members.iter_mut().for_each(|(name, value)| self.open(value, &format!("{place}.{name}")));
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => (),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::SecretString;

    const SEALED: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYX_qdEjxMgrq2TIlKzE7r5x4y3-U4ds14782kJnd5Ptg==";

    fn read_with(key: &str, models: Value, credentials: Value) -> (Vec<Unsealed>, Vec<String>) {
        let rows = |value: Value| serde_json::from_value::<Vec<Row>>(value).unwrap();
        let rows = BTreeMap::from([(MODELS, rows(models)), (CREDENTIALS, rows(credentials))]);
        let (mut notes, mut survey) = (Notes::default(), Survey::default());
        let opener = Opener::new(Some(SecretString::from(key)));
        let found = read(&rows, &opener, &mut notes, &mut survey);
        (found, notes.0)
    }

    #[test]
    fn values_are_opened_wherever_they_stand() {
        let params = json!({"model": "openai/m", "api_key": SEALED, "extra_headers": {"x-one": SEALED}, "rpm": 3});
        for written in [params.clone(), Value::String(params.to_string())] {
            let models = json!([{"model_id": "1", "model_name": "m", "litellm_params": written, "model_info": null}]);
            let (found, notes) = read_with("sk-salt-1234", models, json!([]));
            assert!(notes.is_empty(), "{notes:?}");
            let params = &found[0].value["litellm_params"];
            assert_eq!((&params["api_key"], &params["rpm"]), (&json!("sk-provider-key"), &json!(3)));
            assert_eq!(params["extra_headers"]["x-one"], "sk-provider-key");
            assert_eq!(found[0].value["model_info"]["id"], "1");
        }
    }

    #[test]
    fn what_cannot_be_opened_or_served_is_left_out_by_name() {
        let model = |id: &str, params: Value| json!({"model_id": id, "model_name": id, "litellm_params": params});
        let models = json!([
            model("shut", json!({"model": "openai/m", "api_key": SEALED})),
            model("shut-model", json!({"model": SEALED})),
            model("none", json!({})),
            model("odd", json!({"model": "openai/m", "rpm": "many"})),
            model("needs", json!({"model": "openai/m", "litellm_credential_name": "c"})),
            model("well", json!({"model": "openai/m", "api_key": "os.environ/KEY"})),
        ]);
        let credentials = json!([
            {"credential_name": "c", "credential_values": {"api_key": SEALED}},
            {"credential_name": "empty", "credential_values": {}},
        ]);
        let (found, notes) = read_with("sk-other", models, credentials);
        assert_eq!(found.iter().map(|one| &*one.id).collect::<Vec<_>>(), ["well"]);
        let all = notes.join("\n");
        for word in ["'c'", "'empty'", "'shut'", "'shut-model'", "'none'", "'odd'", "'needs'"] {
            assert!(all.contains(word), "{word} is not in {all}");
        }
        assert!(!all.contains("AAEC"), "{all}");
    }
}
