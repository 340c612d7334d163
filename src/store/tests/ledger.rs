//! Booking: rows and sums.

use super::*;
use crate::store::sql::{Record, Value};
use serde_json::json;

async fn a_call_is_booked_once_however_often_it_comes(store: Store) {
    let batch = [call(NOW, 1), call(NOW, 2), call(NOW, 1)];
    assert_eq!(store.book(&batch).await.unwrap(), Booked { inserted: 2, known: 1 });
    assert_eq!(store.book(&batch).await.unwrap(), Booked { inserted: 0, known: 3 });
    assert_eq!(store.book(&[call(NOW, 3), call(NOW, 2)]).await.unwrap(), Booked { inserted: 1, known: 1 });
    assert_eq!(store.book(&[]).await.unwrap(), Booked::default());
    assert_eq!(spent(&store, Entity::of(Kind::Gateway, "")).await, 300);
    assert_eq!(store.count_logs(&LogFilter::default(), 100).await.unwrap(), 3);
    assert_sums_are_those_of_the_rows(&store).await;
}

async fn a_call_is_counted_with_everything_it_belongs_to(store: Store) {
    let mut one = call(NOW, 1);
    one.row.organization_id = some("o");
    one.row.end_user = some("c");
    one.row.tags = texts(&["x", "y", "x"]);
    let window = Entity::of(Kind::Key, "k").within("30d", NOW - HOUR);
    one.windows = vec![window.clone()];
    let mut failed = call(NOW + 1, 2);
    failed.row.status = "failure".to_owned();
    failed.row.key_id = None;
    failed.row.cost_nanos = 0;
    store.book(&[one, failed]).await.unwrap();
    for entity in [
        Entity::of(Kind::Key, "k"),
        Entity::of(Kind::KeyModel, "k").with("fast"),
        Entity::of(Kind::User, "u"),
        Entity::of(Kind::Member, "t").with("u"),
        Entity::of(Kind::Team, "t"),
        Entity::of(Kind::Organization, "o"),
        Entity::of(Kind::Customer, "c"),
        Entity::of(Kind::Tag, "x"),
        Entity::of(Kind::Tag, "y"),
        Entity::of(Kind::Model, "fast"),
        Entity::of(Kind::Deployment, "d"),
        Entity::of(Kind::Provider, "openai"),
        Entity::of(Kind::Gateway, ""),
        window,
    ] {
        assert_eq!(spent(&store, entity.clone()).await, 100, "{entity:?}");
    }
    let total = &store.totals(&[Entity::of(Kind::User, "u")]).await.unwrap()[0];
    assert_eq!((total.calls, total.failed, total.prompt_tokens, total.last_at), (2, 1, 20, NOW + 1 + SECOND));
    assert_eq!(store.tag_names().await.unwrap(), ["x", "y"]);
    assert_sums_are_those_of_the_rows(&store).await;
}

async fn a_row_comes_back_with_every_column(store: Store) {
    let columns: Vec<Value> = LedgerRow::COLUMNS
        .iter()
        .enumerate()
        .map(|(n, c)| match (c.name, c.ty) {
            ("id", _) => Value::Text(id_at(NOW, 1)),
            ("stream" | "estimated" | "unpriced" | "cache_hit", _) => Value::Int(1),
            ("tags", _) => Value::Text(r#"["a","b"]"#.to_owned()),
            ("usage" | "metadata", _) => Value::Text(r#"{"a":[1,null]}"#.to_owned()),
            (_, sql::Type::Int) => Value::Int(1000 + n as i64),
            (name, sql::Type::Text) => Value::Text(format!("{name} \u{1f600}")),
        })
        .collect();
    let row = LedgerRow::read(sql::Row(columns)).unwrap();
    let prompt = Prompt { id: String::new(), request: some("{\"a\":\"\\u0000\"}"), response: None };
    let settled = Settled { row: row.clone(), prompt: Some(prompt.clone()), ..Settled::default() };
    store.book(&[settled]).await.unwrap();
    let rows = store.logs(&LogFilter::default(), LogOrder::Newest, None, 1).await.unwrap().rows;
    assert_eq!(rows.first(), Some(&row));
    assert_eq!(store.prompt(&row.id).await.unwrap(), Some(Prompt { id: row.id, ..prompt }));
}

async fn absurd_numbers_and_ids_do_not_reach_the_sums(store: Store) {
    let mut absurd = call(NOW, 1);
    absurd.row.cost_nanos = i64::MAX;
    absurd.row.prompt_tokens = -5;
    absurd.row.model = "a\0b".to_owned();
    absurd.row.model_group = None;
    absurd.row.tags = texts(&["t\0"]);
    store.book(&[absurd.clone()]).await.unwrap();
    absurd.row.id = id_at(NOW, 2);
    store.book(&[absurd]).await.unwrap();
    let total = &store.totals(&[Entity::of(Kind::Key, "k")]).await.unwrap()[0];
    assert_eq!((total.spent(), total.prompt_tokens), (2_000_000_000_000_000, 0));
    let mut bad = call(NOW, 3);
    bad.row.id = "chatcmpl-1".to_owned();
    assert!(matches!(store.book(&[bad]).await, Err(Fault::Invalid(text)) if text.contains("chatcmpl-1")));
}

async fn one_call_that_is_refused_does_not_keep_the_others_out(store: Store) {
    let mut batch: Vec<Settled> = (0..20).map(|n| call(NOW, n)).collect();
    batch[7].row.id = "none".to_owned();
    batch[19].row.id = String::new();
    assert!(store.book(&batch).await.is_err());
    let (booked, refused) = store.book_all_but_refused(&batch).await.unwrap();
    assert_eq!(booked, Booked { inserted: 18, known: 0 });
    assert_eq!(refused.iter().map(|(place, _)| *place).collect::<Vec<_>>(), [7, 19]);
    assert_sums_are_those_of_the_rows(&store).await;
}

async fn rows_of_any_month_find_their_place(store: Store) {
    let times = [NOW, NOW + 40 * DAY, NOW - 400 * DAY, 0, 4_000 * 365 * DAY, NOW + 40 * DAY + 1000];
    let batch: Vec<Settled> = (1..).zip(times).map(|(n, at)| call(at, n)).collect();
    assert_eq!(store.book(&batch).await.unwrap().inserted, times.len());
    store.prepare_ledger(NOW).await.unwrap();
    let rows = store.logs(&LogFilter::default(), LogOrder::Oldest, None, 10).await.unwrap().rows;
    let mut sorted = times;
    sorted.sort_unstable();
    assert_eq!(rows.iter().map(|r| r.started_at).collect::<Vec<_>>(), sorted);
    let since = LogFilter { from: Some(NOW), to: Some(NOW + 40 * DAY), ..LogFilter::default() };
    assert_eq!(store.count_logs(&since, 100).await.unwrap(), 1);
}

async fn a_reset_sets_what_is_shown_and_not_what_was_booked(store: Store) {
    let window = Entity::of(Kind::Key, "k").within("1d", NOW);
    store.book(&[Settled { windows: vec![window.clone()], ..call(NOW, 1) }]).await.unwrap();
    let key = Entity::of(Kind::Key, "k");
    store.set_spent(Kind::Key, "k", 30).await.unwrap();
    assert_eq!((spent(&store, key.clone()).await, spent(&store, window.clone()).await), (30, 30));
    store.book(&[Settled { windows: vec![window.clone()], ..call(NOW, 2) }]).await.unwrap();
    assert_eq!((spent(&store, key.clone()).await, spent(&store, window.clone()).await), (130, 130));
    store.set_spent(Kind::Key, "k", 500).await.unwrap();
    assert_eq!((spent(&store, key.clone()).await, spent(&store, window).await), (500, 130));
    assert_eq!(store.totals(&[key]).await.unwrap()[0].spend_nanos, 200);
    // An import: what was spent elsewhere, before there is a row.
    store.set_spent(Kind::User, "imported", 77).await.unwrap();
    assert_eq!(spent(&store, Entity::of(Kind::User, "imported")).await, 77);
    let top = store.top_totals(Kind::User, 0, 10).await.unwrap();
    assert_eq!(top.iter().map(|t| (t.id.as_str(), t.spent())).collect::<Vec<_>>(), [("u", 200), ("imported", 77)]);
    assert_eq!(store.totals_under(Kind::KeyModel, "k").await.unwrap()[0].sub, "fast");
}

async fn what_is_old_goes_in_steps_and_its_sums_stay(store: Store) {
    let times = [NOW - 70 * DAY, NOW - 69 * DAY, NOW - 40 * DAY, NOW - 2 * DAY, NOW - DAY, NOW];
    let batch: Vec<Settled> = (1..)
        .zip(times)
        .map(|(n, at)| {
            let mut one = call(at, n);
            one.row.tags = texts(&["x"]);
            one.prompt = Some(Prompt { request: some("{}"), ..Prompt::default() });
            one
        })
        .collect();
    store.book(&batch).await.unwrap();
    let before = NOW - 36 * HOUR;
    let (mut rows, mut partitions, mut steps) = (0, 0, 0);
    loop {
        let swept = store.sweep_ledger(before, 1).await.unwrap();
        (rows, partitions, steps) = (rows + swept.rows, partitions + swept.partitions, steps + 1);
        assert!(steps < 20);
        if !swept.more {
            break;
        }
    }
    match store.engine() {
        Engine::Sqlite => assert_eq!((rows, partitions), (4, 0)),
        Engine::Postgres => assert_eq!((rows, partitions), (1, 2)),
    }
    assert_eq!(store.count_logs(&LogFilter::default(), 100).await.unwrap(), 2);
    assert_eq!(store.count_logs(&LogFilter { tag: some("x"), ..LogFilter::default() }, 100).await.unwrap(), 2);
    assert_eq!(spent(&store, Entity::of(Kind::Gateway, "")).await, 600);
    assert!(store.sweep_prompts(NOW - HOUR, 3).await.unwrap().more);
    assert_eq!(store.sweep_prompts(NOW - HOUR, 3).await.unwrap().rows, 2);
    assert!(store.prompt(&id_at(NOW, 6)).await.unwrap().is_some());
    // A row that comes later than its month went, through a store that still knows the month.
    store.book(&[call(NOW - 70 * DAY, 9)]).await.unwrap();
    assert_eq!(store.sums(&DailyFilter::default()).await.unwrap().calls, 7);
    let rest = Rest {
        daily_before_day: Some(day_of(NOW)),
        windows_before: Some(NOW),
        changes_before: Some(NOW),
        ..Rest::default()
    };
    assert_eq!(store.sweep_rest(&rest).await.unwrap(), 15 + 6 - 1);
    let mut one = call(NOW, 20);
    let window = |span: &str, start| Entity::of(Kind::Key, "k").within(span, start);
    one.windows = vec![window("1h", NOW - HOUR), window("1h", NOW), window("30d", NOW - 30 * DAY)];
    store.book(&[one]).await.unwrap();
    let mut spans = store.spans().await.unwrap();
    spans.sort_unstable();
    assert_eq!(spans, ["1h", "30d"]);
    assert_eq!(store.sweep_windows("1h", NOW).await.unwrap(), 1);
    assert_eq!(spent(&store, window("30d", NOW - 30 * DAY)).await, 100);
    assert_eq!(store.sums(&DailyFilter::default()).await.unwrap().calls, 2);
}

async fn what_was_freed_is_given_back_to_the_file_system(store: Store) {
    let long = "x".repeat(10_000);
    let batch: Vec<Settled> = (0..100)
        .map(|n| {
            let prompt = Prompt { request: Some(long.clone()), ..Prompt::default() };
            Settled { prompt: Some(prompt), ..call(NOW, n) }
        })
        .collect();
    store.book(&batch).await.unwrap();
    assert_eq!(store.sweep_prompts(NOW + SECOND, 1000).await.unwrap().rows, 100);
    store.compact(1000).await.unwrap();
    if store.engine() == Engine::Sqlite {
        let free = store.db.read("PRAGMA freelist_count", Vec::new()).await.unwrap().rows.pop().unwrap();
        assert_eq!(free.one::<i64>().unwrap(), 0);
    }
}

async fn a_partition_that_another_gateway_dropped_is_made_again(store: Store) {
    store.book(&[call(NOW - 70 * DAY, 1)]).await.unwrap();
    if store.engine() == Engine::Postgres {
        let table = ledger_table(NOW - 70 * DAY);
        let mut tx = store.db.begin().await.unwrap();
        tx.batch(&format!("DROP TABLE {table}")).await.unwrap();
        tx.commit().await.unwrap();
    }
    assert_eq!(store.book(&[call(NOW - 70 * DAY, 2)]).await.unwrap().inserted, 1);
}

fn ledger_table(at: i64) -> String {
    crate::store::ledger::Month::of(at).table()
}

/// The sums of totals and days are those of the rows, for each kind.
pub async fn assert_sums_are_those_of_the_rows(store: &Store) {
    let mut expected: std::collections::BTreeMap<Entity, (i64, i64)> = std::collections::BTreeMap::new();
    let mut after: Option<String> = None;
    loop {
        let part = store.logs(&LogFilter::default(), LogOrder::Oldest, after.as_deref(), 1000).await.unwrap();
        for row in &part.rows {
            for entity in row.entities() {
                let sum = expected.entry(entity).or_default();
                *sum = (sum.0 + row.cost_nanos, sum.1 + 1);
            }
        }
        after = part.next;
        if after.is_none() {
            break;
        }
    }
    let entities: Vec<Entity> = expected.keys().cloned().collect();
    for total in store.totals(&entities).await.unwrap() {
        assert_eq!((total.spend_nanos, total.calls), expected[&total.entity()], "{total:?}");
    }
    for entity in entities.iter().filter(|e| e.kind == Kind::User || e.kind == Kind::Gateway || e.kind == Kind::Tag) {
        let filter = DailyFilter { kind: entity.kind, ids: Some(vec![entity.id.clone()]), ..DailyFilter::default() };
        let sums = store.sums(&filter).await.unwrap();
        assert_eq!((sums.spend_nanos, sums.calls), expected[entity], "{entity:?}");
    }
}

async fn everything_can_be_moved_to_the_other_engine_and_back(store: Store) {
    store
        .create_key(&Key {
            id: "k".to_owned(),
            hash: "k".to_owned(),
            metadata: json!({"a": 1}),
            created_at: NOW,
            ..Key::default()
        })
        .await
        .unwrap();
    store.regenerate_key("k", "k2", NOW, Some(NOW + HOUR), |_| Ok(())).await.unwrap();
    store.create(&User { id: "gone".to_owned(), created_at: NOW, ..User::default() }).await.unwrap();
    store.delete::<User>(&texts(&["gone"]), some("ann").as_deref(), NOW).await.unwrap();
    store.create(&User { id: "u".to_owned(), created_at: NOW, ..User::default() }).await.unwrap();
    let batch: Vec<Settled> = (0..1200)
        .map(|n| {
            let mut one = call(NOW + i64::from(n) * HOUR, n);
            one.row.tags = texts(&["x"]);
            one.prompt = Some(Prompt { response: some("{}"), ..Prompt::default() });
            one
        })
        .collect();
    store.book(&batch).await.unwrap();
    let reservation = Reservation { entity: Entity::of(Kind::Key, "k"), nanos: 9, limit_nanos: None, strict: false };
    store.reserve("open", "n", &[reservation], NOW).await.unwrap().unwrap();

    let directory = tempfile::tempdir().unwrap();
    let other = match store.engine() {
        Engine::Postgres => Engine::Sqlite,
        Engine::Sqlite => Engine::Postgres,
    };
    let Some(there) = engines::bare(other, directory.path()).await else { return };
    there.migrate(NOW).await.unwrap();
    let copied = store.copy_into(&there).await.unwrap();
    let of = |table: &str| copied.iter().find(|c| c.table == table).unwrap().rows;
    assert_eq!((of("keys"), of("ledger"), of("prompts"), of("ledger_tags"), of("graces")), (1, 1200, 1200, 1200, 1));
    if store.engine() == Engine::Sqlite {
        // Whoever adds a table says here whether it is copied.
        let not_copied = ["changes", "counters", "nodes", "reservations", "schema_versions"];
        let sql = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name";
        for row in store.db.read(sql, Vec::new()).await.unwrap().rows {
            let table: String = row.one().unwrap();
            let is_copied = copied.iter().any(|c| c.table == table);
            assert!(is_copied != not_copied.contains(&table.as_str()), "{table}");
        }
    }
    assert_sums_are_those_of_the_rows(&there).await;
    assert_eq!(there.key_by_hash("k", NOW).await.unwrap(), store.key_by_hash("k", NOW).await.unwrap());
    assert_eq!(there.totals(&[Entity::of(Kind::Key, "k")]).await.unwrap()[0].reserved_nanos, 0);
    assert_eq!(there.removed("user", 9).await.unwrap(), store.removed("user", 9).await.unwrap());
    assert!(matches!(store.copy_into(&there).await, Err(Fault::Invalid(_))));
    // And it goes on there.
    there.book(&[call(NOW, 5000)]).await.unwrap();
    assert_eq!(spent(&there, Entity::of(Kind::Key, "k")).await, 120_100);
}

on_both!(
    a_call_is_booked_once_however_often_it_comes,
    a_call_is_counted_with_everything_it_belongs_to,
    a_row_comes_back_with_every_column,
    absurd_numbers_and_ids_do_not_reach_the_sums,
    one_call_that_is_refused_does_not_keep_the_others_out,
    rows_of_any_month_find_their_place,
    a_reset_sets_what_is_shown_and_not_what_was_booked,
    what_is_old_goes_in_steps_and_its_sums_stay,
    a_partition_that_another_gateway_dropped_is_made_again,
    what_was_freed_is_given_back_to_the_file_system,
    everything_can_be_moved_to_the_other_engine_and_back,
);
