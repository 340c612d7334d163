//! Rows of the ledger.

use super::{Asked, date, dollars, time, told};
use crate::error::{Error, Kind as ErrorKind, Result};
use crate::http::reply::path_part;
use crate::store::{By, DailyFilter, Kind, LedgerRow, LogFilter, LogOrder, ReportOrder};
use actix_web::{HttpRequest, HttpResponse};
use serde_json::{Map, Value, json};

/// Rows that one answer has at most.
const MOST: i64 = 1000;
/// How far rows are counted.
const COUNTED: i64 = 10_000;

/// `GET /spend/logs`: rows, the newest first (`limit`, and `after` with the last `request_id` go on), or with both dates
/// the spend of each day, unless `summarize=false`.
pub async fn list(request: HttpRequest) -> HttpResponse {
    told(&request, |asked| async move {
        if let Some(id) = asked.one(&["request_id"]) {
            let rows = by_id(&asked, &id).await?;
            return Ok(rows.iter().map(shown).collect());
        }
        let both = asked.one(&["start_date"]).is_some() && asked.one(&["end_date"]).is_some();
        if both && asked.flag("summarize").unwrap_or(true) {
            return by_day(&asked).await;
        }
        let limit = asked.number("limit", MOST, MOST)?;
        let mut after = asked.one(&["after"]);
        let filter = filter(&asked)?;
        // This answer has no place for where the next part begins, so a short one has to be the end.
        let mut rows = Vec::new();
        loop {
            let left = limit - rows.len() as i64;
            let found = asked.store.logs(&filter, LogOrder::Newest, after.as_deref(), left).await?;
            rows.extend(found.rows);
            after = found.next;
            if after.is_none() || rows.len() as i64 >= limit {
                return Ok(rows.iter().map(shown).collect());
            }
        }
    })
    .await
}

/// `GET /spend/logs/ui` and `/spend/logs/v2`: a page of rows. `after` is the `next` of the page before; page numbers
/// reach as far as the first thousand rows. A page whose filter fits few rows may be short and still have a `next`.
pub async fn page(request: HttpRequest) -> HttpResponse {
    told(&request, |asked| async move {
        let size = asked.number("page_size", 50, 100)?;
        let page = asked.number("page", 1, MOST)?;
        let after = asked.one(&["after"]);
        let order = match asked.one(&["sort_order"]).as_deref() {
            Some("asc") => LogOrder::Oldest,
            _ => LogOrder::Newest,
        };
        if asked.one(&["sort_by"]).is_some_and(|by| by != "startTime") {
            return Err(Error::invalid("Rows are sorted by startTime alone.").at_param("sort_by"));
        }
        if let Some(id) = asked.one(&["request_id"]) {
            let rows = by_id(&asked, &id).await?;
            let total = rows.len();
            let data: Value = rows.iter().map(shown).collect();
            return Ok(
                json!({"data": data, "total": total, "page": 1, "page_size": size, "total_pages": 1, "next": null}),
            );
        }
        let filter = filter(&asked)?;
        let skip = if after.is_some() { 0 } else { (page - 1) * size };
        if skip + size > MOST {
            return Err(Error::invalid(format!(
                "Pages beyond the first {MOST} rows are asked for by 'after', with the 'next' of the page before."
            ))
            .at_param("page"));
        }
        let found = asked.store.logs(&filter, order, after.as_deref(), skip + size).await?;
        let (total, is_capped) = asked.store.roughly_count_logs(&filter, COUNTED).await?;
        let data: Value = found.rows.iter().skip(usize::try_from(skip).unwrap_or(0)).map(shown).collect();
        Ok(json!({
            "data": data,
            "total": total,
            "total_is_capped": is_capped,
            "page": page,
            "page_size": size,
            "total_pages": (total + size - 1) / size,
            "next": found.next,
        }))
    })
    .await
}

/// `GET /spend/logs/ui/{id}`: what was asked and answered, where the operator keeps that.
pub async fn one(request: HttpRequest) -> HttpResponse {
    let id = path_part(&request, "id").unwrap_or_default().into_owned();
    told(&request, |asked| async move {
        if asked.own.is_some() && !by_id(&asked, &id).await?.iter().any(|row| row.id == id) {
            let message = "Only administrators may see what others ask; this is no call of yours.";
            return Err(Error::new(ErrorKind::Forbidden, message).with_type("auth_error"));
        }
        let prompt = asked.store.prompt(&id).await?.unwrap_or_default();
        let read = |text: Option<String>| -> Value {
            text.map_or_else(|| json!({}), |text| serde_json::from_str(&text).unwrap_or(Value::String(text)))
        };
        let request = read(prompt.request);
        let messages = request.get("messages").cloned().unwrap_or_else(|| json!({}));
        Ok(json!({"messages": messages, "proxy_server_request": request, "response": read(prompt.response)}))
    })
    .await
}

/// The calls that have this id, as far as whoever asks may see them.
async fn by_id(asked: &Asked, id: &str) -> Result<Vec<LedgerRow>> {
    let mut rows = asked.store.logs_by_any_id(id).await?;
    rows.retain(|row| asked.own.is_none() || row.user_id == asked.own);
    Ok(rows)
}

fn filter(asked: &Asked) -> Result<LogFilter> {
    let status = asked.one(&["status_filter", "status"]);
    Ok(LogFilter {
        from: asked.time(&["start_date", "startTime"], false)?,
        to: asked.time(&["end_date", "endTime"], true)?,
        key_id: asked.key_id.clone(),
        user_id: asked.user(),
        team_id: asked.one(&["team_id"]),
        organization_id: asked.one(&["organization_id"]),
        end_user: asked.one(&["end_user"]),
        session_id: asked.one(&["session_id"]),
        model_group: asked.one(&["model", "model_group"]),
        deployment: asked.one(&["model_id"]),
        provider: asked.one(&["provider", "custom_llm_provider"]),
        call_type: asked.one(&["call_type"]),
        tool: asked.one(&["mcp_namespaced_tool_name", "tool"]),
        tag: asked.one(&["tag", "tags", "request_tag"]),
        status,
        error_code: asked.one(&["error_code"]),
        error_class: asked.one(&["error_class"]),
        error: asked.one(&["error_message"]),
        key_alias: asked.one(&["key_alias"]),
        min_nanos: asked.nanos("min_spend")?,
        max_nanos: asked.nanos("max_spend")?,
        cache_hit: asked.flag("cache_hit"),
        ..LogFilter::default()
    })
}

/// The spend of each day, by user and by model.
async fn by_day(asked: &Asked) -> Result<Value> {
    let (from, to) = asked.days()?;
    let user = asked.user();
    let filter = |kind, ids| DailyFilter {
        kind,
        ids,
        from_day: Some(from),
        to_day: Some(to),
        key_ids: asked.key_id.clone().map(|key| vec![key]),
        ..DailyFilter::default()
    };
    let of_user = user.map(|user| vec![user]);
    let kind = if of_user.is_some() { Kind::User } else { Kind::Gateway };
    let by =
        async |kind, ids, by: &[By]| asked.store.report(&filter(kind, ids), by, ReportOrder::Groups, 0, 100_000).await;
    let models = by(kind, of_user.clone(), &[By::Day, By::ModelGroup]).await?;
    let users = by(Kind::User, of_user, &[By::Day, By::Id]).await?;
    let mut days: Map<String, Value> = Map::new();
    for day in (from..=to).rev().take(3660) {
        days.insert(date(day), json!({"startTime": date(day), "spend": 0, "users": {}, "models": {}}));
    }
    let mut sums: std::collections::HashMap<String, i64> = std::collections::HashMap::new();
    for (member, rows) in [("models", models), ("users", users)] {
        for row in rows {
            let [day, name] = &row.groups[..] else { continue };
            let Some(entry) = days.get_mut(day) else { continue };
            entry[member][name.as_str()] = dollars(row.sums.spend_nanos);
            if member == "models" {
                let sum = sums.entry(day.clone()).or_default();
                *sum = sum.saturating_add(row.sums.spend_nanos);
                entry["spend"] = dollars(*sum);
            }
        }
    }
    let used = days.into_iter().filter(|(day, _)| sums.contains_key(day)).map(|(_, entry)| entry);
    Ok(used.collect())
}

/// A row in LiteLLM's columns (its table SpendLogs). What has no column of its own is in `metadata`, as there.
fn shown(row: &LedgerRow) -> Value {
    let mut metadata = row.metadata.as_object().cloned().unwrap_or_default();
    let error = row
        .error
        .as_ref()
        .map(|message| json!({"error_code": row.error_code, "error_class": row.error_class, "error_message": message}));
    let cost = json!({
        "input_cost": dollars(row.input_nanos),
        "output_cost": dollars(row.output_nanos),
        "other_cost": dollars(row.other_nanos),
        "total_cost": dollars(row.cost_nanos),
    });
    let usage = json!({
        "cache_read_input_tokens": row.cached_tokens,
        "cache_creation_input_tokens": row.cache_write_tokens,
        "cache_creation_1h_input_tokens": row.cache_write_1h_tokens,
        "reasoning_tokens": row.reasoning_tokens,
        "audio_input_tokens": row.audio_in_tokens,
        "audio_output_tokens": row.audio_out_tokens,
        "image_input_tokens": row.image_in_tokens,
        "image_output_tokens": row.image_out_tokens,
        "web_searches": row.searches,
    });
    for (name, value) in [
        ("status", json!(row.status)),
        ("http_status", json!(row.http_status)),
        ("client_id", json!(row.client_id)),
        ("upstream_id", json!(row.upstream_id)),
        ("trace_id", json!(row.trace_id)),
        ("endpoint", json!(row.endpoint)),
        ("stream", json!(row.stream)),
        ("estimated", json!(row.estimated)),
        ("unpriced", json!(row.unpriced)),
        ("attempted_retries", json!(row.retries)),
        ("attempted_fallbacks", json!(row.fallbacks)),
        ("user_agent", json!(row.user_agent)),
        ("user_api_key", json!(row.key_id)),
        ("user_api_key_alias", json!(row.key_alias)),
        ("user_api_key_project_id", json!(row.project_id)),
        ("usage_object", usage),
        ("cost_breakdown", cost),
        ("error_information", error.unwrap_or(Value::Null)),
    ] {
        metadata.insert(name.to_owned(), value);
    }
    json!({
        "request_id": row.id,
        "call_type": row.call_type,
        "api_key": row.key_id.as_deref().unwrap_or_default(),
        "spend": dollars(row.cost_nanos),
        "total_tokens": row.prompt_tokens + row.completion_tokens,
        "prompt_tokens": row.prompt_tokens,
        "completion_tokens": row.completion_tokens,
        "startTime": time(row.started_at),
        "endTime": time(row.ended_at),
        "completionStartTime": row.first_at.map(time),
        "request_duration_ms": (row.ended_at - row.started_at) / 1000,
        "model": row.upstream_model.as_deref().unwrap_or(&row.model),
        "model_id": row.deployment,
        "model_group": row.model_group,
        "custom_llm_provider": row.provider,
        "api_base": row.api_base,
        "user": row.user_id.as_deref().unwrap_or_default(),
        "team_id": row.team_id,
        "organization_id": row.organization_id,
        "end_user": row.end_user.as_deref().unwrap_or_default(),
        "agent_id": row.agent_id,
        "session_id": row.session_id,
        "request_tags": row.tags,
        "requester_ip_address": row.ip,
        "cache_hit": if row.cache_hit { "True" } else { "False" },
        "cache_key": row.cache_key,
        "status": row.status,
        "mcp_namespaced_tool_name": row.tool,
        "messages": {},
        "response": {},
        "proxy_server_request": {},
        "metadata": metadata,
    })
}
