//! Reranking: the form of Cohere and Jina, which callers use, from and to the words of others.

use super::{Language, Provider};
use crate::error::{Error, Kind, Origin, Result};
use crate::usage::Usage;
use serde_json::{Map, Value, json};

/// Who is asked, and what of the request its answer needs.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// The documents, where the caller wants them back.
    documents: Option<Vec<Value>>,
}

/// The provider's request from the caller's.
///
/// # Errors
/// A 400 that names what cannot be sent; the provider's reranker is not served.
pub fn request(provider: &Provider, language: Language, body: Vec<u8>) -> Result<(Vec<u8>, Asked)> {
    let is_cohere = match language {
        Language::Cohere => true,
        Language::OpenAi => false,
        _ => {
            let message = format!("Reranking of the provider '{}' is not served yet.", provider.name);
            return Err(Error::new(Kind::NotServed, message).at_param("model"));
        }
    };
    let mut asked: Map<String, Value> = serde_json::from_slice(&body)
        .map_err(|e| Error::invalid(format!("The request body is not as expected: {e}.")))?;
    let wants_documents = asked.get("return_documents") == Some(&Value::Bool(true));
    let documents = asked.get("documents").and_then(Value::as_array).cloned();
    let asked_back = Asked { documents: documents.filter(|_| wants_documents) };
    if !is_cohere && provider.name != "voyage" {
        return Ok((body, asked_back));
    }
    if is_cohere {
        // Its second version has neither.
        asked.shift_remove("return_documents");
        asked.shift_remove("max_chunks_per_doc");
        asked.shift_remove("user");
    } else if let Some(most) = asked.shift_remove("top_n") {
        asked.insert("top_k".to_owned(), most);
    }
    if let Some(Value::Array(all)) = asked.get_mut("documents") {
        for document in all.iter_mut().filter(|document| !document.is_string()) {
            let text = document.get("text").and_then(Value::as_str).map(str::to_owned);
            *document = text.unwrap_or_else(|| document.to_string()).into();
        }
    }
    Ok((Value::Object(asked).to_string().into_bytes(), asked_back))
}

/// The caller's answer from the provider's; none where it stays as it came.
///
/// # Errors
/// It is no ranking.
pub fn answer(body: &[u8], asked: &Asked, origin: &Origin) -> Result<(Option<Vec<u8>>, Usage, Option<String>)> {
    let garbled = || {
        let message =
            format!("The answer of '{}' holds no 'results'; check that its api_base leads to an API.", origin.provider);
        Error::new(Kind::Garbled, message)
    };
    let mut told: Map<String, Value> = serde_json::from_slice(body).map_err(|_| garbled())?;
    let usage = usage(&told);
    let id = told.get("id").and_then(Value::as_str).map(str::to_owned);
    let mut is_changed = false;
    // Voyage and Fireworks call them so.
    if let (None, Some(data)) = (told.get("results"), told.get("data").cloned().filter(Value::is_array)) {
        told.shift_remove("data");
        told.shift_remove("object");
        let tokens = usage.prompt_tokens;
        told.insert("results".to_owned(), data);
        told.entry("meta")
            .or_insert_with(|| json!({"billed_units": {"total_tokens": tokens}, "tokens": {"input_tokens": tokens}}));
        is_changed = true;
    }
    let results = told.get_mut("results").and_then(Value::as_array_mut).ok_or_else(garbled)?;
    for result in results {
        let Some(place) = result["index"].as_u64().and_then(|index| usize::try_from(index).ok()) else { continue };
        match &result["document"] {
            Value::String(text) => result["document"] = json!({ "text": text }),
            Value::Null => match asked.documents.as_ref().and_then(|documents| documents.get(place)) {
                Some(Value::String(text)) => result["document"] = json!({ "text": text }),
                Some(document) => result["document"] = document.clone(),
                None => continue,
            },
            _ => continue,
        }
        is_changed = true;
    }
    Ok((is_changed.then(|| Value::Object(told).to_string().into_bytes()), usage, id))
}

/// Tokens, and queries for those who charge by them.
pub fn usage(told: &Map<String, Value>) -> Usage {
    let whole = Value::Object(told.clone());
    let count = |path: &str| whole.pointer(path).and_then(Value::as_f64).map(|n| n.max(0.0) as u64);
    let tokens = [
        "/usage/prompt_tokens",
        "/usage/total_tokens",
        "/meta/billed_units/input_tokens",
        "/meta/tokens/input_tokens",
        "/meta/billed_units/total_tokens",
    ];
    Usage {
        prompt_tokens: tokens.iter().find_map(|path| count(path)).unwrap_or(0),
        queries: count("/meta/billed_units/search_units").unwrap_or(1),
        ..Usage::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::compatible::find;

    fn sent(provider: &str, body: &Value) -> (Value, Asked) {
        let provider = find(provider).unwrap();
        let (body, asked) = request(provider, provider.quirks.language, body.to_string().into_bytes()).unwrap();
        (serde_json::from_slice(&body).unwrap(), asked)
    }

    #[test]
    fn each_reranker_is_asked_in_its_own_words() {
        let asked = json!({"model": "m", "query": "q", "documents": ["a", {"text": "b"}], "top_n": 1, "return_documents": true});
        assert_eq!(sent("cohere", &asked).0, json!({"model": "m", "query": "q", "documents": ["a", "b"], "top_n": 1}));
        assert_eq!(
            sent("voyage", &asked).0,
            json!({"model": "m", "query": "q", "documents": ["a", "b"], "return_documents": true, "top_k": 1})
        );
        assert_eq!(sent("jina_ai", &asked).0, asked);
        let gemini = find("gemini").unwrap();
        assert_eq!(request(gemini, gemini.quirks.language, Vec::new()).unwrap_err().kind, Kind::NotServed);
    }

    #[test]
    fn documents_and_counts_come_back() {
        let asked = json!({"model": "m", "query": "q", "documents": ["a", {"text": "b"}], "return_documents": true});
        let (_, asked) = sent("cohere", &asked);
        let told = |body: Value, asked: &Asked| {
            let (told, usage, _) = answer(body.to_string().as_bytes(), asked, &Origin::default()).unwrap();
            (told.map(|told| serde_json::from_slice::<Value>(&told).unwrap()), usage.prompt_tokens, usage.queries)
        };
        let body = json!({"id": "i", "results": [{"index": 1, "relevance_score": 0.9}], "meta": {"billed_units": {"search_units": 2}}});
        let (answer, tokens, queries) = told(body.clone(), &asked);
        assert_eq!(
            answer.unwrap()["results"][0],
            json!({"index": 1, "relevance_score": 0.9, "document": {"text": "b"}})
        );
        assert_eq!((tokens, queries), (0, 2));
        assert_eq!(told(body, &Asked::default()).0, None);
        let voyage = json!({"object": "list", "data": [{"index": 0, "relevance_score": 0.4, "document": "a"}], "model": "m", "usage": {"total_tokens": 9}});
        let (answer, tokens, _) = told(voyage, &Asked::default());
        let answer = answer.unwrap();
        assert_eq!((&answer["results"][0]["document"]["text"], tokens), (&json!("a"), 9));
        assert_eq!((answer.get("data"), &answer["meta"]["billed_units"]["total_tokens"]), (None, &json!(9)));
        assert!(super::answer(b"{}", &Asked::default(), &Origin::default()).is_err());
    }
}
