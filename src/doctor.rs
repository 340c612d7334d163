//! `gateway doctor`: looks at everything a call needs, and says what is wrong and what to do, one line each.
//!
//! Nothing is changed, no model is called, no secret is shown. What may take long is asked at the same time, with a
//! bound.

mod local;
mod network;
mod units;

use crate::config::{Config, Mode, Sources, load};
use crate::systemd::{COLLECTED, RENDERED, STATE};
use crate::upstream::tls::TlsConfigs;
use std::collections::VecDeque;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

/// How it stands with one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Good,
    /// Worth knowing, and no failure.
    Note,
    Bad,
    /// Not looked at, for the reason that is given.
    Skipped,
}

/// One line of the report.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    state: State,
    about: String,
    text: String,
    /// What to do.
    cure: Option<String>,
}

impl Finding {
    fn new(state: State, about: impl Into<String>, text: impl Into<String>) -> Self {
        Finding { state, about: about.into(), text: text.into(), cure: None }
    }

    fn good(about: impl Into<String>, text: impl Into<String>) -> Self {
        Finding::new(State::Good, about, text)
    }

    fn bad(about: impl Into<String>, text: impl Into<String>, cure: impl Into<String>) -> Self {
        Finding { cure: Some(cure.into()), ..Finding::new(State::Bad, about, text) }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.state {
            State::Good => "ok",
            State::Note => "note",
            State::Bad => "FAIL",
            State::Skipped => "skip",
        };
        // One line, whatever an error message holds.
        let flat = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        write!(f, "{word:<5} {}: {}", self.about, flat(&self.text))?;
        match &self.cure {
            Some(cure) => write!(f, " -> {}", flat(cure)),
            None => Ok(()),
        }
    }
}

/// Something that is asked beside others.
struct Probe {
    about: String,
    ask: Box<dyn FnOnce() -> Finding + Send>,
}

impl Probe {
    fn new(about: impl Into<String>, ask: impl FnOnce() -> Finding + Send + 'static) -> Self {
        Probe { about: about.into(), ask: Box::new(ask) }
    }
}

/// How many are asked at the same time.
const AT_ONCE: usize = 16;
/// After that the report is printed, with what is known by then.
const PATIENCE: Duration = Duration::from_secs(20);

/// Looks at everything; the report, and whether all is well.
pub fn examine(sources: Sources) -> (String, bool) {
    let service = units::is_installed();
    let sources = Sources {
        config: sources.config.or_else(|| there(RENDERED)),
        env_file: sources.env_file.or_else(|| there(COLLECTED)),
        state_dir: sources.state_dir.or_else(|| service.then(|| PathBuf::from(STATE))),
        ..sources
    };
    let mut findings = local::findings(&sources);
    let config = load(&sources, Mode::Live).or_else(|_| load(&sources, Mode::Offline)).ok();
    findings.push(local::clock());
    if let Some(config) = &config {
        findings.push(local::state_dir(&config.state_dir));
    }
    let mut probes = Vec::new();
    if service {
        probes.extend(units::probes());
    }
    let listening = if service { units::addresses() } else { Vec::new() };
    probes.extend(network_probes(&sources, config.as_ref(), listening, service));
    findings.extend(ask_all(probes, PATIENCE));
    report(&findings)
}

fn there(path: &str) -> Option<PathBuf> {
    Some(PathBuf::from(path)).filter(|path| path.exists())
}

fn network_probes(sources: &Sources, config: Option<&Config>, listening: Vec<String>, service: bool) -> Vec<Probe> {
    let mut probes = Vec::new();
    if let Some(config) = config {
        let listening = if listening.is_empty() { network::configured(&config.server.listen) } else { listening };
        probes.extend(listening.into_iter().map(network::listener));
        let directory = if service { Path::new("/run/gateway") } else { &config.state_dir };
        probes.push(network::control(directory.join(crate::control::SOCKET)));
        let tls = Arc::new(TlsConfigs::default());
        probes.extend(network::upstreams(&config.deployments, &tls));
        probes.extend(network::tools(&config.mcp.servers, &tls));
    }
    if let Some(url) = crate::config::declared(sources).ok().and_then(|declared| declared.database) {
        probes.push(network::database(&url));
    }
    probes
}

/// The answers in the order of the questions. Who has not answered by then is said to be late; nobody waits for it.
fn ask_all(probes: Vec<Probe>, patience: Duration) -> Vec<Finding> {
    let names: Vec<String> = probes.iter().map(|probe| probe.about.clone()).collect();
    let mut answers: Vec<Option<Finding>> = names.iter().map(|_| None).collect();
    let threads = names.len().min(AT_ONCE);
    let open = Arc::new(Mutex::new(probes.into_iter().enumerate().collect::<VecDeque<_>>()));
    let (tell, told) = mpsc::channel();
    for _ in 0..threads {
        let (open, tell) = (open.clone(), tell.clone());
        std::thread::spawn(move || {
            let next = || open.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            while let Some((place, probe)) = next() {
                if tell.send((place, (probe.ask)())).is_err() {
                    return;
                }
            }
        });
    }
    drop(tell);
    let end = Instant::now() + patience;
    while let Ok((place, finding)) = told.recv_timeout(end.saturating_duration_since(Instant::now())) {
        if let Some(answer) = answers.get_mut(place) {
            *answer = Some(finding);
        }
    }
    let late = |about: String| {
        Finding::bad(
            about,
            format!("no answer within {patience:?}"),
            "look whether the name server and the network work",
        )
    };
    answers.into_iter().zip(names).map(|(answer, about)| answer.unwrap_or_else(|| late(about))).collect()
}

fn report(findings: &[Finding]) -> (String, bool) {
    let number = |state| findings.iter().filter(|finding| finding.state == state).count();
    let bad = number(State::Bad);
    let mut text: String = findings.iter().map(|finding| format!("{finding}\n")).collect();
    text.push_str(&match bad {
        0 => format!("all is well: {} good, {} to note\n", number(State::Good), number(State::Note)),
        _ => format!("{bad} failed, {} good, {} to note\n", number(State::Good), number(State::Note)),
    });
    (text, bad == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_one_line_with_its_cure() {
        let finding = Finding::bad("x", "two\n  lines", "do\nthat");
        assert_eq!(finding.to_string(), "FAIL  x: two lines -> do that");
    }

    #[test]
    fn answers_come_in_order_and_nobody_waits_for_the_late() {
        let slow = Probe::new("slow", || {
            std::thread::sleep(Duration::from_secs(60));
            Finding::good("slow", "")
        });
        let quick = |name: &'static str| Probe::new(name, move || Finding::good(name, "fine"));
        let findings = ask_all(vec![quick("a"), slow, quick("b")], Duration::from_millis(300));
        let shown: Vec<_> = findings.iter().map(|f| (f.about.as_str(), f.state)).collect();
        assert_eq!(shown, [("a", State::Good), ("slow", State::Bad), ("b", State::Good)]);
    }
}
