//! What a model is told of a tool's call: its result as text and images, bounded in size.

use super::{Fault, ToolResult};
use serde_json::Value;

/// Images of one result.
const MOST_IMAGES: usize = 4;

/// The end of a call, for a model.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Outcome {
    pub text: String,
    /// `data:` URLs.
    pub images: Vec<String>,
    pub is_error: bool,
}

impl Outcome {
    pub fn text(text: impl Into<String>) -> Self {
        Outcome { text: text.into(), ..Outcome::default() }
    }

    pub fn failed(text: impl Into<String>) -> Self {
        Outcome { text: text.into(), is_error: true, ..Outcome::default() }
    }

    /// Of a result, at most `limit` bytes of text.
    pub fn of(result: &Result<ToolResult, Fault>, server: &str, limit: usize) -> Self {
        match result {
            Ok(result) => Outcome::read(&result.told, limit),
            Err(Fault::Rpc(error)) => Outcome::failed(format!("Error: {}", error.message)),
            Err(fault) => Outcome::failed(format!("Error: the server of tools '{server}': {fault}.")),
        }
    }

    fn read(told: &Value, limit: usize) -> Self {
        let (mut parts, mut images) = (Vec::new(), Vec::new());
        for item in told["content"].as_array().into_iter().flatten() {
            let text = |name: &str| item[name].as_str().unwrap_or_default();
            let resource = &item["resource"];
            let uri = resource["uri"].as_str().unwrap_or_default();
            match text("type") {
                "text" => parts.push(text("text").to_owned()),
                "image" if images.len() < MOST_IMAGES && text("mimeType").starts_with("image/") => {
                    images.push(format!("data:{};base64,{}", text("mimeType"), text("data")));
                    parts.push(format!("[image {}]", images.len()));
                }
                "image" => parts.push("[an image that is not shown]".to_owned()),
                "audio" => parts.push(format!("[audio, {}, not heard]", text("mimeType"))),
                "resource_link" => parts.push(format!("[{}]({}) {}", text("name"), text("uri"), text("description"))),
                "resource" if resource["text"].is_string() => {
                    parts.push(format!("[{uri}]\n{}", resource["text"].as_str().unwrap_or_default()));
                }
                "resource" => {
                    parts.push(format!("[{uri}, {}, not shown]", resource["mimeType"].as_str().unwrap_or("binary")))
                }
                _ => {}
            }
        }
        if parts.is_empty() && !told["structuredContent"].is_null() {
            parts.push(told["structuredContent"].to_string());
        }
        let mut text = parts.join("\n");
        if text.len() > limit {
            let whole = text.len();
            let cut = (0..=limit).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
            text.truncate(cut);
            text.push_str(&format!("\n[cut: {cut} of {whole} bytes]"));
        }
        Outcome { text, images, is_error: told["isError"] == true }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_result_becomes_text_and_images_of_bounded_size() {
        let told = json!({"content": [
            {"type": "text", "text": "two"}, {"type": "image", "data": "QQ==", "mimeType": "image/png"},
            {"type": "resource", "resource": {"uri": "a://b", "text": "inside"}},
        ]});
        let outcome = Outcome::read(&told, 1000);
        assert_eq!(outcome.text, "two\n[image 1]\n[a://b]\ninside");
        assert_eq!(outcome.images, ["data:image/png;base64,QQ=="]);
        let long = Outcome::read(&json!({"content": [{"type": "text", "text": "é".repeat(50)}]}), 11);
        assert_eq!(long.text, "ééééé\n[cut: 10 of 100 bytes]");
        assert_eq!(Outcome::read(&json!({"structuredContent": {"n": 2}}), 100).text, "{\"n\":2}");
        assert!(Outcome::read(&json!({"content": [], "isError": true}), 1).is_error);
    }
}
