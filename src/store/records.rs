//! What is done alike with every record: find, insert, change, delete, list.

use super::db::{Db, Tx};
use super::sql::{Cell, Record, Value, Where, by_key, names, select};
use super::{Fault, Result};

/// Which part of a list is wanted: newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// What [`Listed::next`] said before.
    pub after: Option<String>,
    /// For an interface that counts pages: so many are left out. Lists of keys and people are short enough for it.
    pub skip: i64,
    pub limit: i64,
}

impl Default for Page {
    fn default() -> Self {
        Page { after: None, skip: 0, limit: 100 }
    }
}

/// No list gives more at once.
pub const MOST: i64 = 1000;

/// A part of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct Listed<T> {
    pub rows: Vec<T>,
    /// Where the next part begins; none at the end.
    pub next: Option<String>,
}

/// A record that lists are made of: its first column is its name, and it says when it was made.
pub(super) trait Dated: Record {
    fn name(&self) -> &str;
    fn created_at(&self) -> i64;
}

/// The columns that `Dated` reads, for each record that has them.
macro_rules! dated {
    ($($Name:ident by $id:ident),*) => {
        $(impl $crate::store::records::Dated for $Name {
            fn name(&self) -> &str {
                &self.$id
            }

            fn created_at(&self) -> i64 {
                self.created_at
            }
        })*
    };
}
pub(super) use dated;

pub(super) async fn find<R: Record>(db: &Db, key: Vec<Value>) -> Result<Option<R>> {
    let sql = format!("{} WHERE {}", select::<R>(), by_key::<R>(1));
    db.read(&sql, key).await?.rows.into_iter().next().map(R::read).transpose()
}

/// The record as it stays until the end of the transaction.
pub(super) async fn hold<R: Record>(tx: &mut Tx, key: Vec<Value>) -> Result<Option<R>> {
    let sql = format!("{} WHERE {}{}", select::<R>(), by_key::<R>(1), tx.lock());
    tx.run(&sql, key).await?.rows.into_iter().next().map(R::read).transpose()
}

pub(super) async fn insert<R: Record>(tx: &mut Tx, record: &R) -> Result<()> {
    let places: Vec<String> = (1..=R::COLUMNS.len()).map(|n| format!("${n}")).collect();
    let sql = format!("INSERT INTO {} ({}) VALUES ({})", R::TABLE, names::<R>(), places.join(", "));
    tx.run(&sql, record.values()).await.map(drop)
}

/// Writes all columns of a record that is there.
pub(super) async fn replace<R: Record>(tx: &mut Tx, key: Vec<Value>, record: &R) -> Result<()> {
    let width = R::COLUMNS.len();
    let set: Vec<String> = R::COLUMNS.iter().enumerate().map(|(n, c)| format!("{} = ${}", c.name, n + 1)).collect();
    let sql = format!("UPDATE {} SET {} WHERE {}", R::TABLE, set.join(", "), by_key::<R>(width + 1));
    let mut params = record.values();
    params.extend(key);
    tx.run(&sql, params).await.map(drop)
}

pub(super) async fn delete<R: Record>(tx: &mut Tx, key: Vec<Value>) -> Result<bool> {
    let sql = format!("DELETE FROM {} WHERE {}", R::TABLE, by_key::<R>(1));
    Ok(tx.run(&sql, key).await?.changed > 0)
}

pub(super) async fn all<R: Record>(db: &Db, filter: Where, order: &'static str) -> Result<Vec<R>> {
    let sql = format!("{}{} ORDER BY {order}", select::<R>(), filter.text());
    db.search(&sql, filter.params).await?.rows.into_iter().map(R::read).collect()
}

pub(super) async fn count<R: Record>(db: &Db, filter: Where) -> Result<i64> {
    let sql = format!("SELECT COUNT(*) FROM {}{}", R::TABLE, filter.text());
    let answer = db.search(&sql, filter.params).await?;
    answer.rows.into_iter().next().map_or(Ok(0), super::sql::Row::one)
}

/// A part of the records, newest first; those of one instant by name.
pub(super) async fn list<R: Dated>(db: &Db, mut filter: Where, page: &Page) -> Result<Listed<R>> {
    let id = R::COLUMNS[0].name;
    let limit = page.limit.clamp(1, MOST);
    if let Some(after) = &page.after {
        let (at, name) = mark(after)?;
        // A name of a constant of ours; the values are bound.
        match id {
            "name" => filter.and("(created_at, name) < (?, ?)", [at.to_value(), name.to_value()]),
            _ => filter.and("(created_at, id) < (?, ?)", [at.to_value(), name.to_value()]),
        }
    }
    let most = filter.bind(Value::Int(limit + 1));
    let skip = filter.bind(Value::Int(page.skip.max(0)));
    let sql =
        format!("{}{} ORDER BY created_at DESC, {id} DESC LIMIT {most} OFFSET {skip}", select::<R>(), filter.text());
    let answer = db.search(&sql, filter.params).await?;
    let mut rows = answer.rows.into_iter().map(R::read).collect::<Result<Vec<R>>>()?;
    let more = rows.len() as i64 > limit;
    rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    let next = rows.last().filter(|_| more).map(|last| format!("{}.{}", last.created_at(), last.name()));
    Ok(Listed { rows, next })
}

/// The same with the records that the configuration declares in front of it: those of `declared`, by name. What they
/// hide in the database is not in `filter`.
pub(super) async fn list_behind<R: Dated>(db: &Db, declared: Vec<R>, filter: Where, page: &Page) -> Result<Listed<R>> {
    let limit = page.limit.clamp(1, MOST);
    // A place among the declared ones is how many came before; any other lies behind all of them.
    let done = match page.after.as_deref() {
        None => 0,
        Some(after) => match after.strip_prefix('+') {
            Some(count) => count.parse().map_err(|_| no_mark(after))?,
            None => return list(db, filter, page).await,
        },
    };
    let (all, skip) = (declared.len() as i64, page.skip.max(0).saturating_add(done));
    let place = usize::try_from(skip).unwrap_or(usize::MAX);
    let most = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut rows: Vec<R> = declared.into_iter().skip(place).take(most).collect();
    let left = limit - rows.len() as i64;
    if left == 0 {
        return Ok(Listed { rows, next: Some(format!("+{}", skip + limit)) });
    }
    let rest = Page { after: None, skip: (skip - all).max(0), limit: left };
    let found = list(db, filter, &rest).await?;
    rows.extend(found.rows);
    Ok(Listed { rows, next: found.next })
}

fn no_mark(after: &str) -> Fault {
    Fault::Invalid(format!("'{after}' is not a place in this list; begin without one."))
}

fn mark(after: &str) -> Result<(i64, String)> {
    let read = || {
        let (at, name) = after.split_once('.')?;
        Some((at.parse().ok()?, name.to_owned()))
    };
    read().ok_or_else(|| no_mark(after))
}

/// All rows of a table after this key, for a copy: in the order of the key.
pub(super) async fn after_key<R: Record>(db: &Db, key: &[Value], limit: i64) -> Result<Vec<R>> {
    let columns: Vec<&str> = R::COLUMNS[..R::KEY].iter().map(|c| c.name).collect();
    let mut params = key.to_vec();
    let beyond = if key.is_empty() {
        String::new()
    } else {
        let places: Vec<String> = (1..=key.len()).map(|n| format!("${n}")).collect();
        format!(" WHERE ({}) > ({})", columns.join(", "), places.join(", "))
    };
    params.push(Value::Int(limit));
    let sql = format!("{}{beyond} ORDER BY {} LIMIT ${}", select::<R>(), columns.join(", "), params.len());
    db.read(&sql, params).await?.rows.into_iter().map(R::read).collect()
}

/// Inserts records, leaving those alone that are there.
pub(super) async fn insert_new<R: Record>(tx: &mut Tx, records: &[R]) -> Result<u64> {
    Ok(tx.bulk::<R>("ON CONFLICT DO NOTHING", records).await?.changed)
}

/// A primary key of one column.
pub(super) fn id(id: &str) -> Vec<Value> {
    vec![id.to_owned().to_value()]
}
