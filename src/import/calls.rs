//! LiteLLM's single calls (`LiteLLM_SpendLogs`) as rows of our ledger, where `--with-logs` asks for them.
//!
//! A row's id is made of the time and the id that LiteLLM has for the call, so a second import finds it there. Nothing is
//! summed up: what the calls add up to is carried over as such, by day and in what each key, user and team has spent.
//! Prompts and answers stay where they are.

use super::Row;
use super::tables::{json, moment, owned, text};
use crate::auth::digest;
use crate::store::sql::Cell;
use crate::store::{Foreign, LedgerRow, Store};
use serde_json::Value;
use std::collections::BTreeMap;

pub const TABLE: &str = "LiteLLM_SpendLogs";

/// What is read, as far as the version of LiteLLM has it; prompts and answers would be many times that.
const COLUMNS: [&str; 28] = [
    "request_id",
    "call_type",
    "api_key",
    "spend",
    "prompt_tokens",
    "completion_tokens",
    "startTime",
    "endTime",
    "completionStartTime",
    "model",
    "model_id",
    "model_group",
    "custom_llm_provider",
    "api_base",
    "user",
    "team_id",
    "organization_id",
    "end_user",
    "agent_id",
    "session_id",
    "requester_ip_address",
    "metadata",
    "cache_hit",
    "cache_key",
    "request_tags",
    "status",
    "mcp_namespaced_tool_name",
    "litellm_call_id",
];

/// Rows that are read and written at once.
const PART: i64 = 1000;
/// Longer texts are cut: they are the word of others.
const MOST_TEXT: usize = 1000;
/// Larger objects of the caller's are left out.
const MOST_METADATA: usize = 8 << 10;

/// How many there were.
#[derive(Debug, Default)]
pub struct Copied {
    pub read: u64,
    pub written: u64,
    /// Without a time or an id there is no place for them.
    pub odd: u64,
}

/// Copies them in the order of time, part by part; `tell` hears how far it is.
///
/// # Errors
/// A text for the operator: one of the two databases does not answer, or the table has no times.
pub async fn copy(
    from: &Foreign,
    to: &Store,
    known: &BTreeMap<String, String>,
    tell: impl Fn(&Copied),
) -> Result<Copied, String> {
    let there = from.columns(TABLE).await.map_err(|e| format!("{TABLE}: {e}"))?;
    let ty = there.get("startTime").filter(|_| there.contains_key("request_id"));
    let ty =
        ty.ok_or_else(|| format!("{TABLE} has no columns request_id and startTime; its calls cannot be copied"))?;
    let columns: Vec<String> =
        COLUMNS.iter().filter(|name| there.contains_key(**name)).map(|name| format!("\"{name}\"")).collect();
    let mut copied = Copied::default();
    let mut last: Option<(String, String)> = None;
    loop {
        let (at, id) = last.clone().unwrap_or_default();
        // The key of LiteLLM's own index, so that each part is found at once.
        let beyond = match last {
            Some(_) => format!("(\"startTime\", request_id) > (CAST($1 AS {ty}), $2)"),
            None => "$1 = $2".to_owned(),
        };
        let sql = format!(
            "SELECT CAST(row_to_json(t) AS TEXT) FROM (SELECT {}, CAST(\"startTime\" AS TEXT) AS place FROM \"{TABLE}\" \
             WHERE {beyond} ORDER BY \"startTime\", request_id LIMIT $3) AS t",
            columns.join(", ")
        );
        let params = [at.to_value(), id.to_value(), PART.to_value()];
        let rows = from.read(&sql, &params).await.map_err(|e| format!("{TABLE}: {e}"))?;
        let is_last = (rows.len() as i64) < PART;
        last = rows.last().and_then(|row| Some((owned(row, "place")?, owned(row, "request_id")?))).or(last);
        let calls: Vec<LedgerRow> = rows.iter().filter_map(|row| call(row, known)).collect();
        copied.read += rows.len() as u64;
        copied.odd += (rows.len() - calls.len()) as u64;
        copied.written += to.bring_calls(&calls).await.map_err(|e| e.to_string())?;
        tell(&copied);
        if is_last {
            return Ok(copied);
        }
    }
}

/// A call as a row of the ledger; `known`: keys that have another hash today.
fn call(row: &Row, known: &BTreeMap<String, String>) -> Option<LedgerRow> {
    let request_id = text(row, "request_id")?;
    let millis = moment(row, "startTime")?.div_euclid(1000);
    let started_at = millis * 1000;
    let metadata = row.get("metadata").map(json).unwrap_or_default();
    let of = |names: &[&str]| names.iter().try_fold(&metadata, |value, name| value.get(*name));
    let told = |names: &[&str]| of(names).and_then(Value::as_str).filter(|text| !text.is_empty()).map(cut);
    let usage = |names: &[&str]| {
        let of_object = |object: &str| of(&[object]).and_then(|usage| names.iter().try_fold(usage, |v, n| v.get(*n)));
        let found = of_object("usage_object").or_else(|| of_object("additional_usage_values"));
        found.and_then(Value::as_i64).unwrap_or(0).max(0)
    };
    let number = |name: &str| row.get(name).and_then(Value::as_i64).unwrap_or(0).max(0);
    let model = owned(row, "model").unwrap_or_default();
    let group = owned(row, "model_group");
    let cost_nanos = nanos(row.get("spend"));
    let part = |name: &str| nanos(of(&["cost_breakdown", name]));
    let (mut input_nanos, mut output_nanos) = (part("input_cost"), part("output_cost"));
    if input_nanos.saturating_add(output_nanos) > cost_nanos {
        // A discount, or prices that were changed: the parts are those of another sum.
        (input_nanos, output_nanos) = (0, 0);
    }
    let key = text(row, "api_key").map(|hash| known.get(hash).cloned().unwrap_or_else(|| hash.to_owned()));
    let call_type = owned(row, "call_type").unwrap_or_default();
    let cached = usage(&["cache_read_input_tokens"]).max(usage(&["prompt_tokens_details", "cached_tokens"]));
    Some(LedgerRow {
        id: id_of(request_id, u64::try_from(millis).ok()?),
        started_at,
        first_at: moment(row, "completionStartTime").filter(|at| *at >= started_at),
        ended_at: moment(row, "endTime").map_or(started_at, |at| at.max(started_at)),
        client_id: owned(row, "litellm_call_id").or_else(|| told(&["litellm_call_id"])),
        upstream_id: Some(cut(request_id)),
        session_id: owned(row, "session_id").map(|id| cut(&id)),
        endpoint: told(&["user_api_key_request_route"]).unwrap_or_else(|| endpoint(&call_type).to_owned()),
        call_type,
        key_id: key,
        key_alias: told(&["user_api_key_alias"]),
        user_id: owned(row, "user"),
        team_id: owned(row, "team_id"),
        organization_id: owned(row, "organization_id"),
        project_id: told(&["user_api_key_project_id"]),
        agent_id: owned(row, "agent_id"),
        end_user: owned(row, "end_user").map(|user| cut(&user)),
        tags: tags(row.get("request_tags")),
        model: group.clone().unwrap_or_else(|| model.clone()),
        model_group: Some(group.unwrap_or_else(|| model.clone())),
        upstream_model: Some(model),
        deployment: owned(row, "model_id"),
        provider: owned(row, "custom_llm_provider"),
        api_base: owned(row, "api_base"),
        tool: owned(row, "mcp_namespaced_tool_name"),
        prompt_tokens: number("prompt_tokens"),
        completion_tokens: number("completion_tokens"),
        cached_tokens: cached,
        cache_write_tokens: usage(&["cache_creation_input_tokens"]),
        reasoning_tokens: usage(&["completion_tokens_details", "reasoning_tokens"]),
        audio_in_tokens: usage(&["prompt_tokens_details", "audio_tokens"]),
        audio_out_tokens: usage(&["completion_tokens_details", "audio_tokens"]),
        cost_nanos,
        input_nanos,
        output_nanos,
        other_nanos: cost_nanos - input_nanos - output_nanos,
        status: match owned(row, "status").or_else(|| told(&["status"])).as_deref() {
            Some("failure") => "failure".to_owned(),
            _ => "success".to_owned(),
        },
        error_class: told(&["error_information", "error_class"]),
        error_code: told(&["error_information", "error_code"]),
        error: told(&["error_information", "error_message"]),
        cache_hit: text(row, "cache_hit").is_some_and(|hit| hit.eq_ignore_ascii_case("true")),
        cache_key: owned(row, "cache_key").filter(|key| key != "Cache OFF"),
        ip: owned(row, "requester_ip_address"),
        user_agent: told(&["user_agent"]),
        metadata: said(of(&["spend_logs_metadata"])),
        ..LedgerRow::default()
    })
}

/// A UUIDv7 of the time of the call and, in the place of what is random, of its id: the same whenever it is made.
fn id_of(request_id: &str, millis: u64) -> String {
    let mut rest = [0; 10];
    rest.copy_from_slice(&digest(format!("{TABLE}/{request_id}").as_bytes())[..10]);
    uuid::Builder::from_unix_timestamp_millis(millis, &rest).into_uuid().hyphenated().to_string()
}

/// What a caller has said for the ledger.
fn said(metadata: Option<&Value>) -> Value {
    metadata.filter(|said| said.is_object() && said.to_string().len() <= MOST_METADATA).cloned().unwrap_or_default()
}

/// LiteLLM's word for a call says where it came in.
fn endpoint(call_type: &str) -> &'static str {
    match call_type.trim_start_matches('a') {
        "completion" => "/v1/chat/completions",
        "text_completion" => "/v1/completions",
        "embedding" => "/v1/embeddings",
        "responses" => "/v1/responses",
        "rerank" => "/v1/rerank",
        "moderation" => "/v1/moderations",
        "image_generation" => "/v1/images/generations",
        "transcription" => "/v1/audio/transcriptions",
        "speech" => "/v1/audio/speech",
        "nthropic_messages" => "/v1/messages",
        _ => "",
    }
}

fn nanos(dollars: Option<&Value>) -> i64 {
    let dollars = dollars.and_then(Value::as_f64).filter(|dollars| (0.0..1e6).contains(dollars)).unwrap_or(0.0);
    (dollars * 1e9).round() as i64
}

fn tags(written: Option<&Value>) -> Vec<String> {
    let all = written.map(json).unwrap_or_default();
    let mut tags: Vec<String> = Vec::new();
    for tag in all.as_array().into_iter().flatten().filter_map(Value::as_str).map(cut) {
        if !tag.is_empty() && !tags.contains(&tag) && tags.len() < 32 {
            tags.push(tag);
        }
    }
    tags
}

fn cut(text: &str) -> String {
    text.chars().take(MOST_TEXT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_call_keeps_what_is_known_of_it() {
        let row = json!({
            "request_id": "chatcmpl-1", "call_type": "acompletion", "api_key": "old", "spend": 0.0125,
            "prompt_tokens": 100, "completion_tokens": 20, "startTime": "2026-03-04T05:06:07.891",
            "endTime": "2026-03-04T05:06:09", "completionStartTime": "2026-03-04T05:06:08", "model": "gpt-4o-2024",
            "model_group": "smart", "custom_llm_provider": "openai", "user": "ann", "team_id": null, "end_user": "",
            "cache_hit": "False", "cache_key": "Cache OFF", "request_tags": "[\"a\", \"b\", \"a\", 7]",
            "metadata": {
                "status": "failure", "user_api_key_alias": "laptop", "spend_logs_metadata": {"job": 7},
                "usage_object": {"prompt_tokens_details": {"cached_tokens": 64}, "completion_tokens_details": {"reasoning_tokens": 5}},
                "cost_breakdown": {"input_cost": 0.01, "output_cost": 0.002, "total_cost": 0.0125},
                "error_information": {"error_code": "429", "error_class": "RateLimitError", "error_message": "no"},
            },
        });
        let known = BTreeMap::from([("old".to_owned(), "new".to_owned())]);
        let row = row.as_object().unwrap();
        let made = call(row, &known).unwrap();
        assert_eq!((made.key_id.as_deref(), made.key_alias.as_deref()), (Some("new"), Some("laptop")));
        assert_eq!((&*made.model, made.upstream_model.as_deref()), ("smart", Some("gpt-4o-2024")));
        assert_eq!((made.cost_nanos, made.input_nanos, made.output_nanos), (12_500_000, 10_000_000, 2_000_000));
        assert_eq!(made.other_nanos, 500_000);
        assert_eq!((made.cached_tokens, made.reasoning_tokens), (64, 5));
        assert_eq!((&*made.status, made.error_code.as_deref()), ("failure", Some("429")));
        assert_eq!((made.tags.as_slice(), &made.metadata), (&["a".to_owned(), "b".to_owned()][..], &json!({"job": 7})));
        assert_eq!((made.ended_at - made.started_at, made.end_user, made.cache_key), (1_109_000, None, None));
        assert_eq!(made.endpoint, "/v1/chat/completions");
        // The id says the time, and is the same the next time.
        assert!(made.id.starts_with("019cb73d-3593-7"), "{}", made.id);
        assert_eq!(call(row, &known).unwrap().id, made.id);
        assert_ne!(id_of("chatcmpl-2", 1_772_600_767_891), made.id);
    }

    #[test]
    fn what_has_no_time_or_no_id_has_no_place() {
        for row in [
            json!({"request_id": "a"}),
            json!({"startTime": "2026-03-04T05:06:07"}),
            json!({"request_id": "a", "startTime": "yesterday"}),
        ] {
            assert!(call(row.as_object().unwrap(), &BTreeMap::new()).is_none(), "{row}");
        }
        let odd = json!({"request_id": "a", "startTime": "2026-03-04", "spend": -3, "prompt_tokens": -1, "metadata": 7,
            "request_tags": {}, "endTime": "2025-01-01"});
        let odd = call(odd.as_object().unwrap(), &BTreeMap::new()).unwrap();
        assert_eq!((odd.cost_nanos, odd.prompt_tokens, odd.ended_at), (0, 0, odd.started_at));
    }
}
