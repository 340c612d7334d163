//! The demo's model: a small upstream of its own on a unix socket, so that the demo takes the way of every call.

use actix_web::web::{self, Bytes};
use actix_web::{App, HttpResponse, HttpServer};
use futures_util::stream;
use serde::Deserialize;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Pause between two words: slow enough to see that the answer streams.
const PACE: Duration = Duration::from_millis(30);

#[derive(Deserialize)]
struct Request {
    #[serde(default)]
    stream: bool,
    messages: Vec<Value>,
}

/// Starts the model on this socket, on the runtime of the caller.
///
/// # Errors
/// The socket cannot be bound.
pub fn start(socket: &Path) -> std::io::Result<()> {
    let server = HttpServer::new(|| App::new().route("/v1/chat/completions", web::post().to(complete)))
        .workers(1)
        .disable_signals()
        .shutdown_timeout(1)
        .bind_uds(socket)?
        .run();
    actix_web::rt::spawn(server);
    Ok(())
}

async fn complete(body: Bytes) -> HttpResponse {
    let Ok(request) = serde_json::from_slice::<Request>(&body) else {
        return HttpResponse::BadRequest().json(json!({"error": {"message": "The demo model takes a chat request.", "type": "invalid_request_error", "param": null, "code": null}}));
    };
    let answer = answer(&request.messages);
    let words: Vec<String> = answer.split_inclusive(' ').map(str::to_owned).collect();
    let prompt_tokens: usize = request.messages.iter().map(|m| text(m).split_whitespace().count()).sum();
    let usage = json!({"prompt_tokens": prompt_tokens, "completion_tokens": words.len(), "total_tokens": prompt_tokens + words.len()});
    let created = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let id = format!("chatcmpl-demo-{created}");
    if !request.stream {
        return HttpResponse::Ok().json(json!({
            "id": id, "object": "chat.completion", "created": created, "model": "demo",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": answer}, "finish_reason": "stop"}],
            "usage": usage,
        }));
    }
    let chunk = |delta: Value, finish: Option<&str>| json!({"id": id, "object": "chat.completion.chunk", "created": created, "model": "demo", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]});
    let mut events = vec![chunk(json!({"role": "assistant", "content": ""}), None)];
    events.extend(words.into_iter().map(|word| chunk(json!({"content": word}), None)));
    events.push(chunk(json!({}), Some("stop")));
    events.push(json!({"id": id, "object": "chat.completion.chunk", "created": created, "model": "demo", "choices": [], "usage": usage}));
    let mut texts: Vec<String> = events.iter().map(Value::to_string).collect();
    texts.push("[DONE]".to_owned());
    let paced = stream::unfold(texts.into_iter(), |mut rest| async move {
        let text = rest.next()?;
        tokio::time::sleep(PACE).await;
        Some((Ok::<_, Infallible>(Bytes::from(format!("data: {text}\n\n"))), rest))
    });
    HttpResponse::Ok().content_type("text/event-stream").streaming(paced)
}

fn answer(messages: &[Value]) -> String {
    let question: String =
        messages.iter().rev().find(|m| m["role"] == "user").map(text).unwrap_or_default().chars().take(200).collect();
    format!(
        "Hello from Gateway! This answer was streamed word by word through the same path that every provider's answer takes. You said: \"{question}\". \
         Name your own models in gateway.toml, or start me with your LiteLLM config.yaml, and every app in the house can use them through this one URL."
    )
}

/// The text of a message, whose content may be a list of parts.
fn text(message: &Value) -> String {
    match &message["content"] {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join(" "),
        _ => String::new(),
    }
}
