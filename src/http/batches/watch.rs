//! Batches that nobody looks at: asked for now and then until they are over, so that what they used is booked.
//!
//! Each batch under way has a mark in the store, which says when it is looked at next. Whoever moves the mark on looks: of
//! several gateways one, and whichever is there after a restart.

use super::look;
use crate::auth::Caller;
use crate::database::{self, State};
use crate::error::Result;
use crate::gateway::{Gateway, Worker};
use crate::http::files::shelf::{BATCH, Item};
use crate::http::files::{Asker, unreachable};
use crate::meter;
use crate::store::{Holder, Kept, Key, Store};
use serde::{Deserialize, Serialize};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

const KIND: &str = "open batch";
/// A batch that is not over by then, a day and more after its window, is not asked for any more.
const AGE: i64 = 30 * 86_400 * SECOND;
const SECOND: i64 = 1_000_000;
/// Marks read at once.
const PAGE: i64 = 200;
/// The settings are looked at so often.
const LOOK: Duration = Duration::from_secs(5);
/// An old batch is asked for less often: after a sixteenth of its age.
const PATIENCE: i64 = 16;

/// When a batch is looked at next, in microseconds since 1970.
#[derive(Debug, Serialize, Deserialize)]
struct Mark {
    next: i64,
}

fn body(next: i64) -> String {
    serde_json::to_string(&Mark { next }).unwrap_or_default()
}

/// Sees to it that this batch will be looked at.
///
/// # Errors
/// The database does not answer.
pub async fn begin(gateway: &Gateway, owner: &str, id: &str) -> Result<()> {
    let now = database::now();
    let interval = gateway.live().config.ledger.batch_interval.unwrap_or_default();
    let kept = Kept {
        kind: KIND.to_owned(),
        id: id.to_owned(),
        owner: owner.to_owned(),
        made_at: now,
        expires_at: now.saturating_add(AGE),
        body: body(now.saturating_add(micros(interval))),
    };
    gateway.store.keep(&kept).await.map_err(unreachable)
}

/// It is over, and what it used is booked.
pub async fn end(gateway: &Gateway, owner: &str, id: &str) {
    if let Err(fault) = gateway.store.forget_kept(KIND, id, owner).await {
        // Whoever looks next finds it booked.
        tracing::debug!("a batch that is over is still marked as open: {fault}");
    }
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

/// Looks at open batches until the process ends.
pub async fn keep(worker: Rc<Worker>) {
    loop {
        let interval = worker.gateway.live().config.ledger.batch_interval;
        tokio::time::sleep(interval.map_or(LOOK, |interval| interval.clamp(Duration::from_millis(100), LOOK))).await;
        let Some(interval) = interval else { continue };
        if worker.gateway.database.state() != State::Up {
            continue;
        }
        if let Err(fault) = round(&worker, interval).await {
            tracing::debug!("open batches cannot be looked at now: {fault}");
        }
    }
}

/// Looks at every batch that is due, one after the other.
async fn round(worker: &Rc<Worker>, interval: Duration) -> crate::store::Result<()> {
    let store = &worker.gateway.store;
    let mut after = String::new();
    loop {
        let marks = store.kept_of_kind(KIND, database::now(), &after, PAGE).await?;
        for mark in &marks {
            let now = database::now();
            let due = serde_json::from_str::<Mark>(&mark.body).map_or(0, |mark| mark.next);
            if due > now {
                continue;
            }
            let pause = micros(interval).max(now.saturating_sub(mark.made_at) / PATIENCE);
            // Of several gateways the one that moves it on looks.
            if store.change_kept(mark, &body(now.saturating_add(pause))).await? {
                ask(worker, mark).await?;
            }
        }
        match marks.last() {
            Some(last) if marks.len() as i64 == PAGE => after.clone_from(&last.id),
            _ => return Ok(()),
        }
    }
}

async fn ask(worker: &Rc<Worker>, mark: &Kept) -> crate::store::Result<()> {
    let gateway = &worker.gateway;
    let caller = caller(&gateway.store, &mark.owner).await?;
    let asker = Asker { worker: worker.clone(), live: gateway.live(), caller, id: meter::new_id() };
    let found: Option<Item> = match gateway.store.kept(BATCH, &mark.id, &mark.owner, database::now()).await? {
        Some(kept) => serde_json::from_str(&kept.body).ok(),
        None => None,
    };
    match found {
        Some(item) if !item.is_booked => {
            if let Err(error) = look(&asker, &mark.id, item).await {
                tracing::debug!("an open batch cannot be looked at now: {error}");
            }
        }
        // It was seen to be over, or its owner has nothing of that name any more.
        _ => end(gateway, &mark.owner, &mark.id).await,
    }
    Ok(())
}

/// Who made a batch. What it used is a deleted key's too.
async fn caller(store: &Store, owner: &str) -> crate::store::Result<Caller> {
    Ok(match (owner, owner.strip_prefix("key:")) {
        (_, Some(id)) => {
            let gone = || Holder::of(Key { id: id.to_owned(), ..Key::default() });
            Caller::Key(Arc::new(store.holder_of(id).await?.unwrap_or_else(gone)))
        }
        ("master", None) => Caller::Master,
        _ => Caller::Anonymous,
    })
}
