//! Migrations: numbered, additive, each carried out once, by one process at a time.
//!
//! Within a major version tables and columns are only added, and what is added is nullable or has a default. So an older
//! binary of the same major runs on a newer schema; the schema of another major is refused.

use super::db::{Db, Engine, Tx};
use super::sql::{Cell, Row, Value};
use super::{Fault, Result, Store};

/// Of the schema; it changes when an older binary could not go on.
const MAJOR: i64 = 1;

/// One step, as text of SQL. An applied one is never edited.
#[derive(Debug, Clone, Copy)]
pub(super) struct Migration {
    pub version: i64,
    pub name: &'static str,
    pub postgres: &'static str,
    pub sqlite: &'static str,
}

pub(super) const MIGRATIONS: &[Migration] = &[
    both(1, "people", include_str!("migrations/0001_people.sql")),
    both(2, "sums", include_str!("migrations/0002_sums.sql")),
    Migration {
        version: 3,
        name: "ledger",
        postgres: include_str!("migrations/0003_ledger.postgres.sql"),
        sqlite: include_str!("migrations/0003_ledger.sqlite.sql"),
    },
    both(4, "kept", include_str!("migrations/0004_kept.sql")),
    both(5, "sharing", include_str!("migrations/0005_sharing.sql")),
    both(6, "configured", include_str!("migrations/0006_configured.sql")),
    both(7, "health checks", include_str!("migrations/0007_health_checks.sql")),
];

pub(super) const fn both(version: i64, name: &'static str, sql: &'static str) -> Migration {
    Migration { version, name, postgres: sql, sqlite: sql }
}

/// What the database holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schema {
    pub version: i64,
    pub major: i64,
    /// The version that this program would make of it.
    pub known: i64,
}

const TABLE: &str = "CREATE TABLE IF NOT EXISTS schema_versions (version BIGINT NOT NULL PRIMARY KEY, \
     major BIGINT NOT NULL, name TEXT NOT NULL, applied_at BIGINT NOT NULL, applied_by TEXT NOT NULL)";

const READ: &str = "SELECT COALESCE(MAX(version), 0), COALESCE(MAX(major), 0) FROM schema_versions";

impl Store {
    /// Brings the schema up to date, if it is not; says what it was and is. Two that do so at once do it one after the
    /// other.
    ///
    /// # Errors
    /// The database cannot be reached, or its schema is of another major version.
    pub async fn migrate(&self, at: i64) -> Result<Schema> {
        apply(&self.db, MIGRATIONS, at).await
    }
}

pub(super) async fn apply(db: &Db, migrations: &[Migration], at: i64) -> Result<Schema> {
    let known = migrations.last().map_or(0, |m| m.version);
    let mut tx = db.begin().await?;
    if tx.engine() == Engine::Postgres {
        // A number of ours; it is let go with the transaction. SQLite's BEGIN IMMEDIATE is the lock.
        tx.run("SELECT CAST(pg_advisory_xact_lock(4172093) AS TEXT)", Vec::new()).await?;
    }
    tx.batch(TABLE).await?;
    let found = check(tx.run(READ, Vec::new()).await?.rows.pop(), known)?;
    for migration in migrations.iter().filter(|m| m.version > found.version) {
        step(&mut tx, migration, at)
            .await
            .map_err(|f| f.about(&format!("migration {} ({}): ", migration.version, migration.name)))?;
    }
    tx.commit().await?;
    Ok(Schema { version: found.version.max(known), major: MAJOR, known })
}

async fn step(tx: &mut Tx, migration: &Migration, at: i64) -> Result<()> {
    tx.batch(match tx.engine() {
        Engine::Postgres => migration.postgres,
        Engine::Sqlite => migration.sqlite,
    })
    .await?;
    tx.run(
        "INSERT INTO schema_versions (version, major, name, applied_at, applied_by) VALUES ($1, $2, $3, $4, $5)",
        vec![
            Value::Int(migration.version),
            Value::Int(MAJOR),
            migration.name.to_owned().to_value(),
            Value::Int(at),
            env!("CARGO_PKG_VERSION").to_owned().to_value(),
        ],
    )
    .await
    .map(drop)
}

fn check(row: Option<Row>, known: i64) -> Result<Schema> {
    let mut cells = row.ok_or_else(|| Fault::Broken("the schema's version cannot be read".to_owned()))?.cells();
    let (version, major) = (cells.take::<i64>()?, cells.take::<i64>()?);
    if major > MAJOR {
        return Err(Fault::Invalid(format!(
            "the database was made by a newer gateway (schema {major}.{version}, this one knows {MAJOR}.{known}); \
             run that version, or restore a backup from before it"
        )));
    }
    Ok(Schema { version, major, known })
}

/// What the database holds now.
pub(super) async fn schema(db: &Db) -> Result<Schema> {
    let known = MIGRATIONS.last().map_or(0, |m| m.version);
    let answer = db.read(READ, Vec::new()).await.map_err(|fault| match fault {
        Fault::Broken(text) if text.contains("schema_versions") => {
            Fault::Missing("the database has no tables of the gateway yet; run `gateway migrate`".to_owned())
        }
        other => other,
    })?;
    check(answer.rows.into_iter().next(), known)
}
