//! Secrets: where they are looked up, and types that never show them.
//!
//! Values come from a runtime env file, a systemd credential named `env`, or the process environment, in this order.
//! They are never put *into* the environment, and nothing here implements `Display`.

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// A text of the configuration that may be a secret or name one (`env:NAME`, `os.environ/NAME`).
///
/// `Debug` shows a reference, never a literal value.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(transparent)]
pub struct Written(pub String);

impl Written {
    /// The name of the variable that this text refers to, if it is a reference.
    pub fn reference(&self) -> Option<&str> {
        let name = self.0.strip_prefix("env:").or_else(|| self.0.strip_prefix("os.environ/"))?;
        (!name.is_empty()).then_some(name)
    }
}

impl fmt::Debug for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reference() {
            Some(name) => write!(f, "env:{name}"),
            None => f.write_str("[redacted]"),
        }
    }
}

impl From<&str> for Written {
    fn from(text: &str) -> Self {
        Written(text.to_owned())
    }
}

/// The layers in which a named secret is looked up.
#[derive(Clone, Default)]
pub struct Secrets {
    layers: Vec<HashMap<String, SecretString>>,
    process: bool,
}

impl Secrets {
    /// No secret at all; every reference is missing.
    pub fn none() -> Self {
        Secrets::default()
    }

    /// Reads the env file (if one is named), the credential `env` of this service (if systemd passed one), and looks
    /// into the process environment last.
    ///
    /// # Errors
    /// A text for the operator: the file that cannot be read, or the line that is not `NAME=value`.
    pub fn load(env_file: Option<&Path>) -> Result<Self, String> {
        let mut layers = Vec::new();
        if let Some(path) = env_file {
            layers.push(read_env_file(path)?);
        }
        if let Some(directory) = std::env::var_os("CREDENTIALS_DIRECTORY") {
            let path = PathBuf::from(directory).join("env");
            if path.exists() {
                layers.push(read_env_file(&path)?);
            }
        }
        Ok(Secrets { layers, process: true })
    }

    /// The same layers with one more in front, in which values may refer to the layers behind it.
    pub fn with_overlay<'a>(&self, values: impl IntoIterator<Item = (&'a String, &'a Written)>) -> Self {
        let front: HashMap<_, _> = values
            .into_iter()
            .filter_map(|(name, value)| {
                let secret = match value.reference() {
                    Some(other) => self.get(other)?,
                    None => SecretString::from(value.0.as_str()),
                };
                Some((name.clone(), secret))
            })
            .collect();
        let mut layers = vec![front];
        layers.extend(self.layers.iter().cloned());
        Secrets { layers, process: self.process }
    }

    /// The secret of that name; an empty value counts as absent.
    pub fn get(&self, name: &str) -> Option<SecretString> {
        self.layers
            .iter()
            .find_map(|layer| layer.get(name).cloned())
            .or_else(|| self.process.then(|| std::env::var(name).ok()).flatten().map(SecretString::from))
            .filter(|secret| !secret.expose_secret().is_empty())
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secrets({} layers)", self.layers.len())
    }
}

/// Larger than any set of secrets.
const MAX_ENV_FILE: u64 = 4 << 20;

fn read_env_file(path: &Path) -> Result<HashMap<String, SecretString>, String> {
    let name = path.display();
    let fail = |e: &dyn fmt::Display| format!("cannot read the env file {name}: {e}");
    let size = std::fs::metadata(path).map_err(|e| fail(&e))?.len();
    if size > MAX_ENV_FILE {
        return Err(fail(&"it is larger than 4 MiB"));
    }
    let text = std::fs::read_to_string(path).map_err(|e| fail(&e))?;
    let text = SecretString::from(text);
    parse_env(text.expose_secret()).map_err(|line| format!("{name}:{line}: not of the form NAME=value"))
}

/// The format of systemd's `EnvironmentFile=`: `NAME=value`, comments, and quoted values that may hold line breaks.
/// Nothing is substituted: a `$` or a backslash in an unquoted secret is itself. The error is the number of a line.
fn parse_env(text: &str) -> Result<HashMap<String, SecretString>, usize> {
    let mut values = HashMap::new();
    let mut rest = text;
    while !rest.is_empty() {
        let number = text[..text.len() - rest.len()].matches('\n').count() + 1;
        let (line, after) = rest.split_once('\n').unwrap_or((rest, ""));
        let entry = line.trim();
        if entry.is_empty() || entry.starts_with(['#', ';']) {
            rest = after;
            continue;
        }
        let (name, _) = entry.strip_prefix("export ").unwrap_or(entry).split_once('=').ok_or(number)?;
        let name = name.trim();
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return Err(number);
        }
        let value_at = rest.find('=').map_or(rest.len(), |at| at + 1);
        let value = rest[value_at..].trim_start_matches([' ', '\t']);
        let (value, behind) = match value.chars().next() {
            Some(quote @ ('"' | '\'')) => quoted(&value[1..], quote).ok_or(number)?,
            _ => (value.split('\n').next().unwrap_or("").trim().to_owned(), after),
        };
        values.insert(name.to_owned(), SecretString::from(value));
        rest = behind;
    }
    Ok(values)
}

/// A value up to its closing quote, and the text from the next line on.
fn quoted(text: &str, quote: char) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            _ if c == quote => {
                let (tail, next) = text[at + 1..].split_once('\n').unwrap_or((&text[at + 1..], ""));
                return tail.trim().is_empty().then_some((value, next));
            }
            '\\' if quote == '"' => match chars.next() {
                Some((_, escaped @ ('"' | '\\' | '$' | '`'))) => value.push(escaped),
                Some((_, '\n')) => (),
                Some((_, other)) => value.extend(['\\', other]),
                None => return None,
            },
            _ => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_env_file_is_read_as_systemd_reads_it() {
        let text =
            "# comment\n; other\n\nA=plain $HOME \\x # kept\nexport B = \"two\\\" \\$x\nlines\"\nC='a\\b'\nD=\nE=x=y";
        let values = parse_env(text).unwrap();
        let value = |name: &str| values[name].expose_secret().to_owned();
        assert_eq!(value("A"), "plain $HOME \\x # kept");
        assert_eq!(value("B"), "two\" $x\nlines");
        assert_eq!(value("C"), "a\\b");
        assert_eq!(value("D"), "");
        assert_eq!(value("E"), "x=y");
    }

    #[test]
    fn a_broken_env_file_names_the_line_and_nothing_else() {
        for (text, line) in [("A=1\nsk-secret\n", 2), ("A=\"open\nB=2\n", 1), ("A B=1", 1), ("A='x' y", 1)] {
            assert_eq!(parse_env(text).unwrap_err(), line, "{text}");
        }
    }

    #[test]
    fn layers_in_front_win_and_may_refer_to_those_behind() {
        let behind = Secrets { layers: vec![parse_env("A=1\nB=2").unwrap()], process: false };
        let overlay = [("A".to_owned(), Written("env:B".into())), ("C".to_owned(), Written("3".into()))];
        let secrets = behind.with_overlay(overlay.iter().map(|(k, v)| (k, v)));
        let value = |name: &str| secrets.get(name).map(|s| s.expose_secret().to_owned());
        assert_eq!(
            (value("A"), value("B"), value("C"), value("D")),
            (Some("2".into()), Some("2".into()), Some("3".into()), None)
        );
    }
}
