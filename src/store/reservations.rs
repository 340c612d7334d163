//! Reservations, for two and more gateways on one database: what a call may cost is set aside before it is made.

use super::db::Tx;
use super::sql::{Cell, Value, record};
use super::totals::{ADD, Entity, Total};
use super::{Kind, Result, Store, changes};
use std::collections::BTreeMap;

record! {
    /// What is set aside for a call, or for its attempt at a deployment ([`visit_id`]), with one entity.
    pub struct Held in "reservations", key 6 {
        pub call_id: String,
        pub kind: Kind,
        pub id: String,
        pub sub: String,
        pub span: String,
        pub start: i64,
        pub node: String,
        pub nanos: i64,
        pub at: i64,
    }
}

/// What a call asks of one budget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation {
    pub entity: Entity,
    pub nanos: i64,
    /// The budget; none admits everything.
    pub limit_nanos: Option<i64>,
    /// What is reserved must fit into the budget; otherwise the budget must only not be used up.
    pub strict: bool,
}

impl Reservation {
    /// What must be free.
    fn needs(&self) -> i64 {
        if self.strict { self.nanos.max(0) } else { 1 }
    }
}

/// The budget that a call did not fit into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub entity: Entity,
    pub spent_nanos: i64,
    pub reserved_nanos: i64,
    pub limit_nanos: i64,
}

/// One statement checks and reserves: a row that does not exist yet is checked before, in the program.
const RESERVE: &str = "INSERT INTO totals (kind, id, sub, span, start, spend_nanos, offset_nanos, reserved_nanos, \
    calls, failed, prompt_tokens, completion_tokens, cached_tokens, last_at) \
    VALUES ($1, $2, $3, $4, $5, 0, 0, $6, 0, 0, 0, 0, 0, 0) \
    ON CONFLICT (kind, id, sub, span, start) DO UPDATE SET reserved_nanos = totals.reserved_nanos + excluded.reserved_nanos \
    WHERE totals.spend_nanos + totals.offset_nanos + totals.reserved_nanos + $7 <= $8 \
    RETURNING reserved_nanos";

/// What is set aside where an attempt goes is given back before its call is over, if the attempt comes to nothing. So it
/// has a name of its own; whoever gives back by the name of the call gives back both.
pub fn visit_id(call_id: &str) -> String {
    format!("{call_id}/visit")
}

/// A call that turns out to be dearer sets more aside.
const ADD_HELD: &str = "ON CONFLICT (call_id, kind, id, sub, span, start) DO UPDATE SET \
    nanos = reservations.nanos + excluded.nanos";

impl Store {
    /// Sets aside what a call may cost in all its budgets, or in none where one of them refuses it. What is set aside
    /// for it already stays beside that.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn reserve(
        &self,
        call_id: &str,
        node: &str,
        wanted: &[Reservation],
        at: i64,
    ) -> Result<std::result::Result<(), Refusal>> {
        let mut wanted: Vec<&Reservation> = wanted.iter().collect();
        wanted.sort_by(|a, b| a.entity.cmp(&b.entity));
        let mut tx = self.db.begin().await?;
        let mut held = Vec::new();
        for one in wanted {
            let limit = one.limit_nanos.unwrap_or(i64::MAX);
            let fits_alone = one.needs() <= limit;
            if !fits_alone || !reserve_one(&mut tx, one, limit).await? {
                drop(tx);
                return self.refused(one, limit).await.map(Err);
            }
            let Entity { kind, id, sub, span, start } = one.entity.clone();
            let (call_id, node) = (call_id.to_owned(), node.to_owned());
            held.push(Held { call_id, kind, id, sub, span, start, node, nanos: one.nanos.max(0), at });
        }
        tx.bulk::<Held>(ADD_HELD, &held).await?;
        tx.commit().await?;
        Ok(Ok(()))
    }

    async fn refused(&self, one: &Reservation, limit_nanos: i64) -> Result<Refusal> {
        let total = self.totals(std::slice::from_ref(&one.entity)).await?.pop();
        let total = total.unwrap_or_else(|| Total::none(&one.entity));
        let entity = one.entity.clone();
        Ok(Refusal { entity, spent_nanos: total.spent(), reserved_nanos: total.reserved_nanos, limit_nanos })
    }

    /// Gives back what was set aside for calls that were not made. Booking does it for those that were.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn unreserve(&self, call_ids: &[String]) -> Result<()> {
        let mut tx = self.db.begin().await?;
        let back = take(&mut tx, call_ids.iter().map(String::as_str)).await?;
        give_back(&mut tx, back).await?;
        tx.commit().await
    }

    /// Gives back everything that a gateway has set aside which does not come back; how many reservations there were.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn release(&self, node: &str, at: i64) -> Result<u64> {
        let mut tx = self.db.begin().await?;
        let sql = "DELETE FROM reservations WHERE node = $1 RETURNING kind, id, sub, span, start, nanos";
        let answer = tx.run(sql, super::records::id(node)).await?;
        let many = answer.rows.len() as u64;
        let mut back = BTreeMap::new();
        sum(&mut back, answer.rows)?;
        give_back(&mut tx, back).await?;
        if many > 0 {
            // Gateways that count it among what others hold look again.
            changes::note(&mut tx, "node", &[node.to_owned()], at).await?;
        }
        tx.commit().await?;
        Ok(many)
    }

    /// What other gateways have set aside with these entities, in this order.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn reserved_by_others(&self, node: &str, entities: &[Entity]) -> Result<Vec<i64>> {
        let sql = "SELECT kind, id, sub, span, start, CAST(SUM(nanos) AS BIGINT) FROM reservations WHERE node <> $1 \
                   GROUP BY kind, id, sub, span, start";
        let mut held = BTreeMap::new();
        sum(&mut held, self.db.read(sql, super::records::id(node)).await?.rows)?;
        Ok(entities.iter().map(|entity| held.get(entity).copied().unwrap_or(0)).collect())
    }

    /// What gateways have set aside: each with its number of reservations and their sum over entities that live on.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn reserved_by_node(&self) -> Result<Vec<(String, i64)>> {
        let sql = "SELECT node, COUNT(*) FROM reservations GROUP BY node ORDER BY node";
        let read = |row: super::sql::Row| {
            let mut cells = row.cells();
            Ok((cells.take()?, cells.take()?))
        };
        self.db.read(sql, Vec::new()).await?.rows.into_iter().map(read).collect()
    }
}

async fn reserve_one(tx: &mut Tx, one: &Reservation, limit: i64) -> Result<bool> {
    let mut params = one.entity.key();
    params.extend([one.nanos.max(0), one.needs(), limit].map(Value::Int));
    Ok(!tx.run(RESERVE, params).await?.rows.is_empty())
}

/// Takes the reservations of these calls away, and says how much is to be given back to whom.
pub(super) async fn take<'a>(tx: &mut Tx, call_ids: impl Iterator<Item = &'a str>) -> Result<BTreeMap<Entity, i64>> {
    let mut ids: Vec<&str> = call_ids.collect();
    ids.sort_unstable();
    let mut back = BTreeMap::new();
    for id in ids {
        let sql = "DELETE FROM reservations WHERE call_id IN ($1, $2) RETURNING kind, id, sub, span, start, nanos";
        let params = vec![id.to_owned().to_value(), visit_id(id).to_value()];
        sum(&mut back, tx.run(sql, params).await?.rows)?;
    }
    Ok(back)
}

fn sum(back: &mut BTreeMap<Entity, i64>, rows: Vec<super::sql::Row>) -> Result<()> {
    for row in rows {
        let mut cells = row.cells();
        let entity = Entity {
            kind: cells.take()?,
            id: cells.take()?,
            sub: cells.take()?,
            span: cells.take()?,
            start: cells.take()?,
        };
        *back.entry(entity).or_default() += cells.take::<i64>()?;
    }
    Ok(())
}

async fn give_back(tx: &mut Tx, back: BTreeMap<Entity, i64>) -> Result<()> {
    let rows: Vec<Total> =
        back.iter().map(|(entity, nanos)| Total { reserved_nanos: -nanos, ..Total::none(entity) }).collect();
    tx.bulk::<Total>(ADD, &rows).await.map(drop)
}
