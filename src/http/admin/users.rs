//! `/user/*`: persons and applications, and what they may.

mod lists;
pub mod shape;

pub use lists::{available_roles, info, list, one};

use super::desk::{Body, Desk, list as names, run, text};
use super::fields::nanos;
use super::{budgets, keys};
use crate::error::{Error, Kind, Result};
use crate::store::{Fault, Kind as Sum, Team, User, UserFilter};
use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse};
use serde_json::{Value, json};

pub const ROUTES: &[(&str, &str)] = &[
    ("POST", "/user/new"),
    ("POST", "/user/update"),
    ("POST", "/user/bulk_update"),
    ("POST", "/user/delete"),
    ("GET", "/user/info"),
    ("GET", "/v2/user/info"),
    ("GET", "/user/list"),
    ("GET", "/user/available_roles"),
];

const MOST: usize = 500;

pub async fn new(request: HttpRequest, payload: Payload) -> HttpResponse {
    run(request, payload, async |desk, mut body| {
        desk.admin_only()?;
        let id = text(&body, "user_id")?.unwrap_or_else(|| crate::meter::new_id().to_string());
        // As in LiteLLM, what internal users get is not for administrators.
        if matches!(text(&body, "user_role")?.as_deref(), None | Some("internal_user")) {
            keys::with_defaults(&mut body, &desk.live.config.newcomers.user_defaults);
        }
        let mut user = fresh(&desk, id);
        shape::apply(&mut user, &body)?;
        budgets::check(&desk, user.budget_id.as_ref()).await?;
        free(&desk, &user).await?;
        let mut teams = names(&body, "teams")?;
        // The key that comes along is of that team, and so is its user.
        if let Some(team) = text(&body, "team_id")?.filter(|team| !teams.contains(team)) {
            teams.push(team);
        }
        for team in &teams {
            super::teams::there(&desk, team).await?;
            desk.store().unlocked::<Team>(team)?;
        }
        desk.store().create(&user).await?;
        for team in &teams {
            super::teams::join(&desk, team, &user.id, "user").await?;
        }
        desk.changed_people();
        let mut shown = shape::rows(&desk, std::slice::from_ref(&user)).await?.pop().unwrap_or_default();
        let wants_key = body.get("auto_create_key").is_none_or(|wanted| wanted != &Value::Bool(false));
        if wants_key {
            let made = keys::of_user(&desk, &user.id, &body).await;
            if made.is_err() {
                // Else the same request could not be sent again, once mended.
                desk.store().delete::<User>(std::slice::from_ref(&user.id), desk.by().as_deref(), desk.at).await?;
            }
            let key = made?;
            for name in ["key", "token", "key_name", "key_alias", "expires"] {
                shown.insert(name.to_owned(), key[name].clone());
            }
        }
        Ok(shown.into())
    })
    .await
}

/// An address belongs to one user: a member of a team may be named by it.
async fn free(desk: &Desk, user: &User) -> Result<()> {
    let Some(email) = &user.email else { return Ok(()) };
    let filter = UserFilter { email: Some(email.clone()), ..UserFilter::default() };
    let others = desk.store().list_users(&filter, &Desk::rows(1, 2)).await?.rows;
    if others.iter().any(|other| other.id != user.id) {
        return Err(Error::invalid(format!("User with email {email} already exists.")).at_param("user_email"));
    }
    Ok(())
}

pub fn fresh(desk: &Desk, id: String) -> User {
    let (at, by) = (desk.at, desk.by());
    User { id, created_at: at, updated_at: at, created_by: by.clone(), updated_by: by, ..User::default() }
}

/// The user whom a request names by `user_id` or `user_email`.
pub async fn named(desk: &Desk, body: &Body) -> Result<Option<User>> {
    if let Some(id) = text(body, "user_id")? {
        return Ok(desk.store().get(&id).await?);
    }
    let Some(email) = text(body, "user_email")? else {
        return Err(Error::invalid("Missing required parameter: 'user_id' or 'user_email'.").at_param("user_id"));
    };
    let filter = UserFilter { email: Some(email), ..UserFilter::default() };
    Ok(desk.store().list_users(&filter, &Desk::rows(1, 1)).await?.rows.pop())
}

pub fn missing(what: &str) -> Error {
    let message = format!("There is no user '{}'.", crate::envelope::shorten(what));
    Error::new(Kind::NotFound, message).at_param("user_id")
}

pub async fn update(request: HttpRequest, payload: Payload) -> HttpResponse {
    run(request, payload, async |desk, body| {
        desk.admin_only()?;
        let user = change(&desk, &body).await?;
        let data = shape::rows(&desk, std::slice::from_ref(&user)).await?.pop();
        Ok(json!({"user_id": user.id, "data": data}))
    })
    .await
}

async fn change(desk: &Desk, body: &Body) -> Result<User> {
    // As in LiteLLM, whoever is not known yet is made.
    let user = match named(desk, body).await? {
        Some(user) => user,
        None => {
            let id = text(body, "user_id")?.unwrap_or_else(|| crate::meter::new_id().to_string());
            let mut user = fresh(desk, id);
            shape::apply(&mut user, body)?;
            free(desk, &user).await?;
            desk.store().create(&user).await?;
            user
        }
    };
    let mut trial = user.clone();
    shape::apply(&mut trial, body)?;
    budgets::check(desk, trial.budget_id.as_ref()).await?;
    free(desk, &trial).await?;
    let spend = body.get("spend").filter(|spend| !spend.is_null()).map(|spend| nanos("spend", spend)).transpose()?;
    let by = desk.by();
    let change = |user: &mut User| {
        user.updated_by = by;
        shape::apply(user, body).map_err(|e| Fault::Invalid(e.to_string()))
    };
    let user = desk.store().update(&user.id, desk.at, change).await?;
    if let Some(spend) = spend {
        desk.store().set_spent(Sum::User, &user.id, spend).await?;
    }
    desk.changed_people();
    Ok(user)
}

pub async fn bulk_update(request: HttpRequest, payload: Payload) -> HttpResponse {
    run(request, payload, async |desk, body| {
        desk.admin_only()?;
        let items = body.get("users").and_then(Value::as_array).filter(|items| (1..=MOST).contains(&items.len()));
        let wrong = || Error::invalid(format!("'users' must be a list of 1 to {MOST} updates.")).at_param("users");
        let items = items.ok_or_else(wrong)?;
        let (mut results, mut good) = (Vec::new(), 0);
        for item in items {
            let result = match item.as_object() {
                Some(body) => change(&desk, body).await,
                None => Err(Error::invalid("An update is an object.")),
            };
            good += usize::from(result.is_ok());
            let error = result.as_ref().err().map(ToString::to_string);
            let updated = match &result {
                Ok(user) => shape::rows(&desk, std::slice::from_ref(user)).await?.pop(),
                Err(_) => None,
            };
            results.push(json!({
                "user_id": result.as_ref().map_or_else(|_| item["user_id"].clone(), |user| user.id.clone().into()),
                "user_email": item["user_email"],
                "success": result.is_ok(),
                "error": error,
                "updated_user": updated,
            }));
        }
        Ok(json!({
            "results": results,
            "total_requested": items.len(),
            "successful_updates": good,
            "failed_updates": items.len() - good,
        }))
    })
    .await
}

/// Their keys go with them.
pub async fn delete(request: HttpRequest, payload: Payload) -> HttpResponse {
    run(request, payload, async |desk, body| {
        desk.admin_only()?;
        let ids = names(&body, "user_ids")?;
        if ids.is_empty() || ids.len() > MOST {
            return Err(Error::invalid(format!("'user_ids' must be a list of 1 to {MOST} ids.")).at_param("user_ids"));
        }
        for id in &ids {
            desk.store().get::<User>(id).await?.ok_or_else(|| missing(id))?;
        }
        let gone = desk.store().delete::<User>(&ids, desk.by().as_deref(), desk.at).await?;
        desk.changed_people();
        Ok(gone.len().into())
    })
    .await
}
