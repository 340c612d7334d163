//! The ledger: each call has one row with its cost, whatever becomes of the process, the caller and the database.

mod clock;
mod disk;
mod kill;
mod load;
mod moves;
mod outage;
mod pages;
mod postgres;
mod reading;
mod retention;

use crate::chat::HELLO;
use crate::stream::HELLO as STREAM;
use crate::support::feed::{PATIENCE, pass};
use crate::support::postgres::Postgres;
use crate::support::reply::text;
use crate::support::{Gateway, Reply, Setup, Step, Upstream, config, model};
use serde_json::Value;
use std::time::{Duration, Instant};

/// 12 tokens in and 5 out, at 1 and 10 dollars for a million: 62 micro-dollars.
const PRICE: &str = "info = { input_cost_per_token = 0.000001, output_cost_per_token = 0.00001 }\n";
const COST: f64 = 0.000_062;

/// A configuration with one priced model, over this database.
fn priced(database: &str, up: &Upstream) -> String {
    format!("{database}{}", config("", &[format!("{}{PRICE}", model("small", up))]))
}

/// Rows, the newest first, once there are so many.
pub fn rows(gateway: &Gateway, count: usize) -> Vec<Value> {
    let end = Instant::now() + PATIENCE;
    loop {
        let answer = gateway.get("/spend/logs?limit=1000");
        let rows = if answer.status == 200 { answer.json().as_array().cloned().unwrap() } else { Vec::new() };
        if rows.len() >= count {
            assert_eq!(rows.len(), count, "{rows:#?}");
            return rows;
        }
        assert!(Instant::now() < end, "{} of {count} rows; the log:\n{}", rows.len(), gateway.logs());
        pass(Duration::from_millis(20));
    }
}

fn setting(postgres: &Postgres) -> String {
    format!("database_url = \"{}\"\n", postgres.url())
}

/// The test on SQLite, and on a Postgres of its own where one is installed.
fn on_both(test: impl Fn(&str)) {
    test("");
    on_postgres(|_, database| test(database));
}

fn on_postgres(test: impl FnOnce(&Postgres, &str)) {
    match Postgres::start() {
        Some(postgres) => test(&postgres, &setting(&postgres)),
        None => eprintln!("SKIPPED on Postgres: its server is not installed"),
    }
}

#[test]
fn a_call_has_a_row_with_its_cost() {
    on_both(|database| {
        let up = Upstream::script(|seen| match seen.json()["stream"] == true {
            true => Reply::texts(&["Hello"]),
            false => Reply::whole(),
        });
        let gateway = Gateway::start(&priced(database, &up));
        let whole = gateway.chat(HELLO).ok();
        rows(&gateway, 1);
        gateway.open_chat(STREAM).answer();
        let rows = rows(&gateway, 2);
        for (row, stream) in [(&rows[0], true), (&rows[1], false)] {
            assert_eq!((row["spend"].as_f64(), row["status"].as_str()), (Some(COST), Some("success")), "{row:#}");
            assert_eq!((row["prompt_tokens"].as_i64(), row["completion_tokens"].as_i64()), (Some(12), Some(5)));
            assert_eq!(row["metadata"]["stream"], stream, "{row:#}");
            assert_eq!(
                (row["model"].as_str(), row["custom_llm_provider"].as_str()),
                (Some("small-up"), Some("openai"))
            );
            assert_eq!(row["metadata"]["upstream_id"], "chatcmpl-9a1", "{row:#}");
            assert_eq!(row["metadata"]["estimated"], false);
            assert_eq!(row["requester_ip_address"], "127.0.0.1");
            assert!(row["completionStartTime"].is_string() && row["endTime"].as_str() >= row["startTime"].as_str());
        }
        assert_eq!(rows[1]["request_id"].as_str(), whole.header("x-litellm-call-id").as_deref());
        let spent = gateway.get("/global/spend").ok().json();
        assert_eq!(spent["spend"].as_f64(), Some(2.0 * COST), "{spent}");
    });
}

#[test]
fn a_failure_a_cut_stream_and_a_caller_who_leaves_have_rows() {
    let up = Upstream::queue(vec![
        Reply::error(500, "server_error", None, "it broke"),
        Reply::stream().send(&text("a")).send("data: {\"error\":{\"message\":\"no more\"}}\n\n").end_body(),
        Reply::stream().send(&text("a")).send(&text("b")).then(Step::Hold),
    ]);
    let gateway = Gateway::start(&priced("", &up));
    gateway.chat(HELLO).error(500);
    gateway.open_chat(STREAM).answer();
    let mut client = gateway.open_chat(STREAM);
    client.head();
    client.content().unwrap();
    client.content().unwrap();
    drop(client);
    let rows = rows(&gateway, 3);
    let told: Vec<&str> = rows.iter().map(|row| row["status"].as_str().unwrap()).collect();
    assert_eq!(told, ["cancelled", "failure", "failure"], "{rows:#?}");
    assert_eq!(rows[2]["spend"].as_f64(), Some(0.0));
    assert!(rows[2]["metadata"]["error_information"]["error_message"].as_str().unwrap().contains("it broke"));
    // What flowed is charged, by an estimate.
    for row in &rows[..2] {
        assert!(row["spend"].as_f64() > Some(0.0) && row["metadata"]["estimated"] == true, "{row:#}");
    }
    // A request that goes nowhere has no row.
    gateway.chat(HELLO.replace("small", "nowhere")).error(400);
    pass(Duration::from_millis(300));
    assert_eq!(self::rows(&gateway, 3).len(), 3);
}

#[test]
fn what_is_booked_leaves_no_files_behind() {
    let up = Upstream::new(Reply::whole());
    let mut gateway = Gateway::start(&priced("", &up));
    gateway.chat(HELLO).ok();
    gateway.signal("TERM");
    assert!(gateway.wait_exit().success());
    let left: Vec<_> = std::fs::read_dir(gateway.dir().join("ledger")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}\n{}", gateway.logs());
}

#[test]
fn a_ledger_that_is_off_writes_nothing() {
    let up = Upstream::new(Reply::whole());
    let gateway = Gateway::start(&format!("{}[ledger]\ndisabled = true\n", priced("", &up)));
    gateway.chat(HELLO).ok();
    assert!(!gateway.dir().join("ledger").exists());
}

#[test]
fn a_spool_that_cannot_be_written_refuses_calls_unless_told_otherwise() {
    let up = Upstream::new(Reply::whole());
    let setup = Setup::toml(&priced("", &up));
    // A file where the folder should be.
    std::fs::write(setup.dir().join("ledger"), "").unwrap();
    let gateway = setup.start();
    let error = gateway.chat(HELLO).error(503);
    assert_eq!(error.kind, "ledger_unavailable", "{error:?}");
    gateway.wait_log("that the ledger cannot be written", |line| line.contains("the ledger cannot be written"));
    // As soon as it can be, it goes on.
    std::fs::remove_file(gateway.dir().join("ledger")).unwrap();
    gateway.chat(HELLO).ok();
    rows(&gateway, 1);

    let setup = Setup::toml(&format!("{}[ledger]\nserve_unaccounted = true\n", priced("", &up)));
    std::fs::write(setup.dir().join("ledger"), "").unwrap();
    setup.start().chat(HELLO).ok();
}

#[test]
fn calls_in_anthropics_format_have_rows_too() {
    let up = Upstream::script(|seen| match seen.json()["stream"] == true {
        true => Reply::texts(&["Hello"]),
        false => Reply::whole(),
    });
    let gateway = Gateway::start(&priced("", &up));
    for stream in [false, true] {
        let body = format!(
            r#"{{"model":"small","max_tokens":9,"stream":{stream},"metadata":{{"user_id":"ann"}},"messages":[{{"role":"user","content":"hi"}}]}}"#
        );
        gateway.post("/v1/messages", body).ok();
    }
    for row in rows(&gateway, 2) {
        assert_eq!(
            (row["call_type"].as_str(), row["spend"].as_f64()),
            (Some("anthropic_messages"), Some(COST)),
            "{row:#}"
        );
        assert_eq!(
            (row["end_user"].as_str(), row["metadata"]["upstream_id"].as_str()),
            (Some("ann"), Some("chatcmpl-9a1"))
        );
    }
}

#[test]
fn a_spool_at_its_limit_refuses_calls() {
    let up = Upstream::new(Reply::whole());
    // A database that never was.
    let database = "database_url = \"postgresql://gateway@/postgres?host=/nonexistent\"\n";
    let gateway = Gateway::start(&format!("{}[ledger]\nspool_limit = \"8KiB\"\n", priced(database, &up)));
    let end = Instant::now() + PATIENCE;
    let served = (0..).find(|_| {
        assert!(Instant::now() < end, "calls go on and on:\n{}", gateway.logs());
        let answer = gateway.chat(HELLO);
        answer.status != 200 && answer.error(503).kind == "ledger_unavailable"
    });
    assert!(served.is_some_and(|served| served > 2), "{served:?}");
    gateway.wait_log("why", |line| line.contains("ledger.spool_limit"));
}

#[test]
fn what_cannot_be_read_is_kept_and_said() {
    let up = Upstream::new(Reply::whole());
    let setup = Setup::toml(&priced("", &up));
    std::fs::create_dir(setup.dir().join("ledger")).unwrap();
    let torn = setup.dir().join("ledger/00000000000000000001-000-000000.spool");
    std::fs::write(&torn, b"gwspool\x01half a record").unwrap();
    let gateway = setup.start();
    gateway.wait_log("that it is kept", |line| line.contains("13 bytes that cannot be read are kept in"));
    assert_eq!(std::fs::read(torn.with_extension("aside")).unwrap(), b"half a record");
    gateway.chat(HELLO).ok();
    rows(&gateway, 1);
    assert!(!torn.exists());
}

#[test]
fn calls_wait_for_a_database_that_is_down() {
    let Some(postgres) = Postgres::start() else {
        eprintln!("SKIPPED: Postgres is not installed");
        return;
    };
    let up = Upstream::new(Reply::whole());
    let gateway = Gateway::start(&priced(&setting(&postgres), &up));
    gateway.chat(HELLO).ok();
    rows(&gateway, 1);
    postgres.down();
    for _ in 0..20 {
        gateway.chat(HELLO).ok();
    }
    gateway.wait_log("that the ledger waits", |line| line.contains("the ledger cannot be booked"));
    gateway.wait_notice("STATUS=serving 1 model; the store (postgres) is down", 1);
    postgres.up();
    // Told at the start, with the database, without it, and with it again.
    let told = gateway.wait_notice("STATUS=serving 1 model", 4);
    assert!(!told[3].contains("down"), "{told:?}");
    let rows = rows(&gateway, 21);
    assert!(rows.iter().all(|row| row["spend"].as_f64() == Some(COST)), "{rows:#?}");
    assert_eq!(gateway.get("/spend/logs?limit=1000").ok().json().as_array().unwrap().len(), 21);
}
