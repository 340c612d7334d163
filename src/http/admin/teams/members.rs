//! Who belongs to a team.

use super::super::desk::{Body, Desk, needed, run, text};
use super::super::fields::{apply, fields, texts, usd};
use super::super::users;
use super::{MOST, rows, shape, there};
use crate::error::{Error, Kind, Result};
use crate::store::{Fault, Member, Team, User};
use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse};
use serde_json::{Map, Value, json};

fields!(Member {
    "max_budget_in_team" => Usd max_budget_nanos,
    "budget_duration" => Span budget_duration,
    "budget_id" => Text budget_id,
    "tpm_limit" => Count tpm_limit,
    "rpm_limit" => Count rpm_limit,
});

const HANDLED: [&str; 6] = ["team_id", "user_id", "user_email", "role", "member", "models"];

/// # Errors
/// 403 where the caller neither leads the team nor all of them.
pub async fn may_lead(desk: &Desk, team_id: &str) -> Result<()> {
    if desk.is_admin() || desk.leads(team_id).await? {
        return Ok(());
    }
    Err(desk.refused("Only proxy admins and admins of the team may do this."))
}

pub fn fresh(desk: &Desk, team_id: &str, user_id: &str, role: &str) -> Member {
    Member {
        team_id: team_id.to_owned(),
        user_id: user_id.to_owned(),
        role: role.to_owned(),
        created_at: desk.at,
        ..Member::default()
    }
}

fn role(body: &Body) -> Result<Option<String>> {
    let role = text(body, "role")?;
    match role.as_deref() {
        None | Some("admin" | "user") => Ok(role),
        Some(_) => Err(Error::invalid("'role' is admin or user.").at_param("role")),
    }
}

/// Members that a request names: one, or a list. Whoever is no user yet becomes one.
pub async fn asked(desk: &Desk, team_id: &str, written: Option<&Value>) -> Result<Vec<Member>> {
    let wrong =
        || Error::invalid("A member is an object with 'role', and 'user_id' or 'user_email'.").at_param("member");
    let items: Vec<&Value> = match written {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(items)) if items.len() <= MOST => items.iter().collect(),
        Some(Value::Array(_)) => {
            return Err(Error::invalid(format!("At most {MOST} members at once.")).at_param("member"));
        }
        Some(item) => vec![item],
    };
    let mut members = Vec::new();
    for item in items {
        let body = item.as_object().ok_or_else(wrong)?;
        let role = role(body)?.unwrap_or_else(|| "user".to_owned());
        let user = match users::named(desk, body).await? {
            Some(user) => user,
            None => {
                let id = text(body, "user_id")?.unwrap_or_else(|| crate::meter::new_id().to_string());
                let user = User { email: text(body, "user_email")?, ..users::fresh(desk, id) };
                desk.store().create(&user).await?;
                user
            }
        };
        members.push(fresh(desk, team_id, &user.id, &role));
    }
    Ok(members)
}

pub async fn member_add(request: HttpRequest, payload: Payload) -> HttpResponse {
    run(request, payload, async |desk, body| {
        let id = needed(&body, "team_id")?;
        let team = there(&desk, &id).await?;
        may_lead(&desk, &id).await?;
        desk.store().unlocked::<Team>(&id)?;
        let mut members = asked(&desk, &id, body.get("member")).await?;
        if members.is_empty() {
            return Err(Error::invalid("Missing required parameter: 'member'.").at_param("member"));
        }
        for member in &mut members {
            apply(member, &body, &HANDLED)?;
        }
        desk.store().add_members(&id, &members, desk.at).await?;
        desk.changed_people();
        let ids: Vec<String> = members.iter().map(|member| member.user_id.clone()).collect();
        let users: Vec<User> = desk.store().get_many(&ids).await?;
        let mut shown = rows(&desk, &[team]).await?.pop().unwrap_or_default();
        shown.insert("updated_users".to_owned(), users::shape::rows(&desk, &users).await?.into());
        shown.insert("updated_team_memberships".to_owned(), shape::memberships(&desk, &members).await?.into());
        Ok(shown.into())
    })
    .await
}

/// The id of the user whom a request names.
async fn user_id(desk: &Desk, body: &Body) -> Result<String> {
    if let Some(id) = text(body, "user_id")? {
        return Ok(id);
    }
    let user = users::named(desk, body).await?;
    Ok(user.ok_or_else(|| Error::new(Kind::NotFound, "There is no user with this address.").at_param("user_email"))?.id)
}

pub async fn member_update(request: HttpRequest, payload: Payload) -> HttpResponse {
    run(request, payload, async |desk, body| {
        let id = needed(&body, "team_id")?;
        there(&desk, &id).await?;
        may_lead(&desk, &id).await?;
        let user = user_id(&desk, &body).await?;
        let role = role(&body)?;
        let models = body.get("models").map(|models| texts("models", models)).transpose()?;
        apply(&mut Member::default(), &body, &HANDLED)?;
        let change = |member: &mut Member| {
            if let Some(role) = role {
                member.role = role;
            }
            if let Some(models) = models {
                member.models = models;
            }
            apply(member, &body, &HANDLED).map_err(|e| Fault::Invalid(e.to_string()))
        };
        let member = desk.store().update_member(&id, &user, desk.at, change).await?;
        desk.changed_people();
        Ok(json!({
            "team_id": id,
            "user_id": user,
            "user_email": body.get("user_email"),
            "role": member.role,
            "max_budget_in_team": member.max_budget_nanos.map(usd),
            "tpm_limit": member.tpm_limit,
            "rpm_limit": member.rpm_limit,
        }))
    })
    .await
}

pub async fn member_delete(request: HttpRequest, payload: Payload) -> HttpResponse {
    run(request, payload, async |desk, body| {
        let id = needed(&body, "team_id")?;
        let team = there(&desk, &id).await?;
        may_lead(&desk, &id).await?;
        let user = user_id(&desk, &body).await?;
        if !desk.store().remove_member(&id, &user, desk.at).await? {
            let message = format!("The user '{}' is no member of this team.", crate::envelope::shorten(&user));
            return Err(Error::invalid(message).at_param("user_id"));
        }
        desk.changed_people();
        let shown: Map<String, Value> = rows(&desk, &[team]).await?.pop().unwrap_or_default();
        Ok(shown.into())
    })
    .await
}
