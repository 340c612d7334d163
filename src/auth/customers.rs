//! Customers that calls are not routed like others for, those who ask the ones who ask us: the blocked ones, and those
//! whose calls stay in a region. There are few of them, so a call asks no store.

use crate::error::{Error, Kind, Result};
use crate::store::{self, Change, Store};
use arc_swap::ArcSwap;
use std::collections::{HashMap, HashSet};

/// These customers, as the store had them last.
#[derive(Debug, Default)]
pub struct Customers {
    blocked: ArcSwap<HashSet<String>>,
    regions: ArcSwap<HashMap<String, String>>,
}

impl Customers {
    /// Reads them again.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn read(&self, store: &Store) -> store::Result<()> {
        let (blocked, regions) = (store.blocked_customers().await?, store.customers_of_regions().await?);
        self.blocked.store(blocked.into_iter().collect::<HashSet<_>>().into());
        self.regions.store(regions.into_iter().collect::<HashMap<_, _>>().into());
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
            Some(id) if self.blocked.load().contains(id) => {
                let message = format!(
                    "User blocked from making LLM API Calls. User={}; POST /customer/unblock lets it go on.",
                    crate::envelope::shorten(id)
                );
                Err(Error::new(Kind::Forbidden, message).with_type("auth_error").at_param("user"))
            }
            _ => Ok(()),
        }
    }

    /// Where calls on behalf of this customer have to stay.
    pub fn region(&self, customer: Option<&str>) -> Option<String> {
        self.regions.load().get(customer?).cloned()
    }
}
