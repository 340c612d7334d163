//! Users as they are shown.

use super::super::desk::{Desk, run};
use super::super::{keys, teams};
use super::{missing, shape};
use crate::error::Result;
use crate::store::{KeyFilter, Page, TeamFilter, User, UserFilter};
use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse};
use serde_json::{Map, Value, json};

/// Whom a request asks for: `?user_id=`, or the caller.
async fn asked(desk: &Desk) -> Result<Option<String>> {
    let asked = desk.query("user_id").or_else(|| desk.caller.user_id().map(str::to_owned));
    match &asked {
        Some(id) if desk.is_viewer() || Some(id.as_str()) == desk.caller.user_id() => Ok(asked),
        None if desk.is_viewer() => Ok(None),
        _ => Err(desk.refused("Other users are shown to proxy admins.")),
    }
}

/// `GET /user/info`: the user, and the keys and teams that are his.
pub async fn info(request: HttpRequest, payload: Payload) -> HttpResponse {
    run(request, payload, async |desk, _| {
        let id = asked(&desk).await?;
        let user: Option<User> = match &id {
            Some(id) => Some(desk.store().get(id).await?.ok_or_else(|| missing(id))?),
            None => None,
        };
        let page = Page { limit: 1000, ..Page::default() };
        let keys =
            desk.store().list_keys(&KeyFilter { user_id: id.clone(), ..KeyFilter::default() }, &page).await?.rows;
        let teams =
            desk.store().list_teams(&TeamFilter { user_id: id.clone(), ..TeamFilter::default() }, &page).await?;
        let mut rows = teams::rows(&desk, &teams.rows).await?;
        if let Some(id) = &id {
            let places = desk.store().memberships_of(std::slice::from_ref(id)).await?;
            let places = teams::memberships(&desk, &places).await?;
            for row in &mut rows {
                let own: Vec<&Value> =
                    places.iter().filter(|place| row.get("team_id") == Some(&place["team_id"])).collect();
                let own = json!(own);
                row.insert("team_memberships".to_owned(), own);
            }
        }
        let shown = match user {
            Some(user) => shape::rows(&desk, &[user]).await?.pop(),
            None => None,
        };
        Ok(json!({
            "user_id": id,
            "user_info": shown,
            "keys": keys::rows(&desk, &keys).await?,
            "teams": rows,
        }))
    })
    .await
}

/// `GET /v2/user/info`: the user alone.
pub async fn one(request: HttpRequest, payload: Payload) -> HttpResponse {
    run(request, payload, async |desk, _| {
        let id = asked(&desk).await?.unwrap_or_default();
        let user: User = desk.store().get(&id).await?.ok_or_else(|| missing(&id))?;
        Ok(shape::rows(&desk, &[user]).await?.pop().unwrap_or_default().into())
    })
    .await
}

/// `GET /user/list`, by `role`, `user_ids` (with commas), `user_email`, `team`, `sso_user_ids`, page by page.
pub async fn list(request: HttpRequest, payload: Payload) -> HttpResponse {
    run(request, payload, async |desk, _| {
        desk.viewer_only()?;
        let ids = desk.query("user_ids").map(|ids| ids.split(',').map(|id| id.trim().to_owned()).collect());
        let filter = UserFilter {
            role: desk.query("role"),
            ids,
            email_part: desk.query("user_email"),
            sso_user_id: desk.query("sso_user_ids"),
            organization_id: desk.query("organization_id"),
            team_id: desk.query("team"),
            ..UserFilter::default()
        };
        let (page, size) = desk.page()?;
        let total = desk.store().count_users(&filter).await?;
        let users = desk.store().list_users(&filter, &Desk::rows(page, size)).await?.rows;
        let mut shown = shape::rows(&desk, &users).await?;
        for (row, user) in shown.iter_mut().zip(&users) {
            let filter = KeyFilter { user_id: Some(user.id.clone()), ..KeyFilter::default() };
            row.insert("key_count".to_owned(), desk.store().count_keys(&filter).await?.into());
        }
        Ok(json!({
            "users": shown,
            "total": total,
            "page": page,
            "page_size": size,
            "total_pages": total.div_euclid(size) + i64::from(total % size > 0),
        }))
    })
    .await
}

pub async fn available_roles(request: HttpRequest, payload: Payload) -> HttpResponse {
    run(request, payload, async |_, _| {
        let roles = shape::ROLES.iter().take(5).filter(|(name, ..)| *name != "org_admin");
        let shown: Map<String, Value> = roles
            .map(|(name, label, about)| ((*name).to_owned(), json!({"description": about, "ui_label": label})))
            .collect();
        Ok(shown.into())
    })
    .await
}
