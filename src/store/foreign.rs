//! Somebody else's Postgres, read and never written to: whole rows as JSON, since which columns there are depends on the
//! version of whoever made them.

use super::postgres::Postgres;
use super::postgres::url::{Address, read as read_url};
use super::sql::{Cell, Row, Value};
use super::{Fault, Result};
use secrecy::SecretString;
use serde_json::{Map, Value as Json};
use std::collections::BTreeMap;
use tokio::runtime::Handle;

/// A database whose tables are not ours.
#[derive(Debug, Clone)]
pub struct Foreign {
    db: Postgres,
}

impl Foreign {
    /// Nothing is connected to before the first question.
    ///
    /// # Errors
    /// The URL cannot be understood, or there can be no pool.
    pub fn new(url: &SecretString, runtime: Handle) -> Result<Self> {
        let mut address: Address = read_url(url)?;
        let options = address.config.get_options().unwrap_or_default().to_owned();
        address.config.options(format!("{options} -cdefault_transaction_read_only=on").trim());
        address.connections = 1;
        Ok(Foreign { db: Postgres::new(&address, runtime)? })
    }

    /// The tables with this beginning that can be seen, with how many rows each has.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn tables(&self, beginning: &str) -> Result<Vec<(String, i64)>> {
        let sql = "SELECT CAST(c.relname AS TEXT) FROM pg_class c \
                   WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND pg_table_is_visible(c.oid) \
                   AND starts_with(CAST(c.relname AS TEXT), $1) ORDER BY 1";
        let rows = self.db.read(sql, &[beginning.to_owned().to_value()], false).await?.rows;
        let mut tables = Vec::new();
        for row in rows {
            let name: String = row.one()?;
            let count = self.count(&name).await?;
            tables.push((name, count));
        }
        Ok(tables)
    }

    async fn count(&self, table: &str) -> Result<i64> {
        let sql = format!("SELECT COUNT(*) FROM {}", quoted(table));
        self.db.read(&sql, &[], false).await?.rows.pop().map_or(Ok(0), Row::one)
    }

    /// The columns of a table with their types; none where there is no such table.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn columns(&self, table: &str) -> Result<BTreeMap<String, String>> {
        let sql = "SELECT CAST(json_build_object('name', attname, 'type', format_type(atttypid, atttypmod)) AS TEXT) \
                   FROM pg_attribute WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped";
        let rows = self.read(sql, &[quoted(table).to_value()]).await?;
        let text = |row: &Map<String, Json>, name: &str| row.get(name).and_then(Json::as_str).map(str::to_owned);
        Ok(rows.iter().filter_map(|row| Some((text(row, "name")?, text(row, "type")?))).collect())
    }

    /// Rows of a table in the order of these columns, which are its key, after the one that ended the part before; `more`
    /// may group them. Names are constants of this program.
    ///
    /// # Errors
    /// The database does not answer, or has no such table.
    pub async fn rows(
        &self,
        table: &str,
        key: &str,
        after: Option<&str>,
        limit: i64,
    ) -> Result<Vec<Map<String, Json>>> {
        let sql = format!(
            "SELECT CAST(row_to_json(t) AS TEXT) FROM {} AS t WHERE CAST({key} AS TEXT) > $1 ORDER BY CAST({key} AS TEXT) LIMIT $2",
            quoted(table),
            key = quoted(key)
        );
        let after = after.unwrap_or_default().to_owned();
        self.read(&sql, &[after.to_value(), Value::Int(limit)]).await
    }

    /// The answer to a question of this program's own.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn read(&self, sql: &str, params: &[Value]) -> Result<Vec<Map<String, Json>>> {
        let rows = self.db.read(sql, params, false).await?.rows;
        let read = |row: Row| {
            let text: String = row.one()?;
            serde_json::from_str(&text)
                .map_err(|_| Fault::Broken("a row of the other database is no JSON object".to_owned()))
        };
        rows.into_iter().map(read).collect()
    }
}

/// A name with capitals; none of them holds a quote.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', ""))
}
