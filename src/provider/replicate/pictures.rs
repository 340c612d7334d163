//! Pictures: OpenAI's request for them as the input of a model, and a prediction's files as OpenAI's list.

use super::answer::Prediction;
use super::route;
use crate::error::{Error, Kind, Origin, Result};
use crate::provider::Facts;
use crate::provider::foreign::failed;
use crate::provider::hub::{Ask, bad};
use crate::usage::Usage;
use serde_json::{Map, Value, json};

/// The request that means the same. What a model takes beside a prompt is its own; it goes on as it is.
///
/// # Errors
/// A 400 that names what cannot be said.
pub fn picture_request(body: &[u8], facts: &Facts<'_>) -> Result<Vec<u8>> {
    let mut ask = Ask::read(body, facts)?;
    for name in ["model", "user", "metadata"] {
        ask.take(name);
    }
    if ask.take("stream") == true {
        let message = "The provider 'replicate' does not stream pictures; leave 'stream' out.";
        return Err(Error::invalid(message).at_param("stream"));
    }
    if ask.take("response_format").as_str().is_some_and(|format| format != "url") {
        ask.refuse("response_format", ", but for 'url'")?;
    }
    let mut input = Map::new();
    input.insert("prompt".to_owned(), ask.take("prompt"));
    if let Some(count) = ask.whole("n")?.filter(|count| *count != 1) {
        input.insert("num_outputs".to_owned(), count.into());
    }
    if let Some(size) = ask.take("size").as_str().filter(|size| *size != "auto") {
        let sides = size.split_once('x').and_then(|(w, h)| Some((w.parse::<u32>().ok()?, h.parse::<u32>().ok()?)));
        let (width, height) = sides.ok_or_else(|| bad("size", "must be a width and a height, such as '1024x1024'"))?;
        input.insert("width".to_owned(), width.into());
        input.insert("height".to_owned(), height.into());
    }
    let own = ask.take("input");
    input.extend(ask.rest());
    if let Value::Object(own) = own {
        input.extend(own);
    }
    let mut body = json!({"input": input});
    if let (_, Some(version)) = route(facts.model) {
        body["version"] = version.into();
    }
    Ok(body.to_string().into_bytes())
}

/// OpenAI's list of the pictures that a prediction made, and their count.
///
/// # Errors
/// It failed, or made something else.
pub fn painted(body: &[u8], created: u64, origin: &Origin) -> Result<(Vec<u8>, Usage)> {
    let garbled = |what: &str| Error::new(Kind::Garbled, format!("The answer of '{}' {what}.", origin.provider));
    let prediction: Prediction = serde_json::from_slice(body).map_err(|_| garbled("is no prediction"))?;
    if let Some(fault) = prediction.failure() {
        return Err(failed(&fault, origin));
    }
    let urls: Option<Vec<&str>> = match &prediction.output {
        Value::String(url) => Some(vec![url]),
        Value::Array(all) => all.iter().map(Value::as_str).collect(),
        _ => None,
    };
    let urls = urls.filter(|urls| !urls.is_empty()).ok_or_else(|| garbled("holds no pictures"))?;
    let data: Vec<Value> = urls.iter().map(|url| json!({"url": url})).collect();
    let usage = Usage { pictures_out: urls.len() as u64, ..prediction.usage().unwrap_or_default() };
    Ok((json!({"created": created, "data": data}).to_string().into_bytes(), usage))
}
