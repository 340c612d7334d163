//! Sets the gateway beside nginx: the same mock upstream, the same load, the same minute.
//!
//! `tests/bench/run` builds and starts it; `docs/benchmarks.md` says what the rows mean and which traps there are.
//! An aim that is missed is printed, never a failure; a wrong answer is one.

mod cpu;
#[path = "../support/feed.rs"]
#[expect(dead_code, clippy::unwrap_used, reason = "it belongs to the tests, which stop at what they did not expect")]
mod feed;
mod http;
mod load;
mod measure;
mod mock;
#[path = "../support/postgres.rs"]
#[expect(dead_code, clippy::unwrap_used, clippy::expect_used, reason = "as above")]
mod postgres;
mod proxy;
mod report;

use measure::{Bench, Measure};
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

const USAGE: &str = "\
Usage: tests/bench/run [OPTIONS]

  --only ROW      small, large, events, latency, first, ledger, memory or start; may be given several times
  --seconds N     length of one measurement [default: 2]
  --gateway PATH  the binary to measure [default: the one just built]
  --control       measure a second nginx in the gateway's place: what differs from 1 is noise
  --config FILE   lines to append to the gateway's configuration";

struct Options {
    only: Vec<Measure>,
    seconds: Duration,
    /// None: a second nginx stands in.
    gateway: Option<PathBuf>,
    extra: String,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // Cargo gives `--bench` to a benchmark; without it this is a test run of all targets, which must stay quick.
    if !arguments.iter().any(|argument| argument == "--bench") {
        eprintln!("nothing measured: run tests/bench/run");
        return ExitCode::SUCCESS;
    }
    if arguments.iter().any(|argument| argument == "--help") {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    let options = match options(arguments) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("{error}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the benchmark could not be carried out: {error}");
            ExitCode::FAILURE
        }
    }
}

fn options(arguments: Vec<String>) -> Result<Options, String> {
    let mut options = Options {
        only: Vec::new(),
        seconds: Duration::from_secs(2),
        gateway: Some(PathBuf::from(env!("CARGO_BIN_EXE_gateway"))),
        extra: String::new(),
    };
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument}: a value is missing"));
        match argument.as_str() {
            "--bench" => {}
            "--only" => options.only.push(Measure::named(&value()?)?),
            "--seconds" => options.seconds = seconds(&value()?)?,
            "--gateway" => options.gateway = Some(PathBuf::from(value()?)),
            "--control" => options.gateway = None,
            "--config" => options.extra = read(&value()?)?,
            _ => return Err(format!("{argument}: unknown option")),
        }
    }
    if options.only.is_empty() {
        options.only = Measure::ALL.to_vec();
    }
    Ok(options)
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds| *seconds > 0.0);
    seconds
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or(format!("--seconds {text}: not a length of time"))
}

fn read(path: &str) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("--config {path}: {error}"))
}

fn run(options: Options) -> io::Result<()> {
    let subject = match options.gateway {
        Some(_) => "gateway",
        None => "second nginx",
    };
    let bench = Bench::new(options.gateway, options.extra, options.seconds)?;
    let (begin, before) = (Instant::now(), others()?);
    let rows = bench.rows(&options.only)?;
    let busy = others()?.saturating_sub(before).as_secs_f64() / begin.elapsed().as_secs_f64();
    println!("\n{}", report::table(subject, &rows));
    println!("Meanwhile all other processes together kept {busy:.2} processors busy.");
    Ok(())
}

/// Processor time that neither this process nor the proxies, its children, have used.
fn others() -> io::Result<Duration> {
    Ok(cpu::machine()?.saturating_sub(cpu::spent(std::process::id())?))
}
