//! `kill -9` under load: no call is lost, none is booked twice.

use super::load::{Load, setting};
use super::on_both;
use crate::support::feed::pass;
use std::time::Duration;

#[test]
fn a_killed_gateway_loses_no_call_and_books_none_twice() {
    let rounds = setting("GATEWAY_ROUNDS", 10);
    on_both(|database| {
        let load = Load::new(database, "", Duration::ZERO);
        let state = tempfile::tempdir().unwrap();
        for round in 0..rounds {
            let mut gateway = load.gateway(state.path(), &[]);
            load.during(&gateway, || {
                // Where it strikes is left to the scheduler; how long the load lasts differs from round to round. On a
                // busy machine every second round waits for calls that are answered, so that there is a load at all.
                if round % 2 == 1 {
                    load.goes_on(&gateway);
                }
                pass(Duration::from_millis(60 + round * 37 % 190));
                gateway.signal("KILL");
            });
            gateway.wait_exit();
        }
        let figures = load.check(state.path());
        assert!(figures.whole > 20 && figures.interrupted > 0, "the load was none: {figures:?}");
    });
}
