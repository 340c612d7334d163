//! What the gateway remembers: keys, people, budgets, and the ledger of calls.
//!
//! One set of verbs over two engines, Postgres and a bundled SQLite; every verb is under one contract test on both.
//! What the configuration declares lies over what the database holds ([`Declared`]). Nothing here decides: who may do
//! what, and when a budget is used up, is said elsewhere. Times are microseconds since
//! 1970 and are given by the caller, money is nano-dollars, a key is known by the SHA-256 of its text alone.

mod access;
mod book;
mod budgets;
mod changes;
mod checks;
mod configured;
mod copy;
mod db;
mod declared;
mod foreign;
mod holder;
mod imports;
mod kept;
mod keys;
mod ledger;
mod logs;
mod migrate;
mod nodes;
mod people;
mod postgres;
mod records;
mod reports;
mod reservations;
mod retention;
pub mod sql;
mod sqlite;
mod teams;
#[cfg(test)]
mod tests;
mod totals;

pub use access::{AccessGroup, Entry, Managed, Removed};
pub use book::{Booked, Settled};
pub use budgets::{Budget, Tag};
pub use changes::Change;
pub use checks::Check;
pub use configured::{CONFIGURED, Configured};
pub use copy::Copied;
pub use db::Engine;
pub use declared::Declared;
pub use foreign::Foreign;
pub use holder::Holder;
pub use imports::Brought;
pub use kept::Kept;
pub use keys::{Grace, Key, KeyFilter};
pub use ledger::{LedgerRow, Prompt, date_of, day_of, day_of_date, floor_id};
pub use logs::{LogFilter, LogOrder};
pub use migrate::Schema;
pub use nodes::Node;
pub use people::{Customer, Organization, User, UserFilter};
pub use postgres::url::{Address, read as read_url};
pub use records::{Listed, Page};
pub use reports::{By, Daily, DailyFilter, ReportOrder, ReportRow, Sums};
pub use reservations::{Refusal, Reservation, visit_id};
pub use retention::{Rest, Swept};
pub use teams::{Member, Team, TeamFilter};
pub use totals::{Entity, Kind, Total};

use crate::error::{Error, Kind as ErrorKind};
use arc_swap::ArcSwap;
use db::Db;
use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex};

pub type Result<T> = std::result::Result<T, Fault>;

/// Why a verb was not carried out. Nothing was changed then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The database cannot be reached, is full or too slow; another try may succeed.
    Unavailable(String),
    /// There is one of that name already.
    Taken(String),
    /// There is none of that name.
    Missing(String),
    /// What was asked for cannot be.
    Invalid(String),
    /// The configuration declares it, and is where it is changed.
    Locked(String),
    /// The database does not hold, or do, what this program expects.
    Broken(String),
}

impl Fault {
    fn about(self, what: &str) -> Fault {
        let put = |text: String| format!("{what}{text}");
        match self {
            Fault::Unavailable(text) => Fault::Unavailable(put(text)),
            Fault::Taken(text) => Fault::Taken(put(text)),
            Fault::Missing(text) => Fault::Missing(put(text)),
            Fault::Invalid(text) => Fault::Invalid(put(text)),
            Fault::Locked(text) => Fault::Locked(put(text)),
            Fault::Broken(text) => Fault::Broken(put(text)),
        }
    }

    /// While a connection is made, whatever fails may be mended at the other end.
    fn or_unavailable(self) -> Fault {
        Fault::Unavailable(self.to_string())
    }

    pub fn is_unavailable(&self) -> bool {
        matches!(self, Fault::Unavailable(_))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Unavailable(text)
            | Fault::Taken(text)
            | Fault::Missing(text)
            | Fault::Invalid(text)
            | Fault::Locked(text)
            | Fault::Broken(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for Fault {}

/// What a caller of the management API is told. The inner workings of the database are the operator's business, and
/// are in the log.
impl From<Fault> for Error {
    fn from(fault: Fault) -> Error {
        match fault {
            Fault::Unavailable(_) => {
                Error::new(ErrorKind::Unreachable, "The database of this gateway cannot be reached; try again later.")
                    .with_type("no_db_connection")
            }
            Fault::Taken(text) | Fault::Invalid(text) => Error::invalid(text),
            Fault::Missing(text) => Error::new(ErrorKind::NotFound, text),
            Fault::Locked(text) => Error::new(ErrorKind::Forbidden, text).with_type("locked_by_configuration"),
            Fault::Broken(_) => Error::new(
                ErrorKind::Internal,
                "The database of this gateway gave an answer that makes no sense; its log says more.",
            ),
        }
    }
}

/// The store. Clones share it.
#[derive(Debug, Clone)]
pub struct Store {
    db: Db,
    /// Months whose partition of the ledger is known to be there.
    months: Arc<Mutex<BTreeSet<i64>>>,
    /// What the configuration declares.
    declared: Arc<ArcSwap<Declared>>,
}

/// How the store is.
#[derive(Debug, Clone)]
pub struct Health {
    pub engine: Engine,
    pub schema: Schema,
    /// Postgres: connections in use or waiting to be used, and the most there may be.
    pub connections: Option<(usize, usize)>,
}

impl Store {
    /// A store in Postgres. Nothing is connected to yet: a database that is down is found by the first verb, and by each
    /// one after it until it is back.
    ///
    /// # Errors
    /// There can be no pool of connections.
    pub fn postgres(address: &Address, runtime: tokio::runtime::Handle) -> Result<Self> {
        Ok(Self::over(Db::Postgres(postgres::Postgres::new(address, runtime)?)))
    }

    /// A store in this file, which is made with the first verb.
    ///
    /// # Errors
    /// Its threads cannot be started.
    pub fn sqlite(path: &Path) -> Result<Self> {
        Ok(Self::over(Db::Sqlite(sqlite::Sqlite::new(path)?)))
    }

    fn over(db: Db) -> Self {
        Store { db, months: Arc::default(), declared: Arc::default() }
    }

    pub fn engine(&self) -> Engine {
        self.db.engine()
    }

    /// Whether the database answers, and with which schema.
    ///
    /// # Errors
    /// It does not, or was never migrated.
    pub async fn health(&self) -> Result<Health> {
        let schema = migrate::schema(&self.db).await?;
        let connections = match &self.db {
            Db::Postgres(db) => Some(db.connections()),
            Db::Sqlite(_) => None,
        };
        Ok(Health { engine: self.engine(), schema, connections })
    }
}
