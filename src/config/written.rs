//! Reading a configuration file, native or LiteLLM's, and saying well what is wrong with it.

use super::file::File;
use super::litellm;
use crate::pattern;
use std::io::Read as _;
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
            let text = text(path).map_err(|e| format!("cannot read the configuration {name}: {e}"))?;
            !text.lines().any(|line| line.starts_with("model_list:") || line.ends_with("_settings:"))
        }
    };
    if native {
        let text = text(path).map_err(|e| format!("cannot read the configuration {name}: {e}"))?;
        return Ok(Read { file: parse_toml(&text, &name)?, warnings: Vec::new(), is_litellm: false });
    }
    let converted = litellm::read(path)?;
    Ok(Read {
        file: converted.file,
        warnings: converted.notes.iter().map(ToString::to_string).collect(),
        is_litellm: true,
    })
}

/// The text of a file, which may be a device or a pipe and say nothing of its size.
pub fn text(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?.take(MAX_FILE + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_FILE {
        return Err(std::io::Error::other("it is larger than 16 MiB"));
    }
    Ok(text)
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

/// serde quotes the value of a wrong type. Where a text is expected a number may be a key, too.
fn without_values(message: &str) -> String {
    if let Some((before, rest)) = message.split_once("string \"") {
        let after = rest.rsplit_once('"').map_or("", |(_, after)| after);
        return format!("{before}a string{after}");
    }
    match (message.split_once(" `"), message.split_once("`, expected a string")) {
        (Some((before, _)), Some((_, after))) => format!("{before}, expected a string{after}"),
        _ => message.to_owned(),
    }
}

/// The line at the same width with stars in the place of whatever may be a value. What stays: the name before the
/// first `=` (or `:`, for those who write YAML), the head of a table, references, and punctuation.
fn mask(line: &str) -> String {
    let is_name = |text: &str| text.chars().all(|c| c.is_alphanumeric() || " \t_-.\"'".contains(c));
    let is_head =
        |text: &str| text.starts_with('[') && text.chars().all(|c| c.is_alphanumeric() || "[]_-.".contains(c));
    // A text over several lines may hold anything.
    let one_line = !line.contains("\"\"\"") && !line.contains("'''");
    if is_head(line.trim()) {
        return line.to_owned();
    }
    let at = line.find('=').or_else(|| line.find(':')).filter(|at| one_line && is_name(&line[..*at]));
    let (shown, value) = line.split_at(at.map_or(0, |at| at + 1));
    let mut out = shown.to_owned();
    let mut rest = value;
    while let Some(c) = rest.chars().next() {
        let whole = if matches!(c, '"' | '\'') { reference(rest, c) } else { None }.unwrap_or(c.len_utf8());
        match whole > c.len_utf8() || c.is_whitespace() || "\"'[]{},=#".contains(c) {
            true => out.push_str(&rest[..whole]),
            false => out.push('*'),
        }
        rest = &rest[whole..];
    }
    out
}

/// The length of a quoted reference at the start of the text.
fn reference(text: &str, quote: char) -> Option<usize> {
    let (inner, _) = text[1..].split_once(quote)?;
    let name = inner.strip_prefix("env:").or_else(|| inner.strip_prefix("os.environ/"))?;
    name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_').then_some(inner.len() + 2)
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

    #[test]
    fn a_value_is_masked_however_it_is_written() {
        for text in [
            "master_key = sk-secret\n",
            "master_key: sk-secret\n",
            "master_key = \"sk-\\\"secret\" x\n",
            "master_key = \"\"\"\nsk-secret\"\"\"x\n",
            "master_key = 12345678\n",
            "[[models]]\napi_key = 12345678\n",
            "[[models]]\napi_key = [\n \"sk-secret\" \"sk-secret\",\n]\n",
            "[[models]]\nextra_headers = { A = sk-secret }\n",
        ] {
            let error = parse_toml(text, "f").unwrap_err();
            assert!(!error.contains("secret") && !error.contains("1234") && error.contains('^'), "{text}{error}");
        }
    }

    #[test]
    fn what_is_no_value_stays_on_the_line() {
        assert_eq!(mask("[[models]]"), "[[models]]");
        assert_eq!(mask("a.b = \"env:KEY\" # é"), "a.b = \"env:KEY\" # *");
        assert_eq!(mask("x = [\"os.environ/K\", 'k-1']"), "x = [\"os.environ/K\", '***']");
        assert_eq!(mask("master_key: sk-x"), "master_key: ****");
    }
}
