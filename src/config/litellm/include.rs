//! `include`: other files whose top-level keys join those of the file that names them.
//!
//! As in LiteLLM a list is added to the list that is there, and anything else takes the place of what is there, the
//! later file winning. Unlike LiteLLM, each file's own `include` is looked up beside that file.

use super::yaml;
use super::{Note, type_name};
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

/// Files may include files this many levels down.
const DEPTH: usize = 8;

/// Reads a file and everything it includes into one tree, which then has no `include` of its own.
///
/// # Errors
/// The file that cannot be read or parsed, that includes itself, or that is more than eight levels down.
pub fn load(path: &Path, notes: &mut Vec<Note>) -> Result<Map<String, Value>, String> {
    file(path, &mut Vec::new(), notes)
}

fn file(path: &Path, open: &mut Vec<PathBuf>, notes: &mut Vec<Note>) -> Result<Map<String, Value>, String> {
    let name = path.display();
    let real = path.canonicalize().map_err(|e| format!("{name}: {e}"))?;
    if open.contains(&real) {
        return Err(format!("{name}: includes itself, directly or through the files it includes"));
    }
    if open.len() > DEPTH {
        return Err(format!("{name}: included more than {DEPTH} levels down"));
    }
    let text = crate::config::written::text(path).map_err(|e| format!("{name}: {e}"))?;
    let mut tree = root(&text, &name.to_string(), notes)?;
    open.push(real);
    let beside = path.parent().unwrap_or(Path::new(""));
    for included in names(tree.remove("include"), &name.to_string())? {
        let more = file(&beside.join(included), open, notes)?;
        merge(&mut tree, more, notes);
    }
    open.pop();
    Ok(tree)
}

/// The top-level map of a text; an empty one where the text is empty.
pub fn root(text: &str, name: &str, notes: &mut Vec<Note>) -> Result<Map<String, Value>, String> {
    let document = yaml::parse(text).map_err(|e| format!("{name}:{e}"))?;
    notes
        .extend(document.repeated.into_iter().map(|path| Note::new(path, "given more than once; the last one counts")));
    match document.tree {
        Value::Null => Ok(Map::new()),
        Value::Object(map) => Ok(map),
        other => {
            Err(format!("{name}: found {}, expected a map of sections (`model_list:` and others)", type_name(&other)))
        }
    }
}

fn names(include: Option<Value>, name: &str) -> Result<Vec<String>, String> {
    let wrong = |found: &Value| format!("{name}: include: found {}, expected a list of file names", type_name(found));
    match include.unwrap_or(Value::Null) {
        Value::Null => Ok(Vec::new()),
        Value::String(one) => Ok(vec![one]),
        Value::Array(list) => {
            list.into_iter().map(|v| if let Value::String(s) = v { Ok(s) } else { Err(wrong(&v)) }).collect()
        }
        other => Err(wrong(&other)),
    }
}

fn merge(tree: &mut Map<String, Value>, more: Map<String, Value>, notes: &mut Vec<Note>) {
    for (key, value) in more {
        match (tree.get_mut(&key), value) {
            (_, Value::Null) => {}
            (Some(Value::Array(list)), Value::Array(added)) => list.extend(added),
            (before, value) => {
                if before.is_some_and(|v| !v.is_null() && *v != value) {
                    let reason = "the section of an included file takes the place of the earlier one, as in LiteLLM";
                    notes.push(Note::new(super::shown(&key), reason));
                }
                tree.insert(key, value);
            }
        }
    }
}
