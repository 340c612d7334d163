//! What a later request may go on from, for a while: responses of the Responses API, turns that wait for results of
//! tools.

use super::records;
use super::sql::{Bulk, Cell, Record, Value, record};
use super::{Result, Store};

record! {
    /// Something kept for the key that it was made for.
    pub struct Kept in "kept", key 2 {
        /// What it is: ids of different kinds may be the same.
        pub kind: String,
        pub id: String,
        /// The id of the key, or a word that no key has: who shows another one is told that there is nothing.
        pub owner: String,
        pub made_at: i64,
        pub expires_at: i64,
        pub body: String,
    }
}

const AGAIN: &str = "ON CONFLICT (kind, id) DO UPDATE SET owner = excluded.owner, made_at = excluded.made_at, \
    expires_at = excluded.expires_at, body = excluded.body";

impl Store {
    /// Keeps it, in the place of what was kept under that name.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn keep(&self, kept: &Kept) -> Result<()> {
        let mut tx = self.db.begin().await?;
        tx.bulk(&Bulk::of::<Kept>(AGAIN), vec![kept.values()]).await?;
        tx.commit().await
    }

    /// What is kept under that name for that owner, if its time is not over.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn kept(&self, kind: &str, id: &str, owner: &str, now: i64) -> Result<Option<Kept>> {
        let found: Option<Kept> = records::find(&self.db, name(kind, id)).await?;
        Ok(found.filter(|kept| kept.owner == owner && kept.expires_at > now))
    }

    /// What is kept under that name, whoever it is for: for the operator.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn kept_by_any(&self, kind: &str, id: &str, now: i64) -> Result<Option<Kept>> {
        let found: Option<Kept> = records::find(&self.db, name(kind, id)).await?;
        Ok(found.filter(|kept| kept.expires_at > now))
    }

    /// Forgets it; says whether that owner had anything there.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn forget_kept(&self, kind: &str, id: &str, owner: &str) -> Result<bool> {
        let mut params = name(kind, id);
        params.push(owner.to_owned().to_value());
        let sql = "DELETE FROM kept WHERE kind = $1 AND id = $2 AND owner = $3";
        Ok(self.db.write(sql, params).await?.changed > 0)
    }
}

fn name(kind: &str, id: &str) -> Vec<Value> {
    vec![kind.to_owned().to_value(), id.to_owned().to_value()]
}
