//! Takes away what is old, in small steps while calls are served: rows of the ledger that the operator no longer wants,
//! and what nobody needs any more.

use super::{State, now};
use crate::gateway::Gateway;
use crate::http::admin::times;
use crate::store::{Fault, Rest, Store};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The first look comes after the rush of a start, and after a clock that was wrong at boot has been set.
const FIRST: Duration = Duration::from_secs(600);
/// Rows of one step.
const BATCH: i64 = 1000;
/// Between two steps, so that whoever books gets his turn.
const PAUSE: Duration = Duration::from_millis(50);
/// Pages of SQLite's file that are given back with each step: about what the rows of one take.
const PAGES: u32 = 500;
/// A clock that differs more from the time that went by was set.
const JUMP: Duration = Duration::from_secs(3600);

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;
/// Copies of what was deleted.
const REMOVED: i64 = 365 * DAY;
/// Changes: a gateway that has not looked for so long forgets everything it remembers.
const CHANGES: i64 = DAY;
const NODES: i64 = 30 * DAY;
/// Checks of deployments.
const CHECKS: i64 = 30 * DAY;

/// Looks at what is too old at each interval, until the process ends.
pub async fn keep(gateway: Arc<Gateway>) {
    let mut clock = Clock::read();
    let mut first = true;
    loop {
        let interval = gateway.live().config.ledger.retention_interval;
        tokio::time::sleep(if first { interval.min(FIRST) } else { interval }).await;
        first = false;
        if gateway.database.state() != State::Up {
            continue;
        }
        // Rows cannot be brought back: a clock that leapt ahead would age all of them at once.
        let then = std::mem::replace(&mut clock, Clock::read());
        if let Some(jump) = then.jump(&clock) {
            tracing::warn!(
                "the clock was set by {jump:?}: what is too old is not taken away before the next look, in {interval:?}"
            );
            continue;
        }
        let ledger = gateway.live().config.ledger;
        match sweep_prompts(&gateway.store, clock.wall, ledger.prompt_retention).await {
            Ok(0) => (),
            Ok(rows) => tracing::info!(
                "prompts and answers that are older than {} were taken away: {rows}",
                crate::config::file::Duration(ledger.prompt_retention)
            ),
            Err(fault) => {
                tracing::warn!("old prompts could not be taken away; it is tried again in {interval:?}: {fault}")
            }
        }
        let age = ledger.retention;
        match sweep(&gateway.store, clock.wall, age).await {
            Ok(Done { rows: 0, partitions: 0 }) => (),
            Ok(done) => tracing::info!(
                "taken out of the ledger, because they are older than {}: {} rows and {} whole months",
                crate::config::file::Duration(age.unwrap_or_default()),
                done.rows,
                done.partitions
            ),
            Err(fault) => {
                tracing::warn!("what is too old could not be taken away; it is tried again in {interval:?}: {fault}")
            }
        }
    }
}

/// What was taken out of the ledger.
#[derive(Debug, Default, PartialEq, Eq)]
struct Done {
    rows: u64,
    partitions: u64,
}

async fn sweep(store: &Store, now: i64, age: Option<Duration>) -> Result<Done, Fault> {
    // Midnight at the end of a month finds the next one's partition there.
    store.prepare_ledger(now).await?;
    let rest = Rest {
        removed_before: Some(now - REMOVED),
        changes_before: Some(now - CHANGES),
        nodes_before: Some(now - NODES),
        graces_before: Some(now),
        kept_before: Some(now),
        checks_before: Some(now - CHECKS),
        ..Rest::default()
    };
    store.sweep_rest(&rest).await?;
    for span in store.spans().await? {
        // Whoever looks at a window looks at the one that is under way, or at the one before it.
        if let Ok(end) = times::after(now, &span) {
            store.sweep_windows(&span, now - 3 * (end - now)).await?;
        }
    }
    let mut done = Done::default();
    let Some(age) = age else { return Ok(done) };
    let before = now.saturating_sub(i64::try_from(age.as_micros()).unwrap_or(i64::MAX));
    loop {
        let swept = store.sweep_ledger(before, BATCH).await?;
        done.rows += swept.rows;
        done.partitions += swept.partitions;
        if swept.rows > 0 {
            store.compact(PAGES).await?;
        }
        if !swept.more {
            return Ok(done);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Takes old prompts and answers away; there are more bytes in them than in all the rest.
async fn sweep_prompts(store: &Store, now: i64, age: Duration) -> Result<u64, Fault> {
    let before = now.saturating_sub(i64::try_from(age.as_micros()).unwrap_or(i64::MAX));
    let mut rows = 0;
    loop {
        let swept = store.sweep_prompts(before, BATCH).await?;
        rows += swept.rows;
        if swept.rows > 0 {
            store.compact(PAGES).await?;
        }
        if !swept.more {
            return Ok(rows);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// The time of day, and the time that goes by.
struct Clock {
    wall: i64,
    steady: Instant,
}

impl Clock {
    fn read() -> Self {
        Clock { wall: now(), steady: Instant::now() }
    }

    /// By how much the clock was set between this moment and a later one.
    fn jump(&self, later: &Clock) -> Option<Duration> {
        let steady = i64::try_from((later.steady - self.steady).as_micros()).unwrap_or(i64::MAX);
        let jump = Duration::from_micros((later.wall - self.wall).abs_diff(steady));
        (jump > JUMP).then_some(jump)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_is_noticed_in_both_directions() {
        let clock = Clock { wall: 100 * DAY, steady: Instant::now() };
        let later = |wall: i64| Clock { wall, steady: clock.steady + Duration::from_secs(86_400) };
        assert_eq!(clock.jump(&later(101 * DAY)), None);
        assert_eq!(clock.jump(&later(101 * DAY + 60 * SECOND)), None);
        assert_eq!(clock.jump(&later(111 * DAY)), Some(Duration::from_secs(10 * 86_400)));
        assert_eq!(clock.jump(&later(90 * DAY)), Some(Duration::from_secs(11 * 86_400)));
    }
}
