//! A Postgres that is killed, hangs, stays away and comes back, under load.

use super::load::{Load, setting};
use super::on_postgres;
use crate::support::feed::pass;
use std::time::Duration;

#[test]
fn a_postgres_that_comes_and_goes_costs_no_call() {
    let away = Duration::from_secs(setting("GATEWAY_OUTAGE", 1));
    on_postgres(|postgres, database| {
        // A key is good for as long as all of this takes.
        let load = Load::new(database, "[store]\nkey_cache_age = \"10m\"\n", Duration::from_millis(5));
        let state = tempfile::tempdir().unwrap();
        let mut gateway = load.gateway(state.path(), &[]);
        load.during(&gateway, || {
            load.goes_on(&gateway);
            // Within half a second the gateway learns that there is a new key, and looks at it again.
            pass(Duration::from_millis(700));
            load.goes_on(&gateway);
            postgres.kill();
            load.goes_on(&gateway);
            postgres.up();
            load.goes_on(&gateway);
            postgres.freeze();
            pass(away);
            load.goes_on(&gateway);
            postgres.thaw();
            load.goes_on(&gateway);
            postgres.down();
            pass(away);
            load.goes_on(&gateway);
            postgres.up();
            load.goes_on(&gateway);
            postgres.restart();
            load.goes_on(&gateway);
        });
        gateway.signal("TERM");
        assert!(gateway.wait_exit().success());
        let figures = load.check(state.path());
        assert_eq!((figures.unseen, figures.interrupted, figures.refused), (0, 0, 0), "{figures:?}");
        // As many as the callers saw, and nothing else.
        assert_eq!(figures.rows, figures.whole);
    });
}
