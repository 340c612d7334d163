//! The gateways that share a database.

use super::records;
use super::sql::{Record, Value, record, select};
use super::{Result, Store};

record! {
    /// A gateway; one that is started again is another one.
    pub struct Node in "nodes", key 1 {
        pub id: String,
        /// For people: the host's.
        pub name: String,
        pub version: String,
        pub started_at: i64,
        pub seen_at: i64,
        /// When it said that it ends.
        pub gone_at: Option<i64>,
        /// It counts budgets in its memory alone.
        pub alone: bool,
    }
}

const BEAT: &str = "ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at, name = excluded.name, \
    gone_at = excluded.gone_at, alone = excluded.alone";

impl Store {
    /// Says that a gateway lives, or that it ends.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn heartbeat(&self, node: &Node) -> Result<()> {
        let mut tx = self.db.begin().await?;
        tx.bulk::<Node>(BEAT, &[node]).await?;
        tx.commit().await
    }

    /// The gateways that were seen since, and have not said that they end; the oldest first.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn live_nodes(&self, since: i64) -> Result<Vec<Node>> {
        let sql = format!("{} WHERE seen_at >= $1 AND gone_at IS NULL ORDER BY started_at, id", select::<Node>());
        self.db.read(&sql, vec![Value::Int(since)]).await?.rows.into_iter().map(Node::read).collect()
    }

    /// The gateway of that id.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn node(&self, id: &str) -> Result<Option<Node>> {
        records::find(&self.db, records::id(id)).await
    }
}
