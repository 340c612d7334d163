//! Old, newer and newest schemas.

use super::*;
use crate::store::migrate::{MIGRATIONS, Migration, apply, both};
use std::sync::Arc;

/// As [`engines::run`], with a store that has no tables.
fn on_bare(engine: Engine, test: impl AsyncFnOnce(Store)) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let directory = tempfile::tempdir().unwrap();
    runtime.block_on(async {
        if let Some(store) = engines::bare(engine, directory.path()).await {
            test(store).await;
        }
    });
}

const ENGINES: [Engine; 2] = [Engine::Sqlite, Engine::Postgres];

/// What a later version of the same major may add.
const LATER: Migration =
    both(900, "later", "ALTER TABLE keys ADD COLUMN later BIGINT NOT NULL DEFAULT 7; CREATE TABLE later (id TEXT)");

#[test]
fn versions_count_up_from_one() {
    assert!(MIGRATIONS.iter().enumerate().all(|(n, m)| m.version == n as i64 + 1));
}

#[test]
fn an_old_schema_becomes_the_new_one_step_by_step() {
    for engine in ENGINES {
        on_bare(engine, async |store: Store| {
            let fault = store.health().await.unwrap_err();
            assert!(matches!(&fault, Fault::Missing(text) if text.contains("gateway migrate")), "{fault:?}");
            for (n, migration) in MIGRATIONS.iter().enumerate() {
                let schema = apply(&store.db, &MIGRATIONS[..=n], NOW).await.unwrap();
                assert_eq!(schema.version, migration.version);
                assert_eq!(migrate::schema(&store.db).await.unwrap().version, migration.version);
            }
            assert_eq!(store.migrate(NOW).await.unwrap(), store.health().await.unwrap().schema);
            store.book(&[call(NOW, 1)]).await.unwrap();
        });
    }
}

#[test]
fn a_newer_schema_of_the_same_major_serves_this_binary() {
    for engine in ENGINES {
        on_bare(engine, async |store: Store| {
            store.migrate(NOW).await.unwrap();
            let newer: Vec<Migration> = MIGRATIONS.iter().copied().chain([LATER]).collect();
            apply(&store.db, &newer, NOW).await.unwrap();
            // Back to this binary, whose statements name their columns.
            let schema = store.migrate(NOW).await.unwrap();
            assert_eq!((schema.version, schema.known), (900, MIGRATIONS.len() as i64));
            let key = Key { id: "k".to_owned(), hash: "k".to_owned(), ..Key::default() };
            store.create_key(&key).await.unwrap();
            store.book(&[call(NOW, 1)]).await.unwrap();
            assert_eq!(store.key_by_hash("k", NOW).await.unwrap(), Some(key));
            // And forward again.
            assert_eq!(apply(&store.db, &newer, NOW).await.unwrap().version, 900);
        });
    }
}

#[test]
fn the_schema_of_a_newer_major_is_refused() {
    for engine in ENGINES {
        on_bare(engine, async |store: Store| {
            store.migrate(NOW).await.unwrap();
            let mut tx = store.db.begin().await.unwrap();
            tx.batch("UPDATE schema_versions SET major = 2 WHERE version = 1").await.unwrap();
            tx.commit().await.unwrap();
            let fault = store.migrate(NOW).await.unwrap_err();
            let known = MIGRATIONS.len();
            let told = format!("newer gateway (schema 2.{known}, this one knows 1.{known})");
            assert!(fault.to_string().contains(&told), "{fault}");
            assert!(store.health().await.is_err());
        });
    }
}

#[test]
fn a_migration_that_fails_leaves_nothing_behind() {
    for engine in ENGINES {
        on_bare(engine, async |store: Store| {
            let broken = both(4, "broken", "CREATE TABLE half (id TEXT); CREATE NONSENSE");
            let steps: Vec<Migration> = MIGRATIONS.iter().copied().chain([broken]).collect();
            let fault = apply(&store.db, &steps, NOW).await.unwrap_err();
            assert!(fault.to_string().starts_with("migration 4 (broken): "), "{fault}");
            assert!(store.db.read("SELECT id FROM keys", Vec::new()).await.is_err());
            store.migrate(NOW).await.unwrap();
        });
    }
}

#[test]
fn two_that_start_at_once_migrate_once() {
    for engine in ENGINES {
        on_bare(engine, async |store: Store| {
            let store = Arc::new(store);
            let starters: Vec<_> = (0..8)
                .map(|_| {
                    let store = store.clone();
                    tokio::spawn(async move { store.migrate(NOW).await.unwrap() })
                })
                .collect();
            for starter in starters {
                assert_eq!(starter.await.unwrap().version, MIGRATIONS.len() as i64);
            }
        });
    }
    // Two processes are two stores.
    let directory = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let path = directory.path().join("gateway.db");
        let (one, other) = (Store::sqlite(&path).unwrap(), Store::sqlite(&path).unwrap());
        let (a, b) = tokio::join!(one.migrate(NOW), other.migrate(NOW));
        assert_eq!(a.unwrap(), b.unwrap());
    });
}
