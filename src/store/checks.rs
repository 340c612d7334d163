//! What checks of deployments found, for as long as it is of use.

use super::records;
use super::sql::{Record, Value, Where, record, select};
use super::{Result, Store};

record! {
    /// One call to a deployment that was made to see whether it answers.
    pub struct Check in "health_checks", key 1 {
        pub id: String,
        pub at: i64,
        pub model_id: String,
        /// Its public name at that time.
        pub model_name: String,
        pub took_ms: i64,
        /// None: it answered.
        pub error: Option<String>,
    }
}

impl Store {
    /// Remembers a check.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn note_check(&self, check: &Check) -> Result<()> {
        let mut tx = self.db.begin().await?;
        records::insert(&mut tx, check).await?;
        tx.commit().await
    }

    /// A part of the checks of these deployments, the newest first, and how many there are in all.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn checks(&self, model_ids: &[String], limit: i64, skip: i64) -> Result<(Vec<Check>, i64)> {
        let mut filter = Where::default();
        filter.and_in("model_id", model_ids);
        let count = records::count::<Check>(&self.db, filter.clone()).await?;
        let (most, skip) = (filter.bind(Value::Int(limit)), filter.bind(Value::Int(skip)));
        let sql =
            format!("{}{} ORDER BY at DESC, id DESC LIMIT {most} OFFSET {skip}", select::<Check>(), filter.text());
        let rows = self.db.read(&sql, filter.params).await?.rows;
        Ok((rows.into_iter().map(Check::read).collect::<Result<_>>()?, count))
    }

    /// The last check of each of these deployments.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn last_checks(&self, model_ids: &[String]) -> Result<Vec<Check>> {
        let mut filter = Where::default();
        filter.and_in("model_id", model_ids);
        let sql = format!(
            "{} JOIN (SELECT model_id AS whose, MAX(at) AS newest FROM health_checks{} GROUP BY model_id) last \
             ON whose = model_id AND newest = at",
            select::<Check>(),
            filter.text()
        );
        self.db.read(&sql, filter.params).await?.rows.into_iter().map(Check::read).collect()
    }
}
