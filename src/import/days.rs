//! LiteLLM's sums by day as ours: the same numbers, by user, team, tag, customer and organization, and by all of them.

use crate::store::{Daily, Foreign, Kind, Store, day_of_date};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// A table of sums, and whose they are.
pub struct Table {
    pub name: &'static str,
    kind: Kind,
    column: &'static str,
}

pub const TABLES: [Table; 5] = [
    Table { name: "LiteLLM_DailyUserSpend", kind: Kind::User, column: "user_id" },
    Table { name: "LiteLLM_DailyTeamSpend", kind: Kind::Team, column: "team_id" },
    Table { name: "LiteLLM_DailyTagSpend", kind: Kind::Tag, column: "tag" },
    Table { name: "LiteLLM_DailyEndUserSpend", kind: Kind::Customer, column: "end_user_id" },
    Table { name: "LiteLLM_DailyOrganizationSpend", kind: Kind::Organization, column: "organization_id" },
];

/// Rows that are read at once.
const PART: usize = 5000;

/// Copies them day by day; says how many rows there were and how many were new.
///
/// # Errors
/// A text for the operator: one of the two databases does not answer.
pub async fn copy(from: &Foreign, to: &Store, there: &BTreeMap<String, i64>) -> Result<(u64, u64), String> {
    let (mut read, mut written) = (0, 0);
    for table in TABLES.iter().filter(|table| there.contains_key(table.name)) {
        // Each call is in the sums of users once, also where it was nobody's: so they are those of all calls too.
        let kinds: &[Kind] = if table.kind == Kind::User { &[Kind::Gateway, Kind::User] } else { &[table.kind] };
        for kind in kinds {
            let rows = sums(from, table, *kind).await?;
            read += rows.len() as u64;
            for part in rows.chunks(PART) {
                written += to.bring_days(part).await.map_err(|e| e.to_string())?;
            }
        }
    }
    Ok((read, written))
}

/// Summed up by what is the key of ours: older versions of LiteLLM have no endpoint and no tool.
async fn sums(from: &Foreign, table: &Table, kind: Kind) -> Result<Vec<Daily>, String> {
    let id = match kind {
        Kind::Gateway => "''".to_owned(),
        _ => format!("COALESCE(j->>'{}', '')", table.column),
    };
    let text = |name: &str| format!("COALESCE(j->>'{name}', '')");
    let names =
        ["date", "api_key", "model", "model_group", "custom_llm_provider", "endpoint", "mcp_namespaced_tool_name"];
    let columns: Vec<String> = names.iter().map(|name| format!("{} AS {name}", text(name))).collect();
    let numbers = [
        "spend",
        "api_requests",
        "failed_requests",
        "prompt_tokens",
        "completion_tokens",
        "cache_read_input_tokens",
        "cache_creation_input_tokens",
    ];
    let sums: Vec<String> =
        numbers.iter().map(|name| format!("SUM(COALESCE(CAST(j->>'{name}' AS NUMERIC), 0)) AS {name}")).collect();
    let sql = format!(
        "SELECT CAST(row_to_json(s) AS TEXT) FROM (SELECT {id} AS id, {}, {} FROM \
         (SELECT row_to_json(t) AS j FROM \"{}\" AS t) AS rows GROUP BY 1, 2, 3, 4, 5, 6, 7, 8) AS s",
        columns.join(", "),
        sums.join(", "),
        table.name
    );
    let rows = from.read(&sql, &[]).await.map_err(|e| format!("{}: {e}", table.name))?;
    Ok(rows
        .iter()
        .filter_map(|row| daily(row, kind))
        .filter(|daily| kind == Kind::Gateway || !daily.id.is_empty())
        .collect())
}

fn daily(row: &Map<String, Value>, kind: Kind) -> Option<Daily> {
    let text = |name: &str| row.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let number = |name: &str| row.get(name).and_then(Value::as_f64).unwrap_or(0.0);
    let date = text("date");
    let mut parts = date.get(..10)?.split('-').map(|part| part.parse::<i64>().ok());
    let day = day_of_date(parts.next()??, parts.next()??, parts.next()??);
    let model_group = if text("model_group").is_empty() { text("model") } else { text("model_group") };
    Some(Daily {
        kind,
        id: text("id"),
        day,
        key_id: text("api_key"),
        model: text("model"),
        model_group,
        provider: text("custom_llm_provider"),
        endpoint: text("endpoint"),
        tool: text("mcp_namespaced_tool_name"),
        spend_nanos: (number("spend") * 1e9).round() as i64,
        calls: number("api_requests") as i64,
        failed: number("failed_requests") as i64,
        prompt_tokens: number("prompt_tokens") as i64,
        completion_tokens: number("completion_tokens") as i64,
        cached_tokens: number("cache_read_input_tokens") as i64,
        cache_write_tokens: number("cache_creation_input_tokens") as i64,
        ..Daily::default()
    })
}
