//! One clean answer of several turns: in one piece, or as a stream.

use super::Run;
use crate::error::{Error, Result};
use crate::http::reply;
use crate::meter::Meter;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use futures_util::{FutureExt, stream};
use serde_json::{Map, Value};
use std::convert::Infallible;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::time::sleep_until;

/// Chunks that the caller has not read: then the model is not read either.
const QUEUE: usize = 32;

/// Runs the call and tells the caller.
///
/// # Errors
/// Why it could not be answered, before anything was sent.
pub async fn send(_request: &HttpRequest, mut run: Run, meter: Meter) -> Result<HttpResponse> {
    let (id, started) = (meter.id, meter.started);
    let missing: Map<String, Value> =
        run.kit.missing.iter().map(|(server, fault)| (server.name.clone(), fault.to_string().into())).collect();
    let (label, about) = (run.chat.label(), run.chat.about.clone());
    if !run.chat.streams() {
        run.chat.start(meter, None);
        run.go().await?;
        let cost = crate::mcp::rounds::Model::cost_nanos(&run.chat);
        let mut builder = HttpResponse::Ok();
        builder.insert_header((CONTENT_TYPE, HeaderValue::from_static("application/json")));
        {
            let about = about.borrow();
            reply::call_headers(&mut builder, &id, about.attempts, label, (started.elapsed(), about.waited));
            if let Some(deployment) = &about.deployment {
                reply::deployment_headers(&mut builder, deployment);
            }
        }
        reply::cost(&mut builder, Some(cost));
        return Ok(builder.body(run.chat.answer(&missing).to_string()));
    }
    let settings = &run.chat.live().config.server;
    let (commit, pulse) = (settings.early_commit, settings.keep_alive);
    let (out, mut chunks) = mpsc::channel(QUEUE);
    run.chat.start(meter, Some(out));
    let mut work: Work = async move {
        run.go().await?;
        Ok(run.chat.ending(&missing))
    }
    .boxed_local();
    let patience = async {
        match commit {
            Some(limit) => tokio::time::sleep(limit).await,
            None => std::future::pending().await,
        }
    };
    let first = tokio::select! {
        biased;
        chunk = chunks.recv() => chunk,
        ended = &mut work => {
            let last = ended?;
            work = std::future::ready(Ok(last)).boxed_local();
            None
        }
        () = patience => None,
    };
    let mut builder = HttpResponse::Ok();
    builder
        .insert_header((CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8")))
        .insert_header((CACHE_CONTROL, HeaderValue::from_static("no-cache")))
        .insert_header((HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")));
    {
        let about = about.borrow();
        reply::call_headers(&mut builder, &id, about.attempts, label, (started.elapsed(), about.waited));
        if let Some(deployment) = &about.deployment {
            reply::deployment_headers(&mut builder, deployment);
        }
    }
    let state = Some(Open { work, chunks, first, pulse });
    Ok(builder.streaming(stream::unfold(state, next)))
}

type Work = LocalBoxFuture<'static, Result<Bytes>>;

struct Open {
    work: Work,
    chunks: mpsc::Receiver<Bytes>,
    first: Option<Bytes>,
    pulse: Duration,
}

async fn next(state: Option<Open>) -> Option<(std::result::Result<Bytes, Infallible>, Option<Open>)> {
    let mut open = state?;
    if let Some(first) = open.first.take() {
        return Some((Ok(first), Some(open)));
    }
    let pause = sleep_until((Instant::now() + open.pulse).into());
    tokio::select! {
        biased;
        Some(chunk) = open.chunks.recv() => Some((Ok(chunk), Some(open))),
        ended = &mut open.work => {
            // What was told before the end goes before it.
            let mut last = Vec::new();
            while let Ok(chunk) = open.chunks.try_recv() {
                last.extend_from_slice(&chunk);
            }
            last.extend_from_slice(&ended.unwrap_or_else(|error: Error| error.event()));
            Some((Ok(Bytes::from(last)), None))
        }
        () = pause => Some((Ok(Bytes::from_static(b": keep-alive\n\n")), Some(open))),
    }
}
