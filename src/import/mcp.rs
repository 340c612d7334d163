//! MCP servers and sets of tools of LiteLLM's database: opened with its key, and kept here sealed with ours.
//!
//! Who may use them stands in the grants of keys, teams and users, which name servers by the ids that they keep. A server that
//! is a program is left out by name: only the configuration can name one here.

use super::models::{Opening, column};
use super::sealed::{Opener, Survey};
use super::{Notes, Row, Unsealed};
use crate::config::mcp::{is_name, stored};
use crate::config::stored::{MCP_SERVER, TOOLSET};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

pub const SERVERS: &str = "LiteLLM_MCPServerTable";
pub const TOOLSETS: &str = "LiteLLM_MCPToolsetTable";

/// Columns of a server that say how it is now, and not what it is.
const STATE: [&str; 12] = [
    "status",
    "last_health_check",
    "health_check_error",
    "teams",
    "approval_status",
    "submitted_by",
    "submitted_at",
    "reviewed_at",
    "review_notes",
    "source_url",
    "is_byok",
    "byok_description",
];
/// Columns that may hold sealed values.
const SEALED: [&str; 3] = ["credentials", "static_headers", "env"];
/// What `approval_status` is of a server that is served.
const SERVED: [&str; 2] = ["active", "approved"];

/// What can be carried over of the two tables; what cannot is noted.
pub(super) fn read(
    rows: &BTreeMap<&str, Vec<Row>>,
    opener: &Opener,
    notes: &mut Notes,
    survey: &mut Survey,
) -> Vec<Unsealed> {
    let of = |table: &str| rows.get(table).map(Vec::as_slice).unwrap_or_default();
    let (mut found, mut taken) = (Vec::new(), BTreeSet::new());
    for row in of(SERVERS) {
        let id = text(row, "server_id");
        let name = [text(row, "server_name"), text(row, "alias"), id].into_iter().find(|t| !t.is_empty());
        let name = name.unwrap_or_default().to_owned();
        match server(row, id, &name, opener, survey) {
            Ok(record) if taken.insert(name.clone()) => {
                found.push(Unsealed { kind: MCP_SERVER, id: id.to_owned(), value: record.into() });
            }
            Ok(_) => notes.say(format!("MCP server '{name}' ({id}) as a whole: another one has this name")),
            Err(why) => notes.say(format!("MCP server '{name}' ({id}) as a whole: {why}")),
        }
    }
    for row in of(TOOLSETS) {
        let (id, name) = (text(row, "toolset_id"), text(row, "toolset_name"));
        let mut record = row.clone();
        record.remove("toolset_id");
        // LiteLLM has also written lists as texts of JSON.
        if let Some(Value::String(list)) = record.get("tools") {
            let list = serde_json::from_str(list).unwrap_or_default();
            record.insert("tools".to_owned(), list);
        }
        match stored::toolset(id, &record) {
            Ok(_) if !is_name(id) => notes.say(format!("set of tools '{name}' as a whole: its id is none here")),
            Ok(_) => found.push(Unsealed { kind: TOOLSET, id: id.to_owned(), value: record.into() }),
            Err(why) => notes.say(format!("set of tools '{name}' ({id}) as a whole: {why}")),
        }
    }
    found
}

/// The record of a server, if it can be served here.
fn server(row: &Row, id: &str, name: &str, opener: &Opener, survey: &mut Survey) -> Result<Map<String, Value>, String> {
    if !is_name(id) {
        return Err("its id is none here".to_owned());
    }
    let status = text(row, "approval_status");
    if !status.is_empty() && !SERVED.contains(&status) {
        return Err(format!("it is not approved ('{status}')"));
    }
    let mut record = row.clone();
    for member in STATE {
        record.remove(member);
    }
    record.insert("server_name".to_owned(), name.into());
    let mut opening = Opening { opener, survey, of: format!("{SERVERS} '{name}'"), is_shut: false };
    for member in SEALED {
        if let Some(values) = opening.column(row, member) {
            record.insert(member.to_owned(), values.into());
        }
    }
    if opening.is_shut {
        return Err("a value of it cannot be opened".to_owned());
    }
    for member in ["mcp_info", "tool_name_to_display_name", "tool_name_to_description", "allowed_params"] {
        if let Some(map) = column(row, member) {
            record.insert(member.to_owned(), map.into());
        }
    }
    record.retain(|_, value| !value.is_null());
    stored::server(id, &record, "-").map(|_| record)
}

fn text<'a>(row: &'a Row, name: &str) -> &'a str {
    row.get(name).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::SecretString;
    use serde_json::json;

    const SEALED: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYX_qdEjxMgrq2TIlKzE7r5x4y3-U4ds14782kJnd5Ptg==";

    #[test]
    fn servers_come_over_opened_and_programs_stay_by_name() {
        let row = |id: &str, name: &str, more: Value| {
            let mut row = json!({"server_id": id, "server_name": name, "alias": null, "transport": "http", "command": null,
                "args": [], "env": {}, "status": "active", "created_at": "2026-01-01T00:00:00", "updated_by": "x",
                "allowed_tools": [], "mcp_access_groups": ["house"], "extra_headers": [], "spec_path": null,
                "auth_type": null, "available_on_public_internet": true, "mcp_info": {"server_name": name}});
            row.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            row
        };
        let rows: Vec<Row> = serde_json::from_value(json!([
            row(
                "1",
                "notes",
                json!({"url": "http://h/mcp", "auth_type": "bearer_token", "approval_status": "active",
                "credentials": {"auth_value": SEALED}, "static_headers": {"x-a": SEALED}})
            ),
            row(
                "2",
                "text",
                json!({"url": "http://h/mcp", "auth_type": "api_key",
                "credentials": json!({"auth_value": SEALED}).to_string()})
            ),
            row("3", "program", json!({"command": "npx", "args": ["-y", "some"], "transport": "stdio"})),
            row("4", "waits", json!({"url": "http://h/mcp", "approval_status": "pending_review"})),
            row(
                "5",
                "shut",
                json!({"url": "http://h/mcp", "auth_type": "api_key", "credentials": {"auth_value": "v3:gcm:AAAA"}})
            ),
            row("6", "notes", json!({"url": "http://h/mcp"})),
        ]))
        .unwrap();
        let sets = serde_json::from_value(json!([{"toolset_id": "t", "toolset_name": "quiet", "description": null,
            "tools": "[{\"server_id\": \"1\", \"tool_name\": \"read\"}]"}, {"toolset_id": "u", "toolset_name": "a b", "tools": []}]))
        .unwrap();
        let rows = BTreeMap::from([(SERVERS, rows), (TOOLSETS, sets)]);
        let (mut notes, mut survey) = (Notes::default(), Survey::default());
        let opener = Opener::new(Some(SecretString::from("sk-salt-1234")));
        let found = read(&rows, &opener, &mut notes, &mut survey);
        assert_eq!(found.iter().map(|one| one.id.as_str()).collect::<Vec<_>>(), ["1", "2", "t"], "{:?}", notes.0);
        assert_eq!(found[0].value["credentials"]["auth_value"], "sk-provider-key");
        assert_eq!(found[0].value["static_headers"]["x-a"], "sk-provider-key");
        assert_eq!(found[1].value["credentials"]["auth_value"], "sk-provider-key");
        let all = notes.0.join("\n");
        for word in [
            "'program' (3) as a whole: command: only the configuration",
            "'waits' (4) as a whole: it is not approved",
            "'shut' (5) as a whole: a value of it cannot be opened",
            "'notes' (6) as a whole: another one",
            "'a b' (u) as a whole",
        ] {
            assert!(all.contains(word), "{word} is not in {all}");
        }
    }
}
