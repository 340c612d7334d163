//! WebSocket by hand (RFC 6455), from both sides: on purpose not by the program's own code.

use super::feed::Feed;
use super::http::{Head, read_head};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::io::{self, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

pub const TEXT: u8 = 1;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;

/// One end of a connection behind its handshake.
pub struct Socket {
    reader: BufReader<TcpStream>,
    writer: TcpStream,
    is_client: bool,
    pub head: Head,
}

impl Socket {
    /// Asks for a WebSocket; the head says what is answered.
    pub fn open(to: SocketAddr, target: &str, headers: &[(&str, &str)]) -> Self {
        let mut writer = TcpStream::connect(to).unwrap();
        writer.set_nodelay(true).unwrap();
        writer.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut head = format!(
            "GET {target} HTTP/1.1\r\nHost: {to}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        );
        headers.iter().for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
        writer.write_all((head + "\r\n").as_bytes()).unwrap();
        let mut reader = BufReader::new(writer.try_clone().unwrap());
        let head = read_head(&mut reader).unwrap().expect("an answer");
        if head.status() == 101 {
            assert_eq!(head.header("sec-websocket-accept").as_deref(), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        }
        Socket { reader, writer, is_client: true, head }
    }

    fn accept(stream: TcpStream, refuse: Option<u16>) -> Option<Self> {
        stream.set_nodelay(true).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
        let mut reader = BufReader::new(stream.try_clone().ok()?);
        let head = read_head(&mut reader).ok()??;
        let mut writer = stream;
        if let Some(status) = refuse {
            write!(writer, "HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n").ok()?;
            return None;
        }
        let key = head.header("sec-websocket-key")? + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
        let sum = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, key.as_bytes());
        let accept = STANDARD.encode(sum);
        write!(writer, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n").ok()?;
        Some(Socket { reader, writer, is_client: false, head })
    }

    pub fn send(&mut self, opcode: u8, payload: &[u8]) {
        // Whoever is gone is not told.
        let _ = self.try_send(opcode, payload);
    }

    fn try_send(&mut self, opcode: u8, payload: &[u8]) -> io::Result<()> {
        let mask = if self.is_client { 0x80 } else { 0 };
        let mut frame = vec![0x80 | opcode];
        match payload.len() {
            short @ ..126 => frame.push(mask | short as u8),
            middle @ ..65_536 => {
                frame.push(mask | 126);
                frame.extend_from_slice(&(middle as u16).to_be_bytes());
            }
            long => {
                frame.push(mask | 127);
                frame.extend_from_slice(&(long as u64).to_be_bytes());
            }
        }
        if self.is_client {
            let key = [1, 2, 3, 4];
            frame.extend_from_slice(&key);
            frame.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ key[at % 4]));
        } else {
            frame.extend_from_slice(payload);
        }
        self.writer.write_all(&frame)
    }

    pub fn text(&mut self, text: &str) {
        self.send(TEXT, text.as_bytes());
    }

    pub fn close(&mut self, code: u16) {
        self.send(CLOSE, &code.to_be_bytes());
    }

    /// Writes bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.writer.write_all(bytes).unwrap();
    }

    /// The next frame; none when the other side is gone.
    pub fn next(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut two = [0; 2];
        self.reader.read_exact(&mut two).ok()?;
        assert!(two[1] & 0x80 == if self.is_client { 0 } else { 0x80 }, "clients mask, and servers do not");
        let length = match two[1] & 0x7f {
            126 => u64::from(u16::from_be_bytes(self.take()?)),
            127 => u64::from_be_bytes(self.take()?),
            short => u64::from(short),
        };
        let key: [u8; 4] = if self.is_client { [0; 4] } else { self.take()? };
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        self.reader.read_exact(&mut payload).ok()?;
        payload.iter_mut().enumerate().for_each(|(at, byte)| *byte ^= key[at % 4]);
        Some((two[0] & 0x0f, payload))
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        self.reader.read_exact(&mut bytes).ok()?;
        Some(bytes)
    }

    /// The text of the next frame, which must be one.
    pub fn next_text(&mut self) -> String {
        match self.next() {
            Some((TEXT, text)) => String::from_utf8(text).unwrap(),
            other => panic!("expected a text, got {other:?}"),
        }
    }

    /// The code of the next frame, which must be a goodbye, and its words.
    pub fn next_close(&mut self) -> (u16, String) {
        match self.next() {
            Some((CLOSE, reason)) => {
                let code = u16::from_be_bytes([reason[0], reason[1]]);
                (code, String::from_utf8_lossy(&reason[2..]).into_owned())
            }
            other => panic!("expected a goodbye, got {other:?}"),
        }
    }
}

/// An upstream that speaks WebSocket.
pub struct Sockets {
    pub base: String,
    /// The first line and headers of each request.
    pub heads: Feed<Head>,
    /// The scripts that are over.
    pub ends: Feed<()>,
}

impl Sockets {
    pub fn new(script: impl Fn(&mut Socket) + Send + Sync + 'static) -> Arc<Self> {
        Sockets::with(None, script)
    }

    /// One that answers with this status instead.
    pub fn refusing(status: u16) -> Arc<Self> {
        Sockets::with(Some(status), |_| ())
    }

    fn with(refuse: Option<u16>, script: impl Fn(&mut Socket) + Send + Sync + 'static) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}/v1", listener.local_addr().unwrap());
        let sockets = Arc::new(Sockets { base, heads: Feed::new(), ends: Feed::new() });
        let (shared, script) = (sockets.clone(), Arc::new(script));
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let (shared, script) = (shared.clone(), script.clone());
                thread::spawn(move || {
                    if let Some(mut socket) = Socket::accept(stream, refuse) {
                        shared.heads.push(socket.head.clone());
                        script(&mut socket);
                    }
                    shared.ends.push(());
                });
            }
        });
        sockets
    }
}
