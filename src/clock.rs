//! The time limits of a worker's calls, and the end of the process, looked at together a few times a second.
//!
//! A limit of seconds or minutes does not need a timer of its own: setting one up can cost a system call, and each
//! call would set up several. Here a call leaves a deadline and a waker, and takes both away when it is done.

use crate::gateway::Gateway;
use slab::Slab;
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// How late a limit may be noticed.
pub const TICK: Duration = Duration::from_millis(50);

/// What an [`Alarm`] rings for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ring {
    /// The time is up.
    Late,
    /// What is still open must end now.
    Ending,
}

/// One per worker.
pub struct Clock {
    alarms: RefCell<Slab<Entry>>,
    /// Wakes the clock when there is something to look at again.
    idle: Cell<Option<Waker>>,
}

struct Entry {
    deadline: Option<Instant>,
    rung: Option<Ring>,
    waker: Option<Waker>,
}

impl Clock {
    /// Starts the clock of this thread; it stops when it is dropped.
    pub fn start(gateway: Arc<Gateway>) -> Rc<Self> {
        let clock = Rc::new(Clock { alarms: RefCell::default(), idle: Cell::default() });
        actix_web::rt::spawn(run(Rc::downgrade(&clock), gateway));
        clock
    }

    /// An alarm for this deadline, or only for the end of the process.
    pub fn alarm(self: &Rc<Self>, deadline: Option<Instant>) -> Alarm {
        let place = self.alarms.borrow_mut().insert(Entry { deadline, rung: None, waker: None });
        if let Some(idle) = self.idle.take() {
            idle.wake();
        }
        Alarm { clock: self.clone(), place }
    }

    /// An alarm that rings after so long.
    pub fn after(self: &Rc<Self>, patience: Duration) -> Alarm {
        self.alarm(Instant::now().checked_add(patience))
    }

    fn tick(&self, now: Instant, ending: bool) {
        let mut woken = Vec::new();
        for (_, entry) in self.alarms.borrow_mut().iter_mut() {
            let ring = if ending {
                Ring::Ending
            } else if entry.deadline.is_some_and(|deadline| deadline <= now) {
                Ring::Late
            } else {
                continue;
            };
            if entry.rung != Some(ring) {
                entry.rung = Some(ring);
                woken.extend(entry.waker.take());
            }
        }
        // Only now, since whoever is woken may take its alarm away at once.
        woken.into_iter().for_each(Waker::wake);
    }
}

async fn run(clock: Weak<Clock>, gateway: Arc<Gateway>) {
    loop {
        let busy = poll_fn(|cx| match clock.upgrade() {
            Some(clock) if clock.alarms.borrow().is_empty() => {
                clock.idle.set(Some(cx.waker().clone()));
                Poll::Pending
            }
            Some(_) => Poll::Ready(true),
            None => Poll::Ready(false),
        });
        if !busy.await {
            return;
        }
        tokio::time::sleep(TICK).await;
        if let Some(clock) = clock.upgrade() {
            clock.tick(Instant::now(), gateway.ending.is_cut());
        }
    }
}

/// Resolves when its time is up, or when what is open must end.
pub struct Alarm {
    clock: Rc<Clock>,
    place: usize,
}

impl Alarm {
    /// Moves the deadline. An alarm that rang for the one before is silent again; for the same one it goes on ringing.
    pub fn set(&mut self, deadline: Option<Instant>) {
        if let Some(entry) = self.clock.alarms.borrow_mut().get_mut(self.place)
            && entry.deadline != deadline
        {
            entry.deadline = deadline;
            entry.rung = entry.rung.filter(|ring| *ring == Ring::Ending);
        }
    }
}

impl Future for Alarm {
    type Output = Ring;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ring> {
        let mut alarms = self.clock.alarms.borrow_mut();
        let Some(entry) = alarms.get_mut(self.place) else { return Poll::Pending };
        if let Some(ring) = entry.rung {
            return Poll::Ready(ring);
        }
        if !entry.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            let old = entry.waker.replace(cx.waker().clone());
            drop(alarms);
            drop(old);
        }
        Poll::Pending
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        let entry = self.clock.alarms.borrow_mut().try_remove(self.place);
        // Dropping a waker may drop the task behind it; not while the alarms are borrowed.
        drop(entry);
    }
}
