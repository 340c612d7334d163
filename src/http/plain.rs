//! Endpoints that are asked in one JSON object and answer in one: embeddings, reranking, moderations, images.

use super::call::{self, check_owner, missing, wrong_type};
use super::{body, entry, reply, wishes};
use crate::auth::{self, access};
use crate::call::Call;
use crate::envelope::Envelope;
use crate::error::{Error, Result};
use crate::exchange::{Face, Plain};
use crate::meter::{self, Meter};
use crate::wire::json::Kind;
use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse};
use std::time::Instant;

/// What OpenAI takes where no model is named.
const MODERATOR: &str = "omni-moderation-latest";

/// `POST /v1/embeddings`
pub async fn embeddings(request: HttpRequest, payload: Payload) -> HttpResponse {
    serve(request, payload, Plain::Embeddings).await
}

/// `POST /v1/rerank`
pub async fn rerank(request: HttpRequest, payload: Payload) -> HttpResponse {
    serve(request, payload, Plain::Rerank).await
}

/// `POST /v1/moderations`
pub async fn moderations(request: HttpRequest, payload: Payload) -> HttpResponse {
    serve(request, payload, Plain::Moderations).await
}

/// `POST /v1/images/generations`
pub async fn images(request: HttpRequest, payload: Payload) -> HttpResponse {
    serve(request, payload, Plain::Images).await
}

async fn serve(request: HttpRequest, payload: Payload, plain: Plain) -> HttpResponse {
    let mut meter = Meter::new(meter::new_id(), Instant::now());
    let id = meter.id;
    let answer = match begin(&request, payload, &mut meter, plain).await {
        Ok(call) => call::answer(call, meter).await,
        Err(error) => {
            meter.fail(&error);
            Err(error)
        }
    };
    reply::fit(&request, answer.unwrap_or_else(|error| reply::error(&error, &id)))
}

async fn begin(request: &HttpRequest, payload: Payload, meter: &mut Meter, plain: Plain) -> Result<Call> {
    let worker = reply::worker(request)?.clone();
    let live = worker.gateway.live();
    let caller = auth::caller(&worker.gateway, &live, request).await?;
    meter.called_by(caller.clone());
    let bytes = body::read(request, payload, live.config.server.body_limit, &worker.clock).await?;
    let size = bytes.len();
    let envelope = Envelope::parse(bytes, live.config.server.max_nesting)?;
    check(&envelope, plain)?;
    let in_path = reply::path_part(request, "model");
    let in_body = envelope.string("model");
    let named = in_path.as_deref().or(in_body.as_deref()).filter(|m| !m.is_empty());
    let named = named.or((plain == Plain::Moderations).then_some(MODERATOR)).ok_or_else(|| missing("model"))?;
    meter.asked(named, false, size);
    let model = &*access::model(&live, &caller, named)?;
    let plan = live.routes.plan(model)?;
    let patience = call::patience(&envelope, request.headers())?;
    let wishes = wishes::of(&live, &caller, &envelope, request.headers(), meter)?;
    let face = Face::Plain(plain);
    if live.config.ledger.enabled {
        meter.book(worker.pen.clone(), entry::of(request, &envelope, face));
    }
    drop(in_body);
    Ok(Call {
        id: meter.id,
        face,
        worker,
        live,
        caller,
        envelope,
        streams: false,
        plan,
        patience,
        wishes,
        betas: Vec::new(),
        version: None,
        history: None,
    })
}

/// # Errors
/// A 400 that names the member at fault.
fn check(envelope: &Envelope, plain: Plain) -> Result<()> {
    for member in envelope.members().iter().filter(|m| m.value.kind != Kind::Null) {
        let name = envelope.name(member);
        let kind = match name {
            b"model" | b"user" | b"encoding_format" | b"query" | b"prompt" => Kind::String,
            b"dimensions" | b"top_n" | b"n" => Kind::Number,
            b"documents" => Kind::Array,
            b"stream" | b"return_documents" => Kind::Bool,
            _ => member.value.kind,
        };
        if member.value.kind != kind {
            return Err(wrong_type(&String::from_utf8_lossy(name), kind.with_article()));
        }
        check_owner(name)?;
    }
    let needed: &[&str] = match plain {
        Plain::Embeddings | Plain::Moderations => &["input"],
        Plain::Rerank => &["query", "documents"],
        Plain::Images => &["prompt"],
    };
    for name in needed {
        match envelope.get(name).map(|member| &member.value) {
            None => return Err(missing(name)),
            Some(value) if value.kind == Kind::Null => return Err(missing(name)),
            Some(value) if value.kind == Kind::Array && value.items == 0 => {
                return Err(Error::invalid(format!("'{name}' is empty; at least one is needed.")).at_param(*name));
            }
            Some(value) if matches!(value.kind, Kind::Number | Kind::Bool | Kind::Object) => {
                return Err(wrong_type(name, "a string or an array"));
            }
            Some(_) => (),
        }
    }
    if envelope.flag("stream") {
        let why = "This endpoint does not stream; leave 'stream' out.";
        return Err(Error::invalid(why).at_param("stream"));
    }
    let format = envelope.string("encoding_format");
    if let Some(other) = format.as_deref().filter(|f| !matches!(*f, "float" | "base64")) {
        let shown = crate::envelope::shorten(other);
        let message = format!("'encoding_format' must be 'float' or 'base64', not '{shown}'.");
        return Err(Error::invalid(message).at_param("encoding_format"));
    }
    Ok(())
}
