//! Several keys at once.

use super::super::desk::{Desk, list as names, run};
use super::{MOST, hash_of, rows};
use crate::error::{Error, Result};
use crate::store::KeyFilter;
use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse};
use serde_json::{Value, json};

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
        && desk.leads(team).await?
    {
        return Ok(filter);
    }
    let own =
        desk.caller.user_id().ok_or_else(|| desk.refused("This key belongs to nobody, who has no other keys."))?;
    if filter.user_id.as_deref().is_some_and(|asked| asked != own) {
        return Err(desk.refused("Keys of others are shown to proxy admins.").at_param("user_id"));
    }
    filter.user_id = Some(own.to_owned());
    Ok(filter)
}

/// `GET /key/list`: hashes, or whole rows with `?return_full_object=true`.
pub async fn list(request: HttpRequest, payload: Payload) -> HttpResponse {
    run(request, payload, async |desk, _| {
        let filter = filter(&desk).await?;
        let (page, size) = desk.page()?;
        let total = desk.store().count_keys(&filter).await?;
        let keys = desk.store().list_keys(&filter, &Desk::rows(page, size)).await?.rows;
        let shown: Vec<Value> = if desk.wants("return_full_object") {
            rows(&desk, &keys).await?
        } else {
            keys.into_iter().map(|key| key.hash.into()).collect()
        };
        Ok(json!({
            "keys": shown,
            "total_count": total,
            "current_page": page,
            "total_pages": total.div_euclid(size) + i64::from(total % size > 0),
        }))
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
