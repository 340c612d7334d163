//! The contract: what every verb does, on both engines alike.

mod checks;
mod engines;
mod kept;
mod ledger;
mod many;
mod migrations;
mod outage;
mod people;
mod reading;
mod reservations;

use super::*;
use engines::on_both;

/// A time in November 2026; tests count from it.
const NOW: i64 = 1_795_000_000_000_000;
const SECOND: i64 = 1_000_000;
const HOUR: i64 = 3600 * SECOND;
const DAY: i64 = 24 * HOUR;

fn texts(list: &[&str]) -> Vec<String> {
    list.iter().map(|t| (*t).to_owned()).collect()
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

/// An id of that time; the number makes it unique, in its order.
fn id_at(micros: i64, number: u32) -> String {
    let mut tail = [0; 10];
    tail[6..].copy_from_slice(&number.to_be_bytes());
    let millis = u64::try_from(micros / 1000).unwrap();
    uuid::Builder::from_unix_timestamp_millis(millis, &tail).into_uuid().to_string()
}

/// A call of that time by the key `k`, the user `u` in the team `t`, for 100 nano-dollars.
fn call(at: i64, number: u32) -> Settled {
    let row = LedgerRow {
        id: id_at(at, number),
        started_at: at,
        ended_at: at + SECOND,
        call_type: "acompletion".to_owned(),
        endpoint: "/v1/chat/completions".to_owned(),
        key_id: some("k"),
        user_id: some("u"),
        team_id: some("t"),
        model: "fast".to_owned(),
        model_group: some("fast"),
        upstream_model: some("gpt-fast"),
        deployment: some("d"),
        provider: some("openai"),
        prompt_tokens: 10,
        completion_tokens: 5,
        cost_nanos: 100,
        input_nanos: 60,
        output_nanos: 40,
        status: "success".to_owned(),
        ..LedgerRow::default()
    };
    Settled { row, ..Settled::default() }
}

async fn spent(store: &Store, entity: Entity) -> i64 {
    store.totals(&[entity]).await.unwrap()[0].spent()
}

async fn an_empty_store_is_healthy(store: Store) {
    let health = store.health().await.unwrap();
    assert_eq!(health.schema.version, health.schema.known);
    assert_eq!(health.engine, store.engine());
    assert_eq!(health.connections.is_some(), store.engine() == Engine::Postgres);
    assert_eq!(store.logs(&LogFilter::default(), LogOrder::Newest, None, 10).await.unwrap().rows, []);
    assert_eq!(store.sums(&DailyFilter::default()).await.unwrap(), Sums::default());
    assert_eq!(store.get::<User>("nobody").await.unwrap(), None);
}

async fn a_transaction_that_is_left_is_rolled_back(store: Store) {
    let mut tx = store.db.begin().await.unwrap();
    tx.run("INSERT INTO counters (name, value) VALUES ('x', 1)", Vec::new()).await.unwrap();
    drop(tx);
    let mut tx = store.db.begin().await.unwrap();
    assert!(tx.run("SELECT nothing FROM nowhere", Vec::new()).await.is_err());
    drop(tx);
    let rows = store.db.read("SELECT value FROM counters WHERE name = 'x'", Vec::new()).await.unwrap().rows;
    assert!(rows.is_empty());
}

async fn nodes_live_until_they_say_so_or_are_silent(store: Store) {
    let node = |id: &str, seen_at| Node {
        id: id.to_owned(),
        name: "host".to_owned(),
        version: "1".to_owned(),
        started_at: NOW,
        seen_at,
        gone_at: None,
        alone: true,
    };
    store.heartbeat(&node("a", NOW)).await.unwrap();
    store.heartbeat(&node("b", NOW)).await.unwrap();
    store.heartbeat(&node("a", NOW + HOUR)).await.unwrap();
    let live = |nodes: Vec<Node>| nodes.into_iter().map(|n| n.id).collect::<Vec<_>>();
    assert_eq!(live(store.live_nodes(NOW).await.unwrap()), ["a", "b"]);
    assert_eq!(live(store.live_nodes(NOW + 1).await.unwrap()), ["a"]);
    store.heartbeat(&Node { alone: false, ..node("b", NOW) }).await.unwrap();
    assert!(!store.node("b").await.unwrap().unwrap().alone && store.node("a").await.unwrap().unwrap().alone);
    store.heartbeat(&Node { gone_at: Some(NOW + HOUR), ..node("a", NOW + HOUR) }).await.unwrap();
    assert!(store.live_nodes(0).await.unwrap().iter().all(|n| n.id == "b"));
    assert_eq!(store.node("a").await.unwrap().unwrap().started_at, NOW);
}

on_both!(
    an_empty_store_is_healthy,
    a_transaction_that_is_left_is_rolled_back,
    nodes_live_until_they_say_so_or_are_silent,
);

#[test]
fn postgres_is_there_or_is_said_to_be_missing() {
    // Without the server's programs this says SKIPPED, and each test on Postgres passes without doing anything.
    let _ = engines::schema_url(1);
}

#[tokio::test]
async fn a_database_that_is_not_there_is_said_to_be_unavailable() {
    let url = secrecy::SecretString::from("postgresql:///x?host=/nonexistent&connection_limit=1");
    let store = Store::postgres(&read_url(&url).unwrap(), tokio::runtime::Handle::current()).unwrap();
    let fault = store.health().await.unwrap_err();
    assert!(fault.is_unavailable(), "{fault:?}");
    let error = crate::error::Error::from(fault);
    assert_eq!((error.status().as_u16(), error.body()["error"]["type"].as_str()), (503, Some("no_db_connection")));

    let store = Store::sqlite(Path::new("/nonexistent/gateway.db")).unwrap();
    let fault = store.migrate(NOW).await.unwrap_err();
    assert!(fault.is_unavailable() && fault.to_string().contains("/nonexistent/gateway.db"), "{fault:?}");
}
