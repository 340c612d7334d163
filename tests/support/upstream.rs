//! A scripted upstream: checks each request like OpenAI or Anthropic would, then does what the script says, faults
//! included.

use super::anthropic;
use super::feed::Feed;
use super::http::{self, Head};
use super::link::Link;
use super::openai::{self, Rules};
use super::reply::{Reply, Signal, Step};
use super::tls;
use serde_json::{Value, json};
use std::io::{BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

/// The key that an upstream expects unless told otherwise; the gateway knows it as `env:UPSTREAM_KEY`.
pub const UPSTREAM_KEY: &str = "sk-upstream-Zq81xWcT5r";

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Seen {
    pub method: String,
    pub target: String,
    pub head: Head,
    pub body: Vec<u8>,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<String> {
        self.head.header(name)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// What an upstream of another format has against a request, in its own form.
pub type Strict = fn(&Seen) -> Result<(), Reply>;

type Script = dyn Fn(&Seen) -> Reply + Send + Sync;

/// What all threads of one upstream share.
struct Shared {
    script: Box<Script>,
    rules: Mutex<Rules>,
    /// Set where the upstream speaks Anthropic's format.
    anthropic: Mutex<Option<anthropic::Rules>>,
    /// Set where it speaks another one: what it has against a request.
    strict: Mutex<Option<Strict>>,
    requests: Feed<Seen>,
    departures: Feed<Instant>,
    hang_ups: Feed<Instant>,
}

/// An upstream that listens until the end of the test process.
pub struct Upstream {
    shared: Arc<Shared>,
    base: String,
}

impl Upstream {
    /// Every request gets the same reply.
    pub fn new(reply: Reply) -> Self {
        Upstream::script(move |_| reply.clone())
    }

    /// The replies in their order; the last one again and again.
    pub fn queue(replies: Vec<Reply>) -> Self {
        let left = Mutex::new(replies);
        Upstream::script(move |_| {
            let mut left = left.lock().unwrap();
            if left.len() > 1 { left.remove(0) } else { left[0].clone() }
        })
    }

    /// A reply for each request, over TCP.
    pub fn script(script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let upstream = Upstream::with(script, Some(address.to_string()), format!("http://{address}/v1"));
        let shared = upstream.shared.clone();
        accept(move || listener.accept().map(|(s, _)| Link::Tcp(s)), move |link| serve_plain(&shared, link));
        upstream
    }

    /// The same over a unix socket.
    pub fn unix(path: &Path, reply: Reply) -> Self {
        let listener = UnixListener::bind(path).unwrap();
        let upstream = Upstream::with(move |_| reply.clone(), None, format!("unix:{}:/v1", path.display()));
        let shared = upstream.shared.clone();
        accept(move || listener.accept().map(|(s, _)| Link::Unix(s)), move |link| serve_plain(&shared, link));
        upstream
    }

    /// The same over TLS, with a certificate for `localhost` from the authority in [`tls::CA_FILE`].
    pub fn tls(reply: Reply) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = format!("localhost:{}", listener.local_addr().unwrap().port());
        let upstream = Upstream::with(move |_| reply.clone(), Some(host.clone()), format!("https://{host}/v1"));
        let shared = upstream.shared.clone();
        accept(
            move || listener.accept().map(|(s, _)| Link::Tcp(s)),
            move |link| {
                let (reader, writer) = tls::split(&link);
                serve(&shared, link, reader, writer);
            },
        );
        upstream
    }

    fn with(script: impl Fn(&Seen) -> Reply + Send + Sync + 'static, host: Option<String>, base: String) -> Self {
        let rules = Rules {
            authorization: vec![Some(format!("Bearer {UPSTREAM_KEY}"))],
            host,
            path: "/v1/chat/completions".to_owned(),
            extras: Vec::new(),
            is_free: false,
        };
        let shared = Shared {
            script: Box::new(script),
            rules: Mutex::new(rules),
            anthropic: Mutex::new(None),
            strict: Mutex::new(None),
            requests: Feed::new(),
            departures: Feed::new(),
            hang_ups: Feed::new(),
        };
        Upstream { shared: Arc::new(shared), base }
    }

    /// Accepts these top-level members too.
    pub fn allow(self, extras: &[&str]) -> Self {
        self.rules(|rules| rules.extras.extend(extras.iter().map(|&e| e.to_owned())))
    }

    /// Changes what this upstream insists on.
    pub fn rules(self, change: impl FnOnce(&mut Rules)) -> Self {
        change(&mut self.shared.rules.lock().unwrap());
        self
    }

    /// Anthropic's Messages API in place of OpenAI's.
    pub fn anthropic(self) -> Self {
        let rules = anthropic::Rules {
            key: (UPSTREAM_KEY.to_owned(), false),
            host: self.shared.rules.lock().unwrap().host.clone(),
            // The old one, and that of SDKs since 2026-10-21.
            versions: ["2023-06-01", "2026-10-21"].map(str::to_owned).into(),
            betas: Vec::new(),
            counts: true,
        };
        *self.shared.anthropic.lock().unwrap() = Some(rules);
        self
    }

    /// Another API in place of OpenAI's.
    pub fn strict(self, check: Strict) -> Self {
        *self.shared.strict.lock().unwrap() = Some(check);
        self
    }

    /// The base URL without a path.
    pub fn origin(&self) -> &str {
        self.base.strip_suffix("/v1").unwrap()
    }

    /// Changes what this Anthropic insists on.
    pub fn anthropic_rules(self, change: impl FnOnce(&mut anthropic::Rules)) -> Self {
        change(self.shared.anthropic.lock().unwrap().as_mut().expect("anthropic() comes first"));
        self
    }

    /// The base URL, as a configuration names it.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// All requests so far, refused ones included.
    pub fn requests(&self) -> Vec<Seen> {
        self.shared.requests.all()
    }

    /// The only request that came.
    pub fn only_request(&self) -> Seen {
        let mut all = self.requests();
        assert_eq!(all.len(), 1, "{all:#?}");
        all.swap_remove(0)
    }

    /// Waits until that many requests have come.
    pub fn wait_requests(&self, count: usize) -> Vec<Seen> {
        self.shared.requests.wait_many("requests at the upstream", count, |seen| Some(seen.clone()))
    }

    /// Waits until the gateway has closed that many connections, and says when it closed the last of them.
    pub fn wait_departures(&self, count: usize) -> Instant {
        self.shared.departures.wait_many("the gateway to leave the upstream", count, |at| Some(*at))[count - 1]
    }

    /// Waits until the script has closed that many connections.
    pub fn wait_hang_ups(&self, count: usize) {
        self.shared.hang_ups.wait_many("the upstream to hang up", count, |at| Some(*at));
    }
}

/// A refused connection: a port that is taken by a socket that does not listen.
///
/// The port stays taken, and refuses, for as long as the returned socket lives.
pub fn refusing() -> (socket2::Socket, SocketAddr) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, address)
}

fn accept(
    mut next: impl FnMut() -> std::io::Result<Link> + Send + 'static,
    serve: impl Fn(Link) + Clone + Send + 'static,
) {
    thread::spawn(move || {
        while let Ok(link) = next() {
            let serve = serve.clone();
            thread::spawn(move || serve(link));
        }
    });
}

fn serve_plain(shared: &Arc<Shared>, link: Link) {
    if let Link::Tcp(s) = &link {
        s.set_nodelay(true).unwrap();
    }
    let (reader, writer) = (link.try_clone().unwrap(), link.try_clone().unwrap());
    serve(shared, link, reader, writer);
}

/// One connection: a thread reads requests and notices when the gateway leaves, this one plays the replies.
fn serve(shared: &Arc<Shared>, link: Link, reader: impl Read + Send + 'static, mut writer: impl Write) {
    let (tell, signals) = mpsc::channel();
    let reading = {
        let (shared, tell) = (shared.clone(), tell.clone());
        thread::spawn(move || read_requests(&shared, reader, &tell))
    };
    while let Ok(signal) = signals.recv() {
        match signal {
            Signal::Request(seen) => {
                let reply = refusal(shared, &seen).unwrap_or_else(|| (shared.script)(&seen));
                if play(&reply, &seen, &link, &mut writer, &tell, &signals).is_none() {
                    break;
                }
            }
            Signal::GateOpened => {}
            Signal::Gone => break,
        }
    }
    let reset = matches!(&link, Link::Tcp(s) if socket2::SockRef::from(s).linger().is_ok_and(|l| l.is_some()));
    // A reset happens on the last close, so the reader has to let go of the connection first, without a FIN.
    link.shutdown(if reset { Shutdown::Read } else { Shutdown::Both });
    let _ = reading.join();
    shared.hang_ups.push(Instant::now());
}

fn read_requests(shared: &Shared, reader: impl Read, tell: &Sender<Signal>) {
    let mut reader = BufReader::new(reader);
    while let Ok(Some(head)) = http::read_head(&mut reader) {
        let Ok(body) = http::read_body(&mut reader, &head) else { break };
        let mut words = head.start.split(' ').map(str::to_owned);
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let seen = Seen { method, target, head, body };
        shared.requests.push(seen.clone());
        if tell.send(Signal::Request(seen)).is_err() {
            break;
        }
    }
    shared.departures.push(Instant::now());
    let _ = tell.send(Signal::Gone);
}

/// Plays a reply to its end; `None` when the connection is over.
fn play(
    reply: &Reply,
    seen: &Seen,
    link: &Link,
    writer: &mut impl Write,
    tell: &Sender<Signal>,
    signals: &Receiver<Signal>,
) -> Option<()> {
    for step in &reply.0 {
        match step {
            Step::Raw(bytes) => write(writer, bytes)?,
            Step::Chunk(data) => write(writer, &chunk(data))?,
            Step::ChunkIfUsageAsked(data) => {
                if seen.json()["stream_options"]["include_usage"] == Value::Bool(true) {
                    write(writer, &chunk(data))?;
                }
            }
            Step::EveryByte(data) => {
                for byte in data {
                    write(writer, &chunk(&[*byte]))?;
                }
            }
            Step::Wait(gate) => {
                if !gate.is_open_or_tell(tell) && !matches!(signals.recv(), Ok(Signal::GateOpened)) {
                    return None;
                }
            }
            Step::Hold => {
                let _ = signals.recv();
                return None;
            }
            Step::Close => return None,
            Step::Reset => {
                link.reset_on_close();
                return None;
            }
        }
    }
    Some(())
}

fn write(to: &mut impl Write, bytes: &[u8]) -> Option<()> {
    to.write_all(bytes).ok()
}

fn chunk(data: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", data.len()).as_bytes(), data, b"\r\n"].concat()
}

/// What the upstream has against a request, in its own form.
fn refusal(shared: &Shared, seen: &Seen) -> Option<Reply> {
    if let Some(check) = *shared.strict.lock().unwrap() {
        return check(seen).err();
    }
    if let Some(rules) = shared.anthropic.lock().unwrap().clone() {
        let (status, kind, message) = anthropic::check(&rules, seen).err()?;
        return Some(anthropic::reply::error(status, kind, &message));
    }
    let rules = shared.rules.lock().unwrap().clone();
    if rules.is_free {
        return None;
    }
    let (status, param, message) = openai::check(&rules, seen).err()?;
    let error = json!({"message": message, "type": "invalid_request_error", "param": param, "code": null});
    Some(Reply::json(status, &json!({ "error": error }).to_string()))
}
