//! Embeddings of providers that do not speak OpenAI's format, or speak it with other words.
//!
//! OpenAI's request becomes theirs, and their vectors OpenAI's list, digit by digit as they came. Base64 is made of that
//! list by whoever wants it ([`crate::wire::embeddings`]).

use super::path::segment;
use super::{Detour, Language, Provider};
use crate::error::{Error, Kind, Origin, Result};
use crate::meter;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

/// How a provider is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// OpenAI's format, with this name for `dimensions` (none where it has no such parameter), and without formats.
    Named { dimensions: &'static str },
    /// `batchEmbedContents`
    Gemini,
    /// `/api/embed`
    Ollama,
    /// `/v2/embed`
    Cohere,
    /// `predict`
    Vertex,
    /// `invoke`, whose body is the vendor's of the model: Amazon's or Cohere's.
    Bedrock,
    /// `/ml/v1/text/embeddings`
    Watsonx,
    /// `pipeline/feature-extraction`
    HuggingFace,
}

/// Hugging Face's router of conversations; what is none lies beside it.
const HUGGING_FACE: &str = "https://router.huggingface.co/v1";
/// The one of its hosts that makes vectors.
const HF_INFERENCE: &str = "hf-inference";

/// How this provider makes embeddings, where it differs from OpenAI.
///
/// # Errors
/// It makes none that are served.
pub fn style(provider: &Provider, language: Language, base: &str) -> Result<Option<Style>> {
    Ok(match (language, provider.name) {
        (Language::OpenAi, "voyage" | "mistral") => Some(Style::Named { dimensions: "output_dimension" }),
        (Language::OpenAi, "jina_ai" | "databricks") => Some(Style::Named { dimensions: "dimensions" }),
        (Language::OpenAi, "watsonx") => Some(Style::Watsonx),
        // A server of one's own (TEI) speaks OpenAI's format.
        (Language::OpenAi, "huggingface") if base == HUGGING_FACE || base.ends_with(HF_INFERENCE) => {
            Some(Style::HuggingFace)
        }
        (Language::OpenAi, _) => None,
        (Language::Gemini, "gemini") => Some(Style::Gemini),
        (Language::Gemini, "vertex_ai") => Some(Style::Vertex),
        (Language::Bedrock, _) => Some(Style::Bedrock),
        (Language::Ollama, _) => Some(Style::Ollama),
        (Language::Cohere, _) => Some(Style::Cohere),
        _ => {
            let message = format!("Embeddings of the provider '{}' are not served yet.", provider.name);
            return Err(Error::new(Kind::NotServed, message).at_param("model"));
        }
    })
}

/// Where a model of Hugging Face makes vectors, seen from this base.
///
/// # Errors
/// A 501 for a host that makes none.
pub fn pipeline(base: &str, model: &str) -> Result<Detour> {
    let (model, host) = model.rsplit_once(':').unwrap_or((model, HF_INFERENCE));
    if host != HF_INFERENCE {
        let message = format!("Embeddings of Hugging Face are served by '{HF_INFERENCE}' alone, not by '{host}'.");
        return Err(Error::new(Kind::NotServed, message).at_param("model"));
    }
    let model: Vec<String> = model.split('/').map(segment).collect();
    let path = format!("models/{}/pipeline/feature-extraction", model.join("/"));
    let at_root = base == HUGGING_FACE;
    let path = if at_root { format!("{HF_INFERENCE}/{path}") } else { path };
    Ok(Detour { at_root, ..Detour::path(path) })
}

/// The provider's request from OpenAI's, which names the provider's model.
///
/// # Errors
/// A 400 that names what cannot be sent.
pub fn request(style: Style, body: &[u8], model: &str) -> Result<Vec<u8>> {
    let mut asked: Map<String, Value> = serde_json::from_slice(body)
        .map_err(|e| Error::invalid(format!("The request body is not as expected: {e}.")))?;
    asked.shift_remove("encoding_format");
    if style != (Style::Named { dimensions: "dimensions" }) {
        // For statistics alone, and unknown there.
        asked.shift_remove("user");
    }
    let sent = match style {
        Style::Named { dimensions } => {
            asked.shift_remove("user");
            rename(&mut asked, "dimensions", dimensions);
            Value::Object(asked)
        }
        Style::Gemini => {
            let texts = texts(&mut asked, 100)?;
            let model = if model.contains('/') { model.to_owned() } else { format!("models/{model}") };
            let task = ["taskType", "task_type", "input_type"].iter().find_map(|name| asked.shift_remove(*name));
            let (title, dimensions) = (asked.shift_remove("title"), asked.shift_remove("dimensions"));
            let one = |text: String| {
                let mut one = json!({"model": model, "content": {"parts": [{"text": text}]}});
                for (name, value) in [("taskType", &task), ("title", &title), ("outputDimensionality", &dimensions)] {
                    if let Some(value) = value.as_ref().filter(|value| !value.is_null()) {
                        one[name] = value.clone();
                    }
                }
                one
            };
            json!({"requests": texts.into_iter().map(one).collect::<Vec<_>>()})
        }
        Style::Vertex => {
            let texts = texts(&mut asked, 250)?;
            let task = ["task_type", "taskType", "input_type"].iter().find_map(|name| asked.shift_remove(*name));
            let (title, dimensions) = (asked.shift_remove("title"), asked.shift_remove("dimensions"));
            let one = |text: String| {
                let mut one = json!({"content": text});
                for (name, value) in [("task_type", &task), ("title", &title)] {
                    if let Some(value) = value.as_ref().filter(|value| !value.is_null()) {
                        one[name] = value.clone();
                    }
                }
                one
            };
            let mut sent = json!({"instances": texts.into_iter().map(one).collect::<Vec<_>>()});
            if let Some(dimensions) = dimensions.filter(|dimensions| !dimensions.is_null()) {
                sent["parameters"] = json!({"outputDimensionality": dimensions});
            }
            sent
        }
        Style::Bedrock => {
            asked.shift_remove("model");
            if model.contains("cohere.") {
                let texts = texts(&mut asked, 96)?;
                asked.insert("texts".to_owned(), texts.into());
                asked.entry("input_type").or_insert_with(|| "search_document".into());
                asked.insert("embedding_types".to_owned(), json!(["float"]));
                rename(&mut asked, "dimensions", "output_dimension");
            } else {
                let text = texts(&mut asked, 1)?.pop().unwrap_or_default();
                asked.insert("inputText".to_owned(), text.into());
                asked.retain(|_, value| !value.is_null());
            }
            Value::Object(asked)
        }
        Style::Watsonx => {
            if asked.shift_remove("dimensions").is_some_and(|dimensions| !dimensions.is_null()) {
                let why = "The provider 'watsonx' does not take the parameter 'dimensions'. Leave it out.";
                return Err(Error::invalid(why).at_param("dimensions"));
            }
            let texts = texts(&mut asked, 1000)?;
            asked.insert("inputs".to_owned(), texts.into());
            Value::Object(asked)
        }
        Style::HuggingFace => {
            if asked.shift_remove("dimensions").is_some_and(|dimensions| !dimensions.is_null()) {
                let why = "The provider 'huggingface' does not take the parameter 'dimensions'. Leave it out.";
                return Err(Error::invalid(why).at_param("dimensions"));
            }
            let texts = texts(&mut asked, usize::MAX)?;
            asked.shift_remove("model");
            asked.insert("inputs".to_owned(), texts.into());
            Value::Object(asked)
        }
        Style::Ollama => {
            let texts = texts(&mut asked, usize::MAX)?;
            asked.insert("input".to_owned(), texts.into());
            Value::Object(asked)
        }
        Style::Cohere => {
            let texts = texts(&mut asked, 96)?;
            asked.insert("texts".to_owned(), texts.into());
            // Its models since the third want to know; documents are what is kept, and a wrong guess costs least there.
            asked.entry("input_type").or_insert_with(|| "search_document".into());
            asked.insert("embedding_types".to_owned(), json!(["float"]));
            rename(&mut asked, "dimensions", "output_dimension");
            Value::Object(asked)
        }
    };
    Ok(sent.to_string().into_bytes())
}

fn rename(members: &mut Map<String, Value>, from: &str, to: &str) {
    if let Some(value) = members.shift_remove(from).filter(|value| !value.is_null()) {
        members.entry(to).or_insert(value);
    }
}

/// The texts of `input`, of which there are so many at most.
fn texts(asked: &mut Map<String, Value>, most: usize) -> Result<Vec<String>> {
    let input = asked.shift_remove("input").unwrap_or_default();
    let texts: Option<Vec<String>> = match input {
        Value::String(text) => Some(vec![text]),
        Value::Array(all) => {
            all.into_iter().map(|one| if let Value::String(text) = one { Some(text) } else { None }).collect()
        }
        _ => None,
    };
    let texts = texts.ok_or_else(|| {
        Error::invalid("This provider takes texts in 'input', no numbers of tokens and no objects.").at_param("input")
    })?;
    if texts.len() > most {
        let message = format!("This provider takes at most {most} texts in 'input' at once, not {}.", texts.len());
        return Err(Error::invalid(message).at_param("input"));
    }
    Ok(texts)
}

#[derive(Deserialize, Default)]
struct Told<'a> {
    /// Cohere's by type, Ollama's one behind the other, Gemini's in objects.
    #[serde(borrow)]
    embeddings: Option<&'a RawValue>,
    /// Amazon's, one at a time.
    #[serde(borrow)]
    embedding: Option<&'a RawValue>,
    #[serde(borrow)]
    predictions: Option<Vec<Prediction<'a>>>,
    #[serde(borrow)]
    results: Option<Vec<One<'a>>>,
    #[serde(rename = "inputTextTokenCount")]
    input_text_token_count: Option<u64>,
    input_token_count: Option<u64>,
    prompt_eval_count: Option<u64>,
    #[serde(rename = "usageMetadata")]
    usage_metadata: Option<Value>,
    meta: Option<Value>,
}

#[derive(Deserialize)]
struct Prediction<'a> {
    #[serde(borrow)]
    embeddings: Counted<'a>,
}

#[derive(Deserialize)]
struct Counted<'a> {
    #[serde(borrow)]
    values: &'a RawValue,
    statistics: Option<Statistics>,
}

#[derive(Deserialize)]
struct Statistics {
    token_count: Option<f64>,
}

#[derive(Deserialize)]
struct One<'a> {
    #[serde(borrow)]
    embedding: &'a RawValue,
}

#[derive(Deserialize)]
struct Values<'a> {
    #[serde(borrow)]
    values: &'a RawValue,
}

#[derive(Deserialize)]
struct Typed<'a> {
    #[serde(borrow)]
    float: Vec<&'a RawValue>,
}

/// OpenAI's list from the provider's answer. `asked` is the size of the request, for those that count nothing.
///
/// # Errors
/// The answer makes no sense.
pub fn answer(style: Style, body: &[u8], model: &str, asked: usize, origin: &Origin) -> Result<Vec<u8>> {
    let garbled = || {
        let message = format!(
            "The answer of '{}' holds no embeddings; check that its api_base leads to an API.",
            origin.provider
        );
        Error::new(Kind::Garbled, message)
    };
    let told: Told<'_> = match style {
        // A list, and nothing around it.
        Style::HuggingFace => Told::default(),
        _ => serde_json::from_slice(body).map_err(|_| garbled())?,
    };
    let pooled: Vec<Box<RawValue>>;
    let written = told.embeddings.map_or("null", RawValue::get);
    let mut counted = None;
    let vectors: Vec<&RawValue> = match style {
        Style::Named { .. } => return Ok(body.to_vec()),
        Style::Vertex => {
            let all = told.predictions.ok_or_else(garbled)?;
            let counts = all.iter().map(|one| Some(one.embeddings.statistics.as_ref()?.token_count?.max(0.0) as u64));
            counted = counts.sum::<Option<u64>>();
            all.into_iter().map(|one| one.embeddings.values).collect()
        }
        Style::Watsonx => told.results.ok_or_else(garbled)?.into_iter().map(|one| one.embedding).collect(),
        Style::Bedrock => match told.embedding {
            Some(one) => vec![one],
            None => match serde_json::from_str::<Typed<'_>>(written) {
                Ok(typed) => typed.float,
                Err(_) => serde_json::from_str(written).map_err(|_| garbled())?,
            },
        },
        Style::Ollama => serde_json::from_str(written).map_err(|_| garbled())?,
        Style::HuggingFace => {
            pooled = pool(body).ok_or_else(garbled)?;
            pooled.iter().map(|one| &**one).collect()
        }
        Style::Gemini => {
            let all: Vec<Values<'_>> = serde_json::from_str(written).map_err(|_| garbled())?;
            all.into_iter().map(|one| one.values).collect()
        }
        Style::Cohere => serde_json::from_str::<Typed<'_>>(written).map_err(|_| garbled())?.float,
    };
    let number = |value: &Option<Value>, path: &[&str]| {
        let found = path.iter().try_fold(value.as_ref()?, |value, name| value.get(name))?;
        found.as_f64().map(|n| n.max(0.0) as u64)
    };
    let tokens = counted
        .or(told.input_text_token_count)
        .or(told.input_token_count)
        .or(told.prompt_eval_count)
        .or_else(|| number(&told.usage_metadata, &["promptTokenCount"]))
        .or_else(|| number(&told.meta, &["billed_units", "input_tokens"]))
        .unwrap_or_else(|| meter::estimate(asked));
    let mut out = Vec::with_capacity(body.len() + 64 * vectors.len());
    out.extend_from_slice(br#"{"object":"list","data":["#);
    for (index, vector) in vectors.iter().enumerate() {
        let comma = if index > 0 { "," } else { "" };
        let text = vector.get();
        if !text.starts_with('[') {
            return Err(garbled());
        }
        out.extend_from_slice(
            format!(r#"{comma}{{"object":"embedding","index":{index},"embedding":{text}}}"#).as_bytes(),
        );
    }
    let model = Value::from(model);
    let usage = json!({"prompt_tokens": tokens, "total_tokens": tokens});
    out.extend_from_slice(format!(r#"],"model":{model},"usage":{usage}}}"#).as_bytes());
    Ok(out)
}

/// A vector for each text; where there is one for each of its tokens, their mean.
fn pool(body: &[u8]) -> Option<Vec<Box<RawValue>>> {
    let all: Vec<Box<RawValue>> = serde_json::from_slice(body).ok()?;
    all.into_iter()
        .map(|one| match one.get().get(1..)?.trim_start().starts_with('[') {
            false => Some(one),
            true => {
                let tokens: Vec<Vec<f32>> = serde_json::from_str(one.get()).ok()?;
                let mut mean = tokens.first()?.clone();
                for token in &tokens[1..] {
                    (token.len() == mean.len()).then_some(())?;
                    mean.iter_mut().zip(token).for_each(|(sum, value)| *sum += value);
                }
                let count = tokens.len() as f32;
                mean.iter_mut().for_each(|sum| *sum /= count);
                serde_json::value::to_raw_value(&mean).ok()
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(style: Style, body: &Value, model: &str) -> Value {
        serde_json::from_slice(&request(style, body.to_string().as_bytes(), model).unwrap()).unwrap()
    }

    #[test]
    fn each_provider_is_asked_in_its_own_words() {
        let asked =
            json!({"model": "m", "input": ["a", "b"], "dimensions": 8, "encoding_format": "base64", "user": "u"});
        for (style, expected) in [
            (
                Style::Named { dimensions: "output_dimension" },
                json!({"model": "m", "input": ["a", "b"], "output_dimension": 8}),
            ),
            (Style::Ollama, json!({"model": "m", "dimensions": 8, "input": ["a", "b"]})),
            (
                Style::Cohere,
                json!({"model": "m", "texts": ["a", "b"], "input_type": "search_document", "embedding_types": ["float"], "output_dimension": 8}),
            ),
            (
                Style::Gemini,
                json!({"requests": [
                    {"model": "models/m", "content": {"parts": [{"text": "a"}]}, "outputDimensionality": 8},
                    {"model": "models/m", "content": {"parts": [{"text": "b"}]}, "outputDimensionality": 8}]}),
            ),
            (
                Style::Vertex,
                json!({"instances": [{"content": "a"}, {"content": "b"}], "parameters": {"outputDimensionality": 8}}),
            ),
        ] {
            assert_eq!(sent(style, &asked, "m"), expected);
        }
        let one = json!({"model": "m", "input": "a", "dimensions": 8, "user": "u"});
        let titan = sent(Style::Bedrock, &one, "amazon.titan-embed-text-v2:0");
        assert_eq!(titan, json!({"dimensions": 8, "inputText": "a"}));
        let cohere = sent(Style::Bedrock, &json!({"model": "m", "input": ["a"]}), "cohere.embed-v4:0");
        assert_eq!(cohere, json!({"texts": ["a"], "input_type": "search_document", "embedding_types": ["float"]}));
        let watsonx = json!({"model": "m", "input": "a", "project_id": "p"});
        assert_eq!(sent(Style::Watsonx, &watsonx, "m"), json!({"model": "m", "project_id": "p", "inputs": ["a"]}));
        let plain = json!({"model": "m", "input": "a", "user": "u", "normalize": true});
        assert_eq!(sent(Style::HuggingFace, &plain, "m"), json!({"normalize": true, "inputs": ["a"]}));
        assert!(request(Style::HuggingFace, asked.to_string().as_bytes(), "m").is_err());
        let query = json!({"model": "m", "input": "a", "input_type": "search_query"});
        assert_eq!(sent(Style::Cohere, &query, "m")["input_type"], "search_query");
        assert_eq!(sent(Style::Gemini, &query, "m")["requests"][0]["taskType"], "search_query");
    }

    #[test]
    fn what_cannot_be_sent_is_named() {
        for (style, input) in [
            (Style::Ollama, json!([1, 2])),
            (Style::Cohere, json!([[1], [2]])),
            (Style::Gemini, Value::from(vec!["a"; 101])),
            (Style::Cohere, Value::from(vec!["a"; 97])),
            (Style::Vertex, Value::from(vec!["a"; 251])),
            (Style::Bedrock, Value::from(vec!["a"; 2])),
            (Style::Watsonx, json!([1])),
        ] {
            let body = json!({"model": "m", "input": input}).to_string();
            assert_eq!(request(style, body.as_bytes(), "m").unwrap_err().param(), Some("input"));
        }
    }

    #[test]
    fn hugging_faces_vectors_lie_beside_its_conversations() {
        let of = |base: &str, model: &str| pipeline(base, model).ok().map(|detour| (detour.path, detour.at_root));
        let path = "models/BAAI/bge-m3/pipeline/feature-extraction";
        assert_eq!(of(HUGGING_FACE, "BAAI/bge-m3:hf-inference"), Some((format!("hf-inference/{path}"), true)));
        assert_eq!(of("http://h/hf-inference", "BAAI/bge-m3"), Some((path.to_owned(), false)));
        assert_eq!(of(HUGGING_FACE, "BAAI/bge-m3:nebius"), None);
    }

    #[test]
    fn vectors_come_back_digit_by_digit() {
        let origin = Origin::default();
        let told =
            |style, body: &str| String::from_utf8(answer(style, body.as_bytes(), "m", 8, &origin).unwrap()).unwrap();
        let expected = |tokens: u64| {
            format!(
                r#"{{"object":"list","data":[{{"object":"embedding","index":0,"embedding":[0.10,-1e-3]}},{{"object":"embedding","index":1,"embedding":[1]}}],"model":"m","usage":{{"prompt_tokens":{tokens},"total_tokens":{tokens}}}}}"#
            )
        };
        assert_eq!(
            told(Style::Ollama, r#"{"model":"x","embeddings":[[0.10,-1e-3],[1]],"prompt_eval_count":5}"#),
            expected(5)
        );
        assert_eq!(told(Style::Gemini, r#"{"embeddings":[{"values":[0.10,-1e-3]},{"values":[1]}]}"#), expected(2));
        let cohere =
            r#"{"id":"i","embeddings":{"float":[[0.10,-1e-3],[1]]},"meta":{"billed_units":{"input_tokens":7}}}"#;
        assert_eq!(told(Style::Cohere, cohere), expected(7));
        let vertex = r#"{"predictions":[{"embeddings":{"values":[0.10,-1e-3],"statistics":{"token_count":4,"truncated":false}}},{"embeddings":{"values":[1],"statistics":{"token_count":2}}}]}"#;
        assert_eq!(told(Style::Vertex, vertex), expected(6));
        let watsonx =
            r#"{"model_id":"m","results":[{"embedding":[0.10,-1e-3]},{"embedding":[1]}],"input_token_count":9}"#;
        assert_eq!(told(Style::Watsonx, watsonx), expected(9));
        for bedrock in [r#"{"embeddings":[[0.10,-1e-3],[1]]}"#, r#"{"embeddings":{"float":[[0.10,-1e-3],[1]]}}"#] {
            assert_eq!(told(Style::Bedrock, bedrock), expected(2));
        }
        assert_eq!(told(Style::HuggingFace, "[[0.10,-1e-3],[1]]"), expected(2));
        let tokens = told(Style::HuggingFace, "[ [[1,2],[3,4]] ]");
        assert!(tokens.contains("[2.0,3.0]"), "{tokens}");
        for body in ["{}", "[1]", "[[[1],[1,2]]]", "[[[]"] {
            assert!(answer(Style::HuggingFace, body.as_bytes(), "m", 8, &origin).is_err(), "{body}");
        }
        let titan = told(Style::Bedrock, r#"{"embedding":[1],"inputTextTokenCount":3}"#);
        assert!(titan.contains(r#""embedding":[1]"#) && titan.contains(r#""prompt_tokens":3"#), "{titan}");
        for body in ["[]", "{}", r#"{"embeddings":[7]}"#, r#"{"embeddings":{"int8":[]}}"#] {
            for style in [Style::Ollama, Style::Gemini, Style::Cohere, Style::Vertex, Style::Bedrock, Style::Watsonx] {
                assert!(answer(style, body.as_bytes(), "m", 8, &origin).is_err(), "{style:?} {body}");
            }
        }
    }
}
