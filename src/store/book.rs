//! Booking: settled calls become rows, and their costs sums, in one transaction.
//!
//! A call is booked once, however often it is handed over: only rows that were really inserted are added to anything.
//! All who book lock rows in the same order, so that none of them waits for one that waits for it.

use super::db::{Engine, Tx};
use super::ledger::{LedgerRow, Month, Prompt, Tagged, day_of, floor_id, time_of_id};
use super::reports::Daily;
use super::sql::{Bulk, Record, Value};
use super::totals::{ADD, Entity, Total};
use super::{Fault, Kind, Result, Store, records};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::PoisonError;

/// A call that is over.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Settled {
    pub row: LedgerRow,
    /// Budgets that it counts in, over a whole life or within a window. The entities of the row are counted anyway.
    pub windows: Vec<Entity>,
    pub prompt: Option<Prompt>,
    /// Something was reserved for it in the store, which is given back now.
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
        let fresh = insert(&mut tx, calls).await?;
        let mut sums = Sums::default();
        for settled in &fresh {
            sums.add(settled);
        }
        let reserved = calls.values().filter(|s| s.reserved).map(|s| s.row.id.as_str());
        sums.give_back(super::reservations::take(&mut tx, reserved).await?);
        let Sums { totals, daily } = sums;
        for part in totals.into_values().collect::<Vec<_>>().chunks(CHUNK) {
            tx.bulk(&Bulk::of::<Total>(ADD), part.iter().map(Total::values).collect()).await?;
        }
        for part in daily.into_values().collect::<Vec<_>>().chunks(CHUNK) {
            tx.bulk(&Bulk::of::<Daily>(Daily::ADD), part.iter().map(Daily::values).collect()).await?;
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
async fn insert<'a>(tx: &mut Tx, calls: &BTreeMap<&str, &'a Settled>) -> Result<Vec<&'a Settled>> {
    let bulk = Bulk::of::<LedgerRow>("ON CONFLICT (id) DO NOTHING RETURNING id");
    let all: Vec<&&Settled> = calls.values().collect();
    let mut inserted: HashSet<String> = HashSet::new();
    for part in all.chunks(CHUNK) {
        let rows = part.iter().map(|s| s.row.clone().summable().values()).collect();
        for row in tx.bulk(&bulk, rows).await?.rows {
            inserted.insert(row.one()?);
        }
    }
    let fresh: Vec<&Settled> = calls.values().filter(|s| inserted.contains(&s.row.id)).copied().collect();
    let tags: BTreeSet<(&str, &str)> =
        fresh.iter().flat_map(|s| s.row.tags.iter().map(|tag| (tag.as_str(), s.row.id.as_str()))).collect();
    let tags: Vec<Tagged> =
        tags.into_iter().map(|(tag, id)| Tagged { tag: tag.to_owned(), id: id.to_owned() }).collect();
    let prompts: Vec<Prompt> =
        fresh.iter().filter_map(|s| Some(Prompt { id: s.row.id.clone(), ..s.prompt.clone()? })).collect();
    for part in prompts.chunks(CHUNK) {
        records::insert_new(tx, part).await?;
    }
    for part in tags.chunks(CHUNK) {
        records::insert_new(tx, part).await?;
    }
    Ok(fresh)
}

/// What a batch adds, by the key of the row that it is added to.
#[derive(Default)]
struct Sums {
    totals: BTreeMap<Entity, Total>,
    daily: BTreeMap<Vec<Value>, Daily>,
}

impl Sums {
    fn add(&mut self, settled: &Settled) {
        let row = settled.row.clone().summable();
        let mut entities = row.entities();
        for entity in &entities {
            if let Some(daily) = Daily::of(&row, entity) {
                let key = daily.values()[..Daily::KEY].to_vec();
                self.daily.entry(key).and_modify(|sum| sum.add(&daily)).or_insert(daily);
            }
        }
        entities.extend(settled.windows.iter().cloned());
        entities.sort_unstable();
        entities.dedup();
        for entity in entities {
            let total = self.totals.entry(entity.clone()).or_insert_with(|| Total::none(&entity));
            total.spend_nanos = total.spend_nanos.saturating_add(row.cost_nanos);
            total.calls += 1;
            total.failed += i64::from(row.failed());
            total.prompt_tokens += row.prompt_tokens;
            total.completion_tokens += row.completion_tokens;
            total.cached_tokens += row.cached_tokens;
            total.last_at = total.last_at.max(row.ended_at);
        }
    }

    fn give_back(&mut self, reserved: BTreeMap<Entity, i64>) {
        for (entity, nanos) in reserved {
            let total = self.totals.entry(entity.clone()).or_insert_with(|| Total::none(&entity));
            total.reserved_nanos -= nanos;
        }
    }
}

impl Daily {
    /// A day's row of an entity; not all kinds have one.
    fn of(row: &LedgerRow, entity: &Entity) -> Option<Daily> {
        match entity.kind {
            Kind::Gateway | Kind::User | Kind::Team | Kind::Organization | Kind::Customer | Kind::Tag => (),
            // Days of keys, models and providers are columns of the gateway's.
            Kind::Key | Kind::KeyModel | Kind::Member | Kind::Model | Kind::Deployment | Kind::Provider => return None,
        }
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        Some(Daily {
            kind: entity.kind,
            id: entity.id.clone(),
            day: day_of(row.started_at),
            key_id: text(&row.key_id),
            model: row.upstream_model.clone().unwrap_or_else(|| row.model.clone()),
            model_group: row.model_group.clone().unwrap_or_else(|| row.model.clone()),
            provider: text(&row.provider),
            endpoint: row.endpoint.clone(),
            tool: text(&row.tool),
            spend_nanos: row.cost_nanos,
            calls: 1,
            failed: i64::from(row.failed()),
            prompt_tokens: row.prompt_tokens,
            completion_tokens: row.completion_tokens,
            cached_tokens: row.cached_tokens,
            cache_write_tokens: row.cache_write_tokens,
            reasoning_tokens: row.reasoning_tokens,
            cache_hits: i64::from(row.cache_hit),
            millis: (row.ended_at - row.started_at).clamp(0, 86_400_000_000) / 1000,
        })
    }
}
