//! The log: journald with fields under systemd, text or JSON lines on standard error elsewhere.

use crate::config::{self, file::LogFormat};
use std::io::IsTerminal;
use std::os::unix::fs::MetadataExt;
use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt};

/// Starts logging; later calls of it do nothing.
///
/// # Errors
/// A text for the operator when `log.level` is no filter.
pub fn start(log: &config::Log) -> Result<(), String> {
    let filter = filter(&log.level)?;
    let journal = match log.format {
        LogFormat::Journald => true,
        LogFormat::Auto => stderr_is_the_journal(),
        LogFormat::Text | LogFormat::Json => false,
    };
    let layer = match journal.then(journald) {
        Some(Ok(layer)) => layer.boxed(),
        // Without a journal there is standard error.
        _ if log.format == LogFormat::Json => fmt::layer().json().with_writer(std::io::stderr).boxed(),
        _ => fmt::layer()
            .with_ansi(std::io::stderr().is_terminal())
            .with_target(false)
            .with_writer(std::io::stderr)
            .boxed(),
    };
    // Only a second start in one process fails here.
    let _ = tracing_subscriber::registry().with(layer.with_filter(filter)).try_init();
    Ok(())
}

/// The filter that `log.level` means.
///
/// # Errors
/// A text for the operator when it is none.
pub fn filter(level: &str) -> Result<EnvFilter, String> {
    // The server library tells of its own start and stop, and the pool of lost connections, what our lines tell better.
    EnvFilter::try_new(format!("actix_server=warn,deadpool=error,{level}")).map_err(|e| format!("log.level: {e}"))
}

/// Fields arrive as `GATEWAY_REQUEST_ID` and so on.
fn journald() -> std::io::Result<tracing_journald::Layer> {
    let priorities = PriorityMappings {
        error: Priority::Error,
        warn: Priority::Warning,
        info: Priority::Informational,
        debug: Priority::Debug,
        trace: Priority::Debug,
    };
    Ok(tracing_journald::layer()?
        .with_priority_mappings(priorities)
        .with_field_prefix(Some("GATEWAY".to_owned()))
        .with_syslog_identifier("gateway".to_owned()))
}

/// `JOURNAL_STREAM` names the journal's socket; somebody may have redirected standard error since
/// (`systemd.exec(5)`, "Environment variables set or propagated").
fn stderr_is_the_journal() -> bool {
    let (Ok(stream), Ok(stderr)) = (std::env::var("JOURNAL_STREAM"), std::fs::metadata("/proc/self/fd/2")) else {
        return false;
    };
    stream.split_once(':') == Some((&stderr.dev().to_string(), &stderr.ino().to_string()))
}
