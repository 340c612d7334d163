//! OpenAI's text completions as their clients speak them, over upstreams that speak chat completions.
//!
//! Pure: bytes in, bytes out. A prompt is the message of a user, and what the model says to it the text of the
//! completion. Source: OpenAI's API reference, "Completions (legacy)".

use crate::envelope::shorten;
use crate::error::{Error, Kind};
use crate::wire::hub::{self, Answer, Chunk, Piece};
use crate::wire::write::{Object, comma};
use bytes::BytesMut;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

/// Members of the same name and meaning in both formats. What is not among them and not known goes on untouched, for
/// the provider to say what it thinks of it.
const REFUSED: [(&str, &str); 3] = [
    ("suffix", "the upstream of this model cannot fill in a middle; use a model with text completions of its own"),
    ("best_of", "the upstream of this model cannot choose among several completions; leave it out"),
    ("echo", "the upstream of this model cannot repeat the prompt; leave it out"),
];

/// Translates a request for a text completion into one for a chat completion.
///
/// # Errors
/// A 400 that names the member which is wrong or cannot be said in chat's format.
pub fn to_chat(body: &[u8]) -> Result<Vec<u8>, Error> {
    let wrong = |at: &str, what: &str| Error::invalid(format!("{at}: {what}.")).at_param(at);
    let mut request: Map<String, Value> = match serde_json::from_slice(body) {
        Ok(Value::Object(members)) => members.into_iter().filter(|(_, value)| !value.is_null()).collect(),
        _ => return Err(Error::invalid("The request body must be a JSON object.")),
    };
    for (name, why) in REFUSED {
        match request.get(name) {
            None => (),
            Some(Value::Bool(false)) => (),
            Some(Value::String(text)) if text.is_empty() => (),
            // `best_of` of one is no choice.
            Some(Value::Number(number)) if number.as_u64() == Some(1) => (),
            Some(_) => return Err(wrong(name, why)),
        }
        request.shift_remove(name);
    }
    let prompt = match request.shift_remove("prompt") {
        Some(Value::String(text)) => text,
        Some(Value::Array(mut several)) => match (several.pop(), several.is_empty()) {
            (Some(Value::String(text)), true) => text,
            (Some(Value::String(_)), false) => {
                return Err(wrong("prompt", "the upstream of this model takes one prompt a call"));
            }
            (Some(_), _) => {
                return Err(wrong("prompt", "the upstream of this model takes a text, not the numbers of tokens"));
            }
            (None, _) => return Err(wrong("prompt", "a text is needed here")),
        },
        _ => return Err(wrong("prompt", "a text is needed here")),
    };
    match request.shift_remove("logprobs") {
        None | Some(Value::Bool(false)) => (),
        Some(Value::Number(top)) => {
            request.insert("logprobs".to_owned(), true.into());
            if top.as_u64() != Some(0) {
                request.insert("top_logprobs".to_owned(), top.into());
            }
        }
        Some(_) => return Err(wrong("logprobs", "a number is expected here")),
    }
    request.insert("messages".to_owned(), json!([{"role": "user", "content": prompt}]));
    serde_json::to_vec(&request).map_err(|e| Error::invalid(e.to_string()))
}

/// What stands beside the choices, in whole answers and in pieces.
struct Head<'a> {
    id: Option<&'a RawValue>,
    created: Option<&'a RawValue>,
    model: Option<&'a RawValue>,
}

impl Head<'_> {
    fn write(&self, out: &mut Object<'_>) {
        out.json("id", self.id.map_or("\"cmpl\"", RawValue::get));
        out.text("object", "text_completion");
        out.json("created", self.created.map_or("0", RawValue::get));
        out.json("model", self.model.map_or("\"\"", RawValue::get));
    }
}

/// One choice of an answer or of a piece; the text as it stands between quotes.
fn choice(
    index: Option<&RawValue>,
    text: &str,
    finish: Option<&RawValue>,
    logprobs: Option<&RawValue>,
    out: &mut Vec<u8>,
) {
    let mut choice = Object::open(out);
    choice.json("text", format!("\"{text}\""));
    choice.json("index", index.map_or("0", RawValue::get));
    match logprobs.and_then(|raw| serde_json::from_str(raw.get()).ok()).as_ref().and_then(in_columns) {
        Some(columns) => choice.json("logprobs", columns.to_string()),
        None => choice.json("logprobs", "null"),
    }
    choice.json("finish_reason", finish.map_or("null", RawValue::get));
    choice.close();
}

/// Chat tells logprobs a token at a time, completions a column at a time.
fn in_columns(logprobs: &Value) -> Option<Value> {
    let tokens = logprobs.get("content")?.as_array()?;
    let column = |name: &str| -> Vec<Value> { tokens.iter().map(|token| token[name].clone()).collect() };
    let mut offset = 0;
    let offsets: Vec<usize> = tokens
        .iter()
        .map(|token| {
            let at = offset;
            offset += token["token"].as_str().map_or(0, |text| text.chars().count());
            at
        })
        .collect();
    let top = tokens.iter().map(|token| {
        let among = token["top_logprobs"].as_array().into_iter().flatten();
        let pairs = among.filter_map(|one| Some((one["token"].as_str()?.to_owned(), one["logprob"].clone())));
        Value::Object(pairs.collect())
    });
    Some(json!({
        "tokens": column("token"),
        "token_logprobs": column("logprob"),
        "top_logprobs": top.collect::<Vec<_>>(),
        "text_offset": offsets,
    }))
}

/// All texts of a content, as they stand between quotes.
fn text_of(content: Option<&RawValue>, refusal: Option<&RawValue>) -> String {
    let mut text = String::new();
    hub::pieces(content, &mut |piece| {
        if let Piece::Text(piece) = piece {
            text.push_str(piece);
        }
    });
    text.push_str(hub::string(refusal).unwrap_or_default());
    text
}

/// Translates a whole `chat.completion` into a `text_completion`. What the model thought stays behind: there is no place
/// for it.
///
/// # Errors
/// The answer is no chat completion.
pub fn from_chat(body: &[u8]) -> Result<Vec<u8>, Error> {
    let garbled = |what: &str| Error::new(Kind::Garbled, format!("The answer of the upstream makes no sense: {what}."));
    let answer: Answer<'_> = serde_json::from_slice(body).map_err(|e| garbled(&shorten(&e.to_string())))?;
    let Some(choices) = answer.choices.filter(|choices| !choices.is_empty()) else {
        return Err(garbled("it holds no choices"));
    };
    let mut out = Vec::with_capacity(body.len());
    let mut written = Object::open(&mut out);
    Head { id: answer.id, created: answer.created, model: answer.model }.write(&mut written);
    let (list, mut empty) = (written.slot("choices"), true);
    list.push(b'[');
    for told in &choices {
        let message = told.message.as_ref();
        let text = text_of(message.and_then(|m| m.content), message.and_then(|m| m.refusal));
        comma(list, &mut empty);
        choice(told.index, &text, told.finish_reason, told.logprobs, list);
    }
    list.push(b']');
    if let Some(usage) = answer.usage {
        written.json("usage", usage.get());
    }
    written.close();
    Ok(out)
}

/// Translates the joined data of one event of a streamed chat. Pieces that say nothing here (a role, a thought) are left
/// out; what is no chunk goes on as it is.
pub fn chunk(data: &[u8], out: &mut BytesMut) {
    let Ok(chunk) = serde_json::from_slice::<Chunk<'_>>(data) else {
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(data);
        out.extend_from_slice(b"\n\n");
        return;
    };
    let mut json = Vec::with_capacity(data.len());
    let mut written = Object::open(&mut json);
    Head { id: chunk.id, created: chunk.created, model: chunk.model }.write(&mut written);
    let (list, mut empty) = (written.slot("choices"), true);
    list.push(b'[');
    for told in chunk.choices.iter().flatten() {
        let delta = told.delta.as_ref();
        let text = text_of(delta.and_then(|d| d.content), delta.and_then(|d| d.refusal));
        if text.is_empty() && hub::string(told.finish_reason).is_none() {
            continue;
        }
        comma(list, &mut empty);
        choice(told.index, &text, told.finish_reason, told.logprobs, list);
    }
    list.push(b']');
    if let Some(usage) = chunk.usage.filter(|usage| usage.get() != "null") {
        written.json("usage", usage.get());
    } else if empty {
        return;
    }
    written.close();
    out.extend_from_slice(b"data: ");
    out.extend_from_slice(&json);
    out.extend_from_slice(b"\n\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(body: Value) -> Result<Value, String> {
        let chat = to_chat(body.to_string().as_bytes()).map_err(|e| e.to_string())?;
        Ok(serde_json::from_slice(&chat).unwrap())
    }

    #[test]
    fn a_prompt_is_the_message_of_a_user() {
        let body = json!({"model": "m", "prompt": ["Once"], "max_tokens": 5, "logprobs": 2, "best_of": 1, "echo": false, "suffix": null});
        let expected = json!({"model": "m", "max_tokens": 5, "logprobs": true, "top_logprobs": 2,
            "messages": [{"role": "user", "content": "Once"}]});
        assert_eq!(asked(body), Ok(expected));
        for (body, named) in [
            (json!({"model": "m"}), "prompt"),
            (json!({"model": "m", "prompt": ["a", "b"]}), "prompt"),
            (json!({"model": "m", "prompt": [1, 2]}), "prompt"),
            (json!({"model": "m", "prompt": []}), "prompt"),
            (json!({"model": "m", "prompt": "a", "suffix": "b"}), "suffix"),
            (json!({"model": "m", "prompt": "a", "best_of": 3}), "best_of"),
            (json!({"model": "m", "prompt": "a", "echo": true}), "echo"),
        ] {
            let told = asked(body).unwrap_err();
            assert!(told.starts_with(named), "{told}");
        }
    }

    #[test]
    fn answers_and_pieces_keep_text_index_and_usage() {
        let body = json!({"id": "chatcmpl-1", "created": 7, "model": "up", "choices": [
            {"index": 0, "finish_reason": "stop", "message": {"content": "a \"b\"\n", "reasoning_content": "hm"},
             "logprobs": {"content": [{"token": "a ", "logprob": -0.5, "top_logprobs": [{"token": "a ", "logprob": -0.5}]}, {"token": "b", "logprob": -1.0, "top_logprobs": []}]}},
            {"index": 1, "finish_reason": "length", "message": {"content": "c"}}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 2}});
        let told: Value = serde_json::from_slice(&from_chat(body.to_string().as_bytes()).unwrap()).unwrap();
        let expected = json!({"id": "chatcmpl-1", "object": "text_completion", "created": 7, "model": "up", "choices": [
            {"text": "a \"b\"\n", "index": 0, "finish_reason": "stop", "logprobs": {"tokens": ["a ", "b"],
             "token_logprobs": [-0.5, -1.0], "top_logprobs": [{"a ": -0.5}, {}], "text_offset": [0, 2]}},
            {"text": "c", "index": 1, "logprobs": null, "finish_reason": "length"}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 2}});
        assert_eq!(told, expected);
        assert!(from_chat(b"{\"choices\":[]}").is_err());

        let said = |data: Value| {
            let mut out = BytesMut::new();
            chunk(data.to_string().as_bytes(), &mut out);
            String::from_utf8(out.to_vec()).unwrap()
        };
        let piece = json!({"id": "c", "created": 7, "model": "up", "choices": [{"index": 1, "delta": {"content": "x"}, "finish_reason": null}]});
        assert_eq!(
            said(piece),
            "data: {\"id\":\"c\",\"object\":\"text_completion\",\"created\":7,\"model\":\"up\",\"choices\":[{\"text\":\"x\",\"index\":1,\"logprobs\":null,\"finish_reason\":null}]}\n\n"
        );
        assert_eq!(said(json!({"choices": [{"index": 0, "delta": {"role": "assistant"}}]})), "");
        assert!(
            said(json!({"choices": [], "usage": {"prompt_tokens": 1}})).contains("\"usage\":{\"prompt_tokens\":1}")
        );
    }
}
