//! Several keys at once.

use super::super::desk::{Desk, list as names, run};
use super::super::times;
use super::{MOST, hash_of, rows, shape};
use crate::error::{Error, Result};
use crate::store::{Key, KeyFilter};
use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse};
use serde_json::{Value, json};

/// As many as are looked through.
const MOST_DELETED: i64 = 1000;

/// Keys that the caller may see: all of them, his own, or those of a team that he leads.
async fn filter(desk: &Desk) -> Result<KeyFilter> {
    let mut filter = KeyFilter {
        user_id: desk.query("user_id"),
        team_id: desk.query("team_id"),
        organization_id: desk.query("organization_id"),
        alias: desk.query("key_alias"),
        alias_part: desk.query("search"),
        hash: desk.query("key_hash").map(|named| hash_of(&named)),
        ..KeyFilter::default()
    };
    if desk.is_viewer() {
        return Ok(filter);
    }
    if let Some(team) = &filter.team_id
        && (desk.leads(team).await? || desk.is_granted(team, "/key/list").await?)
    {
        return Ok(filter);
    }
    let own =
        desk.caller.user_id().ok_or_else(|| desk.refused("This key belongs to nobody, who has no other keys."))?;
    if filter.user_id.as_deref().is_some_and(|asked| asked != own) {
        return Err(desk.refused("Keys of others are shown to proxy admins.").at_param("user_id"));
    }
    if desk.wants("include_team_keys") {
        // Beside his own, those of the teams that he leads.
        let places = desk.store().memberships_of(&[own.to_owned()]).await?;
        let led = places.into_iter().filter(|place| place.role == "admin").map(|place| place.team_id).collect();
        (filter.user_id, filter.user_or_teams) = (None, Some((own.to_owned(), led)));
        return Ok(filter);
    }
    filter.user_id = Some(own.to_owned());
    Ok(filter)
}

/// Lists have one order; another one is refused, and not passed over.
fn check_order(desk: &Desk) -> Result<()> {
    let by = desk.query("sort_by").is_none_or(|by| by == "created_at");
    let down = desk.query("sort_order").is_none_or(|order| order.eq_ignore_ascii_case("desc"));
    match (by, down) {
        (true, true) => Ok(()),
        (false, _) => Err(Error::invalid("Keys are sorted by created_at alone.").at_param("sort_by")),
        (true, false) => Err(Error::invalid("Keys are sorted with the newest first: desc.").at_param("sort_order")),
    }
}

/// Copies of keys that were deleted, the last one first.
async fn deleted(desk: &Desk) -> Result<Value> {
    desk.viewer_only()?;
    let (page, size) = desk.page()?;
    let all = desk.store().removed(<Key as crate::store::Entry>::WORD, MOST_DELETED).await?;
    let (total, skip) = (all.len() as i64, usize::try_from((page - 1) * size).unwrap_or(usize::MAX));
    let shown: Vec<Value> = all
        .into_iter()
        .skip(skip)
        .take(usize::try_from(size).unwrap_or(0))
        .filter_map(|gone| {
            let key: Key = serde_json::from_value(gone.record).ok()?;
            let mut row = shape::row_with(&key, 0, false);
            row.insert("deleted_at".to_owned(), times::iso(gone.at).into());
            row.insert("deleted_by".to_owned(), gone.by.into());
            Some(row.into())
        })
        .collect();
    Ok(paged(shown, total, page, size))
}

fn paged(keys: Vec<Value>, total: i64, page: i64, size: i64) -> Value {
    json!({
        "keys": keys,
        "total_count": total,
        "current_page": page,
        "total_pages": total.div_euclid(size) + i64::from(total % size > 0),
    })
}

/// `GET /key/list`: hashes, or whole rows with `?return_full_object=true`; `?status=deleted` those that are gone.
pub async fn list(request: HttpRequest, payload: Payload) -> HttpResponse {
    run(request, payload, async |desk, _| {
        match desk.query("status").as_deref() {
            None => {}
            Some("deleted") => return deleted(&desk).await,
            Some(_) => return Err(Error::invalid("'status' is deleted, or is not there.").at_param("status")),
        }
        check_order(&desk)?;
        let filter = filter(&desk).await?;
        let (page, size) = desk.page()?;
        let total = desk.store().count_keys(&filter).await?;
        let keys = desk.store().list_keys(&filter, &Desk::rows(page, size)).await?.rows;
        let shown: Vec<Value> = if desk.wants("return_full_object") {
            rows(&desk, &keys).await?
        } else {
            keys.into_iter().map(|key| key.hash.into()).collect()
        };
        Ok(paged(shown, total, page, size))
    })
    .await
}

/// `GET /key/aliases`
pub async fn aliases(request: HttpRequest, payload: Payload) -> HttpResponse {
    run(request, payload, async |desk, _| {
        let filter = filter(&desk).await?;
        let aliases = desk
            .store()
            .key_aliases(&filter, desk.query("after").as_deref(), crate::store::Page::default().limit * 10)
            .await?;
        Ok(json!({"aliases": aliases}))
    })
    .await
}

/// `POST /v2/key/info`: several keys by their text or their hash.
pub async fn infos(request: HttpRequest, payload: Payload) -> HttpResponse {
    run(request, payload, async |desk, body| {
        let named = names(&body, "keys")?;
        if named.is_empty() || named.len() > MOST {
            return Err(Error::invalid(format!("'keys' must be a list of 1 to {MOST} keys.")).at_param("keys"));
        }
        let hashes: Vec<String> = named.iter().map(|named| hash_of(named)).collect();
        let keys = desk.store().keys_by_hash(&hashes).await?;
        for key in &keys {
            desk.may_see(key).await?;
        }
        Ok(json!({"key": named, "info": rows(&desk, &keys).await?}))
    })
    .await
}
