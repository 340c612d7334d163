//! OpenAI's embeddings: vectors as numbers, or as base64 of 32-bit floats in little-endian order.
//!
//! OpenAI's SDKs ask for base64 where their user says nothing, and some of them read nothing else; many servers know
//! numbers alone. What was asked for is what the caller gets. Source: OpenAI's API reference, "Embeddings".

use crate::wire::json::{self, Kind};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

const MAX_DEPTH: usize = 64;

/// Puts the vectors of an answer into base64; none where nothing has to be changed, or it is no list of embeddings.
pub fn in_base64(body: &[u8]) -> Option<Vec<u8>> {
    let mut data = None;
    json::object(body, MAX_DEPTH, |member| {
        if &body[member.key] == b"data" && member.value.kind == Kind::Array {
            data = Some(member.value.span);
        }
    })
    .ok()?;
    let data = data?;
    let mut vectors: Vec<std::ops::Range<usize>> = Vec::new();
    json::array(&body[data.clone()], MAX_DEPTH, |item| {
        let item = data.start + item.span.start..data.start + item.span.end;
        let _ = json::object(&body[item.clone()], MAX_DEPTH, |member| {
            if &body[item.clone()][member.key] == b"embedding" && member.value.kind == Kind::Array {
                vectors.push(item.start + member.value.span.start..item.start + member.value.span.end);
            }
        });
    })
    .ok()?;
    if vectors.is_empty() {
        return None;
    }
    let mut out = Vec::with_capacity(body.len());
    let mut from = 0;
    for vector in vectors {
        let numbers: Vec<f32> = serde_json::from_slice(&body[vector.clone()]).ok()?;
        let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        out.extend_from_slice(&body[from..vector.start]);
        out.push(b'"');
        out.extend_from_slice(STANDARD.encode(bytes).as_bytes());
        out.push(b'"');
        from = vector.end;
    }
    out.extend_from_slice(&body[from..]);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    #[test]
    fn numbers_become_base64_and_all_else_stays() {
        let body = br#"{"object":"list","data":[{"embedding":[1.0, -0.5],"index":0},{"index":1,"embedding":[]}],"usage":{"prompt_tokens":2}}"#;
        let told: Value = serde_json::from_slice(&in_base64(body).unwrap()).unwrap();
        assert_eq!(told["data"][0], json!({"embedding": "AACAPwAAAL8=", "index": 0}));
        assert_eq!((&told["data"][1]["embedding"], &told["usage"]["prompt_tokens"]), (&json!(""), &json!(2)));
        for other in
            [&br#"{"data":[{"embedding":"AACAPw=="}]}"#[..], b"{\"data\":[{\"embedding\":[\"a\"]}]}", b"[]", b"{"]
        {
            assert_eq!(in_base64(other), None);
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded_again(vector in prop::collection::vec(any::<f32>().prop_filter("finite", |n| n.is_finite()), 0..20)) {
            let body = json!({"data": [{"embedding": vector}]}).to_string();
            let told: Value = serde_json::from_slice(&in_base64(body.as_bytes()).unwrap()).unwrap();
            let bytes = STANDARD.decode(told["data"][0]["embedding"].as_str().unwrap()).unwrap();
            let read: Vec<f32> = bytes.chunks(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect();
            prop_assert_eq!(read, vector);
        }

        #[test]
        fn no_bytes_make_it_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = in_base64(&body);
        }
    }
}
