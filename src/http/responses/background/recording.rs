//! The events of a response that is made in the background: numbered, told under the response's own id, and there for
//! whoever follows it, at once or later.

use crate::error::{Error, Kind, Result};
use bytes::Bytes;
use serde_json::Value;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// A response whose events take more is given up.
pub const MOST: usize = 16 << 20;

/// The events so far.
#[derive(Debug, Default)]
pub struct Recording {
    told: Mutex<Told>,
    news: Notify,
}

#[derive(Debug, Default)]
struct Told {
    events: Vec<Bytes>,
    size: usize,
    is_over: bool,
}

impl Recording {
    fn told(&self) -> std::sync::MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next event. A response in it gets the id that the caller knows, whatever the upstream calls it.
    ///
    /// # Errors
    /// There are too many.
    pub fn add(&self, mut event: Value, id: &str) -> Result<()> {
        {
            let mut told = self.told();
            if event["response"].is_object() {
                event["response"]["id"] = id.into();
                event["response"]["background"] = true.into();
            }
            event["sequence_number"] = told.events.len().into();
            let event = written(&event);
            told.size += event.len();
            if told.size > MOST {
                let what = format!("The events of the response take more than {} MiB.", MOST >> 20);
                return Err(Error::new(Kind::Garbled, what));
            }
            told.events.push(event);
        }
        self.news.notify_waiters();
        Ok(())
    }

    /// The next event as it would be sent.
    pub fn next(&self, mut event: Value) -> Bytes {
        event["sequence_number"] = self.told().events.len().into();
        written(&event)
    }

    /// There are no more.
    pub fn end(&self) {
        self.told().is_over = true;
        self.news.notify_waiters();
    }

    /// All events so far, one behind the other, as they were sent.
    pub fn text(&self) -> Option<String> {
        let told = self.told();
        String::from_utf8(told.events.concat()).ok()
    }

    /// The events from this place on, once there are any; none where there are no more, and nothing where there are none
    /// within that time.
    pub async fn after(&self, from: usize, patience: Duration) -> Option<Vec<Bytes>> {
        let waited = tokio::time::timeout(patience, async {
            loop {
                let mut news = std::pin::pin!(self.news.notified());
                // Before the look, so that nothing is missed in between.
                news.as_mut().enable();
                {
                    let told = self.told();
                    match told.events.get(from..) {
                        Some(events) if !events.is_empty() => return Some(events.to_vec()),
                        _ if told.is_over => return None,
                        _ => (),
                    }
                }
                news.await;
            }
        });
        waited.await.unwrap_or_else(|_| Some(Vec::new()))
    }
}

/// An event as it is sent.
pub fn written(event: &Value) -> Bytes {
    format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap_or_default()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[tokio::test]
    async fn whoever_comes_late_hears_what_was_told_and_what_follows() {
        let recording = Recording::default();
        recording.add(json!({"type": "a", "response": {"id": "other"}}), "resp_1").unwrap();
        recording.add(json!({"type": "b", "sequence_number": 7}), "resp_1").unwrap();
        let all = recording.after(0, Duration::ZERO).await.unwrap();
        let first = "event: a\ndata: {\"type\":\"a\",\"response\":{\"id\":\"resp_1\",\"background\":true},\"sequence_number\":0}\n\n";
        assert_eq!((all.len(), &all[0][..]), (2, first.as_bytes()));
        assert_eq!(recording.after(1, Duration::ZERO).await.unwrap()[0], all[1]);
        assert_eq!(recording.after(2, Duration::ZERO).await, Some(Vec::new()));
        let (later, ()) = tokio::join!(recording.after(2, Duration::from_secs(5)), async {
            recording.add(json!({"type": "c"}), "resp_1").unwrap();
            recording.end();
        });
        assert_eq!(later.unwrap().len(), 1);
        assert_eq!(recording.after(3, Duration::ZERO).await, None);
        assert!(recording.add(json!({"type": "d", "text": "x".repeat(MOST)}), "resp_1").is_err());
    }
}
