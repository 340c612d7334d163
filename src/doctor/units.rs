//! What systemd says of the gateway's units.

use super::{Finding, Probe, State};
use std::collections::HashMap;
use std::path::Path;
use std::process::Command;

/// The chain, in the order in which it starts.
const UNITS: &[&str] = &["gateway-secrets.service", "gateway-config.service", "gateway.socket", "gateway.service"];

/// Whether this machine runs systemd and has the gateway's service.
pub fn is_installed() -> bool {
    Path::new("/run/systemd/system").exists() && is_loaded(&properties("gateway.service"))
}

fn is_loaded(properties: &HashMap<String, String>) -> bool {
    properties.get("LoadState").is_some_and(|state| state == "loaded")
}

/// `systemctl show`, which answers for units that do not exist, too.
fn properties(unit: &str) -> HashMap<String, String> {
    let wanted = "--property=LoadState,ActiveState,SubState,Result,NRestarts,NeedDaemonReload,Listen";
    match Command::new("systemctl").args(["show", wanted, unit]).output() {
        Ok(output) => parse(&String::from_utf8_lossy(&output.stdout)),
        Err(_) => HashMap::new(),
    }
}

fn parse(text: &str) -> HashMap<String, String> {
    let mut found: HashMap<String, String> = HashMap::new();
    for (name, value) in text.lines().filter_map(|line| line.split_once('=')) {
        // `Listen` comes once for each address.
        let old = found.entry(name.to_owned()).or_default();
        if !old.is_empty() {
            old.push('\n');
        }
        old.push_str(value);
    }
    found
}

/// One for each unit.
pub fn probes() -> Vec<Probe> {
    UNITS.iter().map(|unit| Probe::new(*unit, move || judge(unit, &properties(unit)))).collect()
}

fn judge(unit: &str, properties: &HashMap<String, String>) -> Finding {
    let value = |name: &str| properties.get(name).map_or("", String::as_str);
    if !is_loaded(properties) {
        return Finding::new(State::Skipped, unit, "there is no such unit");
    }
    if value("NeedDaemonReload") == "yes" {
        return Finding::bad(unit, "its file has changed since systemd read it", "systemctl daemon-reload");
    }
    let state = format!("{} ({})", value("ActiveState"), value("SubState"));
    let log = format!("journalctl -b -n 30 -u {unit}");
    match (value("ActiveState"), unit) {
        ("failed", _) => {
            let cure = format!("{log}; then systemctl reset-failed {unit} && systemctl restart {unit}");
            Finding::bad(unit, format!("failed: {}", value("Result")), cure)
        }
        ("activating", _) => Finding::bad(unit, format!("{state}: it does not get ready"), log),
        ("inactive", "gateway.socket") => Finding::bad(unit, "nobody listens", "systemctl enable --now gateway.socket"),
        ("inactive", "gateway.service") => Finding::good(unit, "waits for the first connection"),
        ("inactive", _) => Finding::good(unit, "has not been needed yet"),
        _ => {
            let restarts = value("NRestarts").parse::<u32>().unwrap_or(0);
            if restarts > 0 {
                let text = format!("{state}, but it was started again {restarts} times: {log}");
                return Finding::new(State::Note, unit, text);
            }
            Finding::good(unit, state)
        }
    }
}

/// The addresses of gateway.socket: `127.0.0.1:4000`, `unix:/run/gateway.sock`.
pub fn addresses() -> Vec<String> {
    listed(properties("gateway.socket").get("Listen").map_or("", String::as_str))
}

/// systemd writes `ADDRESS (Stream)`.
fn listed(text: &str) -> Vec<String> {
    let streams = text.lines().filter_map(|line| line.strip_suffix(" (Stream)"));
    streams
        .map(|address| if address.starts_with('/') { format!("unix:{address}") } else { address.to_owned() })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_has_its_cure() {
        let about = |unit: &str, text: &str| judge(unit, &parse(text));
        let failed = about("gateway.service", "LoadState=loaded\nActiveState=failed\nResult=watchdog\n");
        assert_eq!(failed.state, State::Bad);
        assert!(failed.to_string().contains("watchdog") && failed.to_string().contains("journalctl"), "{failed}");
        let asleep = about("gateway.socket", "LoadState=loaded\nActiveState=inactive\n");
        assert!(asleep.to_string().contains("enable --now"), "{asleep}");
        let idle = about("gateway.service", "LoadState=loaded\nActiveState=inactive\n");
        assert_eq!(idle.state, State::Good);
        let stale = about("gateway.service", "LoadState=loaded\nActiveState=active\nNeedDaemonReload=yes\n");
        assert!(stale.to_string().contains("daemon-reload"), "{stale}");
        assert_eq!(about("gateway.service", "LoadState=not-found\n").state, State::Skipped);
    }

    #[test]
    fn the_addresses_of_a_socket_are_read() {
        let text = "Listen=127.0.0.1:4000 (Stream)\nListen=/run/gateway.sock (Stream)\nListen=/run/x (Datagram)\n";
        let found = parse(text);
        assert_eq!(listed(&found["Listen"]), ["127.0.0.1:4000", "unix:/run/gateway.sock"]);
    }
}
