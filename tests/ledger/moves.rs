//! `gateway migrate` and `gateway store copy`.

use super::{COST, on_postgres, priced, rows};
use crate::chat::HELLO;
use crate::support::setup::{Ended, PROGRAM, run};
use crate::support::{Gateway, Reply, Setup, Upstream};
use std::path::Path;
use std::process::{Command, Stdio};

/// Runs `gateway` on files of this directory.
fn on_files(directory: &Path, words: &[&str]) -> Ended {
    let mut command = Command::new(PROGRAM);
    command.env_clear().env("HOME", directory).args(words).current_dir(directory).stdin(Stdio::null());
    let output = command.output().unwrap();
    Ended {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

#[test]
fn a_store_is_made_by_hand_and_once() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("gateway.toml"), "master_key = \"sk-1234\"\n").unwrap();
    let state = directory.path().to_str().unwrap();
    let migrate = || on_files(directory.path(), &["migrate", "--state-dir", state]);
    let first = migrate();
    assert!(
        first.code == Some(0) && first.stdout.contains("has the schema 1.") && first.stdout.contains(" now"),
        "{first:?}"
    );
    let second = migrate();
    assert!(second.code == Some(0) && second.stdout.contains("nothing to do"), "{second:?}");
    std::fs::write(
        directory.path().join("gateway.toml"),
        "master_key = \"sk-1234\"\ndatabase_url = \"postgresql://gateway:hush@/x?host=/nonexistent\"\n",
    )
    .unwrap();
    let down = migrate();
    assert!(down.code == Some(1) && down.stderr.contains("Postgres") && !down.stderr.contains("hush"), "{down:?}");
}

#[test]
fn a_store_is_copied_to_postgres_and_back_and_goes_on() {
    on_postgres(|postgres, database| {
        let up = Upstream::new(Reply::whole());
        let state = tempfile::tempdir().unwrap();
        let path = state.path().to_str().unwrap();
        let serve = |database: &str| Setup::toml(&priced(database, &up)).state(state.path()).start();
        let mut gateway = serve("");
        let made =
            gateway.post("/key/generate", r#"{"key_alias":"laptop","user_id":"ann","tags":["home"]}"#).ok().json();
        let key = made["key"].as_str().unwrap();
        let call = |gateway: &Gateway| {
            gateway.call("POST", "/v1/chat/completions", &[("x-api-key", key)], HELLO.as_bytes()).ok();
        };
        (0..3).for_each(|_| call(&gateway));
        let before = rows(&gateway, 3);
        let spent = |gateway: &Gateway| {
            let info = gateway.get(&format!("/key/info?key={key}")).ok().json();
            (info["info"]["spend"].as_f64().unwrap() / COST).round() as i64
        };
        let stop = |gateway: &mut Gateway| {
            gateway.signal("TERM");
            assert!(gateway.wait_exit().success());
        };
        stop(&mut gateway);

        std::fs::write(state.path().join("secrets"), format!("DB={}\n", postgres.url())).unwrap();
        let copy = |from: &str, to: &str| on_files(state.path(), &["store", "copy", from, to, "--env-file", "secrets"]);
        let there = copy(path, "env:DB");
        assert!(there.code == Some(0) && there.stdout.contains("         3  ledger\n"), "{there:?}");
        let again = copy(path, "env:DB");
        assert!(again.code == Some(1) && again.stderr.contains("holds keys already"), "{again:?}");

        let mut gateway = serve(database);
        assert_eq!(rows(&gateway, 3), before);
        call(&gateway);
        let after = rows(&gateway, 4);
        assert_eq!(spent(&gateway), 4);
        stop(&mut gateway);

        let back = copy("env:DB", "back.db");
        assert!(back.code == Some(0), "{back:?}");
        std::fs::rename(state.path().join("back.db"), state.path().join("gateway.db")).unwrap();
        // The file is all there is; those beside the old one are none of its.
        for rest in ["gateway.db-wal", "gateway.db-shm"] {
            let _ = std::fs::remove_file(state.path().join(rest));
        }
        let gateway = serve("");
        assert_eq!(rows(&gateway, 4), after);
        call(&gateway);
        rows(&gateway, 5);
        assert_eq!(spent(&gateway), 5);
        let daily = gateway.get("/tag/daily/activity?tags=home").ok().json();
        assert_eq!(daily["metadata"]["total_api_requests"], 5, "{daily:#}");
    });
}

#[test]
fn a_running_store_is_backed_up_into_a_file_that_serves() {
    let up = Upstream::new(Reply::whole());
    let gateway = Gateway::start(&priced("", &up));
    (0..3).for_each(|_| drop(gateway.chat(HELLO).ok()));
    let before = rows(&gateway, 3);
    let dir = gateway.dir();
    let words = ["store", "backup", "saved.db", "--state-dir", ".", "--env-file", "env"];
    let saved = on_files(dir, &words);
    assert!(saved.code == Some(0) && saved.stdout.starts_with("saved.db: "), "{saved:?}");
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&dir.join("saved.db").metadata().unwrap().permissions()) & 0o777,
        0o600
    );
    let again = on_files(dir, &words);
    assert!(again.code == Some(1) && again.stderr.contains("exists"), "{again:?}");
    let restored = tempfile::tempdir().unwrap();
    std::fs::copy(dir.join("saved.db"), restored.path().join("gateway.db")).unwrap();
    let second = Setup::toml(&priced("", &up)).state(restored.path()).start();
    assert_eq!(rows(&second, 3), before);
    second.chat(HELLO).ok();
    rows(&second, 4);
}

#[test]
fn a_copy_says_what_is_wrong_with_its_ends() {
    for (words, told) in [
        (["store", "copy", "/nonexistent.db", "x.db"], "there is no store in this file"),
        (["store", "copy", "env:NOT_THERE", "x.db"], "the variable NOT_THERE is not set"),
        (["store", "copy", "postgresql://u:hush@/x?host=/nonexistent", "x.db"], "the store to copy from: "),
    ] {
        let ended = run(&words);
        assert!(ended.code == Some(1) && ended.stderr.contains(told) && !ended.stderr.contains("hush"), "{ended:?}");
    }
}
