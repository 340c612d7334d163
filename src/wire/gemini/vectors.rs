//! Google's `embedContent` and `batchEmbedContents`: to OpenAI's embeddings, and back from its list.

use super::request::{member, parts, texts, wrong};
use crate::error::{Error, Kind, Result};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

/// How Google is asked for vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Embeds {
    /// `embedContent`
    One,
    /// `batchEmbedContents`
    Many,
}

/// Of one request: what it wants of all its vectors.
#[derive(Debug, Default, PartialEq)]
struct Terms {
    task: Option<Value>,
    title: Option<Value>,
    dimensions: Option<Value>,
}

/// Google takes no more at once.
const MOST: usize = 100;

/// OpenAI's request.
///
/// # Errors
/// A 400 that names what cannot be told so.
pub fn to_embeddings(body: &[u8], model: &str, embeds: Embeds) -> Result<Vec<u8>> {
    let asked: Map<String, Value> = serde_json::from_slice(body)
        .map_err(|e| Error::invalid(format!("The request body is not acceptable JSON: {e}.")))?;
    let requests: Vec<(String, &Map<String, Value>)> = match embeds {
        Embeds::One => vec![("content".to_owned(), &asked)],
        Embeds::Many => {
            let all = asked.get("requests").and_then(Value::as_array).filter(|all| !all.is_empty());
            let all =
                all.ok_or_else(|| Error::invalid("Missing required parameter: 'requests'.").at_param("requests"))?;
            if all.len() > MOST {
                return Err(wrong("requests", &format!("there are {}, and {MOST} are taken at once", all.len())));
            }
            let each = all.iter().enumerate().map(|(place, one)| {
                let at = format!("requests[{place}]");
                one.as_object().map(|one| (format!("{at}.content"), one)).ok_or_else(|| wrong(&at, "it is an object"))
            });
            each.collect::<Result<_>>()?
        }
    };
    let mut input: Vec<Value> = Vec::with_capacity(requests.len());
    let mut all: Option<Terms> = None;
    for (at, one) in requests {
        let content = one.get("content").unwrap_or(&Value::Null);
        let parts = parts(content, &at)?;
        if parts.iter().any(|part| !part.get("text").is_some_and(Value::is_string)) {
            return Err(wrong(&at, "only texts can be embedded through the gateway"));
        }
        input.push(texts(parts).join("\n").into());
        let config = member(one, "embedContentConfig", "embed_content_config").and_then(Value::as_object);
        let told =
            |camel: &str, snake: &str| member(one, camel, snake).or_else(|| member(config?, camel, snake)).cloned();
        let terms = Terms {
            task: told("taskType", "task_type"),
            title: told("title", "title"),
            dimensions: told("outputDimensionality", "output_dimensionality"),
        };
        match &all {
            Some(first) if *first != terms => {
                let why = "its taskType, title and outputDimensionality differ from the first one's; ask apart";
                return Err(wrong(&at, why));
            }
            Some(_) => (),
            None => all = Some(terms),
        }
    }
    let Terms { task, title, dimensions } = all.unwrap_or_default();
    let mut told = json!({"model": model, "input": input});
    for (name, value) in [("dimensions", dimensions), ("taskType", task), ("title", title)] {
        if let Some(value) = value {
            told[name] = value;
        }
    }
    Ok(told.to_string().into_bytes())
}

/// The same request without what only Google's models are told: how a vector will be used is a hint, for which Cohere
/// has words of its own.
///
/// # Errors
/// Never for a request that [`to_embeddings`] has made.
pub fn for_others(body: &[u8], is_cohere: bool) -> Result<Vec<u8>> {
    let mut asked: Map<String, Value> = serde_json::from_slice(body).map_err(|e| Error::invalid(e.to_string()))?;
    asked.shift_remove("title");
    let task = asked.shift_remove("taskType");
    let kind = match task.as_ref().and_then(Value::as_str) {
        Some("RETRIEVAL_QUERY" | "QUESTION_ANSWERING" | "FACT_VERIFICATION" | "CODE_RETRIEVAL_QUERY") => "search_query",
        Some("CLASSIFICATION") => "classification",
        Some("CLUSTERING" | "SEMANTIC_SIMILARITY") => "clustering",
        _ => "search_document",
    };
    if is_cohere {
        asked.insert("input_type".to_owned(), kind.into());
    }
    Ok(Value::Object(asked).to_string().into_bytes())
}

#[derive(serde::Deserialize)]
struct Listed<'a> {
    #[serde(borrow)]
    data: Vec<Vector<'a>>,
    usage: Option<Value>,
}

#[derive(serde::Deserialize)]
struct Vector<'a> {
    #[serde(borrow)]
    embedding: &'a RawValue,
}

#[derive(serde::Serialize)]
struct Values<'a> {
    values: &'a RawValue,
}

/// Google's answer of OpenAI's list, digit by digit.
///
/// # Errors
/// The list is none of vectors in numbers.
pub fn from_embeddings(body: &[u8], embeds: Embeds) -> Result<Vec<u8>> {
    let garbled = || Error::new(Kind::Garbled, "The answer of the provider holds no embeddings in numbers.");
    let told: Listed<'_> = serde_json::from_slice(body).map_err(|_| garbled())?;
    if told.data.is_empty() || told.data.iter().any(|vector| !vector.embedding.get().starts_with('[')) {
        return Err(garbled());
    }
    let vectors: Vec<Values<'_>> = told.data.iter().map(|vector| Values { values: vector.embedding }).collect();
    let text = match embeds {
        Embeds::One => serde_json::to_string(&vectors[0]),
        Embeds::Many => serde_json::to_string(&vectors),
    };
    let (name, text) = (if embeds == Embeds::One { "embedding" } else { "embeddings" }, text.map_err(|_| garbled())?);
    let tokens = told.usage.and_then(|usage| usage["prompt_tokens"].as_u64());
    let usage = tokens.map(|count| format!(",\"usageMetadata\":{{\"promptTokenCount\":{count}}}"));
    Ok(format!("{{\"{name}\":{text}{}}}", usage.unwrap_or_default()).into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn told(body: &Value, embeds: Embeds) -> Value {
        serde_json::from_slice(&to_embeddings(body.to_string().as_bytes(), "m", embeds).unwrap()).unwrap()
    }

    #[test]
    fn requests_become_one_list_of_texts() {
        let one = |text: &str| json!({"model": "models/m", "content": {"parts": [{"text": text}, {"text": "b"}]}, "taskType": "RETRIEVAL_QUERY", "outputDimensionality": 8});
        let both = json!({"requests": [one("a"), one("c")]});
        let wanted = json!({"model": "m", "input": ["a\nb", "c\nb"], "dimensions": 8, "taskType": "RETRIEVAL_QUERY"});
        assert_eq!(told(&both, Embeds::Many), wanted);
        assert_eq!(
            told(&json!({"content": {"parts": [{"text": "a"}]}}), Embeds::One),
            json!({"model": "m", "input": ["a"]})
        );
        let others = |is_cohere| -> Value {
            serde_json::from_slice(&for_others(wanted.to_string().as_bytes(), is_cohere).unwrap()).unwrap()
        };
        assert_eq!(others(false), json!({"model": "m", "input": ["a\nb", "c\nb"], "dimensions": 8}));
        assert_eq!(others(true)["input_type"], "search_query");
    }

    #[test]
    fn what_cannot_be_told_is_named() {
        let text = json!({"content": {"parts": [{"text": "a"}]}});
        let mut other = text.clone();
        other["taskType"] = "CLUSTERING".into();
        for (body, embeds, at) in [
            (json!({}), Embeds::One, "content"),
            (json!({"requests": []}), Embeds::Many, "requests"),
            (json!({"requests": [1]}), Embeds::Many, "requests[0]"),
            (json!({"requests": vec![&text; 101]}), Embeds::Many, "requests"),
            (json!({"requests": [text, other]}), Embeds::Many, "requests[1].content"),
            (
                json!({"content": {"parts": [{"inlineData": {"data": "AA==", "mimeType": "image/png"}}]}}),
                Embeds::One,
                "content",
            ),
        ] {
            let error = to_embeddings(body.to_string().as_bytes(), "m", embeds).unwrap_err();
            assert_eq!(error.param(), Some(at), "{error}");
        }
    }

    #[test]
    fn vectors_keep_their_digits() {
        let list = br#"{"data":[{"index":0,"embedding":[1.0, -5e-1]},{"index":1,"embedding":[]}],"usage":{"prompt_tokens":2}}"#;
        let text = |embeds| String::from_utf8(from_embeddings(list, embeds).unwrap()).unwrap();
        assert_eq!(
            text(Embeds::One),
            r#"{"embedding":{"values":[1.0, -5e-1]},"usageMetadata":{"promptTokenCount":2}}"#
        );
        assert_eq!(
            text(Embeds::Many),
            r#"{"embeddings":[{"values":[1.0, -5e-1]},{"values":[]}],"usageMetadata":{"promptTokenCount":2}}"#
        );
        for other in [&br#"{"data":[]}"#[..], br#"{"data":[{"embedding":"AA=="}]}"#, b"{", b"[]"] {
            assert!(from_embeddings(other, Embeds::One).is_err());
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(body in prop::collection::vec(any::<u8>(), 0..200), inside in "[\\[\\]{}:,\"a-z0-9]{0,100}") {
            let nested = format!("{{\"requests\":[{inside}]}}");
            for body in [&body[..], nested.as_bytes()] {
                let _ = to_embeddings(body, "m", Embeds::Many);
                let _ = for_others(body, true);
                let _ = from_embeddings(body, Embeds::One);
            }
        }
    }
}
