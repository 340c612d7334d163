//! `/budget/*`: limits with a name, which keys, users, teams and customers share.

use super::desk::{Body, Desk, list as names, needed, run, text};
use super::fields::{apply, fields, show};
use super::times;
use crate::error::{Error, Kind, Result};
use crate::store::{Budget, Page};
use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse};
use serde_json::{Map, Value, json};

pub const ROUTES: &[(&str, &str)] = &[
    ("POST", "/budget/new"),
    ("POST", "/budget/update"),
    ("POST", "/budget/info"),
    ("POST", "/budget/delete"),
    ("GET", "/budget/list"),
    ("GET", "/budget/settings"),
];

fields!(Budget {
    "max_budget" => Usd max_budget_nanos,
    "soft_budget" => Usd soft_budget_nanos,
    "budget_duration" => Span budget_duration,
    "model_max_budget" => Tree model_max_budget,
    "tpm_limit" => Count tpm_limit,
    "rpm_limit" => Count rpm_limit,
    "max_parallel_requests" => Count max_parallel_requests,
    "allowed_models" => Texts allowed_models,
});

const HANDLED: [&str; 7] = ["locked", "budget_id", "id", "created_at", "created_by", "updated_at", "updated_by"];

pub fn row(desk: &Desk, budget: &Budget) -> Map<String, Value> {
    let mut row = show(budget);
    row.insert("budget_id".to_owned(), budget.id.clone().into());
    row.insert("budget_reset_at".to_owned(), desk.resets_at(budget.budget_duration.as_ref()));
    row.insert("locked".to_owned(), desk.store().is_locked::<Budget>(&budget.id).into());
    row.insert("created_at".to_owned(), times::iso(budget.created_at).into());
    row.insert("created_by".to_owned(), budget.created_by.clone().into());
    row.insert("updated_at".to_owned(), times::iso(budget.updated_at).into());
    row.insert("updated_by".to_owned(), budget.updated_by.clone().into());
    row
}

pub async fn new(request: HttpRequest, payload: Payload) -> HttpResponse {
    run(request, payload, async |desk, body| {
        desk.admin_only()?;
        let id = text(&body, "budget_id")?.unwrap_or_else(|| crate::meter::new_id().to_string());
        let (at, by) = (desk.at, desk.by());
        let mut budget =
            Budget { id, created_at: at, updated_at: at, created_by: by.clone(), updated_by: by, ..Budget::default() };
        apply(&mut budget, &body, &HANDLED)?;
        desk.store().create(&budget).await?;
        Ok(row(&desk, &budget).into())
    })
    .await
}

pub async fn update(request: HttpRequest, payload: Payload) -> HttpResponse {
    run(request, payload, async |desk, body| {
        desk.admin_only()?;
        let id = needed(&body, "budget_id")?;
        apply(&mut Budget::default(), &body, &HANDLED)?;
        let by = desk.by();
        let change = |budget: &mut Budget| {
            budget.updated_by = by;
            apply(budget, &body, &HANDLED).map_err(|e| crate::store::Fault::Invalid(e.to_string()))
        };
        let budget = desk.store().update(&id, desk.at, change).await?;
        desk.changed_people();
        Ok(row(&desk, &budget).into())
    })
    .await
}

pub async fn info(request: HttpRequest, payload: Payload) -> HttpResponse {
    run(request, payload, async |desk, body| {
        desk.viewer_only()?;
        let ids = names(&body, "budgets")?;
        if ids.is_empty() {
            return Err(Error::invalid("'budgets' must be a list of budget ids.").at_param("budgets"));
        }
        let budgets: Vec<Budget> = desk.store().get_many(&ids).await?;
        Ok(budgets.iter().map(|budget| Value::from(row(&desk, budget))).collect())
    })
    .await
}

pub async fn list(request: HttpRequest, payload: Payload) -> HttpResponse {
    run(request, payload, async |desk, _| {
        desk.viewer_only()?;
        let budgets = desk.store().list::<Budget>(&Page { limit: 1000, ..Page::default() }).await?.rows;
        Ok(budgets.iter().map(|budget| Value::from(row(&desk, budget))).collect())
    })
    .await
}

pub async fn delete(request: HttpRequest, payload: Payload) -> HttpResponse {
    run(request, payload, async |desk, body| {
        desk.admin_only()?;
        let id = match text(&body, "id")? {
            Some(id) => id,
            None => needed(&body, "budget_id")?,
        };
        let mut gone = desk.store().delete::<Budget>(std::slice::from_ref(&id), desk.by().as_deref(), desk.at).await?;
        desk.changed_people();
        gone.pop().map(|budget| row(&desk, &budget).into()).ok_or_else(|| missing(&id))
    })
    .await
}

/// `GET /budget/settings?budget_id=`: what a form for a budget asks for, and what there is already.
pub async fn settings(request: HttpRequest, payload: Payload) -> HttpResponse {
    run(request, payload, async |desk: Desk, _: Body| {
        desk.viewer_only()?;
        let id = desk.query("budget_id").unwrap_or_default();
        let budget: Budget = desk.store().get(&id).await?.ok_or_else(|| missing(&id))?;
        let row = row(&desk, &budget);
        let field = |name: &str, kind: &str| {
            json!({
                "field_name": name,
                "field_type": kind,
                "field_description": "",
                "field_value": row.get(name),
                "stored_in_db": row.get(name).is_some_and(|value| !value.is_null()),
                "field_default_value": null,
            })
        };
        Ok(json!([
            field("max_parallel_requests", "Integer"),
            field("tpm_limit", "Integer"),
            field("rpm_limit", "Integer"),
            field("budget_duration", "String"),
            field("max_budget", "Float"),
            field("soft_budget", "Float"),
        ]))
    })
    .await
}

fn missing(id: &str) -> Error {
    let message = format!("There is no budget '{}'.", crate::envelope::shorten(id));
    Error::new(Kind::NotFound, message).at_param("budget_id")
}

/// # Errors
/// 400 where there is no such budget.
pub async fn check(desk: &Desk, id: Option<&String>) -> Result<()> {
    match id {
        Some(id) if desk.store().get::<Budget>(id).await?.is_none() => {
            let message = format!("There is no budget '{id}'; make it with POST /budget/new.");
            Err(Error::invalid(message).at_param("budget_id"))
        }
        _ => Ok(()),
    }
}
