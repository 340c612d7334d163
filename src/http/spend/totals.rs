//! Who spent how much.

use super::{Asked, dollars, told};
use crate::error::{Error, Kind as ErrorKind, Result};
use crate::http::models::admitted;
use crate::http::reply::{self, plain};
use crate::store::{By, DailyFilter, Entity, Kind, ReportOrder, ReportRow};
use actix_web::{HttpRequest, HttpResponse};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Instant;

/// Rows of a report.
const MOST: i64 = 100_000;
/// Names in an answer, unless another number is asked for.
const USUAL: i64 = 100;

impl Asked {
    /// Sums of the days that are asked for.
    async fn report(
        &self,
        kind: Kind,
        ids: Option<Vec<String>>,
        by: &[By],
        order: ReportOrder,
        limit: i64,
    ) -> Result<Vec<ReportRow>> {
        let (from, to) = self.days()?;
        let filter = DailyFilter {
            kind,
            ids,
            from_day: Some(from),
            to_day: Some(to),
            key_ids: self.key_id.clone().map(|key| vec![key]),
            ..DailyFilter::default()
        };
        Ok(self.store.report(&filter, by, order, 0, limit).await?)
    }

    /// The alias and the hint of keys, by id.
    async fn key_names(&self, ids: &[String]) -> Result<HashMap<String, (Option<String>, Option<String>)>> {
        let keys: Vec<crate::store::Key> = self.store.get_many(ids).await?;
        Ok(keys.into_iter().map(|key| (key.id, (key.alias, key.hint))).collect())
    }
}

/// `GET /spend/keys`: the keys that spent most.
pub async fn keys(request: HttpRequest) -> HttpResponse {
    told(&request, |asked| async move {
        let limit = asked.number("limit", USUAL, 1000)?;
        let totals = asked.store.top_totals(Kind::Key, 0, limit).await?;
        let ids: Vec<String> = totals.iter().map(|total| total.id.clone()).collect();
        let names = asked.key_names(&ids).await?;
        let shown = |total: &crate::store::Total| {
            let (alias, hint) = names.get(&total.id).cloned().unwrap_or_default();
            json!({"token": total.id, "key_alias": alias, "key_name": hint, "spend": dollars(total.spent())})
        };
        Ok(totals.iter().map(shown).collect())
    })
    .await
}

/// `GET /spend/users`: the users that spent most, or the one that is asked for.
pub async fn users(request: HttpRequest) -> HttpResponse {
    told(&request, |asked| async move {
        let totals = match asked.one(&["user_id"]) {
            Some(user) => asked.store.totals(&[Entity::of(Kind::User, &user)]).await?,
            None => asked.store.top_totals(Kind::User, 0, asked.number("limit", USUAL, 1000)?).await?,
        };
        Ok(totals.iter().map(|total| json!({"user_id": total.id, "spend": dollars(total.spent())})).collect())
    })
    .await
}

/// `GET /spend/tags` and, in a frame of its own, `GET /global/spend/tags`
pub async fn tags(request: HttpRequest) -> HttpResponse {
    told(&request, |asked| async move {
        let rows = asked.report(Kind::Tag, None, &[By::Id], ReportOrder::Spend, asked.number("limit", 1000, MOST)?).await?;
        let is_global = asked.request.match_info().as_str().contains("/global/");
        let shown = |row: &ReportRow| {
            let (name, sums) = (row.groups.first(), &row.sums);
            match is_global {
                true => json!({"name": name, "spend": dollars(sums.spend_nanos), "log_count": sums.calls}),
                false => json!({"individual_request_tag": name, "log_count": sums.calls, "total_spend": dollars(sums.spend_nanos)}),
            }
        };
        let shown: Value = rows.iter().map(shown).collect();
        Ok(if is_global { json!({"spend_per_tag": shown}) } else { shown })
    })
    .await
}

/// `GET /global/spend/all_tag_names`
pub async fn tag_names(request: HttpRequest) -> HttpResponse {
    told(&request, |asked| async move { Ok(json!({"tag_names": asked.store.tag_names().await?})) }).await
}

/// `GET /global/spend`: everything that was ever spent.
pub async fn all(request: HttpRequest) -> HttpResponse {
    told(&request, |asked| async move {
        let totals = asked.store.totals(&[Entity::of(Kind::Gateway, "")]).await?;
        let spent = totals.first().map_or(0, crate::store::Total::spent);
        Ok(json!({"spend": dollars(spent), "max_budget": 0}))
    })
    .await
}

/// `POST /global/spend/reset`: keys and teams begin again from nothing; the rows of their calls stay. The master key
/// alone may do so, as in LiteLLM.
pub async fn reset(request: HttpRequest) -> HttpResponse {
    let started = Instant::now();
    let result = async {
        let (_, caller) = admitted(&request).await?;
        if caller.holder().is_some() {
            let message = "Only the master key may set back what all keys and teams have spent.";
            return Err(Error::new(ErrorKind::Forbidden, message).with_type("auth_error"));
        }
        let gateway = &reply::worker(&request)?.gateway;
        gateway.store.forgive_all(&[Kind::Key, Kind::Team], crate::database::now()).await?;
        gateway.limits.forget();
        Ok(HttpResponse::Ok().json(json!({
            "message": "The spend of all keys and teams is 0; the rows of their calls stay.",
            "status": "success",
        })))
    };
    let result = result.await;
    plain(&request, started, result)
}

/// `GET /global/spend/logs`: the spend of each day.
pub async fn days(request: HttpRequest) -> HttpResponse {
    told(&request, |asked| async move {
        let mut rows = asked.report(Kind::Gateway, None, &[By::Day], ReportOrder::Groups, MOST).await?;
        rows.reverse();
        let shown = |row: &ReportRow| json!({"date": row.groups.first(), "spend": dollars(row.sums.spend_nanos)});
        Ok(rows.iter().map(shown).collect())
    })
    .await
}

/// `GET /global/spend/keys`: the keys that spent most in these days.
pub async fn top_keys(request: HttpRequest) -> HttpResponse {
    told(&request, |asked| async move {
        let limit = asked.number("limit", 10, 1000)?;
        let mut rows = asked.report(Kind::Gateway, None, &[By::Key], ReportOrder::Spend, limit).await?;
        rows.retain(|row| row.groups.first().is_some_and(|key| !key.is_empty()));
        let ids: Vec<String> = rows.iter().filter_map(|row| row.groups.first().cloned()).collect();
        let names = asked.key_names(&ids).await?;
        let shown = |row: &ReportRow| {
            let id = row.groups.first().cloned().unwrap_or_default();
            let (alias, hint) = names.get(&id).cloned().unwrap_or_default();
            json!({"api_key": id, "key_alias": alias, "key_name": hint, "total_spend": dollars(row.sums.spend_nanos)})
        };
        Ok(rows.iter().map(shown).collect())
    })
    .await
}

/// `GET /global/spend/models`, `/global/spend/provider` and `/global/spend/end_users`
pub async fn top(request: HttpRequest) -> HttpResponse {
    told(&request, |asked| async move {
        let path = asked.request.match_info().as_str();
        let (kind, by, name, spend) = match path.rsplit('/').next() {
            Some("provider") => (Kind::Gateway, By::Provider, "provider", "spend"),
            Some("end_users") => (Kind::Customer, By::Id, "end_user", "total_spend"),
            _ => (Kind::Gateway, By::ModelGroup, "model", "total_spend"),
        };
        let limit = asked.number("limit", if by == By::ModelGroup { 10 } else { USUAL }, 1000)?;
        let rows = asked.report(kind, None, &[by], ReportOrder::Spend, limit).await?;
        let shown = |row: &ReportRow| {
            let mut shown = Map::new();
            shown.insert(name.to_owned(), json!(row.groups.first()));
            shown.insert(spend.to_owned(), dollars(row.sums.spend_nanos));
            shown.insert("total_count".to_owned(), json!(row.sums.calls));
            Value::Object(shown)
        };
        Ok(rows.iter().map(shown).collect())
    })
    .await
}

/// `GET /global/spend/teams`: by day and team.
pub async fn teams(request: HttpRequest) -> HttpResponse {
    told(&request, |asked| async move {
        let rows = asked.report(Kind::Team, None, &[By::Day, By::Id], ReportOrder::Groups, MOST).await?;
        let mut days: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
        let mut sums: BTreeMap<String, i64> = BTreeMap::new();
        for row in &rows {
            let [day, team] = &row.groups[..] else { continue };
            let entry = days.entry(day.clone()).or_insert_with(|| Map::from_iter([("date".to_owned(), json!(day))]));
            entry.insert(team.clone(), dollars(row.sums.spend_nanos));
            let sum = sums.entry(team.clone()).or_default();
            *sum = sum.saturating_add(row.sums.spend_nanos);
        }
        let teams: BTreeSet<&String> = sums.keys().collect();
        let total: Vec<Value> =
            sums.iter().map(|(team, sum)| json!({"team_id": team, "total_spend": dollars(*sum)})).collect();
        Ok(json!({"daily_spend": days.into_values().collect::<Vec<_>>(), "teams": teams, "total_spend_per_team": total}))
    })
    .await
}

/// `GET /global/spend/report`: each day's spend by team or customer, or the whole by key.
pub async fn report(request: HttpRequest) -> HttpResponse {
    told(&request, |asked| async move {
        let group = asked.one(&["group_by"]).unwrap_or_else(|| if asked.key_id.clone().is_some() { "api_key" } else { "team" }.to_owned());
        let (kind, list, name) = match group.as_str() {
            "team" => (Kind::Team, "teams", "team_name"),
            "customer" | "end_user" => (Kind::Customer, "customers", "customer"),
            "api_key" => return by_key(&asked).await,
            _ => return Err(Error::invalid("'group_by' must be 'team', 'customer' or 'api_key'.").at_param("group_by")),
        };
        let ids = asked.one(&["team_id", "customer_id"]).map(|id| vec![id]);
        let by = [By::Day, By::Id, By::ModelGroup, By::Key];
        let rows = asked.report(kind, ids, &by, ReportOrder::Groups, MOST).await?;
        let mut days: BTreeMap<String, BTreeMap<String, (i64, Vec<Value>)>> = BTreeMap::new();
        for row in &rows {
            let [day, id, model, key] = &row.groups[..] else { continue };
            let (sum, parts) = days.entry(day.clone()).or_default().entry(id.clone()).or_default();
            *sum = sum.saturating_add(row.sums.spend_nanos);
            parts.push(json!({
                "model": model,
                "spend": dollars(row.sums.spend_nanos),
                "total_tokens": row.sums.prompt_tokens + row.sums.completion_tokens,
                "api_key": key,
            }));
        }
        let entity = |(id, (sum, parts)): (String, (i64, Vec<Value>))| {
            json!({name: id, "total_spend": dollars(sum), "metadata": parts})
        };
        let day = |(day, entities): (String, BTreeMap<String, (i64, Vec<Value>)>)| {
            json!({"group_by_day": day, list: entities.into_iter().map(entity).collect::<Vec<_>>()})
        };
        Ok(days.into_iter().map(day).collect())
    })
    .await
}

async fn by_key(asked: &Asked) -> Result<Value> {
    let rows = asked.report(Kind::Gateway, None, &[By::Key, By::ModelGroup], ReportOrder::Groups, MOST).await?;
    let mut keys: BTreeMap<String, (i64, i64, i64, Vec<Value>)> = BTreeMap::new();
    for row in &rows {
        let ([key, model], sums) = (&row.groups[..], &row.sums) else { continue };
        let (cost, input, output, models) = keys.entry(key.clone()).or_default();
        *cost = cost.saturating_add(sums.spend_nanos);
        *input = input.saturating_add(sums.prompt_tokens);
        *output = output.saturating_add(sums.completion_tokens);
        models.push(json!({
            "model": model,
            "total_cost": dollars(sums.spend_nanos),
            "total_input_tokens": sums.prompt_tokens,
            "total_output_tokens": sums.completion_tokens,
        }));
    }
    let shown = |(key, (cost, input, output, models)): (String, (i64, i64, i64, Vec<Value>))| {
        json!({
            "api_key": key,
            "total_cost": dollars(cost),
            "total_input_tokens": input,
            "total_output_tokens": output,
            "model_details": models,
        })
    };
    Ok(keys.into_iter().map(shown).collect())
}

/// `GET /global/activity` and `/global/activity/cache_hits`: calls and tokens of each day.
pub async fn activity(request: HttpRequest) -> HttpResponse {
    told(&request, |asked| async move {
        let mut rows = asked.report(Kind::Gateway, None, &[By::Day], ReportOrder::Groups, MOST).await?;
        rows.reverse();
        Ok(with_sums(&rows, 0))
    })
    .await
}

/// `GET /global/activity/model`: the same for each model.
pub async fn activity_of_models(request: HttpRequest) -> HttpResponse {
    told(&request, |asked| async move {
        let mut rows = asked.report(Kind::Gateway, None, &[By::Day, By::ModelGroup], ReportOrder::Groups, MOST).await?;
        rows.reverse();
        let mut models: BTreeMap<String, Vec<ReportRow>> = BTreeMap::new();
        for row in rows {
            models.entry(row.groups.get(1).cloned().unwrap_or_default()).or_default().push(row);
        }
        let shown = |(model, rows): (String, Vec<ReportRow>)| {
            let mut shown = with_sums(&rows, 0);
            shown["model"] = json!(model);
            shown
        };
        Ok(models.into_iter().map(shown).collect())
    })
    .await
}

fn with_sums(rows: &[ReportRow], day: usize) -> Value {
    let tokens = |row: &ReportRow| row.sums.prompt_tokens.saturating_add(row.sums.completion_tokens);
    let of_day = |row: &ReportRow| {
        json!({
            "date": row.groups.get(day),
            "api_requests": row.sums.calls,
            "total_tokens": tokens(row),
            "cache_hits": row.sums.cache_hits,
        })
    };
    json!({
        "daily_data": rows.iter().map(of_day).collect::<Vec<_>>(),
        "sum_api_requests": rows.iter().map(|row| row.sums.calls).sum::<i64>(),
        "sum_total_tokens": rows.iter().map(tokens).fold(0, i64::saturating_add),
        "sum_cache_hits": rows.iter().map(|row| row.sums.cache_hits).sum::<i64>(),
    })
}
