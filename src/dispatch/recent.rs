//! How the latest calls went that did not go straight: for `GET /v1/requests/{id}/explain`, without a look into the
//! store. What is older is told by the ledger's row alone.

use serde_json::Value;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use uuid::Uuid;

const MOST: usize = 1000;

/// What is known of one call.
#[derive(Debug)]
pub struct Course {
    pub id: Uuid,
    /// Whose call it was.
    pub key_id: Option<String>,
    pub told: Value,
}

/// The latest ones, the oldest first.
#[derive(Debug, Default)]
pub struct Recent(Mutex<VecDeque<Arc<Course>>>);

impl Recent {
    pub fn keep(&self, course: Course) {
        let mut all = self.lock();
        if all.len() >= MOST {
            all.pop_front();
        }
        all.push_back(Arc::new(course));
    }

    pub fn find(&self, id: &Uuid) -> Option<Arc<Course>> {
        self.lock().iter().rev().find(|course| course.id == *id).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Arc<Course>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
