//! Customers that are blocked: those who ask the ones who ask us. There are few of them, so a call asks no store.

use crate::error::{Error, Kind, Result};
use crate::store::{self, Change, Store};
use arc_swap::ArcSwap;
use std::collections::HashSet;

/// The ids of all blocked customers, as the store had them last.
#[derive(Debug, Default)]
pub struct Blocked(ArcSwap<HashSet<String>>);

impl Blocked {
    /// Reads them again.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn read(&self, store: &Store) -> store::Result<()> {
        let ids = store.blocked_customers().await?;
        self.0.store(ids.into_iter().collect::<HashSet<_>>().into());
        Ok(())
    }

    /// Whether one of these changes is about a customer.
    pub fn concerns(changes: &[Change]) -> bool {
        changes.iter().any(|change| change.kind == "customer")
    }

    /// # Errors
    /// 403 for a call on behalf of a customer that is blocked.
    pub fn admit(&self, customer: Option<&str>) -> Result<()> {
        match customer {
            Some(id) if self.0.load().contains(id) => {
                let message = format!(
                    "User blocked from making LLM API Calls. User={}; POST /customer/unblock lets it go on.",
                    crate::envelope::shorten(id)
                );
                Err(Error::new(Kind::Forbidden, message).with_type("auth_error").at_param("user"))
            }
            _ => Ok(()),
        }
    }
}
