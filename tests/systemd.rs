//! The units on a real systemd: `tests/systemd/run` boots one, and this shows its steps.
//!
//! `tests/run` leaves it out where the machine does not allow it, or with `GATEWAY_SYSTEMD=off`; what needs no boot is
//! in `daemon`, `idle` and `units`.

use crate::support::setup::PROGRAM;
use std::io::{BufRead, BufReader, Write, stderr};
use std::process::{Command, Stdio};

/// The exit code of a machine that does not allow it.
const NOT_HERE: i32 = 77;

/// Past the test runner, which hides what a test that passes writes.
fn show(line: &str) {
    stderr().write_all(format!("{line}\n").as_bytes()).unwrap();
}

/// Runs the script with these arguments, and shows its steps.
fn live_through(arguments: &[&str]) {
    if std::env::var_os("GATEWAY_SYSTEMD").is_some_and(|value| value == "off") {
        show("\nSKIPPED, because GATEWAY_SYSTEMD=off: the units are not run by a real systemd");
        return;
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/systemd/run");
    let mut child = Command::new(script).arg(PROGRAM).args(arguments).stdout(Stdio::piped()).spawn().unwrap();
    let mut steps = String::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        show(&line);
        steps += &format!("{line}\n");
    }
    let status = child.wait().unwrap();
    if status.code() == Some(NOT_HERE) {
        show("SKIPPED: the units are not run by a real systemd, since this machine does not allow it");
        return;
    }
    assert!(status.success(), "{status}:\n{steps}");
    assert!(steps.contains("all steps passed"), "{steps}");
}

#[test]
fn the_units_live_through_a_day_on_a_real_systemd() {
    live_through(&[]);
}

#[test]
fn a_person_has_a_gateway_of_his_own_on_a_real_systemd() {
    live_through(&["--only", "user"]);
}
