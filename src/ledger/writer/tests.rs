use super::*;
use crate::ledger::record::{End, encode};
use crate::ledger::spool::Spool;
use crate::store::{LedgerRow, LogFilter, LogOrder};

fn id(number: u8) -> String {
    uuid::Builder::from_unix_timestamp_millis(1_790_000_000_000, &[number; 10]).into_uuid().to_string()
}

fn call(id: &str, status: &str, nanos: i64) -> Settled {
    let row = LedgerRow {
        id: id.to_owned(),
        started_at: 1_790_000_000_000_000,
        status: status.to_owned(),
        cost_nanos: nanos,
        ..LedgerRow::default()
    };
    Settled { row, ..Settled::default() }
}

fn write(spool: &mut Spool, end: End, call: &Settled) {
    let mut bytes = Vec::new();
    encode(end, call, &mut bytes).unwrap();
    spool.write(&bytes).unwrap();
}

/// A writer over an empty store, and a ledger whose folder is there.
fn writer(home: &Path) -> Writer {
    let ledger = Ledger::new(home, 1 << 20, 7);
    std::fs::create_dir(ledger.directory()).unwrap();
    let store = Store::sqlite(&home.join("gateway.db")).unwrap();
    Writer::new(store.clone(), ledger, crate::limits::Limits::new(store))
}

async fn booked(writer: &Writer) -> Vec<(String, String)> {
    writer.store.migrate(7).await.unwrap();
    let rows = writer.store.logs(&LogFilter::default(), LogOrder::Oldest, None, 100).await.unwrap().rows;
    rows.into_iter().map(|row| (row.id, row.status)).collect()
}

fn files(writer: &Writer) -> usize {
    spool::files(writer.ledger.directory()).unwrap().len()
}

fn names(calls: &[(u8, &str)]) -> Vec<(String, String)> {
    calls.iter().map(|(number, status)| (id(*number), (*status).to_owned())).collect()
}

#[tokio::test]
async fn a_spool_is_booked_while_it_is_written_and_taken_over_when_its_process_has_ended() {
    let home = tempfile::tempdir().unwrap();
    let mut writer = writer(home.path());
    let mut spool = Spool::begin(writer.ledger.directory(), 5, 0).unwrap();
    for number in 1..=2 {
        write(&mut spool, End::Open, &call(&id(number), "interrupted", 1));
    }
    assert_eq!(writer.pass().await, Ok(false));
    assert_eq!((booked(&writer).await, files(&writer)), (Vec::new(), 1));
    write(&mut spool, End::Settle, &call(&id(2), "success", 9));
    writer.pass().await.unwrap();
    assert_eq!((booked(&writer).await, files(&writer)), (names(&[(2, "success")]), 1));
    drop(spool);
    writer.pass().await.unwrap();
    assert_eq!(booked(&writer).await, names(&[(1, "interrupted"), (2, "success")]));
    assert_eq!(files(&writer), 0);
    let spent = writer.store.totals(&[crate::store::Entity::default()]).await.unwrap();
    assert_eq!(spent[0].spent(), 10);
}

#[tokio::test]
async fn what_the_database_refuses_is_kept_aside_and_the_rest_is_booked() {
    let home = tempfile::tempdir().unwrap();
    let mut writer = writer(home.path());
    let mut spool = Spool::begin(writer.ledger.directory(), 5, 0).unwrap();
    for id in ["no-id", &id(1)] {
        write(&mut spool, End::Settle, &call(id, "success", 1));
    }
    drop(spool);
    writer.pass().await.unwrap();
    assert_eq!((booked(&writer).await, files(&writer)), (names(&[(1, "success")]), 0));
    let kept = std::fs::read_to_string(writer.ledger.directory().join(REFUSED)).unwrap();
    assert!(kept.lines().count() == 1 && kept.contains("no-id"), "{kept}");
}

#[tokio::test]
async fn an_end_that_the_disk_did_not_take_is_booked_out_of_memory() {
    let home = tempfile::tempdir().unwrap();
    let mut writer = writer(home.path());
    let mut spool = Spool::begin(writer.ledger.directory(), 7, 0).unwrap();
    write(&mut spool, End::Open, &call(&id(1), "interrupted", 1));
    writer.pass().await.unwrap();
    writer.ledger.unwritten.lock().unwrap().push(call(&id(1), "success", 4));
    writer.pass().await.unwrap();
    // Nothing is open any more, so that the process leaves nothing behind.
    writer.close();
    assert_eq!((booked(&writer).await, files(&writer)), (names(&[(1, "success")]), 0));
}

#[tokio::test]
async fn a_call_under_way_at_the_end_is_left_to_the_next_process() {
    let home = tempfile::tempdir().unwrap();
    let mut writer = writer(home.path());
    let mut spool = Spool::begin(writer.ledger.directory(), 7, 0).unwrap();
    write(&mut spool, End::Open, &call(&id(1), "interrupted", 1));
    writer.pass().await.unwrap();
    writer.close();
    assert_eq!((booked(&writer).await, files(&writer)), (Vec::new(), 1));
}

#[tokio::test]
async fn what_lies_behind_a_batch_that_waited_for_the_database_is_booked_too() {
    let home = tempfile::tempdir().unwrap();
    let mut writer = writer(home.path());
    let mut spool = Spool::begin(writer.ledger.directory(), 7, 0).unwrap();
    write(&mut spool, End::Settle, &call(&id(1), "success", 1));
    // What is no database takes nothing.
    let strange = home.path().join("strange.db");
    std::fs::write(&strange, "this is no database, and long enough to be seen as none by anybody who reads its head")
        .unwrap();
    let there = std::mem::replace(&mut writer.store, Store::sqlite(&strange).unwrap());
    assert_eq!(writer.pass().await, Err(()));
    write(&mut spool, End::Settle, &call(&id(2), "success", 2));
    writer.store = there;
    // As at a stop: until there is no more, then the files go.
    while writer.pass().await.unwrap() {}
    writer.close();
    assert_eq!((booked(&writer).await, files(&writer)), (names(&[(1, "success"), (2, "success")]), 0));
}
