//! What is old goes: in small steps within the database, by whole partitions on Postgres.
//!
//! Each verb takes one step and says whether there is more to do; whoever calls it may wait in between.

use super::db::Engine;
use super::ledger::{Month, floor_id};
use super::sql::{Cell, Row, Value};
use super::{Result, Store};

/// What a step took away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    pub rows: u64,
    pub partitions: u64,
    /// There may be more.
    pub more: bool,
}

impl Store {
    /// Takes rows of the ledger away that are older; their sums stay.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn sweep_ledger(&self, before: i64, batch: i64) -> Result<Swept> {
        if self.engine() == Engine::Postgres
            && let Some(month) = self.oldest_partition().await?.filter(|m| m.next().start() <= before)
        {
            self.drop_partition(month).await?;
            return Ok(Swept { rows: 0, partitions: 1, more: true });
        }
        let tags = self.sweep_ids("ledger_tags", before, batch).await?;
        let rows = self.sweep_ids("ledger", before, batch).await?;
        let full = u64::try_from(batch).unwrap_or(1);
        Ok(Swept { rows, partitions: 0, more: rows >= full || tags >= full })
    }

    /// Takes prompts and answers away that are older.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn sweep_prompts(&self, before: i64, batch: i64) -> Result<Swept> {
        let rows = self.sweep_ids("prompts", before, batch).await?;
        Ok(Swept { rows, partitions: 0, more: rows >= u64::try_from(batch).unwrap_or(1) })
    }

    /// The table is a constant of this module.
    async fn sweep_ids(&self, table: &str, before: i64, batch: i64) -> Result<u64> {
        let sql =
            format!("DELETE FROM {table} WHERE id IN (SELECT id FROM {table} WHERE id < $1 ORDER BY id LIMIT $2)");
        Ok(self.db.write(&sql, vec![floor_id(before).to_value(), Value::Int(batch.max(1))]).await?.changed)
    }

    /// Takes days away that are older, windows of budgets that began before, what was deleted before, changes that
    /// every gateway has seen, gateways that are long gone, hashes whose period of grace is over, what
    /// was kept until then, and old checks of deployments.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn sweep_rest(&self, rest: &Rest) -> Result<u64> {
        let mut rows = 0;
        for (sql, before) in [
            ("DELETE FROM daily WHERE day < $1", rest.daily_before_day),
            ("DELETE FROM totals WHERE span <> '' AND start < $1 AND reserved_nanos = 0", rest.windows_before),
            ("DELETE FROM removed WHERE at < $1", rest.removed_before),
            ("DELETE FROM changes WHERE at < $1", rest.changes_before),
            ("DELETE FROM nodes WHERE seen_at < $1", rest.nodes_before),
            ("DELETE FROM graces WHERE revoke_at < $1", rest.graces_before),
            ("DELETE FROM kept WHERE expires_at < $1", rest.kept_before),
            ("DELETE FROM health_checks WHERE at < $1", rest.checks_before),
        ] {
            if let Some(before) = before {
                rows += self.db.write(sql, vec![Value::Int(before)]).await?.changed;
            }
        }
        Ok(rows)
    }

    /// The lengths of the windows of budgets that there are sums of.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn spans(&self) -> Result<Vec<String>> {
        let rows = self.db.read("SELECT DISTINCT span FROM totals WHERE span <> ''", Vec::new()).await?.rows;
        rows.into_iter().map(Row::one).collect()
    }

    /// Takes windows of that length away that began before.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn sweep_windows(&self, span: &str, before: i64) -> Result<u64> {
        let sql = "DELETE FROM totals WHERE span = $1 AND start < $2 AND reserved_nanos = 0";
        Ok(self.db.write(sql, vec![span.to_owned().to_value(), Value::Int(before)]).await?.changed)
    }

    /// Gives a part of what was freed back to the file system: so many pages of 4 KiB. Postgres does so by itself.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn compact(&self, pages: u32) -> Result<()> {
        match self.engine() {
            Engine::Postgres => Ok(()),
            // A pragma binds nothing; this is a number.
            Engine::Sqlite => self.db.write(&format!("PRAGMA incremental_vacuum({pages})"), Vec::new()).await.map(drop),
        }
    }

    async fn oldest_partition(&self) -> Result<Option<Month>> {
        let sql = "SELECT CAST(c.relname AS TEXT) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid \
                   WHERE i.inhparent = CAST('ledger' AS regclass)";
        let rows = self.db.read(sql, Vec::new()).await?.rows;
        let names = rows.into_iter().map(Row::one).collect::<Result<Vec<String>>>()?;
        Ok(names.iter().filter_map(|name| Month::of_table(name)).min())
    }

    async fn drop_partition(&self, month: Month) -> Result<()> {
        let mut tx = self.db.begin().await?;
        // It waits for whoever reads the ledger, and everybody else for it: rather another time than long.
        tx.batch(&format!("SET LOCAL lock_timeout = '2s'; DROP TABLE {}", month.table())).await?;
        tx.commit().await?;
        self.forget_partitions();
        Ok(())
    }
}

/// How old the smaller things may be; none keeps them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rest {
    pub daily_before_day: Option<i64>,
    /// Windows that began before; at least twice the longest span ago.
    pub windows_before: Option<i64>,
    pub removed_before: Option<i64>,
    pub changes_before: Option<i64>,
    pub nodes_before: Option<i64>,
    pub graces_before: Option<i64>,
    pub kept_before: Option<i64>,
    pub checks_before: Option<i64>,
}
