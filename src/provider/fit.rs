//! What a cloud changes about a body that is otherwise its vendor's.

use super::{Endpoint, Path};
use crate::envelope::{Edits, Envelope, Pieces};
use crate::wire::json::Kind;

/// The body for an upstream that writes its paths so.
pub fn fit(path: Path, endpoint: Endpoint, body: Pieces) -> Pieces {
    match path {
        Path::Behind(_) | Path::AzureDeployment => body,
        Path::VertexRaw(_) | Path::Watsonx | Path::Invocations => {
            // It was made of one that was checked.
            let Ok(envelope) = Envelope::parse(body.join(), usize::MAX) else { return body };
            let mut edits = Edits::default();
            match path {
                Path::VertexRaw("anthropic") => anthropic(&envelope, endpoint, &mut edits),
                Path::Watsonx => watsonx(&envelope, &mut edits),
                Path::Invocations => {
                    if let Some(place) = envelope.find("model") {
                        edits.remove(place);
                    }
                }
                _ => (),
            }
            edits.pieces(&envelope)
        }
    }
}

/// The model stands in the path, and the version of the API in the body.
fn anthropic<'a>(envelope: &'a Envelope, endpoint: Endpoint, edits: &mut Edits<'a>) {
    if let (Some(place), true) = (envelope.find("model"), endpoint != Endpoint::Count) {
        edits.remove(place);
    }
    if envelope.find("anthropic_version").is_none() {
        edits.insert("anthropic_version", br#""vertex-2023-10-16""#.as_slice());
    }
}

/// The model has another name, the path says whether the answer is streamed, and a choice that is a word stands elsewhere
/// than one that is an object.
fn watsonx<'a>(envelope: &'a Envelope, edits: &mut Edits<'a>) {
    if let Some(model) = envelope.get("model") {
        edits.rename(model, "model_id");
    }
    if let Some(place) = envelope.find("stream") {
        edits.remove(place);
    }
    if let Some(choice) = envelope.get("tool_choice").filter(|m| m.value.kind == Kind::String) {
        edits.rename(choice, "tool_choice_option");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn bodies_are_fitted_to_their_clouds() {
        let fitted = |path, endpoint, body: &'static str| {
            let body = fit(path, endpoint, Bytes::from_static(body.as_bytes()).into()).join();
            String::from_utf8(body.to_vec()).unwrap()
        };
        let body = r#"{"model":"m","stream":true,"messages":[]}"#;
        assert_eq!(
            fitted(Path::VertexRaw("anthropic"), Endpoint::Stream, body),
            r#"{"stream":true,"messages":[],"anthropic_version":"vertex-2023-10-16"}"#
        );
        assert!(fitted(Path::VertexRaw("anthropic"), Endpoint::Count, body).contains(r#""model":"m""#));
        assert_eq!(fitted(Path::Invocations, Endpoint::Call, body), r#"{"stream":true,"messages":[]}"#);
        assert_eq!(
            fitted(Path::Watsonx, Endpoint::Stream, r#"{"model":"m","stream":true,"tool_choice":"auto"}"#),
            r#"{"model_id":"m","tool_choice_option":"auto"}"#
        );
    }
}
