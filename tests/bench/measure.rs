//! The measurements: what is sent, what is read off, and the rounds in which the sides take turns.

use crate::load::{self, Connections, Mark};
use crate::postgres::Postgres;
use crate::proxy::{self, Proxy};
use crate::report::{Aim, Row, quantile};
use crate::{cpu, http, mock};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

const ROUNDS: usize = 5;
/// Turns that each side has within a round, so that a disturbance lands on both.
const SLICES: usize = 6;
const CONNECTIONS: usize = 64;
const STREAMS: usize = 32;
/// Time between two events of a stream.
const PACE: Duration = Duration::from_millis(5);
/// Requests a second of the open loop; a stream is several writes, so there are fewer of them.
const RATE: u32 = 500;
const STREAM_RATE: u32 = 200;
/// Starts of each side; they are short and vary more than the rest.
const STARTS: usize = 7;
const WARM_UP_EVENTS: u128 = 60;
const WARM_UP: Duration = Duration::from_millis(100);
/// How long a proxy must have nothing to do until all that it was given counts as done.
const QUIET: Duration = Duration::from_millis(700);
/// Added to the length of a measurement before it is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// What `--only` can name; a measurement gives one row or two.
#[derive(Clone, Copy, PartialEq)]
pub enum Measure {
    Small,
    Large,
    Events,
    Latency,
    First,
    Ledger,
    Memory,
    Start,
}

impl Measure {
    /// Memory comes after all load, because it reports the peak.
    pub const ALL: [Self; 8] =
        [Self::Small, Self::Large, Self::Events, Self::Latency, Self::First, Self::Ledger, Self::Memory, Self::Start];

    pub fn named(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|measure| measure.name() == name);
        found.ok_or(format!("--only {name}: no such row"))
    }

    fn name(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Large => "large",
            Self::Events => "events",
            Self::Latency => "latency",
            Self::First => "first",
            Self::Ledger => "ledger",
            Self::Memory => "memory",
            Self::Start => "start",
        }
    }
}

/// Both proxies, running, and the mock behind them.
pub struct Bench {
    gateway: Option<PathBuf>,
    extra: String,
    length: Duration,
    runtime: Runtime,
    mock: SocketAddr,
    sides: [Side; 2],
}

/// One proxy with the memory that it took before any load, in bytes.
struct Side {
    proxy: Proxy,
    idle: u64,
}

/// What the rounds gave: one list a side, nginx first.
type Rounds<T> = [Vec<T>; 2];

impl Bench {
    /// Starts everything and checks that both sides answer. Without `gateway` the second side is nginx too.
    pub fn new(gateway: Option<PathBuf>, extra: String, length: Duration) -> io::Result<Self> {
        let mock = mock::start()?;
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let sides = [Side::checked(proxy::nginx(mock)?)?, Side::checked(start(gateway.as_ref(), mock, &extra)?)?];
        Ok(Self { gateway, extra, length, runtime: builder.enable_all().build()?, mock, sides })
    }

    /// Carries out `measures`, in the order of [`Measure::ALL`].
    pub fn rows(&self, measures: &[Measure]) -> io::Result<Vec<Row>> {
        let mut rows = Vec::new();
        for measure in Measure::ALL {
            if measures.contains(&measure) {
                eprintln!("{} ...", measure.name());
                rows.extend(self.measure(measure)?);
            }
        }
        Ok(rows)
    }

    fn measure(&self, measure: Measure) -> io::Result<Vec<Row>> {
        match measure {
            Measure::Small => self.small(),
            Measure::Large => self.large(),
            Measure::Events => self.events(),
            Measure::Latency => self.latency(),
            Measure::First => self.first(),
            Measure::Ledger => self.ledger(),
            Measure::Memory => self.memory(),
            Measure::Start => self.starts(),
        }
    }

    fn small(&self) -> io::Result<Vec<Row>> {
        let rounds = self.closed_loop(&small_body(""))?;
        let aim = Aim::TimesAtMost(1.9);
        let rate_aim = Aim::TimesAtLeast(0.7);
        let cpu = row("CPU per request", "µs", aim, &rounds, Closed::micros_each);
        let rate = row("requests a second", "/s", rate_aim, &rounds, Closed::rate);
        Ok(vec![cpu, rate])
    }

    fn large(&self) -> io::Result<Vec<Row>> {
        let rounds = self.closed_loop(&large_body())?;
        let name = "CPU per 100 KB request";
        let aim = Aim::TimesAtMost(1.9);
        Ok(vec![row(name, "µs", aim, &rounds, Closed::micros_each)])
    }

    /// The sides take turns, with new connections each time: chance in how they fall to the workers evens out.
    fn closed_loop(&self, body: &str) -> io::Result<Rounds<Closed>> {
        let mut rounds = [Vec::new(), Vec::new()];
        for _ in 0..ROUNDS {
            let mut sums = [Closed::default(), Closed::default()];
            for slice in 0..SLICES {
                for turn in 0..2 {
                    let at = (slice + turn) % 2;
                    let proxy = &self.sides[at].proxy;
                    let slice = self.within(self.closed_slice(proxy, body));
                    sums[at].add(&slice.map_err(|error| proxy.blame(error))?);
                }
            }
            let [nginx, gateway] = sums;
            rounds[0].push(nginx);
            rounds[1].push(gateway);
        }
        Ok(rounds)
    }

    async fn closed_slice(&self, proxy: &Proxy, body: &str) -> io::Result<Closed> {
        let request = Arc::from(http::request(proxy.address, body));
        let mut connections = Connections::open(proxy.address, CONNECTIONS).await?;
        connections.ask_for(&request, WARM_UP).await?;
        let (cpu, begin) = (cpu::spent(proxy.pid())?, Instant::now());
        let answers = connections.ask_for(&request, self.slice()).await?;
        let elapsed = begin.elapsed();
        let cpu = cpu::spent(proxy.pid())?.saturating_sub(cpu);
        Ok(Closed { cpu, elapsed, answers })
    }

    /// Length of one turn.
    fn slice(&self) -> Duration {
        self.length / SLICES as u32
    }

    /// Both sides at once: a paced load leaves the processors idle in between, and what a waking costs then depends
    /// on whatever else goes on, far more than on the proxy.
    fn events(&self) -> io::Result<Vec<Row>> {
        let mut rounds = [Vec::new(), Vec::new()];
        for _ in 0..ROUNDS {
            let [nginx, gateway] = &self.sides;
            let both = async { tokio::try_join!(self.event_cpu(nginx), self.event_cpu(gateway)) };
            let (nginx, gateway) = self.within(both)?;
            rounds[0].push(nginx);
            rounds[1].push(gateway);
        }
        let name = "CPU per stream event";
        let aim = Aim::TimesAtMost(1.1);
        Ok(vec![row(name, "µs", aim, &rounds, |cpu| *cpu)])
    }

    async fn event_cpu(&self, side: &Side) -> io::Result<f64> {
        let address = side.proxy.address;
        let request = |events| Arc::from(http::request(address, &small_body(&streamed(events, PACE))));
        let count = (2 * self.length.as_micros() / PACE.as_micros()).max(1);
        let cost = async {
            let mut connections = Connections::open(address, STREAMS).await?;
            connections.stream(&request(WARM_UP_EVENTS)).await?;
            let cpu = cpu::spent(side.proxy.pid())?;
            let events = connections.stream(&request(count)).await?;
            let cpu = cpu::spent(side.proxy.pid())?.saturating_sub(cpu);
            Ok(micros(cpu) / events as f64)
        };
        cost.await.map_err(|error| side.proxy.blame(error))
    }

    fn latency(&self) -> io::Result<Vec<Row>> {
        let rounds = self.added(&small_body(""), RATE, Mark::Whole)?;
        let (p50, p99) = (Aim::AtMost(0.12), Aim::AtMost(0.35));
        Ok(vec![
            row("added p50 at 500/s", "ms", p50, &rounds, |times| times.p50),
            row("added p99 at 500/s", "ms", p99, &rounds, |times| times.p99),
        ])
    }

    fn first(&self) -> io::Result<Vec<Row>> {
        let body = small_body(&streamed(3, Duration::ZERO));
        let rounds = self.added(&body, STREAM_RATE, Mark::FirstEvent)?;
        let name = "added time to first chunk";
        let aim = Aim::AtMost(0.22);
        Ok(vec![row(name, "ms", aim, &rounds, |times| times.p50)])
    }

    /// What each side adds to the time that the mock takes when asked directly, which is a third taker of turns.
    fn added(&self, body: &str, rate: u32, mark: Mark) -> io::Result<Rounds<Times>> {
        let [nginx, gateway] = &self.sides;
        let addresses = [self.mock, nginx.proxy.address, gateway.proxy.address];
        let mut rounds = [Vec::new(), Vec::new()];
        for _ in 0..ROUNDS {
            let mut times = [const { Vec::new() }; 3];
            for slice in 0..SLICES {
                for turn in 0..3 {
                    let at = (slice + turn) % 3;
                    let request = http::request(addresses[at], body);
                    times[at].extend(load::paced(addresses[at], &request, rate, self.slice(), mark)?);
                }
            }
            let [direct, nginx, gateway] = times.map(Times::of);
            rounds[0].push(nginx.beyond(&direct));
            rounds[1].push(gateway.beyond(&direct));
        }
        Ok(rounds)
    }

    /// What a call costs more when it has a key, a price and a row: the booking is waited for, so that all of it counts.
    fn ledger(&self) -> io::Result<Vec<Row>> {
        let Some(binary) = &self.gateway else { return Ok(Vec::new()) };
        let postgres = Postgres::start();
        let url = postgres.as_ref().map(Postgres::url);
        let mut sides = vec![Booking::start(proxy::accounting(binary, self.mock, None, &self.extra)?, "SQLite")?];
        if let Some(url) = &url {
            sides.push(Booking::start(proxy::accounting(binary, self.mock, Some(url), &self.extra)?, "Postgres")?);
        }
        let body = small_body("");
        let [nginx, plain] = &self.sides;
        let mut rounds = vec![[Vec::new(), Vec::new()]; sides.len()];
        for _ in 0..ROUNDS {
            let cost = |proxy, request| self.within(self.booked_slice(proxy, request));
            let nginx_cost = cost(&nginx.proxy, http::request(nginx.proxy.address, &body))?;
            let plain_cost = cost(&plain.proxy, http::request(plain.proxy.address, &body))?;
            for (side, rounds) in sides.iter().zip(&mut rounds) {
                let request = http::post(side.proxy.address, "/v1/chat/completions", &side.key, &body);
                let booked = cost(&side.proxy, request).map_err(|error| side.proxy.blame(error))?;
                rounds[0].push(nginx_cost);
                rounds[1].push(booked - plain_cost);
            }
        }
        let rows = sides.iter().zip(&rounds).map(|(side, rounds)| {
            // The aim is that of Postgres; SQLite does the database's work too.
            let (name, aim) = match side.engine {
                "Postgres" => ("CPU added by key, price and ledger", Aim::TimesAtMost(0.4)),
                _ => ("the same on SQLite, its work included", Aim::Shown),
            };
            row(name, "µs", aim, rounds, |cost| *cost)
        });
        Ok(rows.rev().collect())
    }

    /// Processor time of a request until everything that it left behind is done.
    async fn booked_slice(&self, proxy: &Proxy, request: Vec<u8>) -> io::Result<f64> {
        let mut connections = Connections::open(proxy.address, CONNECTIONS).await?;
        let request = Arc::from(request);
        connections.ask_for(&request, WARM_UP).await?;
        settled(proxy).await?;
        let cpu = cpu::spent(proxy.pid())?;
        let answers = connections.ask_for(&request, self.length / 2).await?;
        settled(proxy).await?;
        let cpu = cpu::spent(proxy.pid())?.saturating_sub(cpu);
        Ok(micros(cpu) / answers as f64)
    }

    fn memory(&self) -> io::Result<Vec<Row>> {
        let [nginx, gateway] = &self.sides;
        let idle = [vec![nginx.idle], vec![gateway.idle]];
        let peak = [nginx, gateway].map(|side| cpu::peak(side.proxy.pid()));
        let [nginx, gateway] = peak;
        let peak = [vec![nginx?], vec![gateway?]];
        let (idle_aim, peak_aim) = (Aim::AtMost(15.0), Aim::AtMost(40.0));
        Ok(vec![
            row("idle memory", "MB", idle_aim, &idle, megabytes),
            row("peak memory", "MB", peak_aim, &peak, megabytes),
        ])
    }

    fn starts(&self) -> io::Result<Vec<Row>> {
        let mut rounds = [Vec::new(), Vec::new()];
        for _ in 0..STARTS {
            rounds[0].push(first_answer(|| proxy::nginx(self.mock))?);
            let gateway = || start(self.gateway.as_ref(), self.mock, &self.extra);
            rounds[1].push(first_answer(gateway)?);
        }
        let name = "start to first answer";
        let aim = Aim::AtMost(30.0);
        Ok(vec![row(name, "ms", aim, &rounds, |time| *time)])
    }

    fn within<T>(&self, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
        self.runtime
            .block_on(async { tokio::time::timeout(2 * self.length + PATIENCE, work).await })
            .map_err(|_| io::Error::other("no answer in time"))?
    }
}

impl Side {
    fn checked(proxy: Proxy) -> io::Result<Self> {
        answer(&proxy, &small_body(""))?;
        let stream = answer(&proxy, &small_body(&streamed(3, Duration::ZERO)))?;
        // Three events, the usage that was asked for, and the end.
        if stream.matches("data: ").count() != 5 {
            return Err(io::Error::other(format!("not the mock's stream:\n{stream}")));
        }
        // Whatever starting left to do is done by then.
        std::thread::sleep(Duration::from_millis(500));
        let idle = cpu::resident(proxy.pid())?;
        Ok(Self { proxy, idle })
    }
}

/// A gateway that books, with a key of its store.
struct Booking {
    proxy: Proxy,
    engine: &'static str,
    key: String,
}

impl Booking {
    fn start(proxy: Proxy, engine: &'static str) -> io::Result<Self> {
        let made = load::ask_once(proxy.address, &http::post(proxy.address, "/key/generate", http::KEY, "{}"))
            .map_err(|error| proxy.blame(error))?;
        let made = String::from_utf8_lossy(&made).into_owned();
        let key = made.split_once(r#""key":""#).and_then(|(_, rest)| rest.split('"').next());
        let key = key.ok_or_else(|| io::Error::other(format!("no key: {made}")))?.to_owned();
        Ok(Self { proxy, engine, key })
    }
}

/// Waits until a proxy has nothing left to do: until it uses less than a hundredth of a processor.
async fn settled(proxy: &Proxy) -> io::Result<()> {
    let mut before = cpu::spent(proxy.pid())?;
    loop {
        tokio::time::sleep(QUIET).await;
        let now = cpu::spent(proxy.pid())?;
        if now.saturating_sub(before) < QUIET / 100 {
            return Ok(());
        }
        before = now;
    }
}

/// What a closed loop cost.
#[derive(Default)]
struct Closed {
    cpu: Duration,
    elapsed: Duration,
    answers: usize,
}

impl Closed {
    fn add(&mut self, other: &Self) {
        self.cpu += other.cpu;
        self.elapsed += other.elapsed;
        self.answers += other.answers;
    }

    fn micros_each(&self) -> f64 {
        micros(self.cpu) / self.answers as f64
    }

    fn rate(&self) -> f64 {
        self.answers as f64 / self.elapsed.as_secs_f64()
    }
}

/// Milliseconds.
struct Times {
    p50: f64,
    p99: f64,
}

impl Times {
    fn of(times: Vec<Duration>) -> Self {
        let times: Vec<f64> = times.into_iter().map(millis).collect();
        Self { p50: quantile(&times, 0.5), p99: quantile(&times, 0.99) }
    }

    fn beyond(&self, direct: &Self) -> Self {
        Self { p50: self.p50 - direct.p50, p99: self.p99 - direct.p99 }
    }
}

fn start(gateway: Option<&PathBuf>, mock: SocketAddr, extra: &str) -> io::Result<Proxy> {
    match gateway {
        Some(binary) => proxy::gateway(binary, mock, extra),
        None => proxy::nginx(mock),
    }
}

/// Milliseconds from before the process exists to its first answer; stopping it comes after.
fn first_answer(start: impl FnOnce() -> io::Result<Proxy>) -> io::Result<f64> {
    let begin = Instant::now();
    let proxy = start()?;
    answer(&proxy, &small_body(""))?;
    Ok(millis(begin.elapsed()))
}

/// One answer of a proxy that may still be starting, as text.
fn answer(proxy: &Proxy, body: &str) -> io::Result<String> {
    let request = http::request(proxy.address, body);
    let content = load::ask_once(proxy.address, &request).map_err(|error| proxy.blame(error))?;
    Ok(String::from_utf8_lossy(&content).into_owned())
}

fn row<T>(name: &'static str, unit: &'static str, aim: Aim, rounds: &Rounds<T>, value: impl Fn(&T) -> f64) -> Row {
    let [nginx, gateway] = rounds;
    Row { name, unit, aim, nginx: nginx.iter().map(&value).collect(), gateway: gateway.iter().map(&value).collect() }
}

/// Half a kilobyte, its members in the order in which the OpenAI SDK writes them; `more` follows the model.
fn small_body(more: &str) -> String {
    let body = |text: &str| {
        format!(
            r#"{{"messages":[{{"role":"system","content":"You are a helpful assistant."}},{{"role":"user","content":"{text}"}}],"model":"bench"{more},"temperature":0.7}}"#
        )
    };
    body(&"a".repeat(512_usize.saturating_sub(body("").len())))
}

/// A conversation of 100 KB with the escapes that written text has.
fn large_body() -> String {
    let sentence = r#"The \"answer\" goes on,\nline by line, as conversations do. "#;
    let message = format!(r#"{{"role":"user","content":"{}"}}"#, sentence.repeat(32));
    let count = 100 * 1024 / message.len();
    let messages = vec![message; count].join(",");
    format!(r#"{{"messages":[{messages}],"model":"bench","temperature":0.7}}"#)
}

/// The members that make the mock stream; the usage is asked for, so that both sides pass the same bytes on.
fn streamed(events: u128, pace: Duration) -> String {
    let pace = pace.as_micros();
    format!(r#","stream":true,"stream_options":{{"include_usage":true}},"user":"events={events} pace_us={pace}""#)
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn megabytes(bytes: &u64) -> f64 {
    *bytes as f64 / 1e6
}
