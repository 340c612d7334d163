//! Whether the server's threads have done what they were told: a thread with something to do is not asleep.
//!
//! The kernel counts a thread as running from the very call that wakes it (proc(5), `/proc/PID/task/TID/stat`). So once
//! the accepting thread is found asleep it has carried out what it was told before; and a worker that is found asleep
//! after that has looked at everything that was handed to it. No length of time says this on a busy machine.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How the server's parts name their threads; the kernel keeps 15 bytes of it.
const ACCEPTS: &str = "actix-server ac";
const WORKS: &str = "actix-rt|system";
/// Between two looks.
const LOOK: Duration = Duration::from_millis(1);

/// Waits for it. False if some thread has not slept by then; none where it cannot be found out.
pub async fn settled(patience: Duration) -> Option<bool> {
    let (accepting, workers) = (named(ACCEPTS)?, named(WORKS)?);
    let end = Instant::now() + patience;
    for mut awake in [accepting, workers] {
        loop {
            awake.retain(|thread| !is_asleep(thread));
            if awake.is_empty() {
                break;
            }
            if Instant::now() >= end {
                return Some(false);
            }
            tokio::time::sleep(LOOK).await;
        }
    }
    Some(true)
}

/// The threads of that name, if there are any.
fn named(name: &str) -> Option<Vec<PathBuf>> {
    let threads = std::fs::read_dir("/proc/self/task").ok()?.flatten().map(|entry| entry.path());
    let is_named = |thread: &PathBuf| std::fs::read_to_string(thread.join("comm")).is_ok_and(|n| n.trim_end() == name);
    let found: Vec<PathBuf> = threads.filter(is_named).collect();
    (!found.is_empty()).then_some(found)
}

/// One that is gone does nothing either.
fn is_asleep(thread: &Path) -> bool {
    std::fs::read_to_string(thread.join("stat")).map_or(true, |stat| state(&stat) == Some('S'))
}

/// What stands behind the name, which may hold anything.
fn state(stat: &str) -> Option<char> {
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_stands_behind_the_name() {
        assert_eq!(state("12 (a) R) b) S 1 2 3"), Some('S'));
        assert_eq!(state("12 (x) R 1"), Some('R'));
        assert_eq!(state("12"), None);
    }

    #[test]
    fn a_thread_that_waits_is_asleep_and_one_that_works_is_not() {
        use std::sync::atomic::{AtomicBool, Ordering};
        static END: AtomicBool = AtomicBool::new(false);
        let (tell, told) = std::sync::mpsc::channel::<()>();
        let waits = std::thread::Builder::new().name("waits-here".to_owned()).spawn(move || told.recv().is_err());
        let works = std::thread::Builder::new().name("works-here".to_owned()).spawn(|| {
            while !END.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        });
        let end = Instant::now() + Duration::from_secs(10);
        let asleep = |name| named(name).is_some_and(|threads| threads.iter().all(|thread| is_asleep(thread)));
        while !asleep("waits-here") {
            assert!(Instant::now() < end, "it is never found asleep");
        }
        while named("works-here").is_none() {
            assert!(Instant::now() < end, "it is never found");
        }
        assert!((0..100).all(|_| !asleep("works-here")));
        END.store(true, Ordering::Relaxed);
        drop(tell);
        works.unwrap().join().unwrap();
        assert!(waits.unwrap().join().unwrap());
    }
}
