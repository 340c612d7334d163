//! Teams as they are shown.

use super::super::desk::{Desk, run};
use super::super::keys;
use super::{rows, shape, there};
use crate::error::Result;
use crate::store::{KeyFilter, Page, TeamFilter};
use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse};
use serde_json::{Value, json};

/// # Errors
/// 403 where the caller neither sees everything nor belongs to the team.
async fn may_see(desk: &Desk, id: &str) -> Result<()> {
    if desk.is_viewer() || desk.caller.team_id() == Some(id) {
        return Ok(());
    }
    if let Some(user) = desk.caller.user()
        && desk.store().member(id, &user.id).await?.is_some()
    {
        return Ok(());
    }
    Err(desk.refused("Teams are shown to their members and to proxy admins."))
}

/// `GET /team/info?team_id=`
pub async fn info(request: HttpRequest, payload: Payload) -> HttpResponse {
    run(request, payload, async |desk, _| {
        let id = desk.query("team_id").or_else(|| desk.caller.team_id().map(str::to_owned)).unwrap_or_default();
        may_see(&desk, &id).await?;
        let team = there(&desk, &id).await?;
        let filter = KeyFilter { team_id: Some(id.clone()), ..KeyFilter::default() };
        let keys = desk.store().list_keys(&filter, &Page { limit: 1000, ..Page::default() }).await?.rows;
        let members = desk.store().members_of(std::slice::from_ref(&id)).await?;
        Ok(json!({
            "team_id": id,
            "team_info": rows(&desk, &[team]).await?.pop(),
            "keys": keys::rows(&desk, &keys).await?,
            "team_memberships": shape::memberships(&desk, &members).await?,
        }))
    })
    .await
}

/// All teams, those of `?user_id=`, or the caller's own.
fn filter(desk: &Desk) -> Result<TeamFilter> {
    let mut filter = TeamFilter {
        ids: desk.query("team_id").map(|id| vec![id]),
        organization_id: desk.query("organization_id"),
        alias_part: desk.query("team_alias"),
        user_id: desk.query("user_id"),
        ..TeamFilter::default()
    };
    if !desk.is_viewer() {
        let own = desk.caller.user_id().ok_or_else(|| desk.refused("This key belongs to nobody, who has no teams."))?;
        if filter.user_id.as_deref().is_some_and(|asked| asked != own) {
            return Err(desk.refused("Teams of others are shown to proxy admins.").at_param("user_id"));
        }
        filter.user_id = Some(own.to_owned());
    }
    Ok(filter)
}

/// `GET /team/list`
pub async fn list(request: HttpRequest, payload: Payload) -> HttpResponse {
    run(request, payload, async |desk, _| {
        let teams = desk.store().list_teams(&filter(&desk)?, &Page { limit: 1000, ..Page::default() }).await?.rows;
        Ok(rows(&desk, &teams).await?.into_iter().map(Value::from).collect())
    })
    .await
}

/// `GET /v2/team/list`: the same, page by page.
pub async fn pages(request: HttpRequest, payload: Payload) -> HttpResponse {
    run(request, payload, async |desk, _| {
        let filter = filter(&desk)?;
        let (page, size) = desk.page()?;
        let total = desk.store().count_teams(&filter).await?;
        let teams = desk.store().list_teams(&filter, &Desk::rows(page, size)).await?.rows;
        Ok(json!({
            "teams": rows(&desk, &teams).await?,
            "total": total,
            "page": page,
            "page_size": size,
            "total_pages": total.div_euclid(size) + i64::from(total % size > 0),
        }))
    })
    .await
}

/// `GET /team/available`: teams that anybody may join; there are none.
pub async fn available(request: HttpRequest, payload: Payload) -> HttpResponse {
    run(request, payload, async |_, _| Ok(json!([]))).await
}

/// `GET /team/permissions_list?team_id=`
pub async fn permissions(request: HttpRequest, payload: Payload) -> HttpResponse {
    run(request, payload, async |desk, _| {
        let id = desk.query("team_id").unwrap_or_default();
        may_see(&desk, &id).await?;
        let team = there(&desk, &id).await?;
        Ok(json!({
            "team_id": id,
            "team_member_permissions": team.member_permissions,
            "all_available_permissions": shape::PERMISSIONS,
        }))
    })
    .await
}
