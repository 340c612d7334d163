//! Who is connected, and since when nobody is: what an idle exit is decided by.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Counts the open connections of all workers.
pub struct Visitors {
    open: AtomicUsize,
    /// Every connection there ever was.
    seen: AtomicU64,
    /// When the last one left, or the start.
    quiet_since: Mutex<Instant>,
}

/// A connection that is open until this is dropped.
pub struct Visit(Arc<Visitors>);

impl Default for Visitors {
    fn default() -> Self {
        Visitors { open: AtomicUsize::new(0), seen: AtomicU64::new(0), quiet_since: Mutex::new(Instant::now()) }
    }
}

impl Visitors {
    /// A connection has come.
    pub fn enter(self: &Arc<Self>) -> Visit {
        self.seen.fetch_add(1, Ordering::SeqCst);
        self.open.fetch_add(1, Ordering::SeqCst);
        Visit(self.clone())
    }

    /// How many connections there ever were: two equal answers mean that none came in between.
    pub fn seen(&self) -> u64 {
        self.seen.load(Ordering::SeqCst)
    }

    /// For how long there has been no connection; `None` while there is one.
    pub fn quiet(&self) -> Option<Duration> {
        if self.open.load(Ordering::SeqCst) > 0 {
            return None;
        }
        Some(self.quiet_since.lock().unwrap_or_else(PoisonError::into_inner).elapsed())
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        // The time first: whoever sees no connection must not see an old time with it.
        *self.0.quiet_since.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_quiet_only_when_everybody_has_left() {
        let visitors = Arc::new(Visitors::default());
        let (one, two) = (visitors.enter(), visitors.enter());
        assert_eq!((visitors.quiet(), visitors.seen()), (None, 2));
        drop(one);
        assert_eq!(visitors.quiet(), None);
        drop(two);
        assert!(visitors.quiet().unwrap() < Duration::from_secs(5));
        assert_eq!(visitors.seen(), 2);
    }
}
