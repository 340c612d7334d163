//! A list that several threads add to and tests wait on: log lines, notifications, requests, closed connections.

use std::fmt::Debug;
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

/// The longest that any test waits for something that should happen at once.
pub const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub struct Feed<T> {
    items: Mutex<Vec<T>>,
    grown: Condvar,
}

impl<T: Clone + Debug> Feed<T> {
    pub fn new() -> Self {
        Feed { items: Mutex::new(Vec::new()), grown: Condvar::new() }
    }

    pub fn push(&self, item: T) {
        self.items.lock().unwrap().push(item);
        self.grown.notify_all();
    }

    pub fn all(&self) -> Vec<T> {
        self.items.lock().unwrap().clone()
    }

    /// Waits for `count` items of those that `pick` takes something from, the past included, and returns them.
    ///
    /// Panics with the name of what was awaited when [`PATIENCE`] runs out.
    pub fn wait_many<R>(&self, what: &str, count: usize, mut pick: impl FnMut(&T) -> Option<R>) -> Vec<R> {
        let end = Instant::now() + PATIENCE;
        let mut items = self.items.lock().unwrap();
        let (mut looked_at, mut found) = (0, Vec::new());
        loop {
            found.extend(items[looked_at..].iter().filter_map(&mut pick));
            looked_at = items.len();
            if found.len() >= count {
                return found;
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let there = items.clone();
                // Others still want to look at what there is, so the lock is not to be poisoned.
                drop(items);
                panic!("waited in vain for {what} ({} of {count}); there is {there:#?}", found.len());
            }
            items = self.grown.wait_timeout(items, left).unwrap().0;
        }
    }

    /// Waits for the first item that `pick` takes something from, the past included.
    pub fn wait<R>(&self, what: &str, pick: impl FnMut(&T) -> Option<R>) -> R {
        self.wait_many(what, 1, pick).swap_remove(0)
    }
}

/// Lets time go by: only for tests whose subject is time itself, never to wait for something to happen.
pub fn pass(time: Duration) {
    let never = Mutex::new(());
    let end = Instant::now() + time;
    let mut guard = never.lock().unwrap();
    while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        guard = Condvar::new().wait_timeout(guard, left).unwrap().0;
    }
}
