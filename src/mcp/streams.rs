//! What clients have open: streams of the old transport, and requests that they may give up.

use super::Cancel;
use bytes::Bytes;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::mpsc;

/// Open streams of a process.
const MOST_STREAMS: usize = 1000;
/// Requests that can be given up by name; beyond that they end by themselves.
const MOST_REQUESTS: usize = 10_000;

/// An id that nobody can guess.
pub fn new_id() -> String {
    format!("{:032x}", rand::random::<u128>())
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Open streams of the old transport, by their ids.
#[derive(Default)]
pub struct Streams(Mutex<HashMap<String, Stream>>);

struct Stream {
    out: mpsc::Sender<Bytes>,
    /// Whose it is: another key's messages do not belong here.
    key: Option<String>,
}

impl Streams {
    /// Keeps a stream; none where there are too many.
    pub fn open(self: &Arc<Self>, id: String, out: mpsc::Sender<Bytes>, key: Option<String>) -> Option<Kept> {
        let mut streams = lock(&self.0);
        if streams.len() >= MOST_STREAMS {
            return None;
        }
        streams.insert(id.clone(), Stream { out, key });
        Some(Kept { streams: self.clone(), id })
    }

    /// The way into a stream, for whoever has opened it.
    pub fn find(&self, id: &str, key: Option<&str>) -> Option<mpsc::Sender<Bytes>> {
        lock(&self.0).get(id).filter(|stream| stream.key.as_deref() == key).map(|stream| stream.out.clone())
    }
}

/// A stream is known for as long as this is kept.
pub struct Kept {
    streams: Arc<Streams>,
    id: String,
}

impl Drop for Kept {
    fn drop(&mut self) {
        lock(&self.streams.0).remove(&self.id);
    }
}

/// Requests under way, by the session and the id that their client has given them.
#[derive(Default)]
pub struct Requests(Mutex<HashMap<(String, String), Cancel>>);

impl Requests {
    /// Notes a request. Without a session nobody could say later which one is meant.
    pub fn begin(self: &Arc<Self>, session: &str, id: &Value, cancel: &Cancel) -> Option<UnderWay> {
        let mut requests = lock(&self.0);
        if session.is_empty() || session.len() > 256 || requests.len() >= MOST_REQUESTS {
            return None;
        }
        let place = (session.to_owned(), id.to_string());
        requests.insert(place.clone(), cancel.clone());
        Some(UnderWay { requests: self.clone(), place })
    }

    /// Gives a request up.
    pub fn cancel(&self, session: &str, id: &Value) {
        let request = lock(&self.0).get(&(session.to_owned(), id.to_string())).cloned();
        if let Some(cancel) = request {
            cancel.now();
        }
    }
}

/// A request is known for as long as this is kept.
pub struct UnderWay {
    requests: Arc<Requests>,
    place: (String, String),
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        lock(&self.requests.0).remove(&self.place);
    }
}
