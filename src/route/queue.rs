//! Calls that wait for a deployment to be free: in the order of their priority, then of their coming.
//!
//! A lock is taken only by calls that found everything busy, and by those that end while somebody waits.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// How urgent a call is; lower numbers are served first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Priority(pub u8);

impl Priority {
    pub const INTERACTIVE: Priority = Priority(0);
    pub const DEFAULT: Priority = Priority(100);
    pub const BATCH: Priority = Priority(200);

    /// A class by its name, or a number as LiteLLM has it: lower is more urgent.
    pub fn named(text: &str) -> Option<Self> {
        Some(match text.trim() {
            "interactive" => Priority::INTERACTIVE,
            "default" => Priority::DEFAULT,
            "batch" => Priority::BATCH,
            number => Priority(u8::try_from(number.parse::<u64>().ok()?).unwrap_or(u8::MAX)),
        })
    }
}

/// Those who wait for one model.
#[derive(Debug, Default)]
pub struct Queue {
    count: AtomicUsize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    waiting: BTreeMap<(Priority, u64), State>,
}

#[derive(Debug)]
enum State {
    Waiting(Option<Waker>),
    /// Something has become free.
    Called,
}

impl Queue {
    /// Takes a place, unless `most` are waiting.
    pub fn join(self: &Arc<Self>, priority: Priority, most: usize) -> Option<Ticket> {
        let mut inner = self.lock();
        if inner.waiting.len() >= most {
            return None;
        }
        let key = (priority, inner.next);
        inner.next += 1;
        inner.waiting.insert(key, State::Waiting(None));
        self.count.store(inner.waiting.len(), Ordering::Release);
        Some(Ticket { queue: self.clone(), key })
    }

    /// Something has become free: whoever is first may look.
    pub fn call(&self) {
        // In one order with `count` of those who join and then look again whether something is free.
        std::sync::atomic::fence(Ordering::SeqCst);
        if self.count.load(Ordering::Acquire) == 0 {
            return;
        }
        let waker = {
            let mut inner = self.lock();
            let first = inner.waiting.values_mut().find(|state| matches!(state, State::Waiting(_)));
            first.and_then(|state| match std::mem::replace(state, State::Called) {
                State::Waiting(waker) => waker,
                State::Called => None,
            })
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in a queue. It resolves when something has become free, and can be asked again; dropping it leaves the queue.
#[derive(Debug)]
pub struct Ticket {
    queue: Arc<Queue>,
    key: (Priority, u64),
}

impl Ticket {
    /// How many are served before this one.
    pub fn before(&self) -> usize {
        self.queue.lock().waiting.range(..self.key).count()
    }
}

impl Future for Ticket {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut inner = self.queue.lock();
        match inner.waiting.get_mut(&self.key) {
            Some(state @ State::Called) => {
                *state = State::Waiting(None);
                Poll::Ready(())
            }
            Some(State::Waiting(waker)) => {
                if !waker.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
                    *waker = Some(cx.waker().clone());
                }
                Poll::Pending
            }
            None => Poll::Ready(()),
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let left = {
            let mut inner = self.queue.lock();
            let left = inner.waiting.remove(&self.key);
            self.queue.count.store(inner.waiting.len(), Ordering::Release);
            left
        };
        // It was called and does not come: the next one may.
        if let Some(State::Called) = left {
            self.queue.call();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_called(ticket: &mut Ticket) -> bool {
        let waker = Waker::noop();
        Pin::new(ticket).poll(&mut Context::from_waker(waker)).is_ready()
    }

    #[test]
    fn the_most_urgent_goes_first_and_then_who_came_first() {
        let queue = Arc::new(Queue::default());
        let join = |priority| queue.join(priority, 10).unwrap();
        let mut batch = join(Priority::BATCH);
        let (mut first, mut second) = (join(Priority::DEFAULT), join(Priority::DEFAULT));
        let mut urgent = join(Priority::INTERACTIVE);
        assert_eq!([&urgent, &first, &second, &batch].map(|t| t.before()), [0, 1, 2, 3]);
        for expected in 0..4 {
            queue.call();
            let called = [&mut urgent, &mut first, &mut second, &mut batch].map(is_called);
            assert_eq!(called.iter().position(|c| *c), Some(expected), "{called:?}");
            match expected {
                0 => drop(std::mem::replace(&mut urgent, queue.join(Priority(255), 10).unwrap())),
                1 => drop(std::mem::replace(&mut first, queue.join(Priority(255), 10).unwrap())),
                2 => drop(std::mem::replace(&mut second, queue.join(Priority(255), 10).unwrap())),
                _ => (),
            }
        }
    }

    #[test]
    fn a_queue_has_an_end_and_who_leaves_hands_on_the_call() {
        let queue = Arc::new(Queue::default());
        let first = queue.join(Priority::DEFAULT, 2).unwrap();
        let mut second = queue.join(Priority::DEFAULT, 2).unwrap();
        assert!(queue.join(Priority::INTERACTIVE, 2).is_none());
        queue.call();
        drop(first);
        assert!(is_called(&mut second) && !is_called(&mut second));
        drop(second);
        assert!(queue.is_empty());
    }

    #[test]
    fn priorities_have_names_and_numbers() {
        let named = |text| Priority::named(text).map(|p| p.0);
        assert_eq!(["interactive", "batch", " 7 ", "9999"].map(named), [Some(0), Some(200), Some(7), Some(255)]);
        assert_eq!([named("urgent"), named("-1"), named("")], [None; 3]);
    }
}
