//! What a batch used: as the provider says, or else as the answers in its file say.

use crate::gateway::Worker;
use crate::http::files::shelf::Item;
use crate::http::files::{Account, Asker, path};
use crate::http::pass::{Booking, Terms};
use crate::meter;
use crate::price::Service;
use crate::provider::Spent;
use crate::route::Target;
use crate::usage::Usage;
use crate::wire::feed::{Feed, Framing};
use crate::wire::json;
use crate::wire::responses;
use actix_web::HttpRequest;
use actix_web::body::BoxBody;
use actix_web::http::Method;
use actix_web::http::header::HeaderMap;
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

/// Books what the batch used, a row for each model. Its answers cost what they cost, whoever has asked for them since.
pub async fn book(request: &HttpRequest, asker: &Asker, account: &Account, item: &Item, object: &Value) {
    let mut used = of_object(item, object);
    if used.is_empty()
        && let Some(file) = object["output_file_id"].as_str()
    {
        let adding = of_file(asker, account, file);
        used = tokio::time::timeout(PATIENCE, adding).await.ok().flatten().unwrap_or_default();
        if used.is_empty() {
            tracing::warn!("a batch is over, and what it used cannot be found out: it is booked without a cost");
        }
    }
    for (model, usage) in used {
        row(request, &asker.worker, asker, account, &model, usage).await;
    }
}

async fn row(request: &HttpRequest, worker: &Rc<Worker>, asker: &Asker, account: &Account, model: &str, usage: Usage) {
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
        tariff: Target::named(deployment.clone(), model.to_owned()).tariff(),
        body: None,
        streams: false,
        spends: true,
        is_owed: true,
    };
    match Booking::open(request, worker, &asker.live, &asker.caller, terms, meter::new_id()).await {
        Ok(mut booking) => {
            booking.used(Some(Usage { service: Service::Batches, ..usage }));
            booking.settle("success", 200, None);
        }
        Err(error) => tracing::warn!("what a batch used is not booked: {error}"),
    }
}

/// OpenAI says it of newer batches.
fn of_object(item: &Item, object: &Value) -> BTreeMap<String, Usage> {
    let told = serde_json::to_vec(&object["usage"]).ok();
    let usage = told.and_then(|told| responses::usage(&told)).filter(|usage| !usage.is_nothing());
    let model = object["model"].as_str().map(str::to_owned).or_else(|| match &item.models[..] {
        [only] => Some(only.clone()),
        _ => None,
    });
    model.zip(usage).into_iter().collect()
}

/// The sum of all answers, by model.
async fn of_file(asker: &Asker, account: &Account, file: &str) -> Option<BTreeMap<String, Usage>> {
    let place = path("files", file, "/content");
    let (url, headers) = account.request(asker, &Method::GET, &place, HeaderMap::new()).await.ok()?;
    let transport = &account.deployment.transport;
    let upstream = &asker.worker.upstream;
    let mut response = upstream.raw(transport, Method::GET, url, headers, BoxBody::new(())).await.ok()?;
    if !response.status().is_success() {
        return None;
    }
    let (mut feed, mut sum, mut size) = (Feed::new(Framing::Lines, MAX_LINE), BTreeMap::new(), 0);
    while let Some(chunk) = response.next().await {
        let chunk = chunk.ok()?;
        size += chunk.len() as u64;
        if size > MOST {
            return None;
        }
        feed.push(chunk);
        while let Some(line) = feed.take().ok()? {
            add(&mut sum, &line);
        }
    }
    if let Some(line) = feed.finish().ok()? {
        add(&mut sum, &line);
    }
    Some(sum)
}

/// Adds what one answer used.
fn add(sum: &mut BTreeMap<String, Usage>, line: &[u8]) {
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
