//! Reading a form: texts into one JSON object, files into a spool. Bounded in size and patience, as every body is.

use super::body::Chunks;
use crate::error::{Error, Kind, Result};
use crate::form::{Files, Spool, to_json};
use crate::gateway::Worker;
use crate::wire::form::{Event, Fault, Parser, boundary};
use actix_web::HttpRequest;
use actix_web::http::header::CONTENT_TYPE;
use actix_web::web::Payload;
use bytes::Bytes;
use serde_json::Value;
use std::path::Path;

/// All texts of a form together.
const MOST_TEXT: usize = 1 << 20;

/// Whether a request brings a form.
pub fn is_one(request: &HttpRequest) -> bool {
    let kind = request.headers().get(CONTENT_TYPE).map_or(&b""[..], |kind| kind.as_bytes());
    kind.get(..10).is_some_and(|start| start.eq_ignore_ascii_case(b"multipart/"))
}

/// The texts of the form as a JSON object, and its files.
///
/// # Errors
/// 413 over `limit`, 408 when it stops coming, 400 when it is no form or breaks off.
pub async fn read(
    request: &HttpRequest,
    payload: Payload,
    limit: usize,
    worker: &Worker,
    folder: &Path,
) -> Result<(Bytes, Files)> {
    let boundary = request.headers().get(CONTENT_TYPE).and_then(|kind| boundary(kind.to_str().ok()?));
    let boundary = boundary.ok_or_else(|| {
        Error::invalid("This route takes a form (Content-Type: multipart/form-data, with its boundary).")
    })?;
    let mut chunks = Chunks::new(request, payload, limit, &worker.clock)?;
    let mut parser = Parser::new(&boundary);
    let (mut texts, mut spool, mut size): (Vec<(String, Vec<u8>)>, _, _) = (Vec::new(), Spool::default(), 0);
    let (mut in_file, mut is_whole) = (false, false);
    let unkept = |e: std::io::Error| {
        tracing::warn!("an uploaded file cannot be kept while its call is served: {e}");
        Error::new(Kind::Internal, "The uploaded file cannot be kept: the gateway's disk does not take it.")
    };
    while let Some(chunk) = chunks.next().await? {
        parser.push(&chunk);
        while let Some(event) = parser.take().map_err(bad)? {
            match event {
                Event::Part(head) => {
                    in_file = head.filename.is_some();
                    match in_file {
                        true => spool.begin(head),
                        false => texts.push((head.name, Vec::new())),
                    }
                }
                Event::Data(data) if in_file => spool.add(&data, folder).await.map_err(unkept)?,
                Event::Data(data) => {
                    size += data.len();
                    if size > MOST_TEXT {
                        return Err(Error::new(
                            Kind::TooLarge,
                            "The texts of the form are larger than 1 MiB together.",
                        ));
                    }
                    if let Some((_, text)) = texts.last_mut() {
                        text.extend_from_slice(&data);
                    }
                }
                // What follows is read to its end and means nothing.
                Event::End => is_whole = true,
            }
        }
    }
    if !is_whole {
        return Err(bad(Fault("it ends before its last boundary")));
    }
    let texts = texts.into_iter().map(|(name, text)| match String::from_utf8(text) {
        Ok(text) => Ok((name, text)),
        Err(_) => Err(Error::invalid("A text of the form is not UTF-8; a file needs a filename.").at_param(name)),
    });
    let object = Value::Object(to_json(texts.collect::<Result<_>>()?));
    Ok((object.to_string().into(), spool.finish().await.map_err(unkept)?))
}

fn bad(fault: Fault) -> Error {
    Error::invalid(format!("The request body is not a form as it should be: {}.", fault.0))
}
