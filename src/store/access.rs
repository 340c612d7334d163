//! The verbs that keys, people and budgets have alike, and access groups.

use super::db::Tx;
use super::records::{self, Dated, Listed, Page, dated};
use super::sql::{Cell, Value, Where, record};
use super::{Declared, Fault, Key, Kind, Result, Store, changes, keys, totals};
use serde_json::Value as Json;
use std::collections::BTreeMap;

record! {
    /// A name for several models, servers and agents, which keys and teams are given at once.
    pub struct AccessGroup in "access_groups", key 1 {
        pub id: String,
        pub alias: String,
        pub description: Option<String>,
        pub models: Vec<String>,
        pub mcp_servers: Vec<String>,
        pub agents: Vec<String>,
        pub team_ids: Vec<String>,
        pub key_ids: Vec<String>,
        pub extra: Json,
        pub created_at: i64,
        pub created_by: Option<String>,
        pub updated_at: i64,
        pub updated_by: Option<String>,
    }
}

dated!(AccessGroup by id);

impl Entry for AccessGroup {
    const WORD: &'static str = "access group";
}

impl Managed for AccessGroup {
    const SUMS: Option<Kind> = None;

    fn touch(&mut self, at: i64) {
        self.updated_at = at;
    }
}

/// A record that is found by its name.
#[expect(private_bounds, reason = "which records these are is decided here")]
pub trait Entry: Dated + Clone + serde::Serialize + 'static {
    /// For messages, and for other gateways.
    const WORD: &'static str;

    /// Those of this kind that the configuration declares; none where it cannot.
    fn declared(_: &Declared) -> Option<&BTreeMap<String, Self>> {
        None
    }
}

/// A record that is made, changed and deleted by its name. Keys are none of these: they have verbs of their own.
pub trait Managed: Entry {
    /// What is spent by it is counted there.
    const SUMS: Option<Kind>;
    /// The column of keys that says whose they are; they go with it.
    const KEYS_BY: Option<&'static str> = None;
    /// Rows that go with it; `$1` is its name.
    const WITH_IT: &'static [&'static str] = &[];

    fn touch(&mut self, at: i64);
}

pub(super) fn missing<R: Entry>(id: &str) -> Fault {
    Fault::Missing(format!("There is no {} '{id}'.", R::WORD))
}

pub(super) fn taken<R: Entry>(fault: Fault, name: &str, alias: Option<&str>) -> Fault {
    match fault {
        Fault::Taken(column) if column.ends_with("alias") => {
            let alias = alias.map_or_else(String::new, |alias| format!(" '{alias}'"));
            Fault::Taken(format!("The alias{alias} belongs to another {}; choose another one.", R::WORD))
        }
        Fault::Taken(column) if column.ends_with("sso_user_id") => {
            Fault::Taken(format!("The sso_user_id of the {} '{name}' belongs to another one.", R::WORD))
        }
        Fault::Taken(_) => Fault::Taken(format!("There is a {} '{name}' already.", R::WORD)),
        other => other,
    }
}

impl Store {
    /// Inserts a record.
    ///
    /// # Errors
    /// There is one of that name.
    pub async fn create<R: Managed>(&self, record: &R) -> Result<()> {
        self.unlocked::<R>(record.name())?;
        let mut tx = self.db.begin().await?;
        records::insert(&mut tx, record).await.map_err(|f| taken::<R>(f, record.name(), None))?;
        changes::note(&mut tx, R::WORD, &[record.name().to_owned()], record.created_at()).await?;
        tx.commit().await
    }

    /// The record of that name.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn get<R: Entry>(&self, id: &str) -> Result<Option<R>> {
        match self.declared_record(id) {
            Some(record) => Ok(Some(record)),
            None => records::find(&self.db, records::id(id)).await,
        }
    }

    /// The records of these names, those that there are.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn get_many<R: Entry>(&self, ids: &[String]) -> Result<Vec<R>> {
        let mut rows: Vec<R> = ids.iter().filter_map(|id| self.declared_record(id)).collect();
        let others: Vec<String> = ids.iter().filter(|id| !self.is_locked::<R>(id)).cloned().collect();
        if !others.is_empty() {
            let mut filter = Where::default();
            filter.and_in(R::COLUMNS[0].name, &others);
            rows.extend(records::all(&self.db, filter, "1").await?);
        }
        Ok(rows)
    }

    /// Changes a record: it is read, handed over and written back, and nobody else does so in between.
    ///
    /// # Errors
    /// There is none of that name, or the change refuses it.
    pub async fn update<R: Managed>(
        &self,
        id: &str,
        at: i64,
        change: impl FnOnce(&mut R) -> Result<()> + Send,
    ) -> Result<R> {
        self.unlocked::<R>(id)?;
        let mut tx = self.db.begin().await?;
        let mut record: R = records::hold(&mut tx, records::id(id)).await?.ok_or_else(|| missing::<R>(id))?;
        change(&mut record)?;
        if record.name() != id {
            return Err(Fault::Invalid(format!("A {} cannot be given another name.", R::WORD)));
        }
        record.touch(at);
        records::replace(&mut tx, records::id(id), &record).await.map_err(|f| taken::<R>(f, record.name(), None))?;
        changes::note(&mut tx, R::WORD, &[id.to_owned()], at).await?;
        tx.commit().await?;
        Ok(record)
    }

    /// Deletes records with the keys and rows that belong to them, keeps a copy of each, and gives back what there was.
    /// What they have spent is no longer counted against the next of that name.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn delete<R: Managed>(&self, ids: &[String], by: Option<&str>, at: i64) -> Result<Vec<R>> {
        ids.iter().try_for_each(|id| self.unlocked::<R>(id))?;
        let mut tx = self.db.begin().await?;
        let mut gone: Vec<R> = Vec::new();
        let (mut keys_gone, mut forgiven) = (Vec::new(), Vec::new());
        for id in sorted(ids) {
            let Some(record) = records::hold::<R>(&mut tx, records::id(&id)).await? else { continue };
            records::delete::<R>(&mut tx, records::id(&id)).await?;
            for sql in R::WITH_IT {
                tx.run(sql, records::id(&id)).await?;
            }
            if let Some(column) = R::KEYS_BY {
                for key in keys::bury_where(&mut tx, column, &id, by, at).await? {
                    forgiven.push((Kind::Key, key.id));
                    keys_gone.push(key.hash);
                }
            }
            bury(&mut tx, R::WORD, &id, &record, by, at).await?;
            forgiven.extend(R::SUMS.map(|kind| (kind, id)));
            gone.push(record);
        }
        totals::forgive(&mut tx, forgiven).await?;
        changes::note(&mut tx, "key", &keys_gone, at).await?;
        let names: Vec<String> = gone.iter().map(|r| r.name().to_owned()).collect();
        changes::note(&mut tx, R::WORD, &names, at).await?;
        tx.commit().await?;
        Ok(gone)
    }

    /// A part of all records, newest first.
    ///
    /// # Errors
    /// The database does not answer, or the page is none.
    pub async fn list<R: Entry>(&self, page: &Page) -> Result<Listed<R>> {
        self.list_where(Where::default(), |_| true, page).await
    }

    /// How many records there are.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn count<R: Entry>(&self) -> Result<i64> {
        self.count_where::<R>(Where::default(), |_| true).await
    }

    /// A part of the records that meet a condition, which is written twice: for the database, and for those that the
    /// configuration declares.
    pub(super) async fn list_where<R: Entry>(
        &self,
        filter: Where,
        wanted: impl Fn(&R) -> bool,
        page: &Page,
    ) -> Result<Listed<R>> {
        let (declared, filter) = self.with_declared(filter, wanted);
        records::list_behind(&self.db, declared, filter, page).await
    }

    pub(super) async fn count_where<R: Entry>(&self, filter: Where, wanted: impl Fn(&R) -> bool) -> Result<i64> {
        let (declared, filter) = self.with_declared(filter, wanted);
        Ok(records::count::<R>(&self.db, filter).await? + declared.len() as i64)
    }

    /// The declared records that are wanted, and the condition for those that they do not hide.
    fn with_declared<R: Entry>(&self, mut filter: Where, wanted: impl Fn(&R) -> bool) -> (Vec<R>, Where) {
        let declared = self.declared();
        let Some(records) = R::declared(&declared) else { return (Vec::new(), filter) };
        filter.and_not_in(R::COLUMNS[0].name, &records.keys().cloned().collect::<Vec<_>>());
        if R::WORD == Key::WORD {
            filter.and_not_in("hash", &declared.hashes());
        }
        (records.values().filter(|record| wanted(record)).cloned().collect(), filter)
    }

    /// Copies of deleted records of that word, latest first.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn removed(&self, word: &str, limit: i64) -> Result<Vec<Removed>> {
        let sql = "SELECT id, at, removed_by, record FROM removed WHERE kind = $1 ORDER BY at DESC, id LIMIT $2";
        let params = vec![word.to_owned().to_value(), Value::Int(limit.clamp(1, records::MOST))];
        let read = |row: super::sql::Row| {
            let mut cells = row.cells();
            Ok(Removed { id: cells.take()?, at: cells.take()?, by: cells.take()?, record: cells.take()? })
        };
        self.db.read(sql, params).await?.rows.into_iter().map(read).collect()
    }
}

/// A copy of what was deleted.
#[derive(Debug, Clone, PartialEq)]
pub struct Removed {
    pub id: String,
    pub at: i64,
    pub by: Option<String>,
    pub record: Json,
}

/// One after the other in this order, whoever changes several: two that do so at once cannot wait for each other.
pub(super) fn sorted(ids: &[String]) -> Vec<String> {
    let mut ids = ids.to_vec();
    ids.sort_unstable();
    ids.dedup();
    ids
}

pub(super) async fn bury<R: serde::Serialize>(
    tx: &mut Tx,
    word: &str,
    id: &str,
    record: &R,
    by: Option<&str>,
    at: i64,
) -> Result<()> {
    let copy = serde_json::to_value(record).map_err(|e| Fault::Broken(e.to_string()))?;
    // A record that comes and goes within one microsecond is kept once.
    let sql = "INSERT INTO removed (kind, id, at, removed_by, record) VALUES ($1, $2, $3, $4, $5) \
               ON CONFLICT DO NOTHING";
    let by = by.map(str::to_owned);
    let params =
        vec![word.to_owned().to_value(), id.to_owned().to_value(), Value::Int(at), by.to_value(), copy.to_value()];
    tx.run(sql, params).await.map(drop)
}
