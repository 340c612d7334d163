//! `/team/*`: teams, what they may, and their members.

mod lists;
mod members;
mod shape;

pub use lists::{available, info, list, pages, permissions};
pub use members::{member_add, member_delete, member_update};
pub use shape::{apply as apply_team, memberships, row as team_row, rows};

use super::desk::{Body, Desk, list as names, needed, run, text};
use super::fields::nanos;
use super::{allocation, budgets};
use crate::error::{Error, Kind, Result};
use crate::store::{Fault, Kind as Sum, Member, Team};
use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse};
use serde_json::{Value, json};

pub const ROUTES: &[(&str, &str)] = &[
    ("POST", "/team/new"),
    ("POST", "/team/update"),
    ("POST", "/team/delete"),
    ("POST", "/team/block"),
    ("POST", "/team/unblock"),
    ("POST", "/team/member_add"),
    ("POST", "/team/member_update"),
    ("POST", "/team/member_delete"),
    ("POST", "/team/permissions_update"),
    ("GET", "/team/permissions_list"),
    ("GET", "/team/info"),
    ("GET", "/team/list"),
    ("GET", "/v2/team/list"),
    ("GET", "/team/available"),
];

const MOST: usize = 500;

/// The team of that id.
///
/// # Errors
/// 404 where there is none.
pub async fn there(desk: &Desk, id: &str) -> Result<Team> {
    let missing = || {
        Error::new(Kind::NotFound, format!("There is no team '{}'.", crate::envelope::shorten(id))).at_param("team_id")
    };
    desk.store().get(id).await?.ok_or_else(missing)
}

/// Makes a user a member.
///
/// # Errors
/// The user is one already.
pub async fn join(desk: &Desk, team_id: &str, user_id: &str, role: &str) -> Result<()> {
    let member = members::fresh(desk, team_id, user_id, role);
    Ok(desk.store().add_members(team_id, &[member], desk.at).await?)
}

pub async fn new(request: HttpRequest, payload: Payload) -> HttpResponse {
    run(request, payload, async |desk, body| {
        desk.admin_only()?;
        let id = text(&body, "team_id")?.unwrap_or_else(|| crate::meter::new_id().to_string());
        let (at, by) = (desk.at, desk.by());
        let mut team =
            Team { id, created_at: at, updated_at: at, created_by: by.clone(), updated_by: by, ..Team::default() };
        shape::apply(&mut team, &body)?;
        budgets::check(&desk, team.budget_id.as_ref()).await?;
        allocation::of_team(&desk, &team).await?;
        desk.store().unlocked::<Team>(&team.id)?;
        let mut members = members::asked(&desk, &team.id, body.get("members_with_roles")).await?;
        if let Some(user) = desk.caller.user() {
            // Whoever makes a team leads it.
            if !members.iter().any(|member: &Member| member.user_id == user.id) {
                members.push(members::fresh(&desk, &team.id, &user.id, "admin"));
            }
        }
        desk.store().create(&team).await?;
        desk.store().add_members(&team.id, &members, at).await?;
        desk.changed_people();
        one(&desk, team).await
    })
    .await
}

/// A team as it is shown.
async fn one(desk: &Desk, team: Team) -> Result<Value> {
    Ok(rows(desk, &[team]).await?.pop().unwrap_or_default().into())
}

async fn change(desk: &Desk, id: &str, change: impl FnOnce(&mut Team) -> Result<()> + Send) -> Result<Team> {
    let by = desk.by();
    let change = |team: &mut Team| {
        team.updated_by = by;
        change(team).map_err(|e| Fault::Invalid(e.to_string()))
    };
    let team = desk.store().update(id, desk.at, change).await?;
    desk.changed_people();
    Ok(team)
}

pub async fn update(request: HttpRequest, payload: Payload) -> HttpResponse {
    run(request, payload, async |desk, body| {
        desk.admin_only()?;
        let id = needed(&body, "team_id")?;
        let mut trial = there(&desk, &id).await?;
        shape::apply(&mut trial, &body)?;
        budgets::check(&desk, trial.budget_id.as_ref()).await?;
        allocation::of_team(&desk, &trial).await?;
        let spend =
            body.get("spend").filter(|spend| !spend.is_null()).map(|spend| nanos("spend", spend)).transpose()?;
        let team = change(&desk, &id, |team| shape::apply(team, &body)).await?;
        if let Some(spend) = spend {
            desk.store().set_spent(Sum::Team, &id, spend).await?;
        }
        Ok(json!({"team_id": id, "data": one(&desk, team).await?}))
    })
    .await
}

/// Their keys go with them.
pub async fn delete(request: HttpRequest, payload: Payload) -> HttpResponse {
    run(request, payload, async |desk, body| {
        desk.admin_only()?;
        let ids = names(&body, "team_ids")?;
        if ids.is_empty() || ids.len() > MOST {
            return Err(Error::invalid(format!("'team_ids' must be a list of 1 to {MOST} ids.")).at_param("team_ids"));
        }
        for id in &ids {
            there(&desk, id).await?;
        }
        desk.store().delete::<Team>(&ids, desk.by().as_deref(), desk.at).await?;
        desk.changed_people();
        Ok(json!({"deleted_teams": ids}))
    })
    .await
}

pub async fn block(request: HttpRequest, payload: Payload) -> HttpResponse {
    run(request, payload, async |desk, body| set_blocked(&desk, &body, true).await).await
}

pub async fn unblock(request: HttpRequest, payload: Payload) -> HttpResponse {
    run(request, payload, async |desk, body| set_blocked(&desk, &body, false).await).await
}

async fn set_blocked(desk: &Desk, body: &Body, blocked: bool) -> Result<Value> {
    desk.admin_only()?;
    let id = needed(body, "team_id")?;
    let block = |team: &mut Team| {
        team.blocked = blocked;
        Ok(())
    };
    let team = change(desk, &id, block).await?;
    one(desk, team).await
}

/// What plain members may do with keys of the team.
pub async fn permissions_update(request: HttpRequest, payload: Payload) -> HttpResponse {
    run(request, payload, async |desk, body| {
        let id = needed(&body, "team_id")?;
        members::may_lead(&desk, &id).await?;
        let wanted = names(&body, "team_member_permissions")?;
        if let Some(unknown) = wanted.iter().find(|name| !shape::PERMISSIONS.contains(&name.as_str())) {
            let message =
                format!("'{}' is not one of {}.", crate::envelope::shorten(unknown), shape::PERMISSIONS.join(", "));
            return Err(Error::invalid(message).at_param("team_member_permissions"));
        }
        let team = change(&desk, &id, |team| {
            team.member_permissions = wanted;
            Ok(())
        });
        let team = team.await?;
        one(&desk, team).await
    })
    .await
}
