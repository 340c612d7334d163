//! `/customer/*`, also `/end_user/*`: those who ask the ones who ask us.

use super::desk::{Body, Desk, list as names, needed, run};
use super::fields::{apply, fields, show, usd};
use super::{budgets, times};
use crate::error::{Error, Kind, Result};
use crate::store::{Customer, Entity, Fault, Kind as Sum, Page};
use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse};
use serde_json::{Value, json};

pub const ROUTES: &[(&str, &str)] = &[
    ("POST", "/customer/new"),
    ("POST", "/customer/update"),
    ("POST", "/customer/delete"),
    ("POST", "/customer/block"),
    ("POST", "/customer/unblock"),
    ("GET", "/customer/info"),
    ("GET", "/customer/list"),
    ("POST", "/end_user/new"),
    ("POST", "/end_user/update"),
    ("POST", "/end_user/delete"),
    ("POST", "/end_user/block"),
    ("POST", "/end_user/unblock"),
    ("GET", "/end_user/info"),
    ("GET", "/end_user/list"),
];

fields!(Customer {
    "alias" => Text alias,
    "budget_id" => Text budget_id,
    "default_model" => Text default_model,
    "allowed_model_region" => Text allowed_model_region,
    "max_budget" => Usd max_budget_nanos,
    "soft_budget" => Usd soft_budget_nanos,
    "budget_duration" => Span budget_duration,
    "model_max_budget" => Tree model_max_budget,
    "tpm_limit" => Count tpm_limit,
    "rpm_limit" => Count rpm_limit,
    "max_parallel_requests" => Count max_parallel_requests,
    "metadata" => Tree metadata,
    "object_permission" => Tree object_permission,
    "blocked" => Flag blocked,
});

const HANDLED: [&str; 4] = ["user_id", "spend", "created_at", "updated_at"];
const MOST: usize = 1000;

async fn rows(desk: &Desk, customers: &[Customer]) -> Result<Vec<Value>> {
    let entities: Vec<Entity> = customers.iter().map(|c| Entity::of(Sum::Customer, &c.id)).collect();
    let totals = desk.store().totals(&entities).await?;
    let ids: Vec<String> = customers.iter().filter_map(|c| c.budget_id.clone()).collect();
    let shared: Vec<crate::store::Budget> =
        if ids.is_empty() { Vec::new() } else { desk.store().get_many(&ids).await? };
    let row = |(customer, total): (&Customer, &crate::store::Total)| {
        let budget = shared.iter().find(|budget| Some(&budget.id) == customer.budget_id.as_ref());
        // As in LiteLLM a customer's own limits show as a budget.
        let own = [customer.max_budget_nanos, customer.tpm_limit, customer.rpm_limit, customer.max_parallel_requests];
        let budget = match budget {
            Some(budget) => Some(budgets::row(desk, budget)),
            None if own.iter().any(Option::is_some) => {
                let names = [
                    "max_budget",
                    "soft_budget",
                    "budget_duration",
                    "tpm_limit",
                    "rpm_limit",
                    "max_parallel_requests",
                    "model_max_budget",
                ];
                let shown = show(customer);
                Some(names.iter().filter_map(|name| Some(((*name).to_owned(), shown.get(*name)?.clone()))).collect())
            }
            None => None,
        };
        let mut row = show(customer);
        row.insert("user_id".to_owned(), customer.id.clone().into());
        row.insert("spend".to_owned(), usd(total.spent()));
        row.insert("litellm_budget_table".to_owned(), budget.into());
        row.insert("created_at".to_owned(), times::iso(customer.created_at).into());
        row.insert("updated_at".to_owned(), times::iso(customer.updated_at).into());
        Value::from(row)
    };
    Ok(customers.iter().zip(&totals).map(row).collect())
}

async fn row(desk: &Desk, customer: Customer) -> Result<Value> {
    Ok(rows(desk, &[customer]).await?.pop().unwrap_or_default())
}

fn fresh(desk: &Desk, id: String) -> Customer {
    let (at, by) = (desk.at, desk.by());
    Customer { id, created_at: at, updated_at: at, created_by: by.clone(), updated_by: by, ..Customer::default() }
}

pub async fn new(request: HttpRequest, payload: Payload) -> HttpResponse {
    run(request, payload, async |desk, body| {
        desk.admin_only()?;
        let mut customer = fresh(&desk, needed(&body, "user_id")?);
        apply(&mut customer, &body, &HANDLED)?;
        budgets::check(&desk, customer.budget_id.as_ref()).await?;
        desk.store().create(&customer).await?;
        desk.gateway.customers.read(desk.store()).await?;
        desk.changed_limits();
        row(&desk, customer).await
    })
    .await
}

pub async fn update(request: HttpRequest, payload: Payload) -> HttpResponse {
    run(request, payload, async |desk, body| {
        desk.admin_only()?;
        let id = needed(&body, "user_id")?;
        let mut trial = Customer::default();
        apply(&mut trial, &body, &HANDLED)?;
        budgets::check(&desk, trial.budget_id.as_ref()).await?;
        let by = desk.by();
        let change = |customer: &mut Customer| {
            customer.updated_by = by;
            apply(customer, &body, &HANDLED).map_err(|e| Fault::Invalid(e.to_string()))
        };
        let customer = desk.store().update(&id, desk.at, change).await?;
        desk.gateway.customers.read(desk.store()).await?;
        desk.changed_limits();
        row(&desk, customer).await
    })
    .await
}

pub async fn delete(request: HttpRequest, payload: Payload) -> HttpResponse {
    run(request, payload, async |desk, body| {
        desk.admin_only()?;
        let ids = ids(&body)?;
        let gone = desk.store().delete::<Customer>(&ids, desk.by().as_deref(), desk.at).await?;
        desk.gateway.customers.read(desk.store()).await?;
        desk.changed_limits();
        if gone.is_empty() {
            return Err(missing(&ids.join(", ")));
        }
        Ok(json!({"deleted_customers": gone.len(), "message": format!("Deleted {} of {}.", gone.len(), ids.len())}))
    })
    .await
}

fn ids(body: &Body) -> Result<Vec<String>> {
    let ids = names(body, "user_ids")?;
    if ids.is_empty() || ids.len() > MOST {
        return Err(Error::invalid(format!("'user_ids' must be a list of 1 to {MOST} ids.")).at_param("user_ids"));
    }
    Ok(ids)
}

pub async fn block(request: HttpRequest, payload: Payload) -> HttpResponse {
    run(request, payload, async |desk, body| Ok(json!({"blocked_users": set_blocked(&desk, &body, true).await?}))).await
}

pub async fn unblock(request: HttpRequest, payload: Payload) -> HttpResponse {
    run(request, payload, async |desk, body| Ok(json!({"blocked_users": set_blocked(&desk, &body, false).await?})))
        .await
}

/// A customer that nobody has heard of can be blocked too: there is a record of it then.
async fn set_blocked(desk: &Desk, body: &Body, blocked: bool) -> Result<Vec<Value>> {
    desk.admin_only()?;
    let mut changed = Vec::new();
    for id in ids(body)? {
        let known = desk.store().get::<Customer>(&id).await?.is_some();
        if !known && blocked {
            let customer = Customer { blocked, ..fresh(desk, id.clone()) };
            desk.store().create(&customer).await?;
            changed.push(customer);
        } else {
            let change = |customer: &mut Customer| {
                customer.blocked = blocked;
                Ok(())
            };
            changed.push(desk.store().update(&id, desk.at, change).await?);
        }
    }
    desk.gateway.customers.read(desk.store()).await?;
    rows(desk, &changed).await
}

pub async fn info(request: HttpRequest, payload: Payload) -> HttpResponse {
    run(request, payload, async |desk, _| {
        desk.viewer_only()?;
        let id = desk.query("end_user_id").or_else(|| desk.query("user_id")).unwrap_or_default();
        let customer: Customer = desk.store().get(&id).await?.ok_or_else(|| missing(&id))?;
        row(&desk, customer).await
    })
    .await
}

pub async fn list(request: HttpRequest, payload: Payload) -> HttpResponse {
    run(request, payload, async |desk, _| {
        desk.viewer_only()?;
        let customers = desk.store().list::<Customer>(&Page { limit: 1000, ..Page::default() }).await?.rows;
        Ok(rows(&desk, &customers).await?.into())
    })
    .await
}

fn missing(id: &str) -> Error {
    let message = format!("There is no customer '{}'.", crate::envelope::shorten(id));
    Error::new(Kind::NotFound, message).at_param("end_user_id")
}
