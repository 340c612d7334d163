//! A JSON value of a request, and the way to it: for errors that name the member at fault.

use super::MAX_DEPTH;
use crate::error::Error;
use crate::wire::json::{self, Kind};
use std::borrow::Cow;
use std::fmt;

/// The way from the outermost object to a value, kept as links between stack frames: nothing is allocated unless an
/// error is told.
#[derive(Clone, Copy)]
pub struct Place<'p> {
    parent: Option<&'p Place<'p>>,
    step: Step<'p>,
}

#[derive(Clone, Copy)]
enum Step<'p> {
    Root,
    Name(&'p str),
    Index(usize),
}

impl<'p> Place<'p> {
    pub const ROOT: Place<'static> = Place { parent: None, step: Step::Root };

    pub fn name(&'p self, name: &'p str) -> Place<'p> {
        Place { parent: Some(self), step: Step::Name(name) }
    }

    pub fn index(&'p self, index: usize) -> Place<'p> {
        Place { parent: Some(self), step: Step::Index(index) }
    }

    /// A 400 about what stands here; the message begins with the way to it, as Anthropic's own do.
    pub fn wrong(&self, what: impl fmt::Display) -> Error {
        if let Step::Root = self.step {
            return Error::invalid(format!("The request body {what}."));
        }
        Error::invalid(format!("{self}: {what}.")).at_param(self.to_string())
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent.filter(|p| !matches!(p.step, Step::Root)) {
            write!(f, "{parent}.")?;
        }
        match self.step {
            Step::Root => Ok(()),
            Step::Name(name) => f.write_str(name),
            Step::Index(index) => write!(f, "{index}"),
        }
    }
}

/// A value as it was written.
#[derive(Clone, Copy)]
pub struct Val<'a> {
    pub kind: Kind,
    pub json: &'a str,
}

/// The members of an object, `null` ones left out: in a request the two mean the same.
pub struct Members<'a>(pub Vec<(Cow<'a, str>, Val<'a>)>);

impl<'a> Members<'a> {
    /// The last member of that name, which is the one that most readers of JSON keep.
    pub fn get(&self, name: &str) -> Option<Val<'a>> {
        self.0.iter().rev().find(|(n, _)| n == name).map(|(_, value)| *value)
    }

    /// The member of that name.
    ///
    /// # Errors
    /// A 400 when it is missing.
    pub fn need(&self, name: &str, at: &Place<'_>) -> Result<Val<'a>, Error> {
        self.get(name).ok_or_else(|| at.name(name).wrong("this member is required"))
    }

    /// The decoded text of the member of that name, which must be there.
    ///
    /// # Errors
    /// A 400 when it is missing or no string.
    pub fn text(&self, name: &str, at: &Place<'_>) -> Result<Cow<'a, str>, Error> {
        self.need(name, at)?.text(&at.name(name))
    }

    /// The JSON of the string of that name, with its quotes.
    ///
    /// # Errors
    /// A 400 when it is missing or no string.
    pub fn string(&self, name: &str, at: &Place<'_>) -> Result<&'a str, Error> {
        self.need(name, at)?.string(&at.name(name))
    }
}

impl<'a> Val<'a> {
    /// The outermost object of a text.
    ///
    /// # Errors
    /// Where it is not one, the fault.
    pub fn root(bytes: &'a [u8]) -> Result<Members<'a>, json::Fault> {
        let text =
            std::str::from_utf8(bytes).map_err(|e| json::Fault { at: e.valid_up_to(), what: json::What::Encoding })?;
        let mut members = Vec::new();
        json::object(bytes, MAX_DEPTH, |m| {
            if m.value.kind != Kind::Null
                && let Some(name) = json::unescape(text[m.key].as_bytes())
            {
                members.push((name, Val { kind: m.value.kind, json: &text[m.value.span] }));
            }
        })?;
        Ok(Members(members))
    }

    /// # Errors
    /// A 400 when this is no object.
    pub fn members(self, at: &Place<'_>) -> Result<Members<'a>, Error> {
        if self.kind != Kind::Object {
            return Err(at.wrong(format_args!("an object is expected here, not {}", self.kind.with_article())));
        }
        Val::root(self.json.as_bytes()).map_err(|fault| at.wrong(fault.what))
    }

    /// # Errors
    /// A 400 when this is no array.
    pub fn items(self, at: &Place<'_>) -> Result<Vec<Val<'a>>, Error> {
        if self.kind != Kind::Array {
            return Err(at.wrong(format_args!("an array is expected here, not {}", self.kind.with_article())));
        }
        let mut items = Vec::new();
        json::array(self.json.as_bytes(), MAX_DEPTH, |v| items.push(Val { kind: v.kind, json: &self.json[v.span] }))
            .map_err(|fault| at.wrong(fault.what))?;
        Ok(items)
    }

    /// The elements of a `content` that is no string.
    ///
    /// # Errors
    /// A 400 when this is neither.
    pub fn blocks(self, at: &Place<'_>) -> Result<Vec<Val<'a>>, Error> {
        match self.kind {
            Kind::Array => self.items(at),
            other => {
                let other = other.with_article();
                Err(at.wrong(format_args!("a string or an array of blocks is expected here, not {other}")))
            }
        }
    }

    /// The string as it was written, with its quotes.
    ///
    /// # Errors
    /// A 400 when this is no string.
    pub fn string(self, at: &Place<'_>) -> Result<&'a str, Error> {
        match self.kind {
            Kind::String => Ok(self.json),
            other => Err(at.wrong(format_args!("a string is expected here, not {}", other.with_article()))),
        }
    }

    /// The number as it was written.
    ///
    /// # Errors
    /// A 400 when this is no number.
    pub fn number(self, at: &Place<'_>) -> Result<&'a str, Error> {
        match self.kind {
            Kind::Number => Ok(self.json),
            other => Err(at.wrong(format_args!("a number is expected here, not {}", other.with_article()))),
        }
    }

    /// The decoded string.
    ///
    /// # Errors
    /// A 400 when this is no string, or holds escapes that are no text.
    pub fn text(self, at: &Place<'_>) -> Result<Cow<'a, str>, Error> {
        let raw = inner(self.string(at)?);
        json::unescape(raw.as_bytes()).ok_or_else(|| at.wrong("this string holds half of a surrogate pair"))
    }

    pub fn is_true(self) -> bool {
        self.json == "true"
    }
}

/// What stands between the quotes of a JSON string.
pub fn inner(string: &str) -> &str {
    string.strip_prefix('"').and_then(|s| s.strip_suffix('"')).unwrap_or(string)
}
