//! Rows that are old go while calls are served; what they add up to stays.

use super::{COST, on_both, priced, rows};
use crate::chat::HELLO;
use crate::support::feed::{PATIENCE, pass};
use crate::support::{Gateway, Reply, Setup, Upstream};
use std::time::{Duration, Instant};

#[test]
fn old_rows_are_taken_away_and_their_sums_stay() {
    on_both(|database| {
        let up = Upstream::new(Reply::whole());
        let keep = |age: &str| {
            format!("{}[ledger]\nretention = \"{age}\"\nretention_interval = \"1s\"\n", priced(database, &up))
        };
        let gateway = Gateway::start(&keep("1d"));
        for _ in 0..3 {
            gateway.chat(HELLO).ok();
        }
        rows(&gateway, 3);
        // Young enough for a day, and too old for what a reload asks for.
        pass(Duration::from_millis(1500));
        rows(&gateway, 3);
        gateway.rewrite(&keep("1s"));
        gateway.signal("HUP");
        let end = Instant::now() + PATIENCE;
        while !gateway.get("/spend/logs").ok().json().as_array().unwrap().is_empty() {
            assert!(Instant::now() < end, "rows stay:\n{}", gateway.logs());
            pass(Duration::from_millis(50));
        }
        gateway.wait_log("what was done", |line| line.contains("older than 1s: "));
        let spent = gateway.get("/global/spend").ok().json()["spend"].as_f64().unwrap();
        assert_eq!((spent / COST).round(), 3.0);
        assert_eq!(gateway.get("/global/activity").ok().json()["sum_api_requests"], 3);
        // And new ones come.
        gateway.chat(HELLO).ok();
        rows(&gateway, 1);
    });
}

#[test]
fn litellms_settings_for_it_are_carried_over() {
    let yaml = "model_list: []\ngeneral_settings:\n  master_key: sk-1234\n  maximum_spend_logs_retention_period: 6mo\n  maximum_spend_logs_retention_interval: 12h\n";
    let setup = Setup::command(&["import", "litellm", "config.yaml"]);
    std::fs::write(setup.dir().join("config.yaml"), yaml).unwrap();
    let ended = setup.run();
    assert!(ended.stdout.contains("retention = \"186d\"\nretention_interval = \"12h\""), "{ended:?}");
    assert!(!ended.stderr.contains("retention"), "{ended:?}");
}
