//! Daily activity: `GET /{user,team,tag,customer,organization}/daily/activity[/aggregated]`.

use super::{Asked, date, dollars, told};
use crate::error::{Error, Kind as ErrorKind, Result};
use crate::store::{By, DailyFilter, Kind, ReportOrder, Sums};
use actix_web::{HttpRequest, HttpResponse};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Days of one page.
const USUAL_PAGE: i64 = 50;
/// Rows that one answer is made of at most: the page is smaller then.
const MOST: i64 = 100_000;

/// What the rows of a day are divided by, and what LiteLLM calls that.
const PARTS: [(&str, By); 7] = [
    ("models", By::Model),
    ("model_groups", By::ModelGroup),
    ("providers", By::Provider),
    ("api_keys", By::Key),
    ("endpoints", By::Endpoint),
    ("mcp_servers", By::Tool),
    ("entities", By::Id),
];

pub async fn daily(request: HttpRequest) -> HttpResponse {
    told(&request, |asked| async move {
        let path = asked.request.match_info().as_str().to_owned();
        let of = |family: &str| path.contains(&format!("/{family}/daily/activity"));
        let (kind, names): (Kind, &[&str]) = if of("team") {
            (Kind::Team, &["team_ids", "team_id"])
        } else if of("tag") {
            (Kind::Tag, &["tags", "tag"])
        } else if of("customer") || of("end_user") {
            (Kind::Customer, &["end_user_ids", "customer_ids", "end_user_id"])
        } else if of("organization") {
            (Kind::Organization, &["organization_ids", "organization_id"])
        } else if asked.one(&["user_id"]).is_some() {
            (Kind::User, &["user_id"])
        } else {
            // All users at once: also the calls that no user made.
            (Kind::Gateway, &[])
        };
        let ids: Option<Vec<String>> =
            asked.one(names).map(|ids| ids.split(',').map(|id| id.trim().to_owned()).collect());
        let (kind, ids) = match &asked.own {
            Some(user) if kind == Kind::Team => (kind, Some(led(&asked, user, ids).await?)),
            Some(user) => (Kind::User, Some(vec![user.clone()])),
            None => (kind, ids),
        };
        let is_whole = path.ends_with("/aggregated");
        answer(&asked, kind, ids, is_whole).await
    })
    .await
}

/// Those of these teams, or of all, that the user leads.
///
/// # Errors
/// 403 where one of them is led by others.
async fn led(asked: &Asked, user: &str, wanted: Option<Vec<String>>) -> Result<Vec<String>> {
    let places = asked.store.memberships_of(&[user.to_owned()]).await?;
    let led: Vec<String> =
        places.into_iter().filter(|place| place.role == "admin").map(|place| place.team_id).collect();
    match wanted {
        Some(wanted) if wanted.iter().any(|team| !led.contains(team)) => {
            let message = "What a team spends is shown to its admins, and to proxy admins.";
            Err(Error::new(ErrorKind::Forbidden, message).with_type("auth_error").at_param("team_ids"))
        }
        Some(wanted) => Ok(wanted),
        None if led.is_empty() => Err(Error::new(ErrorKind::Forbidden, "You lead no team.").with_type("auth_error")),
        None => Ok(led),
    }
}

async fn answer(asked: &Asked, kind: Kind, ids: Option<Vec<String>>, is_whole: bool) -> Result<Value> {
    let (from, to) = asked.days()?;
    let size = asked.number("page_size", USUAL_PAGE, 1000)?;
    let page = asked.number("page", 1, 100_000)?;
    let filter = |from: i64, to: i64| DailyFilter {
        kind,
        ids: ids.clone(),
        from_day: Some(from),
        to_day: Some(to),
        key_ids: asked.key_id.clone().map(|key| vec![key]),
        model: asked.one(&["model"]),
        ..DailyFilter::default()
    };
    // A page is some days, the latest first.
    let (pages, last, first) = match is_whole {
        true => (1, to, from),
        false => {
            let last = to - (page - 1).saturating_mul(size);
            ((to - from) / size + 1, last, (last - size + 1).max(from))
        }
    };
    let mut days: BTreeMap<String, (Sums, Map<String, Value>)> = BTreeMap::new();
    if first <= last {
        let filter = filter(first, last);
        for row in asked.store.report(&filter, &[By::Day], ReportOrder::Groups, 0, MOST).await? {
            let breakdown = PARTS.iter().map(|(name, _)| ((*name).to_owned(), json!({}))).collect();
            days.insert(row.groups.first().cloned().unwrap_or_default(), (row.sums, breakdown));
        }
        for (name, by) in PARTS {
            for row in asked.store.report(&filter, &[By::Day, by], ReportOrder::Groups, 0, MOST).await? {
                let [day, part] = &row.groups[..] else { continue };
                if let Some((_, breakdown)) = days.get_mut(day).filter(|_| !part.is_empty()) {
                    breakdown[name][part.as_str()] = json!({"metrics": metrics(&row.sums), "metadata": {}});
                }
            }
        }
    }
    let results: Vec<Value> = days
        .into_iter()
        .rev()
        .map(|(day, (sums, breakdown))| json!({"date": day, "metrics": metrics(&sums), "breakdown": breakdown}))
        .collect();
    let total = asked.store.sums(&filter(from, to)).await?;
    Ok(json!({
        "results": results,
        "metadata": {
            "total_spend": dollars(total.spend_nanos),
            "total_prompt_tokens": total.prompt_tokens,
            "total_completion_tokens": total.completion_tokens,
            "total_tokens": total.prompt_tokens.saturating_add(total.completion_tokens),
            "total_api_requests": total.calls,
            "total_successful_requests": total.calls - total.failed,
            "total_failed_requests": total.failed,
            "total_cache_read_input_tokens": total.cached_tokens,
            "total_cache_creation_input_tokens": total.cache_write_tokens,
            "start_date": date(from),
            "end_date": date(to),
            "page": page,
            "total_pages": pages,
            "has_more": !is_whole && first > from,
        },
    }))
}

fn metrics(sums: &Sums) -> Value {
    json!({
        "spend": dollars(sums.spend_nanos),
        "prompt_tokens": sums.prompt_tokens,
        "completion_tokens": sums.completion_tokens,
        "total_tokens": sums.prompt_tokens.saturating_add(sums.completion_tokens),
        "cache_read_input_tokens": sums.cached_tokens,
        "cache_creation_input_tokens": sums.cache_write_tokens,
        "api_requests": sums.calls,
        "successful_requests": sums.calls - sums.failed,
        "failed_requests": sums.failed,
    })
}
