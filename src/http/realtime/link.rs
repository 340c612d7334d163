//! The two connections of a session, and the frames between them. Each side is read only as fast as the other takes it.

use super::{Upstream, open, open_heard};
use crate::clock::Ring;
use crate::dispatch::Admission;
use crate::error::{Error, Kind};
use crate::http::files::Asker;
use crate::http::pass::Booking;
use crate::route::Target;
use crate::wire::realtime::{Event, event};
use actix_codec::{Decoder, Encoder};
use actix_http::ws::{CloseCode, CloseReason, Codec, Frame, Message};
use actix_web::body::BodyStream;
use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};
use awc::BoxedSocket;
use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use futures_util::StreamExt;
use serde_json::json;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// No frame is larger: OpenAI takes audio of 15 MiB at once.
pub const MOST_FRAME: usize = 20 << 20;
/// Frames that wait for a caller who reads slowly.
const WAITING: usize = 8;
/// A session in which nobody says anything is over.
const SILENCE: Duration = Duration::from_secs(900);
/// A side that takes nothing for longer is gone.
const PATIENCE: Duration = Duration::from_secs(60);
/// Nobody is said goodbye to for longer.
const GOODBYE: Duration = Duration::from_secs(2);

/// A session of one caller.
pub struct Session {
    pub request: HttpRequest,
    pub asker: Asker,
    /// The name that it is routed by.
    pub name: String,
    pub target: Target,
    /// Its slot there.
    pub admission: Admission,
}

/// How a session ends.
enum End {
    /// The caller left, or said goodbye.
    Caller,
    /// The upstream said goodbye.
    Upstream,
    /// Something went wrong with the upstream.
    Broken(&'static str),
    /// It is ended by the gateway.
    Refused(Error),
    Stopping,
    Silent,
}

type Frames = mpsc::Sender<Result<Bytes, std::io::Error>>;

impl Session {
    /// Answers the handshake; the session goes on by itself until one of the sides leaves.
    pub fn run(
        self,
        mut answer: HttpResponseBuilder,
        payload: Payload,
        upstream: Upstream,
        booking: Booking,
    ) -> HttpResponse {
        let (to_caller, frames) = mpsc::channel(WAITING);
        actix_web::rt::spawn(self.go(payload, upstream, booking, to_caller));
        let frames = futures_util::stream::unfold(frames, async |mut frames| {
            let frame = frames.recv().await?;
            Some((frame, frames))
        });
        answer.body(BodyStream::new(Box::pin(frames)))
    }

    async fn go(mut self, payload: Payload, upstream: Upstream, booking: Booking, to: Frames) {
        let mut caller = Caller { payload, read: BytesMut::new(), codec: codec(), to };
        let parts = upstream.into_parts();
        let (source, sink) = split(parts.io);
        let mut upstream = Far { source, read: parts.read_buf, codec: codec().client_mode() };
        let mut sink = Sink { sink, codec: codec().client_mode() };
        // The first answer is admitted already.
        self.admission.answered();
        let mut turn = Turn { booking: Some(booking), is_under_way: false, seen: 0, hears: None };
        let end = self.relay(&mut caller, (&mut upstream, &mut sink), &mut turn).await;
        if let Some(mut booking) = turn.booking.take() {
            match (&end, turn.is_under_way) {
                (End::Broken(why), _) => booking.settle("failure", 502, Some(why)),
                (_, true) => drop(booking),
                // Nothing was answered.
                (_, false) => booking.settle("success", 101, None),
            }
        }
        match &end {
            End::Broken(why) => self.admission.broke_off(&Error::new(Kind::Unreachable, *why)),
            _ => self.admission.succeeded(None),
        }
        let (code, description) = match end {
            End::Upstream => return,
            End::Caller => (CloseCode::Normal, None),
            End::Broken(why) => (CloseCode::Error, Some(why.to_owned())),
            End::Stopping => (CloseCode::Away, Some("the gateway is being stopped".to_owned())),
            End::Silent => (CloseCode::Away, Some("nothing was said for too long".to_owned())),
            End::Refused(error) => {
                let id = format!("event_{}", self.asker.id.simple());
                let told = json!({"type": "error", "event_id": id, "error": error.body()["error"]});
                let _ = caller.tell(Message::Text(told.to_string().into())).await;
                (CloseCode::Policy, Some(cut(&error.to_string())))
            }
        };
        let reason = CloseReason { code, description };
        let both = async {
            let _ = caller.tell(Message::Close(Some(reason.clone()))).await;
            let _ = sink.send(Message::Close(Some(CloseReason { description: None, ..reason }))).await;
        };
        let _ = timeout(GOODBYE, both).await;
    }

    async fn relay(&self, caller: &mut Caller, (upstream, sink): (&mut Far, &mut Sink), turn: &mut Turn) -> End {
        let mut alarm = self.asker.worker.clock.after(SILENCE);
        loop {
            alarm.set(Instant::now().checked_add(SILENCE));
            let gone = caller.to.clone();
            tokio::select! {
                frame = caller.next() => match frame {
                    Some(Ok(frame)) => {
                        let is_last = matches!(frame, Frame::Close(_));
                        match timeout(PATIENCE, sink.send(message(frame))).await {
                            Ok(Ok(())) if is_last => return End::Caller,
                            Ok(Ok(())) => (),
                            _ => return End::Broken("the upstream takes nothing any more"),
                        }
                    }
                    Some(Err(())) => {
                        let why = "What was sent is no frame of WebSocket, or a larger one than is taken.";
                        return End::Refused(Error::invalid(why));
                    }
                    None => return End::Caller,
                },
                frame = upstream.next() => match frame {
                    Some(Ok(frame)) => {
                        if let Frame::Text(text) = &frame
                            && let Err(error) = self.look(text, turn).await
                        {
                            return End::Refused(error);
                        }
                        let is_last = matches!(frame, Frame::Close(_));
                        if !matches!(timeout(PATIENCE, caller.tell(message(frame))).await, Ok(Ok(()))) {
                            return End::Caller;
                        }
                        if is_last {
                            return End::Upstream;
                        }
                    }
                    Some(Err(())) => return End::Broken("the upstream sent something that is no frame"),
                    None => return End::Broken("the upstream broke off"),
                },
                () = gone.closed() => return End::Caller,
                ring = &mut alarm => return match ring {
                    Ring::Ending => End::Stopping,
                    Ring::Late => End::Silent,
                },
            }
        }
    }

    /// What an event of the upstream means for the bill.
    ///
    /// # Errors
    /// The limits do not admit another answer.
    async fn look(&self, text: &[u8], turn: &mut Turn) -> Result<(), Error> {
        match event(text) {
            Event::Other => (),
            Event::Begun => {
                turn.is_under_way = true;
                if turn.booking.is_none() {
                    let opened = open(&self.request, &self.asker, &self.name, &self.target).await;
                    turn.booking = Some(opened.map_err(|denied| denied.error)?);
                }
            }
            Event::Part => {
                turn.seen += 1;
                if let Some(booking) = &mut turn.booking {
                    booking.saw(Some(turn.seen));
                }
            }
            Event::Done(usage) => {
                if let Some(mut booking) = turn.booking.take() {
                    booking.used(usage);
                    booking.settle("success", 200, None);
                }
                (turn.is_under_way, turn.seen) = (false, 0);
            }
            Event::Session(hears) => turn.hears = hears,
            Event::Heard(usage) => {
                let Some(model) = turn.hears.as_deref().filter(|_| usage.is_some()) else { return Ok(()) };
                let mut booking = open_heard(&self.request, &self.asker, &self.name, model, &self.target).await?;
                booking.used(usage);
                booking.settle("success", 200, None);
            }
        }
        Ok(())
    }
}

/// The answer that is being made.
struct Turn {
    booking: Option<Booking>,
    is_under_way: bool,
    /// Its parts so far.
    seen: u64,
    /// The model that writes down what the caller says.
    hears: Option<String>,
}

fn codec() -> Codec {
    Codec::new().max_size(MOST_FRAME)
}

/// The next frame of what was read, if all of it is there.
fn decode(codec: &mut Codec, read: &mut BytesMut) -> Result<Option<Frame>, ()> {
    // The codec looks at the length of a frame when all of it is there.
    match codec.decode(read).map_err(drop)? {
        None if announced(read) > MOST_FRAME as u64 => Err(()),
        frame => Ok(frame),
    }
}

/// The length of the frame that begins here (RFC 6455, section 5.2).
fn announced(frame: &[u8]) -> u64 {
    match (frame.get(1).map_or(0, |byte| byte & 0x7f), frame.get(2..10)) {
        (127, Some(length)) => length.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
        _ => 0,
    }
}

/// The caller's side.
struct Caller {
    payload: Payload,
    read: BytesMut,
    codec: Codec,
    to: Frames,
}

impl Caller {
    /// The next frame; none when the caller has left.
    async fn next(&mut self) -> Option<Result<Frame, ()>> {
        loop {
            match decode(&mut self.codec, &mut self.read) {
                Ok(Some(frame)) => return Some(Ok(frame)),
                Ok(None) => (),
                Err(()) => return Some(Err(())),
            }
            match self.payload.next().await {
                Some(Ok(bytes)) => self.read.extend_from_slice(&bytes),
                Some(Err(_)) | None => return None,
            }
        }
    }

    async fn tell(&mut self, message: Message) -> Result<(), ()> {
        let mut frame = BytesMut::new();
        self.codec.encode(message, &mut frame).map_err(drop)?;
        self.to.send(Ok(frame.freeze())).await.map_err(drop)
    }
}

/// The upstream's side.
struct Far {
    source: ReadHalf<BoxedSocket>,
    read: BytesMut,
    codec: Codec,
}

impl Far {
    /// The next frame; none when the upstream has left.
    async fn next(&mut self) -> Option<Result<Frame, ()>> {
        loop {
            match decode(&mut self.codec, &mut self.read) {
                Ok(Some(frame)) => return Some(Ok(frame)),
                Ok(None) => (),
                Err(()) => return Some(Err(())),
            }
            match self.source.read_buf(&mut self.read).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => (),
            }
        }
    }
}

struct Sink {
    sink: WriteHalf<BoxedSocket>,
    codec: Codec,
}

impl Sink {
    async fn send(&mut self, message: Message) -> Result<(), ()> {
        let mut frame = BytesMut::new();
        self.codec.encode(message, &mut frame).map_err(drop)?;
        self.sink.write_all(&frame).await.map_err(drop)?;
        self.sink.flush().await.map_err(drop)
    }
}

/// A frame as it goes on.
fn message(frame: Frame) -> Message {
    match frame {
        // What is no text is told as what it is: bytes.
        Frame::Text(text) => match ByteString::try_from(text.clone()) {
            Ok(text) => Message::Text(text),
            Err(_) => Message::Binary(text),
        },
        Frame::Binary(bytes) => Message::Binary(bytes),
        Frame::Continuation(item) => Message::Continuation(item),
        Frame::Ping(bytes) => Message::Ping(bytes),
        Frame::Pong(bytes) => Message::Pong(bytes),
        Frame::Close(reason) => Message::Close(reason.map(|reason| CloseReason {
            // RFC 6455, section 7.4.1: these are never sent.
            code: match reason.code {
                CloseCode::Abnormal | CloseCode::Tls => CloseCode::Error,
                code => code,
            },
            description: reason.description.map(|text| cut(&text)),
        })),
    }
}

/// What fits into a close frame: 125 bytes, two of them the code (RFC 6455, section 5.5).
fn cut(text: &str) -> String {
    let mut end = text.len().min(120);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}
