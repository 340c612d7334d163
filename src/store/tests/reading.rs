//! Pages of the ledger, and reports.

use super::*;

async fn pages_of_calls_hold_each_of_them_once(store: Store) {
    let batch: Vec<Settled> = (0..95).map(|n| call(NOW - i64::from(n % 9) * 20 * DAY, n)).collect();
    store.book(&batch).await.unwrap();
    for order in [LogOrder::Newest, LogOrder::Oldest] {
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let part = store.logs(&LogFilter::default(), order, after.as_deref(), 10).await.unwrap();
            assert!(part.rows.len() == 10 || part.next.is_none());
            seen.extend(part.rows.into_iter().map(|r| r.id));
            after = part.next;
            if after.is_none() {
                break;
            }
        }
        let mut expected: Vec<String> = batch.iter().map(|s| s.row.id.clone()).collect();
        expected.sort_unstable();
        if order == LogOrder::Newest {
            expected.reverse();
        }
        assert_eq!(seen, expected);
    }
}

async fn each_filter_of_calls_lets_through_what_it_says(store: Store) {
    let mut special = call(NOW, 1).row;
    special.key_id = some("k9");
    special.key_alias = some("alias");
    special.user_id = some("u9");
    special.team_id = some("t9");
    special.organization_id = some("o9");
    special.end_user = some("c9");
    special.session_id = some("s9");
    special.model_group = some("m9");
    special.deployment = some("d9");
    special.provider = some("p9");
    special.call_type = "arerank".to_owned();
    special.tool = some("home/light");
    special.tags = texts(&["x9"]);
    special.status = "failure".to_owned();
    special.error_code = some("500");
    special.error_class = some("upstream");
    special.cost_nanos = 900;
    special.cache_hit = true;
    store.book(&[Settled { row: special.clone(), ..Settled::default() }, call(NOW - HOUR, 2)]).await.unwrap();
    let none = LogFilter::default();
    let filters = [
        LogFilter { from: Some(NOW), ..none.clone() },
        LogFilter { key_id: some("k9"), ..none.clone() },
        LogFilter { user_id: some("u9"), ..none.clone() },
        LogFilter { team_id: some("t9"), ..none.clone() },
        LogFilter { team_ids: Some(texts(&["t8", "t9"])), ..none.clone() },
        LogFilter { organization_id: some("o9"), ..none.clone() },
        LogFilter { end_user: some("c9"), ..none.clone() },
        LogFilter { session_id: some("s9"), ..none.clone() },
        LogFilter { model_group: some("m9"), ..none.clone() },
        LogFilter { deployment: some("d9"), ..none.clone() },
        LogFilter { provider: some("p9"), ..none.clone() },
        LogFilter { call_type: some("arerank"), ..none.clone() },
        LogFilter { tool: some("home/light"), ..none.clone() },
        LogFilter { tag: some("x9"), ..none.clone() },
        LogFilter { status: some("failure"), ..none.clone() },
        LogFilter { error_code: some("500"), ..none.clone() },
        LogFilter { error_class: some("upstream"), ..none.clone() },
        LogFilter { key_alias: some("alias"), ..none.clone() },
        LogFilter { min_nanos: Some(101), ..none.clone() },
        LogFilter { cache_hit: Some(true), ..none.clone() },
    ];
    for filter in filters {
        let found = store.logs(&filter, LogOrder::Newest, None, 10).await.unwrap().rows;
        assert_eq!(found, [special.clone()], "{filter:?}");
        assert_eq!(store.count_logs(&filter, 10).await.unwrap(), 1, "{filter:?}");
    }
    for filter in [
        LogFilter { to: Some(NOW), status: some("success"), ..none.clone() },
        LogFilter { max_nanos: Some(100), ..none.clone() },
    ] {
        let found = store.logs(&filter, LogOrder::Newest, None, 10).await.unwrap().rows;
        assert_eq!(found.iter().map(|r| r.id.as_str()).collect::<Vec<_>>(), [id_at(NOW - HOUR, 2)], "{filter:?}");
    }
    assert_eq!(store.count_logs(&none, 1).await.unwrap(), 1);
}

async fn a_call_is_found_by_any_of_its_three_ids(store: Store) {
    let mut one = call(NOW, 1);
    one.row.client_id = some("mine");
    one.row.upstream_id = some("chatcmpl-1");
    // A client may call its call as another one is called by us.
    let mut other = call(NOW + HOUR, 2);
    other.row.client_id = Some(one.row.id.clone());
    store.book(&[one.clone(), other.clone()]).await.unwrap();
    let found = async |id: &str| {
        let rows = store.logs_by_any_id(id).await.unwrap();
        rows.into_iter().map(|r| r.id).collect::<Vec<_>>()
    };
    assert_eq!(found("mine").await, [one.row.id.clone()]);
    assert_eq!(found("chatcmpl-1").await, [one.row.id.clone()]);
    assert_eq!(found(&one.row.id).await, [other.row.id, one.row.id.clone()]);
    assert!(found("none").await.is_empty());
}

async fn reports_sum_by_day_key_and_model(store: Store) {
    let batch: Vec<Settled> = (0..60)
        .map(|n| {
            let mut one = call(NOW - i64::from(n % 3) * DAY, n);
            one.row.key_id = Some(format!("k{}", n % 2));
            one.row.user_id = Some(format!("u{}", n % 4));
            one.row.model_group = some(if n < 20 { "dear" } else { "cheap" });
            one.row.upstream_model = one.row.model_group.clone();
            one.row.cost_nanos = if n < 20 { 1000 } else { 1 };
            one.row.cache_hit = n == 7;
            one
        })
        .collect();
    store.book(&batch).await.unwrap();
    let all = DailyFilter::default();
    let sums = store.sums(&all).await.unwrap();
    assert_eq!((sums.calls, sums.spend_nanos, sums.prompt_tokens, sums.cache_hits), (60, 20_040, 600, 1));
    assert_eq!(sums.millis, 60_000);

    let models = store.report(&all, &[By::ModelGroup], ReportOrder::Spend, 0, 10).await.unwrap();
    let told: Vec<(&str, i64)> = models.iter().map(|r| (r.groups[0].as_str(), r.sums.spend_nanos)).collect();
    assert_eq!(told, [("dear", 20_000), ("cheap", 40)]);

    let days = store.report(&all, &[By::Day], ReportOrder::Groups, 0, 10).await.unwrap();
    let (year, month, day) = date_of(day_of(NOW));
    assert_eq!(days[0].groups, [format!("{year:04}-{month:02}-{day:02}")]);
    assert_eq!(days.iter().map(|r| r.sums.calls).collect::<Vec<_>>(), [20, 20, 20]);

    let today = DailyFilter { from_day: Some(day_of(NOW)), to_day: Some(day_of(NOW)), ..all.clone() };
    assert_eq!(store.sums(&today).await.unwrap().calls, 20);
    let one = DailyFilter { kind: Kind::User, ids: Some(texts(&["u1", "u3"])), ..all.clone() };
    let users = store.report(&one, &[By::Id, By::Key], ReportOrder::Groups, 0, 10).await.unwrap();
    assert_eq!(users.iter().map(|r| r.groups.join(" ")).collect::<Vec<_>>(), ["u1 k1", "u3 k1"]);
    let narrow = DailyFilter {
        key_ids: Some(texts(&["k0"])),
        model: some("cheap"),
        provider: some("openai"),
        endpoint: some("/v1/chat/completions"),
        tool: some(""),
        ..all.clone()
    };
    assert_eq!(store.sums(&narrow).await.unwrap().calls, 20);
    let second = store.report(&all, &[By::Day, By::Key], ReportOrder::Groups, 2, 2).await.unwrap();
    assert_eq!(second.len(), 2);
    assert_eq!(second[0].groups[1], "k0");
}

async fn a_page_is_read_by_an_index_and_not_by_the_whole_ledger(store: Store) {
    // Enough rows for a planner to care, made by the database.
    let series = match store.engine() {
        Engine::Postgres => "SELECT generate_series(1, 20000) AS n",
        Engine::Sqlite => {
            "WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < 20000) SELECT n FROM s"
        }
    };
    store.prepare_ledger(NOW).await.unwrap();
    let prefix = floor_id(NOW);
    let analyze = "ANALYZE ledger";
    let mut tx = store.db.begin().await.unwrap();
    tx.batch(&format!(
        "INSERT INTO ledger (id, started_at, ended_at, call_type, endpoint, model, status, key_id) \
         SELECT '{prefix}-7000-8000-0000000' || CAST(10000 + n AS TEXT), {NOW}, {NOW}, 'a', '/', 'm', 'success', \
         'k' || CAST(n % 100 AS TEXT) FROM ({series}) AS series"
    ))
    .await
    .unwrap();
    tx.batch(analyze).await.unwrap();
    tx.commit().await.unwrap();
    // A rare tag and a common key at once: nothing but the rows of the tag is looked at.
    let mut tx = store.db.begin().await.unwrap();
    tx.batch("INSERT INTO ledger_tags (tag, id) SELECT 'x', id FROM ledger WHERE key_id = 'k7'").await.unwrap();
    tx.commit().await.unwrap();
    let filter = LogFilter { tag: some("x"), key_id: some("k7"), ..LogFilter::default() };
    let page = store.logs(&filter, LogOrder::Oldest, None, 150).await.unwrap();
    let rest = store.logs(&filter, LogOrder::Oldest, page.next.as_deref(), 150).await.unwrap();
    assert_eq!((page.rows.len(), rest.rows.len(), rest.next), (150, 50, None));
    assert_eq!(store.count_logs(&filter, 1000).await.unwrap(), 200);
    // What no index has is looked for in a bounded part at a time.
    let mut tx = store.db.begin().await.unwrap();
    tx.batch("UPDATE ledger SET provider = 'rare' WHERE id = (SELECT MIN(id) FROM ledger)").await.unwrap();
    tx.batch(&format!(
        "INSERT INTO ledger (id, started_at, ended_at, call_type, endpoint, model, status) \
         SELECT '{prefix}-7000-9000-0000000' || CAST(10000 + n AS TEXT), {NOW}, {NOW}, 'a', '/', 'm', 'success' \
         FROM ({series}) AS series"
    ))
    .await
    .unwrap();
    tx.commit().await.unwrap();
    let rare = LogFilter { provider: some("rare"), ..LogFilter::default() };
    assert_eq!(store.roughly_count_logs(&rare, 100).await.unwrap(), (0, true));
    let (mut after, mut found, mut pages) = (None, 0, 0);
    loop {
        let page = store.logs(&rare, LogOrder::Newest, after.as_deref(), 50).await.unwrap();
        (found, pages) = (found + page.rows.len(), pages + 1);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!((found, pages), (1, 2));
    for condition in ["id < 'x'", "key_id = 'k7' AND id < 'x'", "status = 'failure' AND status <> 'success'"] {
        let explain = if store.engine() == Engine::Postgres { "EXPLAIN" } else { "EXPLAIN QUERY PLAN" };
        let sql = format!("{explain} SELECT * FROM ledger WHERE {condition} ORDER BY id DESC LIMIT 50");
        let mut tx = store.db.begin().await.unwrap();
        let plan: Vec<String> = tx.run(&sql, Vec::new()).await.unwrap().rows.iter().map(|r| format!("{r:?}")).collect();
        let plan = plan.join("\n");
        // The partition of the next month is empty, and may be read whole.
        let whole = plan.contains("Seq Scan on ledger_2026_11") || plan.contains("SCAN ledger\"");
        assert!((plan.contains("Index Scan") || plan.contains("USING INDEX")) && !whole, "{condition}: {plan}");
    }
}

on_both!(
    pages_of_calls_hold_each_of_them_once,
    each_filter_of_calls_lets_through_what_it_says,
    a_call_is_found_by_any_of_its_three_ids,
    reports_sum_by_day_key_and_model,
    a_page_is_read_by_an_index_and_not_by_the_whole_ledger,
);
