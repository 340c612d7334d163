//! Reading a configuration file, native or LiteLLM's, and saying well what is wrong with it.

use super::file::File;
use super::litellm;
use crate::pattern;
use std::path::Path;

/// A file as it was written.
pub struct Read {
    pub file: File,
    pub warnings: Vec<String>,
    pub is_litellm: bool,
}

/// Larger than any configuration; protects against a path that leads elsewhere.
const MAX_FILE: u64 = 16 << 20;

/// Reads `path`, by its ending or by what it looks like.
pub fn read(path: &Path) -> Result<Read, String> {
    let name = path.display().to_string();
    let about = std::fs::metadata(path).map_err(|e| format!("cannot read the configuration {name}: {e}"))?;
    if about.is_dir() || about.len() > MAX_FILE {
        return Err(format!("cannot read the configuration {name}: it is a directory, or larger than 16 MiB"));
    }
    let ending = path.extension().and_then(|e| e.to_str()).unwrap_or("").to_ascii_lowercase();
    let native = match ending.as_str() {
        "toml" => true,
        "yaml" | "yml" | "json" => false,
        _ => {
            let text =
                std::fs::read_to_string(path).map_err(|e| format!("cannot read the configuration {name}: {e}"))?;
            !text.lines().any(|line| line.starts_with("model_list:") || line.ends_with("_settings:"))
        }
    };
    if native {
        let text = std::fs::read_to_string(path).map_err(|e| format!("cannot read the configuration {name}: {e}"))?;
        return Ok(Read { file: parse_toml(&text, &name)?, warnings: Vec::new(), is_litellm: false });
    }
    let converted = litellm::read(path)?;
    Ok(Read {
        file: converted.file,
        warnings: converted.notes.iter().map(ToString::to_string).collect(),
        is_litellm: true,
    })
}

/// Reads `gateway.toml`.
pub fn parse_toml(text: &str, name: &str) -> Result<File, String> {
    toml::from_str(text).map_err(|e| explain(&e, text, name))
}

/// Line, caret, what is wrong, and the nearest name for a typo. Values on the line are masked: one may be a key.
fn explain(error: &toml::de::Error, text: &str, name: &str) -> String {
    let message = without_values(error.message());
    let hint = nearest_field(error.message()).map_or(String::new(), |near| format!("; did you mean `{near}`?"));
    let Some(span) = error.span() else {
        return format!("{name}: {message}{hint}");
    };
    let start = span.start.min(text.len());
    let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
    let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
    let number = text[..start].matches('\n').count() + 1;
    let line = mask(&text[line_start..line_end]);
    let column = text[line_start..start].chars().count();
    let width = text[start..span.end.clamp(start, line_end)].chars().count().max(1);
    let gutter = " ".repeat(number.to_string().len());
    format!(
        "{name}:{number}:{}: {message}{hint}\n{gutter} |\n{number} | {line}\n{gutter} | {}{}",
        column + 1,
        " ".repeat(column),
        "^".repeat(width)
    )
}

/// The known field that is nearest to the unknown one, out of serde's own words.
fn nearest_field(message: &str) -> Option<&str> {
    let (_, rest) = message.split_once("unknown field `").or_else(|| message.split_once("unknown variant `"))?;
    let (typo, rest) = rest.split_once('`')?;
    pattern::nearest(typo, rest.split('`').skip(1).step_by(2))
}

/// serde quotes the value of a wrong type.
fn without_values(message: &str) -> String {
    match message.split_once("string \"") {
        Some((before, rest)) => {
            let after = rest.rsplit_once('"').map_or("", |(_, after)| after);
            format!("{before}a string{after}")
        }
        None => message.to_owned(),
    }
}

/// The line with every quoted value but references written as stars, at the same width.
fn mask(line: &str) -> String {
    let Some((key, value)) = line.split_once('=') else { return line.to_owned() };
    let mut out = format!("{key}=");
    let mut quote = None;
    let mut reference = false;
    for (at, c) in value.char_indices() {
        match quote {
            None if c == '"' || c == '\'' => {
                quote = Some(c);
                reference = value[at + 1..].starts_with("env:") || value[at + 1..].starts_with("os.environ/");
                out.push(c);
            }
            Some(q) if c == q => {
                quote = None;
                out.push(c);
            }
            Some(_) if !reference => out.push('*'),
            _ => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typo_is_shown_at_its_place_with_the_nearest_name() {
        let error = parse_toml("[server]\nworkers = 2\n[[models]]\nname = \"a\"\nmodle = \"groq/x\"\n", "gateway.toml")
            .unwrap_err();
        assert!(error.starts_with("gateway.toml:5:1: unknown field `modle`"), "{error}");
        assert!(error.contains("did you mean `model`?"), "{error}");
        assert!(error.ends_with("5 | modle = \"******\"\n  | ^^^^^"), "{error}");
    }

    #[test]
    fn a_secret_on_the_line_is_masked() {
        let error = parse_toml("master_kee = \"sk-secret\"\n", "f").unwrap_err();
        assert!(error.contains("`master_key`") && !error.contains("sk-secret"), "{error}");
        let error = parse_toml("[server]\nworkers = \"sk-secret\"\n", "f").unwrap_err();
        assert!(error.contains("a string") && !error.contains("sk-secret"), "{error}");
    }
}
