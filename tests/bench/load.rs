//! The callers: a closed loop for processor time and throughput, paced streams, and an open loop for latency.

use crate::http;
use memchr::memmem;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream as Blocking};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Silence after which an answer is given up.
const PATIENCE: Duration = Duration::from_secs(20);

/// Blocking connections that share the open loop, so that a slow answer does not delay the next request.
const LANES: u32 = 8;

/// Kept-alive connections to one side.
pub struct Connections(Vec<Connection>);

struct Connection {
    stream: TcpStream,
    buf: Vec<u8>,
}

impl Connections {
    pub async fn open(address: SocketAddr, count: usize) -> io::Result<Self> {
        let mut all = Vec::with_capacity(count);
        for _ in 0..count {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let buf = Vec::with_capacity(16 * 1024);
            all.push(Connection { stream, buf });
        }
        Ok(Self(all))
    }

    /// Every connection asks, waits for the whole answer and asks again for `length`; the number of answers.
    pub async fn ask_for(&mut self, request: &Arc<[u8]>, length: Duration) -> io::Result<usize> {
        let until = Instant::now() + length;
        self.each(|mut connection| {
            let request = Arc::clone(request);
            async move {
                let mut answers = 0;
                while Instant::now() < until {
                    connection.ask(&request).await?;
                    answers += 1;
                }
                Ok((connection, answers))
            }
        })
        .await
    }

    /// Every connection reads one stream to its end; the number of events.
    pub async fn stream(&mut self, request: &Arc<[u8]>) -> io::Result<usize> {
        self.each(|mut connection| {
            let request = Arc::clone(request);
            async move {
                connection.ask(&request).await?;
                let content = http::content(&connection.buf)?;
                if !content.ends_with(b"data: [DONE]\n\n") {
                    return Err(io::Error::other("a stream without [DONE]"));
                }
                let events = memmem::find_iter(&content, b"data: ").count();
                Ok((connection, events))
            }
        })
        .await
    }

    /// Runs `work` on all connections at once and sums what it counts; the connections stay open.
    async fn each<F>(&mut self, work: impl Fn(Connection) -> F) -> io::Result<usize>
    where
        F: Future<Output = io::Result<(Connection, usize)>> + Send + 'static,
    {
        let mut tasks = JoinSet::new();
        for connection in self.0.drain(..) {
            tasks.spawn(work(connection));
        }
        let mut sum = 0;
        while let Some(done) = tasks.join_next().await {
            let (connection, count) = done??;
            self.0.push(connection);
            sum += count;
        }
        Ok(sum)
    }
}

impl Connection {
    /// One request and its whole answer, which is then in `buf`.
    async fn ask(&mut self, request: &[u8]) -> io::Result<()> {
        self.buf.clear();
        self.stream.write_all(request).await?;
        while http::message_end(&self.buf)?.is_none() {
            if self.stream.read_buf(&mut self.buf).await? == 0 {
                return Err(closed());
            }
        }
        http::expect_ok(&self.buf)
    }
}

/// When the clock of one request stops.
#[derive(Clone, Copy)]
pub enum Mark {
    /// At the last byte of the answer.
    Whole,
    /// At the first event of the stream.
    FirstEvent,
}

/// Sends `rate` requests a second for `length` whether or not earlier ones were answered; the time each one took.
pub fn paced(
    address: SocketAddr,
    request: &[u8],
    rate: u32,
    length: Duration,
    mark: Mark,
) -> io::Result<Vec<Duration>> {
    let step = Duration::from_secs(1) / rate;
    let begin = Instant::now() + Duration::from_millis(50);
    thread::scope(|scope| {
        let lanes: Vec<_> = (0..LANES)
            .map(|lane| {
                let first = begin + step * lane;
                scope.spawn(move || paced_lane(address, request, first, step * LANES, length, mark))
            })
            .collect();
        let mut times = Vec::new();
        for lane in lanes {
            let lane = lane.join();
            times.extend(lane.map_err(|_| io::Error::other("a load thread panicked"))??);
        }
        Ok(times)
    })
}

fn paced_lane(
    address: SocketAddr,
    request: &[u8],
    first: Instant,
    step: Duration,
    length: Duration,
    mark: Mark,
) -> io::Result<Vec<Duration>> {
    let mut stream = connect(address)?;
    let mut buf = Vec::with_capacity(16 * 1024);
    // The first answer opens connections and is not counted.
    ask(&mut stream, request, &mut buf, mark)?;
    let mut times = Vec::new();
    let mut due = first;
    while due < first + length {
        let now = Instant::now();
        let begin = if now < due {
            // The late waking of a sleeper is the load's own; it is not charged to the proxy.
            thread::sleep(due - now);
            Instant::now()
        } else {
            // The answer before was so slow that this request is late: that wait is the proxy's.
            due
        };
        let end = ask(&mut stream, request, &mut buf, mark)?;
        times.push(end.duration_since(begin));
        due += step;
    }
    Ok(times)
}

/// One request on a fresh connection; its content. Waits for a proxy that is still starting.
pub fn ask_once(address: SocketAddr, request: &[u8]) -> io::Result<Vec<u8>> {
    let limit = Instant::now() + PATIENCE;
    let mut stream = loop {
        match connect(address) {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused && Instant::now() < limit => {
                thread::sleep(Duration::from_micros(100));
            }
            result => break result?,
        }
    };
    let mut buf = Vec::new();
    ask(&mut stream, request, &mut buf, Mark::Whole)?;
    http::content(&buf)
}

fn connect(address: SocketAddr) -> io::Result<Blocking> {
    let stream = Blocking::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// One request and its whole answer, which is then in `buf`; the moment of `mark`.
fn ask(stream: &mut Blocking, request: &[u8], buf: &mut Vec<u8>, mark: Mark) -> io::Result<Instant> {
    buf.clear();
    stream.write_all(request)?;
    let mut marked = None;
    let mut part = [0; 16 * 1024];
    while http::message_end(buf)?.is_none() {
        let length = stream.read(&mut part).map_err(|error| match error.kind() {
            ErrorKind::WouldBlock => io::Error::other("no answer in time"),
            _ => error,
        })?;
        if length == 0 {
            return Err(closed());
        }
        buf.extend_from_slice(&part[..length]);
        let event = || memmem::find(buf, b"data: ").is_some();
        if marked.is_none() && matches!(mark, Mark::FirstEvent) && event() {
            marked = Some(Instant::now());
        }
    }
    let end = Instant::now();
    http::expect_ok(buf)?;
    Ok(marked.unwrap_or(end))
}

fn closed() -> io::Error {
    io::Error::other("the connection was closed before the answer was whole")
}
