//! Images, sounds and files of a message, whatever form they come in. Nothing is fetched.

use super::{bad, text_of};
use crate::error::Error;
use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::Value;
use std::borrow::Cow;

/// What a part shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Medium {
    Image,
    Audio,
    Video,
    File,
}

/// Where its bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Base64 of the standard alphabet.
    Data(String),
    Url(String),
    /// The id of an upload to the provider.
    Id(String),
}

/// A part that is no text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Media {
    pub medium: Medium,
    pub source: Source,
    /// In lower case; empty where nothing tells.
    pub mime: String,
    pub name: Option<String>,
    /// Where in the request it stands, for errors.
    pub place: String,
}

impl Media {
    /// Reads a part; `None` for one of another kind.
    ///
    /// # Errors
    /// A 400 for a part without anything to show.
    pub fn read(kind: &str, part: &Value, place: &str) -> Result<Option<Media>, Error> {
        let media = match kind {
            "image_url" | "input_image" if !part["image_url"].is_null() => {
                linked(Medium::Image, &part["image_url"], place)?
            }
            "video_url" => linked(Medium::Video, &part["video_url"], place)?,
            "audio_url" => linked(Medium::Audio, &part["audio_url"], place)?,
            "input_audio" => {
                let audio = &part["input_audio"];
                let Some(data) = text_of(audio, "data") else { return Err(bad(place, "needs 'input_audio.data'")) };
                let (mime, data) = data_url(data).unwrap_or(("", data));
                let mime = match audio["format"].as_str() {
                    Some(format) => format!("audio/{format}"),
                    None => mime.to_owned(),
                };
                Media::new(Medium::Audio, Source::Data(data.to_owned()), &mime, None, place)
            }
            "file" if part["file"].is_object() => file(&part["file"], place)?,
            "file" | "input_file" | "input_image" => file(part, place)?,
            _ => return Ok(None),
        };
        Ok(Some(media))
    }

    fn new(medium: Medium, source: Source, mime: &str, name: Option<&str>, place: &str) -> Media {
        let mime = mime.to_ascii_lowercase();
        let mime = if mime == "image/jpg" { "image/jpeg".to_owned() } else { mime };
        let medium = match mime.split_once('/').map_or("", |(kind, _)| kind) {
            "image" => Medium::Image,
            "audio" => Medium::Audio,
            "video" => Medium::Video,
            "application" | "text" => Medium::File,
            _ => medium,
        };
        Media { medium, source, mime, name: name.map(str::to_owned), place: place.to_owned() }
    }

    /// The bytes in base64 where they are in the request itself.
    ///
    /// # Errors
    /// A 400: nothing of a request is fetched here, so the caller has to send it along.
    pub fn data(&self, provider: &str) -> Result<&str, Error> {
        match &self.source {
            Source::Data(data) => Ok(data),
            Source::Url(_) => Err(bad(
                &self.place,
                &format!("is a link, and '{provider}' follows none: send it as a data URL in base64"),
            )),
            Source::Id(_) => {
                Err(bad(&self.place, &format!("names an upload, and '{provider}' has none: send it as 'file_data'")))
            }
        }
    }

    /// The kind of file by its name or link, where its type is not told.
    pub fn mime_or_guess(&self) -> Cow<'_, str> {
        if !self.mime.is_empty() {
            return Cow::Borrowed(&self.mime);
        }
        let named = match (&self.name, &self.source) {
            (Some(name), _) => name.as_str(),
            (None, Source::Url(url)) => url.split(['?', '#']).next().unwrap_or_default(),
            _ => "",
        };
        let ending = named.rsplit_once('.').map_or("", |(_, ending)| ending).to_ascii_lowercase();
        let known = ENDINGS.iter().find(|(known, _)| *known == ending).map(|(_, mime)| *mime);
        Cow::Borrowed(known.unwrap_or(match self.medium {
            Medium::Image => "image/jpeg",
            Medium::Audio => "audio/wav",
            Medium::Video => "video/mp4",
            Medium::File => "application/pdf",
        }))
    }
}

const ENDINGS: &[(&str, &str)] = &[
    ("png", "image/png"),
    ("jpg", "image/jpeg"),
    ("jpeg", "image/jpeg"),
    ("gif", "image/gif"),
    ("webp", "image/webp"),
    ("heic", "image/heic"),
    ("wav", "audio/wav"),
    ("mp3", "audio/mp3"),
    ("ogg", "audio/ogg"),
    ("flac", "audio/flac"),
    ("mp4", "video/mp4"),
    ("webm", "video/webm"),
    ("mov", "video/quicktime"),
    ("pdf", "application/pdf"),
    ("txt", "text/plain"),
    ("md", "text/markdown"),
    ("csv", "text/csv"),
    ("html", "text/html"),
    ("json", "application/json"),
];

/// `{"url": ...}`, or the bare text that some clients send.
fn linked(medium: Medium, value: &Value, place: &str) -> Result<Media, Error> {
    let url = value.as_str().or_else(|| value["url"].as_str()).filter(|url| !url.is_empty());
    let Some(url) = url else { return Err(bad(place, "needs a 'url'")) };
    let stated = value["format"].as_str().filter(|format| format.contains('/'));
    if let Some((mime, data)) = data_url(url) {
        return Ok(Media::new(medium, Source::Data(data.to_owned()), stated.unwrap_or(mime), None, place));
    }
    if is_link(url) || url.starts_with("gs://") || url.starts_with("s3://") {
        return Ok(Media::new(medium, Source::Url(url.to_owned()), stated.unwrap_or_default(), None, place));
    }
    Err(bad(place, "must be a http(s) URL, or a data URL in base64"))
}

fn file(file: &Value, place: &str) -> Result<Media, Error> {
    let name = text_of(file, "filename");
    let format = text_of(file, "format").unwrap_or_default();
    // Clients of LiteLLM put links into `file_id` too.
    let foreign = |id: &&str| is_link(id) || id.starts_with("gs://") || id.starts_with("s3://");
    let link = text_of(file, "file_url").or_else(|| text_of(file, "file_id").filter(foreign));
    if let Some(url) = link {
        return Ok(Media::new(Medium::File, Source::Url(url.to_owned()), format, name, place));
    }
    if let Some(data) = text_of(file, "file_data") {
        let (mime, data) = data_url(data).unwrap_or(("", data));
        let mime = if format.is_empty() { mime } else { format };
        return Ok(Media::new(Medium::File, Source::Data(data.to_owned()), mime, name, place));
    }
    if let Some(id) = text_of(file, "file_id") {
        return Ok(Media::new(Medium::File, Source::Id(id.to_owned()), format, name, place));
    }
    Err(bad(place, "needs 'file_data' or 'file_id'"))
}

pub fn is_link(url: &str) -> bool {
    ["http://", "https://"]
        .iter()
        .any(|scheme| url.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)))
}

/// The media type and base64 text of `data:TYPE;parameters;base64,TEXT` (RFC 2397).
pub fn data_url(url: &str) -> Option<(&str, &str)> {
    let rest = url.get(..5).filter(|scheme| scheme.eq_ignore_ascii_case("data:")).and(url.get(5..))?;
    let (head, data) = rest.split_once(',')?;
    let mut words = head.split(';');
    let media_type = words.next().unwrap_or_default().trim();
    words.any(|word| word.trim().eq_ignore_ascii_case("base64")).then_some((media_type, data))
}

/// Base64 of either alphabet, padded or not (RFC 4648); `None` for anything else.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    const ENGINE: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
    let mut plain: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    for byte in &mut plain {
        match byte {
            b'-' => *byte = b'+',
            b'_' => *byte = b'/',
            _ => (),
        }
    }
    ENGINE.decode(plain).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn base64_is_decoded() {
        assert_eq!(decode("aGVsbG8="), Some(b"hello".to_vec()));
        assert_eq!(decode("aGVs\nbG8"), Some(b"hello".to_vec()));
        assert_eq!(decode("_-8="), Some(vec![0xff, 0xef]));
        assert_eq!(decode("a*"), None);
    }

    #[test]
    fn data_urls_are_taken_apart() {
        assert_eq!(data_url("data:image/png;base64,AAAA"), Some(("image/png", "AAAA")));
        assert_eq!(data_url("DATA:text/plain;charset=utf-8;Base64,QQ=="), Some(("text/plain", "QQ==")));
        assert_eq!(data_url("data:text/plain,hello"), None);
    }

    #[test]
    fn parts_of_every_form_are_read() {
        let read = |part: Value| Media::read(part["type"].as_str().unwrap(), &part, "p").unwrap().unwrap();
        let bare = read(json!({"type": "image_url", "image_url": "https://x.example/a.PNG?x=1"}));
        assert_eq!((bare.medium, &*bare.mime_or_guess()), (Medium::Image, "image/png"));
        let pdf =
            read(json!({"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBE", "filename": "a"}}));
        assert_eq!((pdf.medium, pdf.source), (Medium::File, Source::Data("JVBE".into())));
        let sound = read(json!({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "mp3"}}));
        assert_eq!((sound.medium, sound.mime.as_str()), (Medium::Audio, "audio/mp3"));
        assert!(Media::read("image_url", &json!({"image_url": {"url": "file:///etc/passwd"}}), "p").is_err());
    }
}
