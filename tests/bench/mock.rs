//! The upstream that both proxies talk to: answers made beforehand, so that it costs as little as it can.
//!
//! Any POST gets one kilobyte of JSON. If the body asks for a stream, its `user` member says how it runs:
//! `"user":"events=500 pace_us=5000"`. A first event comes at once, the others at that pace, each in its own write;
//! then come the usage event and `[DONE]`.

use crate::http;
use memchr::memmem;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Bytes of the body of an answer that is not streamed.
const ANSWER: usize = 1024;

struct Answers {
    whole: Vec<u8>,
    head: Vec<u8>,
    event: Vec<u8>,
    usage: Vec<u8>,
    done: Vec<u8>,
    /// Streams begun so far.
    streams: AtomicU32,
}

/// Serves on a thread of its own until the process ends; the address is a free loopback port.
pub fn start() -> io::Result<SocketAddr> {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    thread::Builder::new().name("mock".into()).spawn(move || {
        if let Err(error) = runtime.block_on(accept(listener)) {
            eprintln!("the mock upstream ended: {error}");
        }
    })?;
    Ok(address)
}

async fn accept(listener: std::net::TcpListener) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let answers = Arc::new(answers());
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let answers = Arc::clone(&answers);
        tokio::spawn(async move {
            // A proxy that closes a connection, even in the middle of an answer, is not the mock's concern.
            serve(stream, &answers).await.ok();
        });
    }
}

async fn serve(mut stream: TcpStream, answers: &Arc<Answers>) -> io::Result<()> {
    let mut buf = Vec::with_capacity(128 * 1024);
    while stream.read_buf(&mut buf).await? > 0 {
        let Some(end) = http::message_end(&buf)? else {
            continue;
        };
        if memmem::find(&buf, br#""stream":true"#).is_some() {
            let events = parameter(&buf, b"events=").unwrap_or(1);
            let pace = Duration::from_micros(parameter(&buf, b"pace_us=").unwrap_or(0));
            stream = write_stream(stream, Arc::clone(answers), events, pace).await?;
        } else {
            stream.write_all(&answers.whole).await?;
        }
        buf.drain(..end);
    }
    Ok(())
}

/// Writes a stream from a thread of its own.
///
/// Tokio's timers tick in milliseconds: they would fire for several streams at once, and how many of these events a
/// proxy then finds at one waking is chance.
async fn write_stream(stream: TcpStream, answers: Arc<Answers>, events: u64, pace: Duration) -> io::Result<TcpStream> {
    let mut stream = stream.into_std()?;
    // Multiples of the golden ratio: however many streams there are, their events lie evenly between each other.
    let phase = (f64::from(answers.streams.fetch_add(1, Ordering::Relaxed)) * 0.618_034).fract();
    let write = move || {
        stream.set_nonblocking(false)?;
        stream.write_all(&answers.head)?;
        let mut due = Instant::now() + pace.mul_f64(phase);
        for event in 0..events {
            if event > 0 {
                thread::sleep(due.saturating_duration_since(Instant::now()));
                due += pace;
            }
            stream.write_all(&answers.event)?;
        }
        stream.write_all(&answers.usage)?;
        stream.write_all(&answers.done)?;
        stream.set_nonblocking(true)?;
        Ok::<_, io::Error>(stream)
    };
    TcpStream::from_std(tokio::task::spawn_blocking(write).await??)
}

/// The number after `name` in the request.
fn parameter(request: &[u8], name: &[u8]) -> Option<u64> {
    let start = memmem::find(request, name)? + name.len();
    let digits = request[start..].iter().take_while(|b| b.is_ascii_digit());
    Some(digits.fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')))
}

fn answers() -> Answers {
    let usage = r#""usage":{"prompt_tokens":120,"completion_tokens":200,"total_tokens":320}"#;
    let stamp = r#""id":"chatcmpl-BENCHbench0123456789benchBENCH","created":1760000000,"model":"bench-up-2026-01-01""#;
    let body = |text: &str| {
        format!(
            r#"{{{stamp},"object":"chat.completion","choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}","refusal":null}},"logprobs":null,"finish_reason":"stop"}}],{usage}}}"#
        )
    };
    let filled = body(&"a".repeat(ANSWER - body("").len()));
    let chunk = |choices: &str, rest: &str| {
        http::chunk(&format!(
            "data: {{{stamp},\"object\":\"chat.completion.chunk\",\"choices\":[{choices}]{rest}}}\n\n"
        ))
    };
    Answers {
        whole: format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{filled}",
            filled.len()
        )
        .into_bytes(),
        head: b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec(),
        event: chunk(r#"{"index":0,"delta":{"content":" token"},"finish_reason":null}"#, ""),
        usage: chunk("", &format!(",{usage}")),
        done: [http::chunk("data: [DONE]\n\n"), http::chunk("")].concat(),
        streams: AtomicU32::new(0),
    }
}
