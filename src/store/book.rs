//! Booking: settled calls become rows, and their costs sums, in one transaction.
//!
//! A call is booked once, however often it is handed over: only rows that were really inserted are added to anything.
//! All who book lock rows in the same order, so that none of them waits for one that waits for it.

use super::db::{Engine, Tx};
use super::ledger::{LedgerRow, Month, Prompt, Tagged, day_of, floor_id, time_of_id};
use super::reports::Daily;
use super::sql::{Record, Value, is_default};
use super::totals::{ADD, Entity, EntityRef, Total};
use super::{Fault, Kind, Result, Store, records};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::PoisonError;

/// A call that is over.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Settled {
    pub row: LedgerRow,
    /// Budgets that it counts in, over a whole life or within a window. The entities of the row are counted anyway.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub windows: Vec<Entity>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt: Option<Prompt>,
    /// Something was reserved for it in the store, which is given back now.
    #[serde(skip_serializing_if = "is_default")]
    pub reserved: bool,
}

/// What became of a batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Booked {
    pub inserted: usize,
    /// Handed over before.
    pub known: usize,
}

/// Rows in one statement: as arrays of Postgres they are a few hundred kilobytes.
const CHUNK: usize = 500;

impl Store {
    /// Books settled calls; all of them, or none where this fails.
    ///
    /// # Errors
    /// The database does not answer, or an id is no UUIDv7.
    pub async fn book(&self, batch: &[Settled]) -> Result<Booked> {
        let mut calls: BTreeMap<&str, &Settled> = BTreeMap::new();
        let mut months = BTreeSet::new();
        for settled in batch {
            let id = settled.row.id.as_str();
            let at = time_of_id(id).ok_or_else(|| Fault::Invalid(format!("'{id}' is no UUIDv7 in lower case")))?;
            months.insert(Month::of(at));
            calls.entry(id).or_insert(settled);
        }
        if calls.is_empty() {
            return Ok(Booked::default());
        }
        self.make_partitions(&months).await?;
        let booked = match self.try_book(&calls).await {
            // Another gateway's retention dropped a partition that this one knew.
            Err(Fault::Broken(text)) if text.contains("no partition of relation") => {
                self.forget_partitions();
                self.make_partitions(&months).await?;
                self.try_book(&calls).await?
            }
            other => other?,
        };
        Ok(Booked { inserted: booked, known: batch.len() - booked })
    }

    /// Books settled calls, all but those that the database refuses: they are given back with the reason, by their
    /// place. One such call must not keep all later ones out of the ledger.
    ///
    /// # Errors
    /// The database does not answer. What was booked before it went stays booked; handing all over again is right.
    pub async fn book_all_but_refused(&self, batch: &[Settled]) -> Result<(Booked, Vec<(usize, Fault)>)> {
        let (mut booked, mut refused) = (Booked::default(), Vec::new());
        let mut parts = vec![(0, batch)];
        while let Some((first, part)) = parts.pop() {
            match self.book(part).await {
                Ok(more) => {
                    booked.inserted += more.inserted;
                    booked.known += more.known;
                }
                Err(Fault::Unavailable(text)) => return Err(Fault::Unavailable(text)),
                Err(fault) if part.len() == 1 => refused.push((first, fault)),
                Err(_) => {
                    let (left, right) = part.split_at(part.len() / 2);
                    parts.extend([(first + left.len(), right), (first, left)]);
                }
            }
        }
        Ok((booked, refused))
    }

    async fn try_book(&self, calls: &BTreeMap<&str, &Settled>) -> Result<usize> {
        let mut tx = self.db.begin().await?;
        let rows: Vec<Cow<'_, LedgerRow>> = calls.values().map(|settled| settled.row.summable()).collect();
        let fresh = insert(&mut tx, calls, &rows).await?;
        let mut sums = Sums::default();
        for (settled, row) in &fresh {
            sums.add(settled, row);
        }
        let reserved = calls.values().filter(|s| s.reserved).map(|s| s.row.id.as_str());
        let (totals, daily) = sums.end(super::reservations::take(&mut tx, reserved).await?);
        for part in totals.chunks(CHUNK) {
            tx.bulk::<Total>(ADD, part).await?;
        }
        for part in daily.chunks(CHUNK) {
            tx.bulk::<Daily>(Daily::ADD, part).await?;
        }
        tx.commit().await?;
        Ok(fresh.len())
    }

    /// Makes the partitions of the ledger for these months, on Postgres. Nobody has to wait for it: the new table is
    /// made beside the ledger, and attaching it lets others read and write.
    ///
    /// # Errors
    /// The database does not answer.
    pub(super) async fn make_partitions(&self, months: &BTreeSet<Month>) -> Result<()> {
        let unknown: Vec<Month> = {
            let known = self.months.lock().unwrap_or_else(PoisonError::into_inner);
            months.iter().filter(|m| !known.contains(&m.0)).copied().collect()
        };
        if self.engine() == Engine::Sqlite || unknown.is_empty() {
            return Ok(());
        }
        let mut tx = self.db.begin().await?;
        tx.run("SELECT CAST(pg_advisory_xact_lock(4172094) AS TEXT)", Vec::new()).await?;
        for month in &unknown {
            let name = month.table();
            let there = tx.run("SELECT CAST(to_regclass($1) AS TEXT)", records::id(&name)).await?.rows.pop();
            if there.map_or(Ok(None), super::sql::Row::one::<Option<String>>)?.is_some() {
                continue;
            }
            // Names and bounds cannot be bound; these are made of numbers.
            let (from, to) = (floor_id(month.start()), floor_id(month.next().start()));
            tx.batch(&format!(
                "CREATE TABLE {name} (LIKE ledger INCLUDING DEFAULTS); \
                 ALTER TABLE ledger ATTACH PARTITION {name} FOR VALUES FROM ('{from}') TO ('{to}')"
            ))
            .await?;
        }
        tx.commit().await?;
        let mut known = self.months.lock().unwrap_or_else(PoisonError::into_inner);
        known.extend(unknown.iter().map(|m| m.0));
        Ok(())
    }

    pub(super) fn forget_partitions(&self) {
        self.months.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Makes the partition of the month after this time, so that midnight finds it there.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn prepare_ledger(&self, at: i64) -> Result<()> {
        let month = Month::of(at);
        self.make_partitions(&BTreeSet::from([month, month.next()])).await
    }
}

/// Inserts the rows that are new, with their prompts and tags, and gives those back.
async fn insert<'a>(
    tx: &mut Tx,
    calls: &BTreeMap<&str, &'a Settled>,
    rows: &'a [Cow<'a, LedgerRow>],
) -> Result<Vec<(&'a Settled, &'a LedgerRow)>> {
    let mut inserted: HashSet<String> = HashSet::new();
    for part in rows.chunks(CHUNK) {
        for row in tx.bulk::<LedgerRow>("ON CONFLICT (id) DO NOTHING RETURNING id", part).await?.rows {
            inserted.insert(row.one()?);
        }
    }
    let fresh: Vec<(&Settled, &LedgerRow)> = calls
        .values()
        .copied()
        .zip(rows.iter().map(|row| &**row))
        .filter(|(_, row)| inserted.contains(&row.id))
        .collect();
    let tags: BTreeSet<(&str, &str)> =
        fresh.iter().flat_map(|(_, row)| row.tags.iter().map(|tag| (tag.as_str(), row.id.as_str()))).collect();
    let tags: Vec<Tagged> =
        tags.into_iter().map(|(tag, id)| Tagged { tag: tag.to_owned(), id: id.to_owned() }).collect();
    let prompts: Vec<Prompt> =
        fresh.iter().filter_map(|(s, row)| Some(Prompt { id: row.id.clone(), ..s.prompt.clone()? })).collect();
    for part in prompts.chunks(CHUNK) {
        records::insert_new(tx, part).await?;
    }
    for part in tags.chunks(CHUNK) {
        records::insert_new(tx, part).await?;
    }
    Ok(fresh)
}

/// What a batch adds, by whom it is added to as the rows name it. Names are copied once for all calls that have them.
#[derive(Default)]
struct Sums<'a> {
    totals: BTreeMap<EntityRef<'a>, Total>,
    daily: BTreeMap<Day<'a>, Daily>,
    /// Those of the call that is being added.
    names: Vec<EntityRef<'a>>,
}

/// The key of a day's row.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Day<'a> {
    entity: EntityRef<'a>,
    day: i64,
    key_id: &'a str,
    model: &'a str,
    model_group: &'a str,
    provider: &'a str,
    endpoint: &'a str,
    tool: &'a str,
}

impl<'a> Sums<'a> {
    fn add(&mut self, settled: &'a Settled, row: &'a LedgerRow) {
        self.names.clear();
        row.name_entities(&mut self.names);
        self.names.sort_unstable();
        self.names.dedup();
        for name in &self.names {
            if let Some(day) = Day::of(row, *name) {
                self.daily.entry(day).or_insert_with(|| day.nothing()).count(row);
            }
        }
        self.names.extend(settled.windows.iter().map(Entity::as_ref));
        self.names.sort_unstable();
        self.names.dedup();
        for name in &self.names {
            let total = self.totals.entry(*name).or_insert_with(|| Total::none(&name.to_entity()));
            total.spend_nanos = total.spend_nanos.saturating_add(row.cost_nanos);
            total.calls += 1;
            total.failed += i64::from(row.failed());
            total.prompt_tokens += row.prompt_tokens;
            total.completion_tokens += row.completion_tokens;
            total.cached_tokens += row.cached_tokens;
            total.last_at = total.last_at.max(row.ended_at);
        }
    }

    /// The rows that are to be added, in the order in which everybody locks them, with what is given back of
    /// reservations. Two names that differ for us may be one for the database, which holds no NUL.
    fn end(self, reserved: BTreeMap<Entity, i64>) -> (Vec<Total>, Vec<Daily>) {
        let mut totals: BTreeMap<Entity, Total> = BTreeMap::new();
        for total in self.totals.into_values() {
            let entity = total.entity();
            totals.entry(entity).and_modify(|sum| sum.add(&total)).or_insert(total);
        }
        for (entity, nanos) in reserved {
            let total = totals.entry(entity.clone()).or_insert_with(|| Total::none(&entity));
            total.reserved_nanos -= nanos;
        }
        let mut daily: BTreeMap<Vec<Value>, Daily> = BTreeMap::new();
        for day in self.daily.into_values() {
            let key = day.values()[..Daily::KEY].to_vec();
            daily.entry(key).and_modify(|sum| sum.add(&day)).or_insert(day);
        }
        (totals.into_values().collect(), daily.into_values().collect())
    }
}

impl<'a> Day<'a> {
    /// The day of an entity that a call counts in; not all kinds have one.
    fn of(row: &'a LedgerRow, entity: EntityRef<'a>) -> Option<Self> {
        match entity.kind {
            Kind::Gateway | Kind::User | Kind::Team | Kind::Organization | Kind::Customer | Kind::Tag => (),
            // Days of keys, models and providers are columns of the gateway's.
            Kind::Key | Kind::KeyModel | Kind::Member | Kind::Model | Kind::Deployment | Kind::Provider => return None,
            Kind::TeamModel | Kind::UserModel | Kind::CustomerModel | Kind::TagModel => return None,
        }
        Some(Day {
            entity,
            day: day_of(row.started_at),
            key_id: row.key_id.as_deref().unwrap_or_default(),
            model: row.upstream_model.as_deref().unwrap_or(&row.model),
            model_group: row.model_group.as_deref().unwrap_or(&row.model),
            provider: row.provider.as_deref().unwrap_or_default(),
            endpoint: &row.endpoint,
            tool: row.tool.as_deref().unwrap_or_default(),
        })
    }

    /// Its row, with nothing in it yet.
    fn nothing(self) -> Daily {
        let Entity { kind, id, .. } = self.entity.to_entity();
        Daily {
            kind,
            id,
            day: self.day,
            key_id: self.key_id.to_owned(),
            model: self.model.to_owned(),
            model_group: self.model_group.to_owned(),
            provider: self.provider.to_owned(),
            endpoint: self.endpoint.to_owned(),
            tool: self.tool.to_owned(),
            ..Daily::default()
        }
    }
}

impl Daily {
    fn count(&mut self, row: &LedgerRow) {
        self.spend_nanos = self.spend_nanos.saturating_add(row.cost_nanos);
        self.calls += 1;
        self.failed += i64::from(row.failed());
        self.prompt_tokens += row.prompt_tokens;
        self.completion_tokens += row.completion_tokens;
        self.cached_tokens += row.cached_tokens;
        self.cache_write_tokens += row.cache_write_tokens;
        self.reasoning_tokens += row.reasoning_tokens;
        self.cache_hits += i64::from(row.cache_hit);
        self.millis += (row.ended_at - row.started_at).clamp(0, 86_400_000_000) / 1000;
    }
}
