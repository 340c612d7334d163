//! One store into another: `gateway store copy`.

use super::checks::Check;
use super::configured::Configured;
use super::db::Db;
use super::kept::Kept;
use super::keys::{Grace, Key};
use super::ledger::{LedgerRow, Month, Prompt, Tagged, time_of_id};
use super::records;
use super::reports::Daily;
use super::sql::{Record, record};
use super::totals::Total;
use super::{AccessGroup, Budget, Customer, Fault, Member, Organization, Result, Store, Tag, Team, User};
use std::collections::BTreeSet;

/// How many rows of a table were copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copied {
    pub table: &'static str,
    pub rows: u64,
}

record! {
    /// A copy of what was deleted, as it lies in its table.
    pub struct Buried in "removed", key 3 {
        pub kind: String,
        pub id: String,
        pub at: i64,
        pub removed_by: Option<String>,
        pub record: serde_json::Value,
    }
}

const BATCH: i64 = 500;

impl Store {
    /// Copies everything into a store that is migrated and empty. What calls under way have reserved, and which
    /// gateways live, is not copied: no gateway runs on either while this is done.
    ///
    /// # Errors
    /// One of the two does not answer, or the other one is not empty; what was copied until then stays there.
    pub async fn copy_into(&self, to: &Store) -> Result<Vec<Copied>> {
        for (sql, what) in [
            ("SELECT id FROM keys LIMIT 1", "keys"),
            ("SELECT id FROM users LIMIT 1", "users"),
            ("SELECT id FROM ledger LIMIT 1", "calls"),
            ("SELECT id FROM totals LIMIT 1", "sums"),
        ] {
            if !to.db.read(sql, Vec::new()).await?.rows.is_empty() {
                return Err(Fault::Invalid(format!(
                    "the store to copy into holds {what} already; copy into a new one"
                )));
            }
        }
        let copied = vec![
            self.copy_table::<Budget>(to, |_| ()).await?,
            self.copy_table::<Configured>(to, |_| ()).await?,
            self.copy_table::<Organization>(to, |_| ()).await?,
            self.copy_table::<User>(to, |_| ()).await?,
            self.copy_table::<Team>(to, |_| ()).await?,
            self.copy_table::<Member>(to, |_| ()).await?,
            self.copy_table::<Customer>(to, |_| ()).await?,
            self.copy_table::<Tag>(to, |_| ()).await?,
            self.copy_table::<AccessGroup>(to, |_| ()).await?,
            self.copy_table::<Kept>(to, |_| ()).await?,
            self.copy_table::<Check>(to, |_| ()).await?,
            self.copy_table::<Key>(to, |_| ()).await?,
            self.copy_table::<Grace>(to, |_| ()).await?,
            self.copy_table::<Buried>(to, |_| ()).await?,
            self.copy_table::<Total>(to, |total| total.reserved_nanos = 0).await?,
            self.copy_table::<Daily>(to, |_| ()).await?,
            self.copy_ledger(to).await?,
            self.copy_table::<Tagged>(to, |_| ()).await?,
            self.copy_table::<Prompt>(to, |_| ()).await?,
        ];
        to.gather().await?;
        Ok(copied)
    }

    /// Brings a SQLite file up to date, so that it is all there is of the store: what lies beside it is empty then.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn gather(&self) -> Result<()> {
        match &self.db {
            Db::Postgres(_) => Ok(()),
            Db::Sqlite(db) => db.alone("PRAGMA wal_checkpoint(TRUNCATE)", Vec::new()).await.map(drop),
        }
    }

    /// Writes a SQLite store into a new file, as it is at this moment, while others write to it.
    ///
    /// # Errors
    /// There is such a file, it cannot be written, or the store is not in SQLite.
    pub async fn back_up(&self, path: &str) -> Result<()> {
        match &self.db {
            Db::Postgres(_) => Err(Fault::Invalid("the store is in Postgres; back it up with pg_dump".to_owned())),
            Db::Sqlite(db) => db.alone("VACUUM INTO $1", records::id(path)).await.map(drop),
        }
    }

    async fn copy_table<R: Record>(&self, to: &Store, change: impl Fn(&mut R)) -> Result<Copied> {
        let mut copied = Copied { table: R::TABLE, rows: 0 };
        let mut after = Vec::new();
        loop {
            let mut rows: Vec<R> = records::after_key(&self.db, &after, BATCH).await?;
            let Some(last) = rows.last() else { return Ok(copied) };
            after = last.values()[..R::KEY].to_vec();
            rows.iter_mut().for_each(&change);
            let mut tx = to.db.begin().await?;
            copied.rows += records::insert_new(&mut tx, &rows).await?;
            tx.commit().await?;
        }
    }

    async fn copy_ledger(&self, to: &Store) -> Result<Copied> {
        let mut copied = Copied { table: LedgerRow::TABLE, rows: 0 };
        let mut after = Vec::new();
        loop {
            let rows: Vec<LedgerRow> = records::after_key(&self.db, &after, BATCH).await?;
            let Some(last) = rows.last() else { return Ok(copied) };
            after = last.values()[..LedgerRow::KEY].to_vec();
            let months: BTreeSet<Month> = rows.iter().filter_map(|r| time_of_id(&r.id)).map(Month::of).collect();
            to.make_partitions(&months).await?;
            let mut tx = to.db.begin().await?;
            copied.rows += records::insert_new(&mut tx, &rows).await?;
            tx.commit().await?;
        }
    }
}
