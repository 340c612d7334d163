//! What this machine alone decides: files, secrets, clock, state.

use super::{Finding, State};
use crate::config::units::count;
use crate::config::{Mode, Sources, declared, load};
use crate::secret::Secrets;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The configuration and the secrets it refers to.
pub fn findings(sources: &Sources) -> Vec<Finding> {
    let mut findings = configuration(sources);
    findings.extend(env_file(sources));
    findings.extend(secrets(sources));
    findings
}

fn configuration(sources: &Sources) -> Vec<Finding> {
    let about = "configuration";
    let Some(path) = &sources.config else {
        return vec![Finding::bad(
            about,
            "there is none",
            "name it with --config FILE, or write /etc/gateway/gateway.toml",
        )];
    };
    let problems = match load(sources, Mode::Offline) {
        Ok(config) => {
            let text = format!("{} is valid: {}", path.display(), count(config.deployments.len(), "model"));
            let mut findings = vec![Finding::good(about, text)];
            // With secrets there may be more to say, such as a provider's key that is not there.
            let warnings = load(sources, Mode::Live).map_or(config.warnings, |live| live.warnings);
            findings.extend(warnings.into_iter().map(|warning| Finding::new(State::Note, about, warning)));
            return findings;
        }
        Err(problems) => problems,
    };
    let cure = "`gateway check` shows all of it, with the line";
    vec![Finding::bad(about, problems.lines().next().unwrap_or("it is broken"), cure)]
}

fn env_file(sources: &Sources) -> Option<Finding> {
    let about = "env file";
    let path = sources.env_file.as_deref()?;
    let name = path.display();
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => {
            return Some(Finding::bad(
                about,
                format!("{name}: {e}"),
                "run the doctor as root or as the gateway's user",
            ));
        }
        Err(e) => {
            let cure =
                "`systemctl restart gateway-secrets` makes it; `journalctl -u gateway-secrets` says why it is missing";
            return Some(Finding::bad(about, format!("{name}: {e}"), cure));
        }
    };
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o027 != 0 {
        let text = format!("{name} has mode {mode:04o}: others than its owner could read or change it");
        // Its group may read it, as the units have it.
        return Some(Finding::bad(about, text, format!("chmod 0440 {name}")));
    }
    Some(match Secrets::load(Some(path)) {
        Ok(_) => Finding::good(about, format!("{name} is readable, mode {mode:04o}")),
        Err(e) => Finding::bad(about, e, "correct the file, or run the doctor as root"),
    })
}

fn secrets(sources: &Sources) -> Vec<Finding> {
    // What cannot be read was said before.
    let Ok(declared) = declared(sources) else { return Vec::new() };
    let place = sources.env_file.as_deref().map_or("the env file (--env-file)".to_owned(), |p| p.display().to_string());
    let mut findings: Vec<Finding> = declared
        .references
        .iter()
        .filter(|reference| !reference.found)
        .map(|r| {
            let text = format!("{} refers to {}, which has no value", r.place, r.name);
            let cure = format!("give {} a value where {place} is made, and reload; or take the line out", r.name);
            Finding::bad("secret", text, cure)
        })
        .collect();
    if findings.is_empty() && !declared.references.is_empty() {
        let text = format!("{} to variables, all with a value", count(declared.references.len(), "reference"));
        findings.push(Finding::good("secrets", text));
    }
    findings
}

/// The first day of 2026: this program is younger.
const BORN: Duration = Duration::from_secs(1_767_225_600);
/// The first day of 2100.
const TOO_LATE: Duration = Duration::from_secs(4_102_444_800);

/// Certificates, budgets and logs go by it.
pub fn clock() -> Finding {
    clock_at(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

fn clock_at(now: Duration) -> Finding {
    let cure = "set the clock: timedatectl set-ntp true";
    if now < BORN {
        Finding::bad("clock", "it is before 2026; certificates will be refused", cure)
    } else if now > TOO_LATE {
        Finding::bad("clock", "it is after 2100; certificates will be refused", cure)
    } else {
        Finding::good("clock", "it is plausible")
    }
}

/// Less than this is no room for the ledger.
const ROOM: usize = 1 << 20;

/// Whether the gateway can write there.
pub fn state_dir(directory: &Path) -> Finding {
    let (about, name) = ("state directory", directory.display());
    let metadata = match std::fs::metadata(directory) {
        Ok(metadata) if metadata.is_dir() => metadata,
        Ok(_) => return Finding::bad(about, format!("{name} is no directory"), "move it away, or set state_dir"),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return Finding::new(State::Skipped, about, format!("{name} is not there yet; the gateway makes it"));
        }
        Err(e) => {
            return Finding::bad(about, format!("{name}: {e}"), "run the doctor as root or as the gateway's user");
        }
    };
    let probe = directory.join(format!(".doctor-{}", std::process::id()));
    let written = std::fs::OpenOptions::new().write(true).create_new(true).open(&probe).and_then(|mut file| {
        // An empty file is made on a full disk, too.
        let filled = file.write_all(&[0; ROOM]).and_then(|()| file.sync_all());
        let _ = std::fs::remove_file(&probe);
        filled
    });
    let owner = metadata.uid();
    match written {
        Ok(()) => Finding::good(about, format!("{name} can be written (owner {owner})")),
        Err(e) => Finding::bad(
            about,
            format!("{name}: {e}"),
            format!(
                "run the doctor as user {owner}; if it is that user: look for a full or read-only disk, then `systemctl restart gateway`"
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_never_set_is_noticed() {
        for (seconds, state) in [(0, State::Bad), (1_800_000_000, State::Good), (5_000_000_000, State::Bad)] {
            assert_eq!(clock_at(Duration::from_secs(seconds)).state, state, "{seconds}");
        }
    }
}
