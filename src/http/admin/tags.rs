//! `/tag/*`: limits of calls that carry a tag. Calls may carry tags that are none of these.
//!
//! Source: LiteLLM's pages on tag management and on tag budgets.

use super::desk::{Body, Desk, list as names, needed, run};
use super::fields::{apply, fields, show, usd};
use super::{budgets, times};
use crate::error::{Error, Kind, Result};
use crate::store::{Entity, Fault, Kind as Sum, Page, Tag};
use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse};
use serde_json::{Map, Value, json};

pub const ROUTES: &[(&str, &str)] = &[
    ("POST", "/tag/new"),
    ("POST", "/tag/update"),
    ("POST", "/tag/delete"),
    ("POST", "/tag/info"),
    ("GET", "/tag/list"),
];

fields!(Tag {
    "description" => Text description,
    "models" => Texts models,
    "model_info" => Tree model_info,
    "budget_id" => Text budget_id,
    "max_budget" => Usd max_budget_nanos,
    "soft_budget" => Usd soft_budget_nanos,
    "budget_duration" => Span budget_duration,
    "model_max_budget" => Tree model_max_budget,
    "tpm_limit" => Count tpm_limit,
    "rpm_limit" => Count rpm_limit,
});

const HANDLED: [&str; 5] = ["name", "spend", "created_at", "updated_at", "created_by"];
const MOST: usize = 1000;

async fn rows(desk: &Desk, tags: &[Tag]) -> Result<Vec<Map<String, Value>>> {
    let entities: Vec<Entity> = tags.iter().map(|tag| Entity::of(Sum::Tag, &tag.name)).collect();
    let totals = desk.store().totals(&entities).await?;
    let row = |(tag, total): (&Tag, &crate::store::Total)| {
        let mut row = show(tag);
        row.insert("name".to_owned(), tag.name.clone().into());
        row.insert("spend".to_owned(), usd(total.spent()));
        row.insert("budget_reset_at".to_owned(), desk.resets_at(tag.budget_duration.as_ref()));
        row.insert("created_at".to_owned(), times::iso(tag.created_at).into());
        row.insert("updated_at".to_owned(), times::iso(tag.updated_at).into());
        row.insert("created_by".to_owned(), tag.created_by.clone().into());
        row
    };
    Ok(tags.iter().zip(&totals).map(row).collect())
}

async fn told(desk: &Desk, tag: Tag, what: &str) -> Result<Value> {
    desk.changed_limits();
    let message = format!("Tag {} {what} successfully", crate::envelope::shorten(&tag.name));
    Ok(json!({"message": message, "tag": rows(desk, &[tag]).await?.pop()}))
}

pub async fn new(request: HttpRequest, payload: Payload) -> HttpResponse {
    run(request, payload, async |desk, body| {
        desk.admin_only()?;
        let (at, by) = (desk.at, desk.by());
        let name = needed(&body, "name")?;
        let mut tag =
            Tag { name, created_at: at, updated_at: at, created_by: by.clone(), updated_by: by, ..Tag::default() };
        apply(&mut tag, &body, &HANDLED)?;
        budgets::check(&desk, tag.budget_id.as_ref()).await?;
        if desk.store().get::<Tag>(&tag.name).await?.is_some() {
            let message = "A tag of this name is there already; change it with POST /tag/update.";
            return Err(Error::invalid(message).at_param("name"));
        }
        desk.store().create(&tag).await?;
        told(&desk, tag, "created").await
    })
    .await
}

pub async fn update(request: HttpRequest, payload: Payload) -> HttpResponse {
    run(request, payload, async |desk, body| {
        desk.admin_only()?;
        let name = needed(&body, "name")?;
        let mut trial = Tag::default();
        apply(&mut trial, &body, &HANDLED)?;
        budgets::check(&desk, trial.budget_id.as_ref()).await?;
        there(&desk, &name).await?;
        let by = desk.by();
        let change = |tag: &mut Tag| {
            tag.updated_by = by;
            apply(tag, &body, &HANDLED).map_err(|e| Fault::Invalid(e.to_string()))
        };
        let tag = desk.store().update(&name, desk.at, change).await?;
        told(&desk, tag, "updated").await
    })
    .await
}

pub async fn delete(request: HttpRequest, payload: Payload) -> HttpResponse {
    run(request, payload, async |desk, body| {
        desk.admin_only()?;
        let name = needed(&body, "name")?;
        there(&desk, &name).await?;
        desk.store().delete::<Tag>(std::slice::from_ref(&name), desk.by().as_deref(), desk.at).await?;
        desk.changed_limits();
        Ok(json!({"message": format!("Tag {} deleted successfully", crate::envelope::shorten(&name))}))
    })
    .await
}

/// `POST /tag/info {"names": [..]}`: the tags by their names.
pub async fn info(request: HttpRequest, payload: Payload) -> HttpResponse {
    run(request, payload, async |desk, body| {
        desk.viewer_only()?;
        let asked = asked(&body)?;
        let tags: Vec<Tag> = desk.store().get_many(&asked).await?;
        if let Some(name) = asked.iter().find(|name| !tags.iter().any(|tag| tag.name == **name)) {
            return Err(missing(name));
        }
        let named = tags.iter().map(|tag| tag.name.clone()).zip(rows(&desk, &tags).await?);
        Ok(named.map(|(name, row)| (name, Value::from(row))).collect::<Map<_, _>>().into())
    })
    .await
}

fn asked(body: &Body) -> Result<Vec<String>> {
    let asked = names(body, "names")?;
    match asked.is_empty() || asked.len() > MOST {
        true => Err(Error::invalid(format!("'names' must be a list of 1 to {MOST} names.")).at_param("names")),
        false => Ok(asked),
    }
}

pub async fn list(request: HttpRequest, payload: Payload) -> HttpResponse {
    run(request, payload, async |desk, _| {
        desk.viewer_only()?;
        let tags = desk.store().list::<Tag>(&Page { limit: 1000, ..Page::default() }).await?.rows;
        Ok(rows(&desk, &tags).await?.into_iter().map(Value::from).collect::<Vec<_>>().into())
    })
    .await
}

async fn there(desk: &Desk, name: &str) -> Result<Tag> {
    desk.store().get::<Tag>(name).await?.ok_or_else(|| missing(name))
}

fn missing(name: &str) -> Error {
    let message = format!("There is no tag '{}'; make it with POST /tag/new.", crate::envelope::shorten(name));
    Error::new(Kind::NotFound, message).at_param("name")
}
