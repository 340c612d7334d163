//! What the units of every case have in common, whatever else changes in the golden files.

use super::{CASES, blocks, golden, tree};
use crate::support::setup::run;

/// Every unit of every case, with its name.
fn units() -> Vec<(String, String)> {
    CASES
        .iter()
        .flat_map(|case| {
            tree(&golden().join(case).join("units")).into_iter().map(move |(n, t)| (format!("{case}/{n}"), t))
        })
        .collect()
}

fn named(name: &str) -> Vec<(String, String)> {
    let found: Vec<_> = units().into_iter().filter(|(unit, _)| unit.ends_with(name)).collect();
    assert!(!found.is_empty(), "{name}");
    found
}

fn has(unit: &str, line: &str) -> bool {
    unit.lines().any(|l| l == line)
}

#[test]
fn the_golden_files_are_those_of_the_cases() {
    let mut found: Vec<_> = tree(&golden()).into_keys().filter_map(|n| Some(n.split_once('/')?.0.to_owned())).collect();
    found.dedup();
    assert_eq!(found, CASES);
}

#[test]
fn the_program_accepts_what_the_module_writes() {
    for case in CASES {
        let file = golden().join(case).join("files/etc/gateway/gateway.toml");
        let ended = run(&["check", "--offline", file.to_str().unwrap()]);
        assert_eq!(ended.code, Some(0), "{case}: {}", ended.stderr);
        for warning in ended.stderr.lines() {
            assert!(warning.contains("not served yet"), "{case}: {warning}");
        }
    }
}

#[test]
fn the_settings_are_a_matter_of_the_configuration_unit_alone() {
    // In NixOS the file has another path with each change, and who names it is restarted.
    for (name, unit) in units() {
        assert_eq!(unit.contains("/etc/gateway/gateway.toml"), name.ends_with("/gateway-config.service"), "{name}");
    }
    for (name, unit) in named("/gateway.service") {
        assert!(unit.contains("ExecStart=/usr/local/bin/gateway serve --config /run/gateway/gateway.toml"), "{name}");
    }
}

#[test]
fn no_start_limit_takes_the_socket_away() {
    for (name, unit) in ["gateway.service", "gateway-config.service", "gateway-secrets.service"].map(named).concat() {
        assert!(has(&unit, "StartLimitIntervalSec=0"), "{name}");
        assert!(has(&unit, "X-StopIfChanged=false"), "{name}");
    }
    for (name, unit) in named("/gateway.service") {
        assert!(has(&unit, "Restart=on-failure"), "{name}");
    }
}

#[test]
fn a_failed_link_is_tried_again_by_a_timer_and_holds_nobody_up() {
    // With Restart= the start of the gateway would wait for systemd's next try, beside a good set.
    for link in ["gateway-config", "gateway-secrets"] {
        for (name, unit) in named(&format!("/{link}.service")) {
            assert!(has(&unit, &format!("OnFailure={link}-retry.timer")), "{name}");
            assert!(!unit.contains("\nRestart"), "{name}");
        }
        for (name, unit) in named(&format!("/{link}-retry.timer")) {
            assert!(has(&unit, &format!("Unit={link}.service")) && has(&unit, "RemainAfterElapse=false"), "{name}");
        }
    }
}

#[test]
fn the_gateway_wants_its_chain_and_requires_its_socket_only() {
    for (name, unit) in named("/gateway.service") {
        assert!(has(&unit, "Requires=gateway.socket"), "{name}");
        let line = |begin: &str| unit.lines().find(|l| l.starts_with(begin)).unwrap_or_default().to_owned();
        assert!(line("Wants=").contains("gateway-config.service"), "{name}");
        let has_secrets = unit.contains("--env-file /run/gateway-secrets/env");
        for relation in ["Wants=", "After="] {
            assert_eq!(line(relation).contains("gateway-secrets.service"), has_secrets, "{name}");
        }
        assert!(!unit.contains("EnvironmentFile=") && !unit.contains("LoadCredential="), "{name}");
    }
}

#[test]
fn directories_outlive_the_units_that_fill_them() {
    for (name, unit) in units() {
        if unit.contains("\nRuntimeDirectory=") {
            assert!(has(&unit, "RuntimeDirectoryPreserve=true"), "{name}");
        }
    }
}

#[test]
fn who_waits_is_kept_only_where_the_gateway_ends_by_itself() {
    for (name, unit) in named("/gateway.socket") {
        let idle = name.starts_with("idle/");
        assert!(has(&unit, &format!("FlushPending={}", !idle)), "{name}");
        assert_eq!(has(&unit, "TriggerLimitIntervalSec=0"), idle, "{name}");
        assert_eq!(unit.contains("PollLimitBurst="), idle, "{name}");
    }
}

#[test]
fn the_token_of_the_secret_store_reaches_the_unit_that_fetches_and_no_other() {
    for (name, unit) in units() {
        assert!(name.ends_with("/gateway-secrets.service") || !unit.contains("op-token"), "{name}");
    }
}

#[test]
fn every_service_is_locked_in() {
    for (name, unit) in units() {
        if name.contains("/gateway") && name.ends_with(".service") {
            for line in ["ProtectSystem=strict", "NoNewPrivileges=true", "CapabilityBoundingSet=", "UMask=0077"] {
                assert!(has(&unit, line), "{name}: {line}");
            }
        }
    }
}

/// What a proxy is told, without comments and layout.
fn directives(text: &str) -> Vec<String> {
    let lines = text.lines().map(str::trim).filter(|line| line.ends_with(';') && !line.starts_with('#'));
    lines.map(|line| line.replace("33554432", "32m")).collect()
}

#[test]
fn nginx_is_told_the_same_with_and_without_nix() {
    let by_hand = directives(&blocks("docs/proxies.md", "nginx").concat());
    let by_nix = directives(&std::fs::read_to_string(golden().join("vault/nginx-location.conf")).unwrap());
    let at = by_hand.iter().position(|line| *line == by_nix[0]).unwrap();
    assert_eq!(by_hand[at..], by_nix);
}
