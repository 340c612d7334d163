//! One clean answer of several turns: in one piece, or as a stream.

use super::Run;
use super::turns::Teller;
use crate::error::Result;
use crate::http::reply;
use crate::meter::Meter;
use actix_web::HttpResponse;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use futures_util::{FutureExt, stream};
use std::convert::Infallible;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::time::sleep_until;

/// Chunks that the caller has not read: then the model is not read either.
const QUEUE: usize = 32;

/// Runs a call that is not streamed.
///
/// # Errors
/// Why it could not be answered.
pub async fn whole(run: &mut Run, meter: Meter) -> Result<Bytes> {
    run.turns.start(meter, None);
    run.go().await?;
    Ok(run.turns.end().1)
}

/// Runs the call and tells the caller.
///
/// # Errors
/// Why it could not be answered, before anything was sent.
pub async fn send(mut run: Run, meter: Meter) -> Result<HttpResponse> {
    let (id, started, face) = (meter.id, meter.started, run.face);
    let (label, about) = (run.turns.label(), run.turns.about.clone());
    if !run.turns.streams() {
        let whole = whole(&mut run, meter).await?;
        let cost = run.turns.cost();
        keep(&mut run, &whole).await;
        let mut builder = HttpResponse::Ok();
        builder.insert_header((CONTENT_TYPE, HeaderValue::from_static("application/json")));
        {
            let about = about.borrow();
            reply::call_headers(&mut builder, &id, about.attempts, label, (started.elapsed(), about.waited));
            if let Some(deployment) = &about.deployment {
                reply::deployment_headers(&mut builder, deployment);
            }
        }
        reply::anthropic_id(&mut builder, face, &id);
        reply::cost(&mut builder, cost);
        return Ok(builder.body(whole));
    }
    let settings = &run.turns.live().config.server;
    let (commit, pulse) = (settings.early_commit, settings.keep_alive);
    let (out, mut chunks) = mpsc::channel(QUEUE);
    run.turns.start(meter, Some(out));
    let teller = run.turns.teller();
    let mut work: Work = async move {
        run.go().await?;
        let (last, whole) = run.turns.end();
        keep(&mut run, &whole).await;
        Ok(last)
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
    reply::anthropic_id(&mut builder, face, &id);
    let state = Some(Open { work, chunks, first, pulse, teller });
    Ok(builder.streaming(stream::unfold(state, next)))
}

/// Keeps a response before its last event: whoever is told its id can go on from it at once.
async fn keep(run: &mut Run, whole: &Bytes) {
    if let Some(keeper) = run.keeper.take() {
        keeper.keep(whole.clone(), None).await;
    }
}

type Work = LocalBoxFuture<'static, Result<Bytes>>;

struct Open {
    work: Work,
    chunks: mpsc::Receiver<Bytes>,
    first: Option<Bytes>,
    pulse: Duration,
    teller: Teller,
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
            let end = ended.unwrap_or_else(|error| open.teller.voice.borrow_mut().fail(&error));
            last.extend_from_slice(&end);
            Some((Ok(Bytes::from(last)), None))
        }
        () = pause => {
            let pulse = open.teller.voice.borrow().pulse();
            Some((Ok(pulse), Some(open)))
        }
    }
}
