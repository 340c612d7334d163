//! One of the two engines, and a transaction on it.

use super::Result;
use super::postgres::{self, Postgres};
use super::sql::{Answer, Record, Value};
use super::sqlite::{self, Sqlite};
use std::borrow::Borrow;

/// The engine.
#[derive(Debug, Clone)]
pub(crate) enum Db {
    Postgres(Postgres),
    Sqlite(Sqlite),
}

/// Which SQL is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    Postgres,
    Sqlite,
}

impl Engine {
    /// For logs and readiness.
    pub fn name(self) -> &'static str {
        match self {
            Engine::Postgres => "postgres",
            Engine::Sqlite => "sqlite",
        }
    }
}

impl Db {
    pub fn engine(&self) -> Engine {
        match self {
            Db::Postgres(_) => Engine::Postgres,
            Db::Sqlite(_) => Engine::Sqlite,
        }
    }

    /// Runs one statement that reads. Its text is one of a few, and is kept prepared.
    pub async fn read(&self, sql: &str, params: Vec<Value>) -> Result<Answer> {
        match self {
            Db::Postgres(db) => db.read(sql, &params, true).await,
            Db::Sqlite(db) => db.read(sql, params).await,
        }
    }

    /// Runs one statement that reads, whose text depends on what is asked for.
    pub async fn search(&self, sql: &str, params: Vec<Value>) -> Result<Answer> {
        match self {
            Db::Postgres(db) => db.read(sql, &params, false).await,
            Db::Sqlite(db) => db.read(sql, params).await,
        }
    }

    /// Runs one statement that writes, in a transaction of its own.
    pub async fn write(&self, sql: &str, params: Vec<Value>) -> Result<Answer> {
        match self {
            Db::Postgres(db) => db.run(sql, &params).await,
            Db::Sqlite(_) => {
                let mut tx = self.begin().await?;
                let answer = tx.run(sql, params).await?;
                tx.commit().await?;
                Ok(answer)
            }
        }
    }

    pub async fn begin(&self) -> Result<Tx> {
        Ok(match self {
            Db::Postgres(db) => Tx::Postgres(Box::new(db.begin().await?)),
            Db::Sqlite(db) => Tx::Sqlite(db.begin().await?),
        })
    }
}

/// A transaction; dropped, it is rolled back.
pub(crate) enum Tx {
    Postgres(Box<postgres::Lease>),
    Sqlite(sqlite::Lease),
}

impl Tx {
    pub fn engine(&self) -> Engine {
        match self {
            Tx::Postgres(_) => Engine::Postgres,
            Tx::Sqlite(_) => Engine::Sqlite,
        }
    }

    pub async fn run(&mut self, sql: &str, params: Vec<Value>) -> Result<Answer> {
        match self {
            Tx::Postgres(tx) => tx.run(sql, &params).await,
            Tx::Sqlite(tx) => tx.run(sql, params).await,
        }
    }

    /// Inserts many rows with one text, which ends with `tail`; an empty list is nothing to do. Postgres takes the
    /// columns as arrays, SQLite runs the statement for each row: both were measured to be the quickest there.
    pub async fn bulk<R: Record>(&mut self, tail: &str, rows: &[impl Borrow<R> + Sync]) -> Result<Answer> {
        match self {
            _ if rows.is_empty() => Ok(Answer::default()),
            Tx::Postgres(tx) => tx.bulk(tail, rows).await,
            Tx::Sqlite(tx) => tx.bulk(tail, rows).await,
        }
    }

    /// Runs statements without parameters, as migrations have them.
    pub async fn batch(&mut self, sql: &str) -> Result<()> {
        match self {
            Tx::Postgres(tx) => tx.batch(sql).await,
            Tx::Sqlite(tx) => tx.batch(sql).await,
        }
    }

    pub async fn commit(self) -> Result<()> {
        match self {
            Tx::Postgres(tx) => tx.commit().await,
            Tx::Sqlite(tx) => tx.commit().await,
        }
    }

    /// Rows that are read by the next statement stay as they are until the end. SQLite has one writer anyway.
    pub fn lock(&self) -> &'static str {
        match self {
            Tx::Postgres(_) => " FOR UPDATE",
            Tx::Sqlite(_) => "",
        }
    }
}
