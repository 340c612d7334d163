//! Pages of a large ledger: what they cost with 50,000 rows, and in the long form with five million beside it.

use super::load::setting;
use super::{priced, setting as database};
use crate::support::postgres::Postgres;
use crate::support::{Gateway, Reply, Setup, Upstream};
use std::cell::Cell;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

/// Rows of the smaller ledger.
const FEW: u64 = 50_000;
/// Days over which both ledgers are spread: a larger one is a busier one, and not an older one.
const DAYS: u64 = 60;
/// Beyond this, a page of the larger ledger takes too long. Under two milliseconds the clock and the scheduler decide.
const TIMES: f64 = 3.0;
const FLOOR: Duration = Duration::from_millis(2);
/// How often each page is asked for.
const ASKED: usize = 15;

/// Everything that reads, with the filters that its users have; `{mid}` is a row in the middle, `{n}` its number.
const PAGES: [&str; 47] = [
    "/spend/logs?limit=100",
    "/spend/logs?limit=100&after={mid}",
    "/spend/logs?request_id=c{n}",
    "/spend/logs?request_id=up{n}",
    "/spend/logs?request_id={mid}",
    "/spend/logs?api_key=k7&limit=100",
    "/spend/logs?user_id=u3&limit=100",
    "/spend/logs?start_date={day}&end_date={day}",
    "/spend/logs?start_date={day}&end_date={day}&summarize=false&limit=100",
    "/spend/logs/ui",
    "/spend/logs/ui?page=20",
    "/spend/logs/ui?sort_order=asc",
    "/spend/logs/v2?after={mid}",
    "/spend/logs/ui?api_key=k7",
    "/spend/logs/ui?user_id=u3",
    "/spend/logs/ui?team_id=t2",
    "/spend/logs/ui?end_user=e17",
    "/spend/logs/ui?model=m4",
    "/spend/logs/ui?status_filter=failure",
    "/spend/logs/ui?request_tag=x3",
    "/spend/logs/ui?request_tag=x3&api_key=k7",
    "/spend/logs/session/ui?session_id=s{n}",
    "/spend/logs/ui?start_date={day}&end_date={day}",
    "/spend/logs/ui?min_spend=0.0004",
    "/spend/logs/ui?custom_llm_provider=p1",
    "/spend/logs/ui?model_id=nowhere",
    "/spend/logs/ui?cache_hit=true",
    "/spend/logs/ui?error_message=broke",
    "/spend/keys",
    "/spend/users",
    "/spend/tags",
    "/global/spend",
    "/global/spend/logs",
    "/global/spend/keys",
    "/global/spend/teams",
    "/global/spend/models",
    "/global/spend/end_users",
    "/global/spend/provider",
    "/global/spend/all_tag_names",
    "/global/spend/report?group_by=team",
    "/global/spend/report?group_by=api_key",
    "/global/activity",
    "/global/activity/model",
    "/user/daily/activity",
    "/user/daily/activity/aggregated?user_id=u3",
    "/team/daily/activity?team_ids=t2",
    "/tag/daily/activity/aggregated?tags=x3",
];

/// Rows of the ledger with their tags, sums and days, made by the database: `{id}` is a UUIDv7 of `{at}`, a time that
/// grows with `n`, the number of the row.
fn statements(id: &str, text: &str) -> String {
    let text = |expression: &str| text.replace("{}", expression);
    let kinds = [
        ("gateway", "''", ""),
        ("user", "user_id", ""),
        ("team", "team_id", ""),
        ("customer", "end_user", ""),
        ("tag", "tag", " JOIN ledger_tags USING (id)"),
    ];
    let mut sql = format!(
        "INSERT INTO ledger (id, started_at, first_at, ended_at, client_id, upstream_id, session_id, call_type, endpoint, stream, \
         key_id, key_alias, user_id, team_id, end_user, tags, model, model_group, upstream_model, deployment, provider, \
         prompt_tokens, completion_tokens, cost_nanos, input_nanos, output_nanos, status, error, cache_hit, ip) \
         SELECT {id}, at, at + 200000, at + 900000, 'c' || {n}, 'up' || {n}, 's' || {s}, 'acompletion', '/v1/chat/completions', n % 2, \
         'k' || {k}, 'key ' || {k}, 'u' || {u}, 't' || {t}, 'e' || {e}, '[\"x' || {x} || '\"]', 'm' || {m}, 'm' || {m}, 'up-m' || {m}, \
         'd' || {m}, 'p' || {p}, n % 4000, n % 900, (n % 500) * 1000, 0, 0, CASE WHEN n % 50 = 0 THEN 'failure' ELSE 'success' END, \
         CASE WHEN n % 50 = 0 THEN 'the upstream said no' END, CASE WHEN n % 1000 = 0 THEN 1 ELSE 0 END, '127.0.0.1' FROM rows_of_it;\n\
         INSERT INTO ledger_tags (tag, id) SELECT 'x' || {x}, {id} FROM rows_of_it;\n",
        n = text("n"),
        s = text("(n / 8)"),
        k = text("(n % 40)"),
        u = text("(n % 10)"),
        t = text("(n % 5)"),
        e = text("(n % 120)"),
        x = text("(n % 8)"),
        m = text("(n % 6)"),
        p = text("(n % 3)"),
    );
    let sums = "CAST(SUM(cost_nanos) AS BIGINT), COUNT(*), CAST(SUM(CASE WHEN status = 'failure' THEN 1 ELSE 0 END) AS BIGINT), \
                CAST(SUM(prompt_tokens) AS BIGINT), CAST(SUM(completion_tokens) AS BIGINT), 0";
    for (kind, column, join) in kinds {
        sql += &format!(
            "INSERT INTO daily (kind, id, day, key_id, model, model_group, provider, endpoint, tool, spend_nanos, calls, failed, \
             prompt_tokens, completion_tokens, cached_tokens, cache_write_tokens, reasoning_tokens, cache_hits, millis) \
             SELECT '{kind}', {column}, started_at / 86400000000, key_id, upstream_model, model_group, provider, endpoint, '', \
             {sums}, 0, 0, 0, 900 * COUNT(*) FROM ledger{join} GROUP BY 2, 3, 4, 5, 6, 7, 8;\n\
             INSERT INTO totals (kind, id, sub, span, start, spend_nanos, calls, failed, prompt_tokens, completion_tokens, \
             cached_tokens, offset_nanos, reserved_nanos, last_at) \
             SELECT kind, id, '', '', 0, CAST(SUM(spend_nanos) AS BIGINT), CAST(SUM(calls) AS BIGINT), CAST(SUM(failed) AS BIGINT), \
             CAST(SUM(prompt_tokens) AS BIGINT), CAST(SUM(completion_tokens) AS BIGINT), 0, 0, 0, 0 FROM daily WHERE kind = '{kind}' \
             GROUP BY kind, id;\n"
        );
    }
    sql + "INSERT INTO totals (kind, id, sub, span, start, spend_nanos, calls, failed, prompt_tokens, completion_tokens, cached_tokens, \
           offset_nanos, reserved_nanos, last_at) SELECT 'key', key_id, '', '', 0, CAST(SUM(spend_nanos) AS BIGINT), \
           CAST(SUM(calls) AS BIGINT), 0, 0, 0, 0, 0, 0, 0 FROM daily WHERE kind = 'gateway' GROUP BY key_id;\n"
}

fn now() -> u64 {
    u64::try_from(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_micros()).unwrap()
}

/// The number, and the id, of the row in the middle; ids are alike on both engines.
fn middle(rows: u64, begin: u64) -> (u64, String) {
    let n = rows / 2;
    let ms = (begin + n * (DAYS * 86_400_000_000 / rows)) / 1000;
    (n, format!("{:08x}-{:04x}-7000-8000-{n:012x}", ms >> 16, ms & 0xffff))
}

fn fill_sqlite(path: &Path, rows: u64, begin: u64) {
    let db = rusqlite::Connection::open(path).unwrap();
    let step = DAYS * 86_400_000_000 / rows;
    let id = "printf('%08x-%04x-7000-8000-%012x', (at / 1000) >> 16, (at / 1000) & 65535, n)";
    db.execute_batch(&format!(
        "PRAGMA cache_size = -400000; BEGIN; CREATE TEMP VIEW rows_of_it AS WITH RECURSIVE s(n) AS \
         (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < {rows}) SELECT n, {begin} + n * {step} AS at FROM s; {} COMMIT;",
        statements(id, "{}")
    ))
    .unwrap();
}

fn fill_postgres(postgres: &Postgres, rows: u64, begin: u64) {
    let step = DAYS * 86_400_000_000 / rows;
    let hex = |what: &str, width: u32| format!("lpad(to_hex({what}), {width}, '0')");
    let id = format!(
        "{} || '-' || {} || '-7000-8000-' || {}",
        hex("(at / 1000) >> 16", 8),
        hex("(at / 1000) & 65535", 4),
        hex("n", 12)
    );
    let bound = |month: &str| {
        let ms = format!("CAST(extract(epoch FROM {month}) * 1000 AS BIGINT)");
        format!("{} || '-' || {}", hex(&format!("{ms} >> 16"), 8), hex(&format!("{ms} & 65535"), 4))
    };
    postgres.sql(&format!(
        "SET timezone = 'UTC'; SET synchronous_commit = off;\n\
         DO $$ DECLARE m TIMESTAMPTZ; name TEXT; BEGIN FOR m IN SELECT generate_series(date_trunc('month', to_timestamp({begin} / 1000000)), \
         now(), INTERVAL '1 month') LOOP name := 'ledger_' || to_char(m, 'YYYY_MM'); \
         IF to_regclass(name) IS NULL THEN EXECUTE format('CREATE TABLE %I (LIKE ledger INCLUDING DEFAULTS)', name); \
         EXECUTE format('ALTER TABLE ledger ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', name, {}, {}); END IF; END LOOP; END $$;\n\
         CREATE TEMP VIEW rows_of_it AS SELECT n, {begin} + n * {step} AS at FROM generate_series(CAST(1 AS BIGINT), {rows}) AS n;\n\
         {}\nVACUUM ANALYZE;",
        bound("m"),
        bound("(m + INTERVAL '1 month')"),
        statements(&id, "CAST({} AS TEXT)")
    ));
}

/// The middle one of each page's times.
fn times(gateway: &Gateway, rows: u64, begin: u64) -> Vec<Duration> {
    let (n, mid) = middle(rows, begin);
    let day = (begin + (DAYS - 7) * 86_400_000_000) / 86_400_000_000;
    let day = gateway_date(day);
    let middle_of = |path: &str| {
        let path = path.replace("{mid}", &mid).replace("{n}", &n.to_string()).replace("{day}", &day);
        let mut times: Vec<Duration> = (0..ASKED)
            .map(|_| {
                let began = Instant::now();
                gateway.get(&path).ok();
                began.elapsed()
            })
            .collect();
        times.sort_unstable();
        times[ASKED / 2]
    };
    PAGES.iter().map(|page| middle_of(page)).collect()
}

/// A day counted from 1970-01-01 as a date. H. Hinnant, "chrono-Compatible Low-Level Date Algorithms".
fn gateway_date(day: u64) -> String {
    let (year, month, day) = gateway::store::date_of(i64::try_from(day).unwrap());
    format!("{year:04}-{month:02}-{day:02}")
}

/// The times of all pages of a ledger with so many rows.
fn measured(name: &str, database: &str, rows: u64, fill: impl Fn(&Path, u64)) -> Vec<Duration> {
    let up = Upstream::new(Reply::whole());
    let state = tempfile::tempdir().unwrap();
    let serve = || Setup::toml(&priced(database, &up)).state(state.path()).start();
    let mut gateway = serve();
    // It has its tables when it answers this.
    gateway.get("/spend/keys").ok();
    gateway.signal("TERM");
    gateway.wait_exit();
    let begin = now() - DAYS * 86_400_000_000;
    let began = Instant::now();
    fill(&state.path().join("gateway.db"), begin);
    eprintln!("{name}: {rows} rows in {:?}", began.elapsed());
    let gateway = serve();
    let told = gateway.get("/global/activity?start_date=2020-01-01").ok().json();
    assert_eq!(told["sum_api_requests"].as_u64(), Some(rows), "{told}");
    let (n, _) = middle(rows, begin);
    assert_eq!(gateway.get(&format!("/spend/logs?request_id=c{n}")).ok().json().as_array().unwrap().len(), 1);
    times(&gateway, rows, begin)
}

fn compare(name: &str, few: &[Duration], many: &[Duration]) {
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let mut slow = Vec::new();
    for ((page, few), many) in PAGES.iter().zip(few).zip(many) {
        let ratio = ms(*many) / ms(*few).max(ms(FLOOR));
        eprintln!("{name:>8} {:>8.2} ms {:>8.2} ms {ratio:>6.2} {page}", ms(*few), ms(*many));
        if ratio > TIMES {
            slow.push(format!("{page}: {ratio:.1}"));
        }
    }
    assert!(slow.is_empty(), "{name}: more than {TIMES} times as long: {slow:#?}");
}

/// The short form asks for each page once; the long one compares.
fn check(name: &str, measured: impl Fn(u64) -> Vec<Duration>) {
    let (few, many) = (measured(FEW), setting("GATEWAY_ROWS", 0));
    assert!(few.iter().all(|time| *time < Duration::from_secs(5)), "{few:?}");
    if many > 0 {
        compare(name, &few, &measured(many));
    }
}

#[test]
fn pages_of_a_large_ledger_take_as_long_as_those_of_a_small_one_on_sqlite() {
    check("SQLite", |rows| measured("SQLite", "", rows, |path, begin| fill_sqlite(path, rows, begin)));
}

#[test]
fn pages_of_a_large_ledger_take_as_long_as_those_of_a_small_one_on_postgres() {
    let Some(first) = Postgres::start() else { return };
    let first = Cell::new(Some(first));
    check("Postgres", |rows| {
        let postgres = first.take().unwrap_or_else(|| Postgres::start().unwrap());
        measured("Postgres", &database(&postgres), rows, |_, begin| fill_postgres(&postgres, rows, begin))
    });
}
