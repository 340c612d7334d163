//! What a batch used: as the provider says, or else as the answers in its file say.

use crate::error::{Error, Kind, Result, from_upstream};
use crate::gateway::Worker;
use crate::http::files::shelf::Item;
use crate::http::files::{Account, Asker, path};
use crate::http::pass::{Booking, Terms};
use crate::meter;
use crate::price::Service;
use crate::provider::Spent;
use crate::route::{Target, Tariff};
use crate::store::LedgerRow;
use crate::usage::Usage;
use crate::wire::feed::{Feed, Framing};
use crate::wire::json;
use crate::wire::responses;
use actix_web::body::BoxBody;
use actix_web::http::header::HeaderMap;
use actix_web::http::{Method, StatusCode};
use futures_util::StreamExt;
use serde_json::Value;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

/// A longer file of answers is not added up.
const MOST: u64 = 1 << 30;
/// One answer is not longer.
const MAX_LINE: usize = 16 << 20;
/// Nobody waits longer for the sum.
const PATIENCE: Duration = Duration::from_secs(60);
const MAX_DEPTH: usize = 256;

/// What was used, by model.
pub type Used = BTreeMap<String, Usage>;

/// What a batch that is over used.
///
/// # Errors
/// It can be found out later, maybe.
pub async fn used(asker: &Asker, account: &Account, item: &Item, object: &Value) -> Result<Used> {
    let used = of_object(item, object);
    let (true, Some(file)) = (used.is_empty(), object["output_file_id"].as_str()) else { return Ok(used) };
    let late = || Error::new(Kind::Timeout, format!("The answers of a batch could not be read within {PATIENCE:?}."));
    let used = tokio::time::timeout(PATIENCE, of_file(asker, account, file)).await.unwrap_or_else(|_| Err(late()))?;
    if used.is_empty() {
        tracing::warn!("a batch is over, and what it used cannot be found out: it is booked without a cost");
    }
    Ok(used)
}

/// Books what the batch used, a row for each model. Its answers cost what they cost, whoever has asked for them since.
pub async fn book(asker: &Asker, account: &Account, item: &Item, used: Used) {
    let said = item.said.clone().unwrap_or_default();
    for (model, usage) in used {
        row(&said, &asker.worker, asker, account, &model, usage).await;
    }
}

/// Answers name a model by its date too: what no table knows costs what the batch's own model does.
fn tariff(asker: &Asker, account: &Account, model: &str) -> Tariff {
    let (live, deployment) = (&asker.live, &account.deployment);
    let beside = live.routes.price_beside(deployment, model, &live.config.prices);
    match model.starts_with(&deployment.model) && model != deployment.model || beside.price.is_none() {
        true => Target::named(deployment.clone(), model.to_owned()).tariff(),
        false => Tariff::new(beside),
    }
}

async fn row(said: &LedgerRow, worker: &Rc<Worker>, asker: &Asker, account: &Account, model: &str, usage: Usage) {
    let deployment = &account.deployment;
    let terms = Terms {
        endpoint: "/v1/batches",
        call_type: "aretrieve_batch",
        provider: deployment.provider.name,
        api_base: &deployment.api_base,
        model,
        upstream_model: Some(model),
        deployment: Some(deployment),
        cost_nanos: 0,
        tariff: tariff(asker, account, model),
        body: None,
        streams: false,
        spends: true,
        is_owed: true,
        routed: None,
    };
    match Booking::open_for(said.clone(), worker, &asker.live, &asker.caller, terms, meter::new_id()).await {
        Ok(mut booking) => {
            booking.used(Some(Usage { service: Service::Batches, ..usage }));
            booking.settle("success", 200, None);
        }
        Err(denied) => tracing::warn!("what a batch used is not booked: {}", denied.error),
    }
}

/// OpenAI says it of newer batches.
fn of_object(item: &Item, object: &Value) -> Used {
    let told = serde_json::to_vec(&object["usage"]).ok();
    let usage = told.and_then(|told| responses::usage(&told)).filter(|usage| !usage.is_nothing());
    let model = object["model"].as_str().map(str::to_owned).or_else(|| match &item.models[..] {
        [only] => Some(only.clone()),
        _ => None,
    });
    model.zip(usage).into_iter().collect()
}

/// The sum of all answers, by model; nothing where they cannot be added up.
async fn of_file(asker: &Asker, account: &Account, file: &str) -> Result<Used> {
    let place = path("files", file, "/content");
    let (url, headers) = account.request(asker, &Method::GET, &place, HeaderMap::new()).await?;
    let deployment = &account.deployment;
    let upstream = &asker.worker.upstream;
    let mut response = upstream.raw(&deployment.transport, Method::GET, url, headers, BoxBody::new(())).await?;
    match response.status() {
        StatusCode::NOT_FOUND | StatusCode::GONE => return Ok(Used::new()),
        status if !status.is_success() => return Err(from_upstream(&deployment.origin, status, b"")),
        _ => (),
    }
    let (mut feed, mut sum, mut size) = (Feed::new(Framing::Lines, MAX_LINE), Used::new(), 0);
    while let Some(chunk) = response.next().await {
        let broke_off = |_| Error::new(Kind::Unreachable, "The answers of a batch broke off.");
        let chunk = chunk.map_err(broke_off)?;
        size += chunk.len() as u64;
        if size > MOST {
            return Ok(Used::new());
        }
        feed.push(chunk);
        loop {
            match feed.take() {
                Ok(Some(line)) => add(&mut sum, &line),
                Ok(None) => break,
                Err(_) => return Ok(Used::new()),
            }
        }
    }
    if let Ok(Some(line)) = feed.finish() {
        add(&mut sum, &line);
    }
    Ok(sum)
}

/// Adds what one answer used.
fn add(sum: &mut Used, line: &[u8]) {
    let member = |object: &[u8], name: &[u8]| {
        let mut found = None;
        let _ = json::object(object, MAX_DEPTH, |m| {
            if &object[m.key.clone()] == name {
                found = Some(m.value.span);
            }
        });
        found
    };
    let Some(response) = member(line, b"response").map(|span| &line[span]) else { return };
    let Some(body) = member(response, b"body").map(|span| &response[span]) else { return };
    let model = member(body, b"model").and_then(|span| json::short_text(&body[span])).unwrap_or_default();
    let mut spent = Spent::default();
    spent.read(body);
    if let Some(usage) = spent.usage
        && (sum.len() < 64 || sum.contains_key(&model))
    {
        let all: &mut Usage = sum.entry(model).or_default();
        all.prompt_tokens += usage.prompt_tokens;
        all.completion_tokens += usage.completion_tokens;
        all.cached_tokens += usage.cached_tokens;
        all.reasoning_tokens += usage.reasoning_tokens;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_added_up_by_model() {
        let mut sum = BTreeMap::new();
        for line in [
            r#"{"custom_id":"1","response":{"status_code":200,"body":{"model":"a","usage":{"prompt_tokens":3,"completion_tokens":2}}}}"#,
            r#"{"custom_id":"2","response":{"status_code":200,"body":{"model":"a","usage":{"prompt_tokens":4,"completion_tokens":1}}}}"#,
            r#"{"custom_id":"3","response":{"status_code":200,"body":{"model":"b","usage":{"input_tokens":5,"output_tokens":6,"total_tokens":11}}}}"#,
            r#"{"custom_id":"4","error":{"message":"no"},"response":null}"#,
            "no json",
        ] {
            add(&mut sum, line.as_bytes());
        }
        let told: Vec<_> = sum.iter().map(|(m, u)| (m.as_str(), u.prompt_tokens, u.completion_tokens)).collect();
        assert_eq!(told, [("a", 7, 3), ("b", 5, 6)]);
    }
}
