//! What was configured at run time, on its way into the configuration: behind what the file says, which wins.

use super::file::limits::Own;
use super::file::{File, Json, Model, Routing};
use super::litellm;
use crate::seal::Seals;
use crate::store::Configured;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Models, credentials, settings and servers of tools of the store, opened.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Stored {
    /// By id: LiteLLM's `model_name`, `litellm_params` and `model_info`.
    pub models: BTreeMap<String, Map<String, Json>>,
    /// By name: values that models take over by `litellm_credential_name`.
    pub credentials: BTreeMap<String, Map<String, Json>>,
    /// What else is known of them, by name.
    pub credential_infos: BTreeMap<String, Map<String, Json>>,
    /// By name: settings of the router.
    pub settings: BTreeMap<String, Json>,
    /// By id: LiteLLM's members of an MCP server.
    pub mcp_servers: BTreeMap<String, Map<String, Json>>,
    /// By id: LiteLLM's members of a set of tools.
    pub toolsets: BTreeMap<String, Map<String, Json>>,
    /// What cannot be used, and why.
    pub problems: Vec<String>,
}

pub const MODEL: &str = "model";
pub const CREDENTIAL: &str = "credential";
pub const SETTING: &str = "setting";
pub const MCP_SERVER: &str = "mcp_server";
pub const TOOLSET: &str = "mcp_toolset";

impl Stored {
    /// Opens what the store holds.
    pub fn open(rows: Vec<Configured>, seals: &Seals) -> Self {
        let mut stored = Stored::default();
        for row in rows {
            let about = format!("{}/{}", row.kind, row.id);
            let opened = seals.open(&row.body, &about);
            let value = opened.and_then(|text| serde_json::from_str::<Value>(&text).map_err(|e| e.to_string()));
            match (row.kind.as_str(), value) {
                (MODEL, Ok(Value::Object(model))) => drop(stored.models.insert(row.id, model)),
                (CREDENTIAL, Ok(Value::Object(mut credential))) => {
                    let mut part = |name: &str| match credential.remove(name) {
                        Some(Value::Object(part)) => part,
                        _ => Map::new(),
                    };
                    stored.credential_infos.insert(row.id.clone(), part("credential_info"));
                    stored.credentials.insert(row.id, part("credential_values"));
                }
                (MCP_SERVER, Ok(Value::Object(server))) => drop(stored.mcp_servers.insert(row.id, server)),
                (TOOLSET, Ok(Value::Object(set))) => drop(stored.toolsets.insert(row.id, set)),
                (SETTING, Ok(value)) => drop(stored.settings.insert(row.id, value)),
                (_, Ok(_)) => stored.problems.push(format!("the stored {about} makes no sense")),
                (_, Err(why)) => stored.problems.push(format!("the stored {about} cannot be used: {why}")),
            }
        }
        stored
    }

    /// Adds it to what a file says; returns the place of its first model.
    pub fn add_to(&self, file: &mut File, warnings: &mut Vec<String>) -> usize {
        let first = file.models.len();
        warnings.extend(self.problems.iter().cloned());
        for (id, stored) in &self.models {
            if file.models.iter().any(|own| own.id.as_deref() == Some(id)) {
                warnings.push(format!("the stored model {id} is passed over: the configuration has one of that id"));
                continue;
            }
            let mut entry = stored.clone();
            let info = entry.entry("model_info").or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(info) = info {
                info.insert("id".to_owned(), id.clone().into());
                info.insert("db_model".to_owned(), true.into());
            }
            if !litellm::give_credentials(&mut entry, &self.credentials) {
                warnings
                    .push(format!("the stored model {id} cannot be used: its litellm_credential_name is not stored"));
                continue;
            }
            match model(&entry) {
                Ok(model) => file.models.push(model),
                Err(why) => warnings.push(format!("the stored model {id} cannot be used: {why}")),
            }
        }
        let settings: Map<String, Value> = self.settings.clone().into_iter().collect();
        match litellm::router(&settings) {
            Ok(routing) => fill(&mut file.routing, routing),
            Err(why) => warnings.push(format!("stored settings cannot be used: {why}")),
        }
        first
    }
}

/// A model that is added at run time: LiteLLM's members, and the `limits` of `[[models]]`.
///
/// # Errors
/// What is wrong with it, in one line.
pub fn model(entry: &Map<String, Value>) -> Result<Model, String> {
    let mut model = litellm::model(entry)?;
    if let Some(limits) = entry.get("limits").filter(|limits| !limits.is_null()) {
        let own: Own = serde_json::from_value(limits.clone()).map_err(|e| format!("limits: {e}"))?;
        let params = model.limits.take().unwrap_or_default();
        // LiteLLM's own members of a budget stand in `litellm_params`.
        model.limits = Some(Own {
            max_budget: own.max_budget.or(params.max_budget),
            budget_duration: own.budget_duration.clone().or(params.budget_duration),
            ..own
        });
    }
    Ok(model)
}

/// The names of the settings that are made here, but for tables.
pub fn settings(routing: &Routing) -> impl Iterator<Item = String> {
    let members = match serde_json::to_value(routing) {
        Ok(Value::Object(members)) => members,
        _ => Map::new(),
    };
    members.into_iter().filter(|(_, value)| !value.is_object()).map(|(name, _)| name)
}

/// What the file leaves open is as the store has it.
fn fill(own: &mut Routing, stored: Routing) {
    let (Ok(Value::Object(mut mine)), Ok(Value::Object(theirs))) =
        (serde_json::to_value(&*own), serde_json::to_value(&stored))
    else {
        return;
    };
    for (name, value) in theirs {
        match (mine.get_mut(&name), value) {
            // Of tables each entry is a setting of its own.
            (Some(Value::Object(mine)), Value::Object(theirs)) => {
                for (name, value) in theirs {
                    mine.entry(name).or_insert(value);
                }
            }
            (Some(_), _) => (),
            (None, value) => drop(mine.insert(name, value)),
        }
    }
    if let Ok(whole) = serde_json::from_value(Value::Object(mine)) {
        *own = whole;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_file_wins_and_the_store_fills_what_it_leaves_open() {
        let mut file: File =
            serde_json::from_value(json!({"routing": {"num_retries": 1, "fallbacks": {"a": ["b"]}}})).unwrap();
        let mut stored = Stored::default();
        stored.settings.insert("num_retries".to_owned(), json!(5));
        stored.settings.insert("allowed_fails".to_owned(), json!(7));
        stored.settings.insert("fallbacks".to_owned(), json!([{"a": ["x"]}, {"c": ["d"]}]));
        stored.credentials.insert("house".to_owned(), json!({"api_key": "sk-c"}).as_object().unwrap().clone());
        let model =
            json!({"model_name": "m", "litellm_params": {"model": "openai/m", "litellm_credential_name": "house"}});
        stored.models.insert("id-1".to_owned(), model.as_object().unwrap().clone());
        stored.models.insert("id-2".to_owned(), json!({"model_name": "broken"}).as_object().unwrap().clone());
        let needs =
            json!({"model_name": "m", "litellm_params": {"model": "openai/m", "litellm_credential_name": "gone"}});
        stored.models.insert("id-3".to_owned(), needs.as_object().unwrap().clone());
        let mut warnings = Vec::new();
        assert_eq!(stored.add_to(&mut file, &mut warnings), 0);
        assert_eq!((file.routing.num_retries, file.routing.allowed_fails), (Some(1), Some(7)));
        assert_eq!(serde_json::to_value(&file.routing.fallbacks).unwrap(), json!({"a": ["b"], "c": ["d"]}));
        assert_eq!(file.models.len(), 1);
        assert_eq!(file.models[0].id.as_deref(), Some("id-1"));
        assert!(file.models[0].api_key.is_some());
        assert!(warnings.len() == 2 && warnings[0].contains("id-2") && warnings[1].contains("id-3"), "{warnings:?}");
    }
}
