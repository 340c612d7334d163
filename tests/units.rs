//! `gateway systemd-units`: the files, what systemd thinks of them, and that they are those of the NixOS module.

use crate::support::setup::run;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

fn write(dir: &Path, more: &[&str]) -> crate::support::setup::Ended {
    let mut words = vec!["systemd-units", "--dir", dir.to_str().unwrap()];
    words.extend(more);
    run(&words)
}

#[test]
fn units_are_written_once_and_own_changes_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(write(dir.path(), &[]).code, Some(0));
    for name in ["gateway.socket", "gateway.service", "gateway-config.service", "gateway-secrets.service"] {
        assert!(std::fs::read_to_string(dir.path().join(name)).unwrap().contains("[Unit]"), "{name}");
    }
    assert_eq!(write(dir.path(), &[]).code, Some(0), "the same again is no conflict");
    let service = dir.path().join("gateway.service");
    std::fs::write(&service, "[Service]\n").unwrap();
    let ended = write(dir.path(), &[]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("gateway.service") && ended.stderr.contains("--force"), "{}", ended.stderr);
    assert_eq!(std::fs::read_to_string(&service).unwrap(), "[Service]\n");
    assert_eq!(write(dir.path(), &["--force"]).code, Some(0));
    assert!(std::fs::read_to_string(&service).unwrap().contains("ExecStart="));
}

#[test]
fn a_user_gets_units_without_root() {
    let dir = tempfile::tempdir().unwrap();
    let ended = write(dir.path(), &["--user"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout.contains("systemctl --user"), "{}", ended.stdout);
    // The doctor looks for the machine's files by itself.
    assert!(ended.stdout.contains("gateway doctor --config ~/.config/gateway/gateway.toml"), "{}", ended.stdout);
    let service = std::fs::read_to_string(dir.path().join("gateway.service")).unwrap();
    assert!(!service.contains("User=") && service.contains("%t/gateway"), "{service}");
}

/// systemd's own judgement; it needs no running systemd.
#[test]
fn the_exposure_of_every_service_is_low() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        println!("SKIPPED: there is no systemd-analyze on this machine");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &[]);
    for (unit, threshold) in [
        ("gateway.service", "12"),
        ("gateway-config.service", "12"),
        ("gateway-secrets.service", "25"),
        ("gateway-backup.service", "12"),
    ] {
        let output = Command::new("systemd-analyze")
            .args(["security", "--no-pager", "--offline=yes", &format!("--threshold={threshold}")])
            .arg(dir.path().join(unit))
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{unit} is above {threshold} of 100:\n{text}");
        println!("{unit}: {}", text.lines().last().unwrap_or_default());
    }
}

/// Directives of a section, without those that name paths of one system or the other.
fn directives(text: &str, section: &str) -> BTreeSet<String> {
    let mut inside = false;
    let mut found = BTreeSet::new();
    for line in text.lines() {
        if line.starts_with('[') {
            inside = line == section;
        } else if let Some((name, value)) = line.split_once('=')
            && inside
            && !name.starts_with('#')
            && !name.starts_with("Exec")
            && !["Environment", "LoadCredential", "ListenStream", "SocketGroup"].contains(&name)
        {
            match name {
                // Written in one line or in several.
                "RestrictAddressFamilies" => {
                    found.extend(value.split_whitespace().map(|family| format!("{name}={family}")));
                }
                // For the switch of NixOS alone.
                _ if name.starts_with("X-") => (),
                _ => drop(found.insert(format!("{name}={value}"))),
            }
        }
    }
    found
}

#[test]
fn the_units_are_those_of_the_nixos_module() {
    let golden = Path::new("tests/nix/golden");
    let Ok(cases) = std::fs::read_dir(golden) else {
        println!("SKIPPED: {} is not there", golden.display());
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &[]);
    let ours = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
    let mut compared = BTreeSet::new();
    for case in cases {
        let case = case.unwrap().path();
        for name in ["gateway.service", "gateway-config.service", "gateway-secrets.service"] {
            let Ok(theirs) = std::fs::read_to_string(case.join("units").join(name)) else { continue };
            // A case may set the time limits of its own configuration.
            let shape = |text: &str| {
                let mut lines = directives(text, "[Service]");
                lines.retain(|line| !line.starts_with("Timeout"));
                lines
            };
            assert_eq!(shape(&ours(name)), shape(&theirs), "{name} differs from {}", case.display());
            compared.insert(name);
        }
        for (name, section) in [
            ("gateway.socket", "[Socket]"),
            ("gateway-config-retry.timer", "[Timer]"),
            ("gateway-secrets-retry.timer", "[Timer]"),
        ] {
            let Ok(theirs) = std::fs::read_to_string(case.join("units").join(name)) else { continue };
            let idle = theirs.contains("FlushPending=false");
            let dir = tempfile::tempdir().unwrap();
            let ended = write(dir.path(), if idle { &["--idle-timeout", "15m", "--force"] } else { &[] });
            assert_eq!(ended.code, Some(0), "{ended:?}");
            let ours = std::fs::read_to_string(dir.path().join(name)).unwrap();
            assert_eq!(directives(&ours, section), directives(&theirs, section), "{name}: {}", case.display());
            compared.insert(name);
        }
    }
    assert_eq!(compared.len(), 6, "golden files were expected for six units, and found for {compared:?}");
}
