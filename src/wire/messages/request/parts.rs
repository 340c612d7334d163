//! Content blocks as content parts.

use crate::error::Error;
use crate::wire::json::Kind;
use crate::wire::place::{Members, Place, Val, inner};
use crate::wire::write::{Object, comma};
use std::borrow::Cow;

/// A part of a message.
pub enum Part<'a> {
    /// A text as it stands between quotes, and its `cache_control`.
    Text { raw: Cow<'a, str>, cache: Option<&'a str> },
    /// A part that is JSON already.
    Json(Vec<u8>),
}

/// What a message holds.
#[derive(Default)]
pub struct Parts<'a>(pub Vec<Part<'a>>);

impl<'a> Parts<'a> {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// An empty text says nothing, and some upstreams refuse it.
    fn push_text(&mut self, raw: impl Into<Cow<'a, str>>, cache: Option<&'a str>) {
        let raw = raw.into();
        if !raw.is_empty() {
            self.0.push(Part::Text { raw, cache });
        }
    }

    /// Writes a `content`: a string where it is one text, or several that `joint` may join (written as it stands between
    /// quotes); else an array of parts.
    pub fn write(&self, out: &mut Vec<u8>, joint: Option<&str>) {
        let plain = |part: &Part<'_>| matches!(part, Part::Text { cache: None, .. });
        if self.0.iter().all(plain) && (self.0.len() <= 1 || joint.is_some()) {
            out.push(b'"');
            for (i, part) in self.0.iter().enumerate() {
                if let (1.., Some(joint)) = (i, joint) {
                    out.extend_from_slice(joint.as_bytes());
                }
                if let Part::Text { raw, .. } = part {
                    out.extend_from_slice(raw.as_bytes());
                }
            }
            out.push(b'"');
            return;
        }
        let mut empty = true;
        out.push(b'[');
        for part in &self.0 {
            comma(out, &mut empty);
            match part {
                Part::Json(json) => out.extend_from_slice(json),
                Part::Text { raw, cache } => {
                    let mut part = Object::open(out);
                    part.text("type", "text");
                    let slot = part.slot("text");
                    slot.push(b'"');
                    slot.extend_from_slice(raw.as_bytes());
                    slot.push(b'"');
                    if let Some(cache) = cache {
                        part.json("cache_control", cache);
                    }
                    part.close();
                }
            }
        }
        out.push(b']');
    }

    /// The texts of a `system` or of a message that may hold nothing else.
    ///
    /// # Errors
    /// A 400 naming what is neither a string nor a list of text blocks.
    pub fn texts(value: Val<'a>, at: &Place<'_>) -> Result<Self, Error> {
        let mut parts = Parts::default();
        if value.kind == Kind::String {
            parts.push_text(inner(value.json), None);
            return Ok(parts);
        }
        for (i, item) in value.blocks(at)?.into_iter().enumerate() {
            let at = at.index(i);
            let block = item.members(&at)?;
            match &*block.text("type", &at)? {
                "text" => parts.text(&block, &at)?,
                other => return Err(unknown(other, &at)),
            }
        }
        Ok(parts)
    }

    /// Adds a block that may stand in a user's message or in the result of a tool; says whether it is of such a type.
    ///
    /// # Errors
    /// A 400 naming what is wrong in it.
    pub fn block(&mut self, kind: &str, block: &Members<'a>, at: &Place<'_>) -> Result<bool, Error> {
        match kind {
            "text" => self.text(block, at)?,
            "image" => self.image(block, at)?,
            "document" => self.document(block, at)?,
            "search_result" => self.search_result(block, at)?,
            // The tools that a tool search found; all tools were there from the start.
            "tool_reference" => {
                self.push_text(format!("Tool found: {}", inner(block.string("tool_name", at)?)), cache(block));
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Adds a text block.
    ///
    /// # Errors
    /// A 400 when it holds no text.
    pub fn text(&mut self, block: &Members<'a>, at: &Place<'_>) -> Result<(), Error> {
        self.push_text(inner(block.string("text", at)?), cache(block));
        Ok(())
    }

    /// An image, given or linked, is an `image_url` either way.
    fn image(&mut self, block: &Members<'a>, at: &Place<'_>) -> Result<(), Error> {
        let source_at = at.name("source");
        let source = block.need("source", at)?.members(&source_at)?;
        let url = match &*source.text("type", &source_at)? {
            "base64" => data_url(&source, &source_at)?,
            "url" => inner(source.string("url", &source_at)?).to_owned(),
            other => return Err(no_source("image", other, &source_at)),
        };
        let mut json = Vec::with_capacity(url.len() + 64);
        let mut part = Object::open(&mut json);
        part.text("type", "image_url");
        let mut image = Object::open(part.slot("image_url"));
        image.json("url", format!("\"{url}\""));
        image.close();
        close(part, block);
        self.0.push(Part::Json(json));
        Ok(())
    }

    /// A document is a file, or the text and images it is made of.
    fn document(&mut self, block: &Members<'a>, at: &Place<'_>) -> Result<(), Error> {
        let source_at = at.name("source");
        let source = block.need("source", at)?.members(&source_at)?;
        let title = block.get("title").map(|title| title.string(&at.name("title"))).transpose()?.map(inner);
        let context = block.get("context").map(|context| context.string(&at.name("context"))).transpose()?.map(inner);
        let kind = source.text("type", &source_at)?;
        if let Some(context) = context {
            self.push_text(context, None);
        }
        if let "base64" | "url" = &*kind {
            let mut json = Vec::new();
            let mut part = Object::open(&mut json);
            part.text("type", "file");
            let mut file = Object::open(part.slot("file"));
            if kind == "url" {
                // LiteLLM's form of a linked file; OpenAI's own format has none.
                file.json("file_id", source.string("url", &source_at)?);
            } else {
                file.json("filename", format!("\"{}\"", title.unwrap_or("document.pdf")));
                file.json("file_data", format!("\"{}\"", data_url(&source, &source_at)?));
            }
            file.close();
            close(part, block);
            self.0.push(Part::Json(json));
            return Ok(());
        }
        if let Some(title) = title {
            self.push_text(format!("Document: {title}"), None);
        }
        match &*kind {
            "text" => self.push_text(inner(source.string("data", &source_at)?), cache(block)),
            "content" => {
                let content = source.need("content", &source_at)?;
                self.content(content, cache(block), &source_at.name("content"))?;
            }
            other => return Err(no_source("document", other, &source_at)),
        }
        Ok(())
    }

    /// A hit of the caller's own search: told as text, with where it is from.
    fn search_result(&mut self, block: &Members<'a>, at: &Place<'_>) -> Result<(), Error> {
        let title = inner(block.string("title", at)?);
        let source = inner(block.string("source", at)?);
        self.push_text(format!("Search result: {title} ({source})"), None);
        self.content(block.need("content", at)?, cache(block), &at.name("content"))
    }

    /// A string, or text and image blocks: what documents and search results are made of.
    fn content(&mut self, content: Val<'a>, cache: Option<&'a str>, at: &Place<'_>) -> Result<(), Error> {
        if content.kind == Kind::String {
            self.push_text(inner(content.json), cache);
            return Ok(());
        }
        let items = content.blocks(at)?;
        let last = items.len().saturating_sub(1);
        for (i, item) in items.into_iter().enumerate() {
            let at = at.index(i);
            let block = item.members(&at)?;
            match &*block.text("type", &at)? {
                // The mark of the whole block stands behind its last text.
                "text" => {
                    let own = self::cache(&block).or(cache.filter(|_| i == last));
                    self.push_text(inner(block.string("text", &at)?), own);
                }
                "image" => self.image(&block, &at)?,
                other => return Err(unknown(other, &at)),
            }
        }
        Ok(())
    }
}

/// The `cache_control` of a block.
pub fn cache<'a>(block: &Members<'a>) -> Option<&'a str> {
    block.get("cache_control").map(|cache| cache.json)
}

/// The error about a block of a type that has no place here.
pub fn unknown(kind: &str, at: &Place<'_>) -> Error {
    let kind = crate::envelope::shorten(kind);
    at.name("type").wrong(format_args!("a block of type '{kind}' cannot be given to the upstream of this model"))
}

fn no_source(what: &str, kind: &str, at: &Place<'_>) -> Error {
    let kind = crate::envelope::shorten(kind);
    let hint = if kind == "file" { " (the file is at Anthropic; send its content instead)" } else { "" };
    at.wrong(format_args!("{what} sources of type '{kind}' cannot be given to the upstream of this model{hint}"))
}

fn close(mut part: Object<'_>, block: &Members<'_>) {
    if let Some(cache) = cache(block) {
        part.json("cache_control", cache);
    }
    part.close();
}

/// A `base64` source as a URL, as it stands between quotes.
fn data_url(source: &Members<'_>, at: &Place<'_>) -> Result<String, Error> {
    let media_type = inner(source.string("media_type", at)?);
    let data = inner(source.string("data", at)?);
    Ok(format!("data:{media_type};base64,{data}"))
}
