//! A clock that leaps: months ahead, a year back, and home again, under load and over restarts.

use super::load::Load;
use super::on_both;
use crate::support::Gateway;
use crate::support::feed::{PATIENCE, pass};
use std::path::Path;
use std::time::{Duration, Instant};

/// Debian's libfaketime; none where it is not installed.
fn faketime() -> Option<String> {
    let places = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib"];
    let found =
        places.iter().map(|dir| format!("{dir}/faketime/libfaketimeMT.so.1")).find(|path| Path::new(path).exists());
    if found.is_none() {
        eprintln!("SKIPPED: a clock that leaps (Debian: libfaketime)");
    }
    found
}

#[test]
fn a_clock_that_leaps_costs_no_call() {
    let Some(library) = faketime() else { return };
    on_both(|database| {
        // A clock that is eleven years ahead would take everything away.
        let keep = "[ledger]\nretention = \"10y\"\nretention_interval = \"1s\"\n";
        let load = Load::new(database, keep, Duration::from_millis(5));
        let state = tempfile::tempdir().unwrap();
        let hands = state.path().join("clock");
        let set = |offset: &str| {
            let new = hands.with_extension("new");
            std::fs::write(&new, offset).unwrap();
            std::fs::rename(&new, &hands).unwrap();
        };
        set("+0d");
        let variables = [
            ("LD_PRELOAD", library.as_str()),
            ("FAKETIME_TIMESTAMP_FILE", hands.to_str().unwrap()),
            ("FAKETIME_NO_CACHE", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ];
        for leaps in [["+40d", "-400d", "+0d"], ["-40d", "+4000d", "-1d"]] {
            // It starts where the one before it has left the clock.
            let mut gateway = load.gateway(state.path(), &variables);
            load.during(&gateway, || {
                load.goes_on(&gateway);
                for (number, leap) in leaps.iter().enumerate() {
                    set(leap);
                    // Each leap is seen by a look at what is old, and keeps it from taking anything away.
                    let told = |gateway: &Gateway| {
                        gateway.logs().lines().filter(|line| line.contains("the clock was set by")).count()
                    };
                    let end = Instant::now() + PATIENCE;
                    while told(&gateway) <= number {
                        assert!(Instant::now() < end, "the leap is not seen:\n{}", gateway.logs());
                        pass(Duration::from_millis(20));
                    }
                    load.goes_on(&gateway);
                }
            });
            gateway.signal("TERM");
            assert!(gateway.wait_exit().success());
        }
        let figures = load.check(state.path());
        assert_eq!((figures.unseen, figures.interrupted, figures.refused), (0, 0, 0), "{figures:?}");
        assert_eq!(figures.rows, figures.whole);
    });
}
