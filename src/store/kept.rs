//! What a later request may go on from, for a while: responses of the Responses API, turns that wait for results of
//! tools.

use super::records;
use super::sql::{Cell, Record, Value, record, select};
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
const AGAIN_OWN: &str = "ON CONFLICT (kind, id) DO UPDATE SET made_at = excluded.made_at, \
    expires_at = excluded.expires_at, body = excluded.body WHERE kept.owner = excluded.owner";

impl Store {
    /// Keeps it, in the place of what was kept under that name.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn keep(&self, kept: &Kept) -> Result<()> {
        let mut tx = self.db.begin().await?;
        tx.bulk::<Kept>(AGAIN, &[kept]).await?;
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

    /// Keeps it, unless somebody else has something under that name: false then.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn keep_own(&self, kept: &Kept) -> Result<bool> {
        let mut tx = self.db.begin().await?;
        let changed = tx.bulk::<Kept>(AGAIN_OWN, &[kept]).await?.changed;
        tx.commit().await?;
        Ok(changed > 0)
    }

    /// Puts another body in the place of this one; false where it is not there any more.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn change_kept(&self, kept: &Kept, body: &str) -> Result<bool> {
        let mut params = vec![body.to_owned().to_value()];
        params.extend(name(&kept.kind, &kept.id));
        params.push(kept.body.clone().to_value());
        let sql = "UPDATE kept SET body = $1 WHERE kind = $2 AND id = $3 AND body = $4";
        Ok(self.db.write(sql, params).await?.changed > 0)
    }

    /// What an owner keeps of a kind, newest first; `after` is the last one that is known already.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn kept_of(
        &self,
        kind: &str,
        owner: &str,
        now: i64,
        after: Option<&Kept>,
        limit: i64,
    ) -> Result<Vec<Kept>> {
        let mut params = name(kind, owner);
        params.push(now.to_value());
        let mut beyond = "";
        if let Some(after) = after {
            params.extend([after.made_at.to_value(), after.id.clone().to_value()]);
            beyond = " AND (made_at, id) < ($4, $5)";
        }
        params.push(limit.to_value());
        let sql = format!(
            "{} WHERE kind = $1 AND owner = $2 AND expires_at > $3{beyond} ORDER BY made_at DESC, id DESC LIMIT ${}",
            select::<Kept>(),
            params.len()
        );
        self.db.search(&sql, params).await?.rows.into_iter().map(Kept::read).collect()
    }

    /// What is kept of a kind, whoever it is for, behind this id and in the order of ids.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn kept_of_kind(&self, kind: &str, now: i64, after: &str, limit: i64) -> Result<Vec<Kept>> {
        let mut params = name(kind, after);
        params.extend([now.to_value(), limit.to_value()]);
        let sql = format!("{} WHERE kind = $1 AND id > $2 AND expires_at > $3 ORDER BY id LIMIT $4", select::<Kept>());
        self.db.read(&sql, params).await?.rows.into_iter().map(Kept::read).collect()
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
