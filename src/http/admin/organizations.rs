//! `/organization/*`: what several teams, users and keys may use together. Members with roles of their own, as LiteLLM
//! has them, are not known here.
//!
//! Source: LiteLLM's API reference of organization management.

use super::desk::{Body, Desk, list as names, needed, run, text};
use super::fields::{apply, fields, show, usd};
use super::{budgets, teams, times};
use crate::error::{Error, Kind, Result};
use crate::store::{Budget, Entity, Fault, KeyFilter, Kind as Sum, Organization, Page, TeamFilter, UserFilter};
use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse};
use serde_json::{Map, Value, json};

pub const ROUTES: &[(&str, &str)] = &[
    ("POST", "/organization/new"),
    ("PATCH", "/organization/update"),
    ("DELETE", "/organization/delete"),
    ("GET", "/organization/info"),
    ("GET", "/organization/list"),
];

fields!(Organization {
    "organization_alias" => Text alias,
    "budget_id" => Text budget_id,
    "models" => Texts models,
    "metadata" => Tree metadata,
    "object_permission" => Tree object_permission,
    "max_budget" => Usd max_budget_nanos,
    "soft_budget" => Usd soft_budget_nanos,
    "budget_duration" => Span budget_duration,
    "tpm_limit" => Count tpm_limit,
    "rpm_limit" => Count rpm_limit,
    "max_parallel_requests" => Count max_parallel_requests,
    "model_max_budget" => Tree model_max_budget,
});

/// Its limits, which LiteLLM shows as a budget.
const LIMITS: [&str; 7] = [
    "max_budget",
    "soft_budget",
    "budget_duration",
    "tpm_limit",
    "rpm_limit",
    "max_parallel_requests",
    "model_max_budget",
];

const HANDLED: [&str; 5] = ["organization_id", "spend", "created_at", "updated_at", "members"];
const MOST: usize = 100;

async fn rows(desk: &Desk, organizations: &[Organization]) -> Result<Vec<Map<String, Value>>> {
    let entities: Vec<Entity> = organizations.iter().map(|o| Entity::of(Sum::Organization, &o.id)).collect();
    let totals = desk.store().totals(&entities).await?;
    let ids: Vec<String> = organizations.iter().filter_map(|o| o.budget_id.clone()).collect();
    let shared: Vec<Budget> = if ids.is_empty() { Vec::new() } else { desk.store().get_many(&ids).await? };
    let row = |(organization, total): (&Organization, &crate::store::Total)| {
        let mut row = show(organization);
        let budget = match shared.iter().find(|budget| Some(&budget.id) == organization.budget_id.as_ref()) {
            Some(budget) => budgets::row(desk, budget),
            None => LIMITS.iter().filter_map(|name| Some(((*name).to_owned(), row.get(*name)?.clone()))).collect(),
        };
        row.insert("organization_id".to_owned(), organization.id.clone().into());
        row.insert("spend".to_owned(), usd(total.spent()));
        row.insert("litellm_budget_table".to_owned(), budget.into());
        row.insert("budget_reset_at".to_owned(), desk.resets_at(organization.budget_duration.as_ref()));
        row.insert("created_at".to_owned(), times::iso(organization.created_at).into());
        row.insert("created_by".to_owned(), organization.created_by.clone().into());
        row.insert("updated_at".to_owned(), times::iso(organization.updated_at).into());
        row.insert("updated_by".to_owned(), organization.updated_by.clone().into());
        row
    };
    Ok(organizations.iter().zip(&totals).map(row).collect())
}

async fn row(desk: &Desk, organization: Organization) -> Result<Value> {
    Ok(rows(desk, &[organization]).await?.pop().unwrap_or_default().into())
}

async fn there(desk: &Desk, id: &str) -> Result<Organization> {
    let missing = || {
        let message = format!("There is no organization '{}'.", crate::envelope::shorten(id));
        Error::new(Kind::NotFound, message).at_param("organization_id")
    };
    desk.store().get(id).await?.ok_or_else(missing)
}

pub async fn new(request: HttpRequest, payload: Payload) -> HttpResponse {
    run(request, payload, async |desk, body| {
        desk.admin_only()?;
        needed(&body, "organization_alias")?;
        let id = text(&body, "organization_id")?.unwrap_or_else(|| crate::meter::new_id().to_string());
        let (at, by) = (desk.at, desk.by());
        let mut organization = Organization {
            id,
            created_at: at,
            updated_at: at,
            created_by: by.clone(),
            updated_by: by,
            ..Default::default()
        };
        apply(&mut organization, &body, &HANDLED)?;
        budgets::check(&desk, organization.budget_id.as_ref()).await?;
        desk.store().create(&organization).await?;
        desk.changed_people();
        row(&desk, organization).await
    })
    .await
}

pub async fn update(request: HttpRequest, payload: Payload) -> HttpResponse {
    run(request, payload, async |desk, body| {
        desk.admin_only()?;
        let id = needed(&body, "organization_id")?;
        let mut trial = there(&desk, &id).await?;
        apply(&mut trial, &body, &HANDLED)?;
        budgets::check(&desk, trial.budget_id.as_ref()).await?;
        let by = desk.by();
        let change = |organization: &mut Organization| {
            organization.updated_by = by;
            apply(organization, &body, &HANDLED).map_err(|e| Fault::Invalid(e.to_string()))
        };
        let organization = desk.store().update(&id, desk.at, change).await?;
        desk.changed_people();
        row(&desk, organization).await
    })
    .await
}

/// # Errors
/// 400 while something belongs to it: without it, that would have no limits.
async fn empty(desk: &Desk, id: &str) -> Result<()> {
    let of = || Some(id.to_owned());
    let teams = desk.store().count_teams(&TeamFilter { organization_id: of(), ..TeamFilter::default() }).await?;
    let users = desk.store().count_users(&UserFilter { organization_id: of(), ..UserFilter::default() }).await?;
    let keys = desk.store().count_keys(&KeyFilter { organization_id: of(), ..KeyFilter::default() }).await?;
    if teams + users + keys == 0 {
        return Ok(());
    }
    let message = format!(
        "{teams} teams, {users} users and {keys} keys belong to the organization '{}'; give them another one, or delete them.",
        crate::envelope::shorten(id)
    );
    Err(Error::invalid(message).at_param("organization_ids"))
}

pub async fn delete(request: HttpRequest, payload: Payload) -> HttpResponse {
    run(request, payload, async |desk, body| {
        desk.admin_only()?;
        let ids = names(&body, "organization_ids")?;
        if ids.is_empty() || ids.len() > MOST {
            let message = format!("'organization_ids' must be a list of 1 to {MOST} ids.");
            return Err(Error::invalid(message).at_param("organization_ids"));
        }
        let mut gone = Vec::new();
        for id in &ids {
            gone.push(there(&desk, id).await?);
            empty(&desk, id).await?;
        }
        let shown = rows(&desk, &gone).await?;
        desk.store().delete::<Organization>(&ids, desk.by().as_deref(), desk.at).await?;
        desk.changed_people();
        Ok(shown.into_iter().map(Value::from).collect())
    })
    .await
}

/// `GET /organization/info?organization_id=`: with its teams and its users.
pub async fn info(request: HttpRequest, payload: Payload) -> HttpResponse {
    run(request, payload, async |desk, _| {
        desk.viewer_only()?;
        let id = desk.query("organization_id").unwrap_or_default();
        let organization = there(&desk, &id).await?;
        let page = Page { limit: 1000, ..Page::default() };
        let filter = TeamFilter { organization_id: Some(id.clone()), ..TeamFilter::default() };
        let of_it = desk.store().list_teams(&filter, &page).await?.rows;
        let filter = UserFilter { organization_id: Some(id.clone()), ..UserFilter::default() };
        let users = desk.store().list_users(&filter, &page).await?.rows;
        let member = |user: &crate::store::User| {
            json!({"user_id": user.id, "organization_id": id, "user_role": user.role, "user_email": user.email})
        };
        let mut shown = rows(&desk, &[organization]).await?.pop().unwrap_or_default();
        shown.insert("teams".to_owned(), teams::rows(&desk, &of_it).await?.into());
        shown.insert("members".to_owned(), users.iter().map(member).collect());
        Ok(shown.into())
    })
    .await
}

/// `GET /organization/list`, also by `org_id` or `org_alias`.
pub async fn list(request: HttpRequest, payload: Payload) -> HttpResponse {
    run(request, payload, async |desk: Desk, _: Body| {
        desk.viewer_only()?;
        let mut all = desk.store().list::<Organization>(&Page { limit: 1000, ..Page::default() }).await?.rows;
        let (id, alias) = (desk.query("org_id"), desk.query("org_alias").map(|alias| alias.to_lowercase()));
        all.retain(|one| {
            let named = one.alias.as_deref().unwrap_or_default().to_lowercase();
            id.as_ref().is_none_or(|id| *id == one.id)
                && alias.as_ref().is_none_or(|alias| named.contains(alias.as_str()))
        });
        Ok(rows(&desk, &all).await?.into_iter().map(Value::from).collect())
    })
    .await
}
