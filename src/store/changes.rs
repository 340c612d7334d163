//! What was changed, so that other gateways forget what they remember of it.

use super::db::Tx;
use super::sql::{Cell, Value};
use super::{Result, Store};

/// A record that is no longer what it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Counts the changes; there is none between two neighbours.
    pub number: i64,
    /// The word of the record: `key`, `user`, `team`, ..
    pub kind: String,
    /// Of a key: its hash.
    pub id: String,
}

/// Notes a change, as the last thing of a transaction: the counter is locked from here to its end, and everybody who
/// changes something waits for it.
pub(super) async fn note(tx: &mut Tx, kind: &str, ids: &[String], at: i64) -> Result<()> {
    if ids.is_empty() {
        return Ok(());
    }
    let many = Value::Int(i64::try_from(ids.len()).unwrap_or(0));
    let sql = "UPDATE counters SET value = value + $1 WHERE name = 'changes' RETURNING value";
    let row = tx.run(sql, vec![many]).await?.rows.pop();
    let last: i64 = row.map_or(Ok(0), super::sql::Row::one)?;
    let first = last - ids.len() as i64 + 1;
    for (number, id) in (first..).zip(ids) {
        tx.run(
            "INSERT INTO changes (number, kind, id, at) VALUES ($1, $2, $3, $4)",
            vec![Value::Int(number), kind.to_owned().to_value(), id.to_value(), Value::Int(at)],
        )
        .await?;
    }
    Ok(())
}

impl Store {
    /// The number of the last change.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn last_change(&self) -> Result<i64> {
        let row = self.db.read("SELECT value FROM counters WHERE name = 'changes'", Vec::new()).await?.rows.pop();
        row.map_or(Ok(0), super::sql::Row::one)
    }

    /// What was changed after that number, in order. Where the first is not the next number, some are no longer told:
    /// everything remembered is to be forgotten.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn changes_after(&self, number: i64, limit: i64) -> Result<Vec<Change>> {
        let sql = "SELECT number, kind, id FROM changes WHERE number > $1 ORDER BY number LIMIT $2";
        let answer = self.db.read(sql, vec![Value::Int(number), Value::Int(limit)]).await?;
        let read = |row: super::sql::Row| {
            let mut cells = row.cells();
            Ok(Change { number: cells.take()?, kind: cells.take()?, id: cells.take()? })
        };
        answer.rows.into_iter().map(read).collect()
    }
}
