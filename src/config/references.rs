//! Which variables a configuration refers to, and which of them have a value: for `gateway doctor`.

use super::{Sources, look_up, written};
use crate::secret::{Secrets, Written};
use secrecy::SecretString;
use serde_json::Value;

/// A text of the configuration that names a variable.
#[derive(Debug, PartialEq, Eq)]
pub struct Reference {
    /// Where it stands: `models[0].api_key`.
    pub place: String,
    /// The variable.
    pub name: String,
    /// Whether it has a value.
    pub found: bool,
}

/// What a configuration says of itself, whether or not it can be served.
#[derive(Debug)]
pub struct Declared {
    pub references: Vec<Reference>,
    /// Where the database is.
    pub database: Option<SecretString>,
}

/// Reads the configuration and the secrets, and looks every reference up.
///
/// # Errors
/// A text for the operator: the file that cannot be read, or is broken.
pub fn declared(sources: &Sources) -> Result<Declared, String> {
    let Some(path) = &sources.config else {
        return Ok(Declared { references: Vec::new(), database: None });
    };
    let file = written::read(path)?.file;
    let secrets = Secrets::load(sources.env_file.as_deref())?.with_overlay(&file.environment);
    let database = match &file.database_url {
        Some(written) => look_up(written, &secrets),
        None => secrets.get("DATABASE_URL"),
    };
    let tree = serde_json::to_value(&file).map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(Declared { references: references(&tree, &secrets), database })
}

/// In the order of the file's fields. A list of work instead of recursion: the tree may be deep.
fn references(tree: &Value, secrets: &Secrets) -> Vec<Reference> {
    let mut found = Vec::new();
    let mut open = vec![(String::new(), tree)];
    while let Some((place, value)) = open.pop() {
        match value {
            Value::String(text) => {
                let written = Written(text.clone());
                if let Some(name) = written.reference() {
                    found.push(Reference { place, name: name.to_owned(), found: secrets.get(name).is_some() });
                }
            }
            // Backwards, since the last one in is the first one out.
            Value::Array(items) => {
                open.extend(items.iter().enumerate().rev().map(|(at, item)| (format!("{place}[{at}]"), item)));
            }
            Value::Object(members) => open.extend(members.iter().rev().map(|(name, member)| {
                let dot = if place.is_empty() { "" } else { "." };
                (format!("{place}{dot}{name}"), member)
            })),
            _ => (),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reference_is_found_with_its_place() {
        let tree = serde_json::json!({
            "master_key": "env:A",
            "models": [{"name": "x", "api_key": ["os.environ/B", "literal"], "extra_headers": {"x-key": "env:C"}}],
        });
        let found = references(&tree, &Secrets::none());
        let shown: Vec<_> = found.iter().map(|r| (r.place.as_str(), r.name.as_str(), r.found)).collect();
        assert_eq!(
            shown,
            [
                ("master_key", "A", false),
                ("models[0].api_key[0]", "B", false),
                ("models[0].extra_headers.x-key", "C", false)
            ]
        );
    }
}
