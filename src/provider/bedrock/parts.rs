//! The conversation, as Converse's messages: turns that alternate, results of calls first, each block with one member.

use super::model::Family;
use crate::error::Result;
use crate::provider::Facts;
use crate::provider::hub::{Media, Medium, Part, Role, Source, Thought, Turn, bad, hash};
use serde_json::{Value, json};
use std::borrow::Cow;

/// The whole conversation.
#[derive(Debug, Default)]
pub(super) struct Prompt {
    pub system: Vec<Value>,
    turns: Vec<Made>,
    documents: usize,
    /// There are calls or results, with which tools must be sent.
    pub uses_tools: bool,
    /// The last loop of calls has a turn without the thinking that made it.
    pub lost_its_thinking: bool,
}

#[derive(Debug)]
struct Made {
    role: &'static str,
    results: Vec<Value>,
    content: Vec<Value>,
}

impl Prompt {
    /// # Errors
    /// A 400 that names what cannot be sent.
    pub(super) fn read(turns: &[Turn], family: Family, facts: &Facts<'_>) -> Result<Prompt> {
        let mut prompt = Prompt::default();
        for turn in turns {
            let content = prompt.content(turn, family, facts)?;
            match turn.role {
                Role::System => prompt.system.extend(content),
                Role::User => {
                    prompt.lost_its_thinking = false;
                    prompt.push("user", Vec::new(), content);
                }
                Role::Assistant => {
                    let blocks = prompt.assistant(turn, content, family);
                    prompt.push("assistant", Vec::new(), blocks);
                }
                Role::Tool => {
                    let result = result(turn, content);
                    prompt.uses_tools = true;
                    prompt.push("user", vec![result], Vec::new());
                }
            }
        }
        if prompt.turns.first().is_none_or(|turn| turn.role != "user") {
            // Every conversation begins with the user, and no text may be blank.
            prompt.turns.insert(0, Made { role: "user", results: Vec::new(), content: vec![json!({"text": "."})] });
        }
        Ok(prompt)
    }

    pub(super) fn messages(&mut self) -> Value {
        let turns = std::mem::take(&mut self.turns).into_iter();
        turns
            .map(|Made { role, mut results, content }| {
                results.extend(content);
                json!({"role": role, "content": results})
            })
            .collect()
    }

    fn push(&mut self, role: &'static str, results: Vec<Value>, content: Vec<Value>) {
        if results.is_empty() && content.is_empty() {
            return;
        }
        match self.turns.last_mut() {
            Some(turn) if turn.role == role => {
                turn.results.extend(results);
                turn.content.extend(content);
            }
            _ => self.turns.push(Made { role, results, content }),
        }
    }

    fn assistant(&mut self, turn: &Turn, content: Vec<Value>, family: Family) -> Vec<Value> {
        let mut blocks: Vec<Value> = match family {
            Family::Claude(_) => turn.thoughts.iter().map(thought).collect(),
            // The others refuse what they did not think themselves.
            _ => Vec::new(),
        };
        if !turn.calls.is_empty() {
            self.uses_tools = true;
            self.lost_its_thinking |= blocks.is_empty();
        }
        blocks.extend(content);
        blocks.extend(turn.calls.iter().map(
            |call| json!({"toolUse": {"toolUseId": call_id(&call.id), "name": call.name, "input": call.input()}}),
        ));
        blocks
    }

    fn content(&mut self, turn: &Turn, family: Family, facts: &Facts<'_>) -> Result<Vec<Value>> {
        let mut blocks: Vec<Value> = Vec::new();
        for part in &turn.parts {
            match part {
                Part::Text(text) => blocks.push(json!({"text": text})),
                Part::Media(media) if turn.role == Role::System => {
                    return Err(bad(&media.place, "stands in a system message, which takes text only"));
                }
                Part::Media(media) => blocks.push(self.media(media, facts)?),
                // A mark has to stand behind something.
                Part::Mark(one_hour) if family.caches() && !blocks.is_empty() => blocks.push(cache_point(*one_hour)),
                Part::Mark(_) => (),
            }
        }
        Ok(blocks)
    }

    fn media(&mut self, media: &Media, facts: &Facts<'_>) -> Result<Value> {
        let mime = media.mime_or_guess();
        let source = match &media.source {
            Source::Url(url) if url.starts_with("s3://") => json!({"s3Location": {"uri": url}}),
            _ => json!({"bytes": media.data(facts.provider)?}),
        };
        let kind = mime.split_once('/').map_or("", |(_, kind)| kind);
        let refuse = |what: &str| Err(bad(&media.place, &format!("cannot be sent: Bedrock takes {what}")));
        Ok(match media.medium {
            Medium::Image => match kind {
                "png" | "jpeg" | "gif" | "webp" => json!({"image": {"format": kind, "source": source}}),
                _ => return refuse("PNG, JPEG, GIF and WebP images"),
            },
            Medium::Video => match kind {
                "mp4" | "webm" | "mpeg" => json!({"video": {"format": kind, "source": source}}),
                "quicktime" => json!({"video": {"format": "mov", "source": source}}),
                _ => return refuse("MP4, WebM, MOV and MPEG videos"),
            },
            Medium::Audio => match kind {
                "wav" | "mp3" | "flac" | "ogg" => json!({"audio": {"format": kind, "source": source}}),
                "mpeg" => json!({"audio": {"format": "mp3", "source": source}}),
                _ => return refuse("WAV, MP3, FLAC and Ogg sounds"),
            },
            Medium::File => {
                let Some(format) = document(&mime) else {
                    return refuse("PDF, CSV, Word, Excel, HTML, Markdown and plain text documents");
                };
                self.documents += 1;
                let name = self.name(media.name.as_deref());
                json!({"document": {"format": format, "name": name, "source": source}})
            }
        })
    }

    /// A neutral name that no other document of the request has, in the characters that are taken.
    fn name(&self, given: Option<&str>) -> String {
        let given = given.map_or("", |name| name.rsplit_once('.').map_or(name, |(stem, _)| stem));
        let plain: String = given
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '-' | '(' | ')' | '[' | ']') { c } else { ' ' })
            .take(150)
            .collect();
        let words: Vec<&str> = plain.split_whitespace().collect();
        match words.is_empty() {
            true => format!("document {}", self.documents),
            false => format!("{} {}", words.join(" "), self.documents),
        }
    }
}

/// The format of a document by its media type.
fn document(mime: &str) -> Option<&'static str> {
    Some(match mime {
        "application/pdf" => "pdf",
        "text/csv" => "csv",
        "application/msword" => "doc",
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document" => "docx",
        "application/vnd.ms-excel" => "xls",
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet" => "xlsx",
        "text/html" => "html",
        "text/markdown" => "md",
        "application/json" => "txt",
        text if text.starts_with("text/") => "txt",
        _ => return None,
    })
}

fn thought(thought: &Thought) -> Value {
    match thought {
        Thought::Plain { text, signature } => {
            json!({"reasoningContent": {"reasoningText": {"text": text, "signature": signature}}})
        }
        Thought::Redacted(data) => json!({"reasoningContent": {"redactedContent": data}}),
    }
}

fn result(turn: &Turn, mut content: Vec<Value>) -> Value {
    let id = turn.answers.as_ref().map_or("", |(id, _)| id);
    // What is cached stands in the turn, not in a result.
    content.retain(|block| block["cachePoint"].is_null());
    if content.is_empty() {
        content.push(json!({"text": "(no output)"}));
    }
    let mut result = json!({"toolUseId": call_id(id), "content": content});
    if turn.is_error {
        result["status"] = "error".into();
    }
    json!({"toolResult": result})
}

pub(super) fn cache_point(one_hour: bool) -> Value {
    match one_hour {
        true => json!({"cachePoint": {"type": "default", "ttl": "1h"}}),
        false => json!({"cachePoint": {"type": "default"}}),
    }
}

/// `^[a-zA-Z0-9_.:-]{1,64}$`: the same for the call and its result, in every request.
fn call_id(id: &str) -> Cow<'_, str> {
    let fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b':' | b'-');
    match !id.is_empty() && id.len() <= 64 && id.bytes().all(fine) {
        true => Cow::Borrowed(id),
        false => Cow::Owned(format!("call_{:016x}", hash(id))),
    }
}
