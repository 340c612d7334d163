//! Closing the door without shutting it in anybody's face.
//!
//! The server's accepting thread hands each connection to a worker. A worker that is told to stop drops what was
//! handed to it and not yet looked at, so the order is: stop accepting, let what was accepted arrive, and only then
//! stop. Connections that come meanwhile wait in the listen queue, which belongs to the socket and not to this
//! process: the next one finds them there.

use super::threads;
use crate::gateway::Gateway;
use actix_web::dev::ServerHandle;
use std::time::{Duration, Instant};

/// Time for the first call of a connection to come; and for what was accepted to reach its worker, where the threads
/// cannot be seen. It takes microseconds, and a hundred milliseconds of a busy machine.
const SETTLE: Duration = Duration::from_millis(100);
/// The longest that the threads are waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// How soon the end of the last connection is noticed in a stop.
const LOOK: Duration = Duration::from_millis(10);

/// How often to look whether the gateway is idle.
pub fn look_every(limit: Option<Duration>) -> Duration {
    limit
        .map_or(Duration::from_secs(3600), |limit| (limit / 4).clamp(Duration::from_millis(10), Duration::from_secs(1)))
}

/// Stops accepting. True when nobody had come in; else accepting goes on, and nobody has noticed.
pub async fn close(gateway: &Gateway, server: &ServerHandle) -> bool {
    let before = gateway.visitors.seen();
    let is_settled = settle(server).await;
    if is_settled && gateway.visitors.seen() == before && gateway.visitors.quiet().is_some() {
        return true;
    }
    server.resume().await;
    false
}

/// Stops accepting; whether all that was accepted has arrived.
async fn settle(server: &ServerHandle) -> bool {
    server.pause().await;
    match threads::settled(PATIENCE).await {
        Some(is_settled) => is_settled,
        None => {
            tokio::time::sleep(SETTLE).await;
            true
        }
    }
}

/// Stops accepting, has the workers finish what they have, and returns when nobody is connected any more.
pub async fn leave(gateway: &Gateway, server: &ServerHandle) {
    settle(server).await;
    // Who was accepted last has yet to ask: a connection without a call is closed by the stop.
    tokio::time::sleep(SETTLE).await;
    // Nobody is connected to a response of the background, and its worker would not wait for it.
    let mut cut = None;
    while gateway.underway.is_busy() {
        if gateway.ending.is_cut() && cut.get_or_insert_with(Instant::now).elapsed() > PATIENCE {
            break;
        }
        tokio::time::sleep(LOOK).await;
    }
    // It looks once a second whether its connections have ended, while callers already wait for the next process.
    actix_web::rt::spawn(server.stop(true));
    while gateway.visitors.quiet().is_none() {
        tokio::time::sleep(LOOK).await;
    }
}
