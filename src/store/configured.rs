//! What is configured at run time: models, credentials, settings. Bodies are sealed by who writes them; here they are
//! texts.

use super::changes::note;
use super::sql::{Cell, Row, Value, record};
use super::{Result, Store};

/// The word of these records among the changes.
pub const CONFIGURED: &str = "configured";

record! {
    /// One of them.
    pub struct Configured in "configured", key 2 {
        /// `model`, `credential` or `setting`.
        pub kind: String,
        pub id: String,
        pub body: String,
        pub updated_at: i64,
        pub updated_by: Option<String>,
    }
}

impl Store {
    /// All of them, in the order of kind and id.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn configured(&self) -> Result<Vec<Configured>> {
        let answer = self
            .db
            .read("SELECT kind, id, body, updated_at, updated_by FROM configured ORDER BY kind, id", Vec::new())
            .await?;
        let read = |row: Row| {
            let mut cells = row.cells();
            Ok(Configured {
                kind: cells.take()?,
                id: cells.take()?,
                body: cells.take()?,
                updated_at: cells.take()?,
                updated_by: cells.take()?,
            })
        };
        answer.rows.into_iter().map(read).collect()
    }

    /// Writes one, in the place of what it was.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn configure(&self, one: &Configured) -> Result<()> {
        let mut tx = self.db.begin().await?;
        let sql = "INSERT INTO configured (kind, id, body, updated_at, updated_by) VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT (kind, id) DO UPDATE SET body = excluded.body, updated_at = excluded.updated_at, \
             updated_by = excluded.updated_by";
        let values = vec![
            one.kind.clone().to_value(),
            one.id.clone().to_value(),
            one.body.clone().to_value(),
            Value::Int(one.updated_at),
            one.updated_by.clone().to_value(),
        ];
        tx.run(sql, values).await?;
        note(&mut tx, CONFIGURED, std::slice::from_ref(&one.id), one.updated_at).await?;
        tx.commit().await
    }

    /// Takes one away; whether it was there.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn unconfigure(&self, kind: &str, id: &str, at: i64) -> Result<bool> {
        let mut tx = self.db.begin().await?;
        let sql = "DELETE FROM configured WHERE kind = $1 AND id = $2 RETURNING id";
        let gone = tx.run(sql, vec![kind.to_owned().to_value(), id.to_owned().to_value()]).await?.rows.len();
        if gone > 0 {
            note(&mut tx, CONFIGURED, &[id.to_owned()], at).await?;
        }
        tx.commit().await?;
        Ok(gone > 0)
    }
}
