//! Images and documents: from data URLs, links and file ids to `source` objects.

use super::betas::{self, Betas};
use crate::error::Error;
use crate::provider::hub::{data_url, decode, is_link};
use serde_json::{Map, Value, json};

const IMAGES: &[&str] = &["image/jpeg", "image/png", "image/gif", "image/webp"];
const PDF: &str = "application/pdf";

/// The block of an `image_url` part: `{"url": ...}`, or the bare text that some clients send. A media type other than
/// an image's makes it a document.
pub(super) fn image(image: &Value, place: &str) -> Result<Value, Error> {
    let url = image.as_str().or_else(|| image["url"].as_str());
    let Some(url) = url else {
        return Err(bad(place, "an image needs a 'url'"));
    };
    if is_link(url) {
        return Ok(json!({"type": "image", "source": {"type": "url", "url": url}}));
    }
    let Some((media_type, data)) = data_url(url) else {
        return Err(bad(place, "an image must be a http(s) URL, or a data URL in base64"));
    };
    let stated = image["format"].as_str().filter(|format| format.contains('/'));
    inline(stated.unwrap_or(media_type), data, None, place)
}

/// The block of a file: `file_data` (data URL or bare base64), `file_url`, or the `file_id` of an upload to Anthropic.
pub(super) fn file(file: &Map<String, Value>, place: &str, betas: &mut Betas) -> Result<Value, Error> {
    let text = |name: &str| file.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let title = text("filename");
    let format = text("format");
    // Clients of LiteLLM put links into `file_id` too.
    let link = text("file_url").or_else(|| text("file_id").filter(|id| is_link(id)));
    if let Some(url) = link {
        let kind = if format.is_some_and(|format| format.starts_with("image/")) { "image" } else { "document" };
        return Ok(titled(json!({"type": kind, "source": {"type": "url", "url": url}}), title));
    }
    if let Some(data) = text("file_data") {
        let (media_type, data) = data_url(data).unwrap_or((PDF, data));
        return inline(format.unwrap_or(media_type), data, title, place);
    }
    if let Some(id) = text("file_id") {
        betas.add(betas::FILES);
        let kind = if format.is_some_and(|format| format.starts_with("image/")) { "image" } else { "document" };
        return Ok(titled(json!({"type": kind, "source": {"type": "file", "file_id": id}}), title));
    }
    Err(bad(place, "a file needs 'file_data' or 'file_id'"))
}

fn inline(media_type: &str, data: &str, title: Option<&str>, place: &str) -> Result<Value, Error> {
    let media_type = media_type.to_ascii_lowercase();
    let media_type = if media_type == "image/jpg" { "image/jpeg" } else { media_type.as_str() };
    if IMAGES.contains(&media_type) {
        return Ok(json!({"type": "image", "source": {"type": "base64", "media_type": media_type, "data": data}}));
    }
    if media_type == PDF {
        let source = json!({"type": "base64", "media_type": PDF, "data": data});
        return Ok(titled(json!({"type": "document", "source": source}), title));
    }
    if media_type.starts_with("text/") || media_type == "application/json" {
        let Some(text) = decode(data).and_then(|bytes| String::from_utf8(bytes).ok()) else {
            return Err(bad(place, "the file's data is not UTF-8 text in base64"));
        };
        let source = json!({"type": "text", "media_type": "text/plain", "data": text});
        return Ok(titled(json!({"type": "document", "source": source}), title));
    }
    let shown: String = media_type.chars().take(60).collect();
    Err(bad(place, &format!("Anthropic takes JPEG, PNG, GIF and WebP images, PDF and plain text, not '{shown}'")))
}

/// Images have no title upstream.
fn titled(mut block: Value, title: Option<&str>) -> Value {
    if let (Some(title), "document") = (title, block["type"].as_str().unwrap_or_default()) {
        block["title"] = title.into();
    }
    block
}

fn bad(place: &str, what: &str) -> Error {
    Error::invalid(format!("'{place}' cannot be sent to Anthropic: {what}.")).at_param(place)
}
