//! The words both engines share: values, columns, rows, and records made of them.
//!
//! There are two types, integers and texts: every other one has no twin in the other engine, or is told differently by
//! its driver. Flags are 0 and 1, lists and objects are JSON in a text, times are microseconds since 1970, money is
//! nano-dollars. Texts of SQL are put together from constants of this program; what comes from outside is bound.

use super::{Fault, Result};
use serde_json::Value as Json;
use std::borrow::Cow;

/// A value on its way into or out of the store.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    Null,
    Int(i64),
    Text(String),
}

/// The same where it lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValueRef<'a> {
    Null,
    Int(i64),
    Text(Cow<'a, str>),
}

impl Value {
    pub fn as_ref(&self) -> ValueRef<'_> {
        match self {
            Value::Null => ValueRef::Null,
            Value::Int(n) => ValueRef::Int(*n),
            Value::Text(text) => ValueRef::Text(Cow::Borrowed(text)),
        }
    }
}

impl From<ValueRef<'_>> for Value {
    fn from(value: ValueRef<'_>) -> Value {
        match value {
            ValueRef::Null => Value::Null,
            ValueRef::Int(n) => Value::Int(n),
            ValueRef::Text(text) => Value::Text(text.into_owned()),
        }
    }
}

/// The type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    Int,
    Text,
}

/// A column of a record.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    pub name: &'static str,
    pub ty: Type,
}

/// What a statement gave back.
#[derive(Debug, Default)]
pub struct Answer {
    pub rows: Vec<Row>,
    /// Rows that were inserted, changed or deleted.
    pub changed: u64,
}

/// A row, read from left to right.
#[derive(Debug)]
pub struct Row(pub Vec<Value>);

impl Row {
    /// The cells, each in the type that the reader wants.
    pub fn cells(self) -> Cells {
        Cells { left: self.0.into_iter(), number: 0 }
    }

    /// The only cell.
    ///
    /// # Errors
    /// It is not of that type.
    pub fn one<T: Cell>(self) -> Result<T> {
        self.cells().take()
    }
}

/// The cells of a row that are still to be read.
pub struct Cells {
    left: std::vec::IntoIter<Value>,
    number: usize,
}

impl Cells {
    /// The next cell.
    ///
    /// # Errors
    /// There is none, or it does not hold what the reader wants.
    pub fn take<T: Cell>(&mut self) -> Result<T> {
        self.number += 1;
        let value = self.left.next().unwrap_or(Value::Null);
        T::from_value(value).map_err(|what| {
            Fault::Broken(format!("column {} of an answer of the database does not hold {what}", self.number))
        })
    }
}

/// A Rust type that a column can hold.
pub trait Cell: Sized {
    const TYPE: Type;

    fn to_ref(&self) -> ValueRef<'_>;

    fn to_value(&self) -> Value {
        self.to_ref().into()
    }

    /// # Errors
    /// What the value should have been.
    fn from_value(value: Value) -> std::result::Result<Self, &'static str>;
}

impl Cell for i64 {
    const TYPE: Type = Type::Int;

    fn to_ref(&self) -> ValueRef<'_> {
        ValueRef::Int(*self)
    }

    fn from_value(value: Value) -> std::result::Result<Self, &'static str> {
        match value {
            Value::Int(n) => Ok(n),
            Value::Null | Value::Text(_) => Err("an integer"),
        }
    }
}

impl Cell for bool {
    const TYPE: Type = Type::Int;

    fn to_ref(&self) -> ValueRef<'_> {
        ValueRef::Int(i64::from(*self))
    }

    fn from_value(value: Value) -> std::result::Result<Self, &'static str> {
        i64::from_value(value).map(|n| n != 0)
    }
}

impl Cell for String {
    const TYPE: Type = Type::Text;

    /// A NUL is no text to Postgres, and one such name must not keep a whole batch of rows out of the ledger.
    fn to_ref(&self) -> ValueRef<'_> {
        ValueRef::Text(if self.contains('\0') { self.replace('\0', "\u{fffd}").into() } else { self.into() })
    }

    fn from_value(value: Value) -> std::result::Result<Self, &'static str> {
        match value {
            Value::Text(text) => Ok(text),
            Value::Null | Value::Int(_) => Err("a text"),
        }
    }
}

impl<T: Cell> Cell for Option<T> {
    const TYPE: Type = T::TYPE;

    fn to_ref(&self) -> ValueRef<'_> {
        self.as_ref().map_or(ValueRef::Null, T::to_ref)
    }

    fn from_value(value: Value) -> std::result::Result<Self, &'static str> {
        match value {
            Value::Null => Ok(None),
            other => T::from_value(other).map(Some),
        }
    }
}

/// Null is the absence of the text, so that a column added later needs no default.
impl Cell for Json {
    const TYPE: Type = Type::Text;

    fn to_ref(&self) -> ValueRef<'_> {
        if self.is_null() { ValueRef::Null } else { ValueRef::Text(self.to_string().into()) }
    }

    fn from_value(value: Value) -> std::result::Result<Self, &'static str> {
        match value {
            Value::Null => Ok(Json::Null),
            Value::Text(text) => serde_json::from_str(&text).map_err(|_| "JSON"),
            Value::Int(_) => Err("JSON"),
        }
    }
}

/// A list of names, as a JSON array; an empty one is the absence of the text.
impl Cell for Vec<String> {
    const TYPE: Type = Type::Text;

    fn to_ref(&self) -> ValueRef<'_> {
        if self.is_empty() { ValueRef::Null } else { ValueRef::Text(Json::from(self.as_slice()).to_string().into()) }
    }

    fn from_value(value: Value) -> std::result::Result<Self, &'static str> {
        match value {
            Value::Null => Ok(Vec::new()),
            Value::Text(text) => serde_json::from_str(&text).map_err(|_| "a JSON array of texts"),
            Value::Int(_) => Err("a JSON array of texts"),
        }
    }
}

/// Most of a row says nothing: what is left out is read back as it was.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A struct that is a row of a table.
pub trait Record: Sized + Send + Sync + 'static {
    const TABLE: &'static str;
    const COLUMNS: &'static [Column];
    /// So many columns at the front are the primary key.
    const KEY: usize;
    /// Reads each of the columns.
    const CELLS: &'static [fn(&Self) -> ValueRef<'_>];

    fn values(&self) -> Vec<Value> {
        Self::CELLS.iter().map(|cell| cell(self).into()).collect()
    }

    /// # Errors
    /// A cell does not hold what the field wants.
    fn read(row: Row) -> Result<Self>;
}

/// Declares a struct and its columns at once: their names, their order and their types cannot differ then, in the
/// thirty statements that write and read them.
/// With `sparse`, what is empty is left out where the record is JSON.
macro_rules! record {
    ($(#[$about:meta])* pub struct $Name:ident in $table:literal, key $key:literal, sparse {
        $($(#[$told:meta])* pub $field:ident: $type:ty,)*
    }) => {
        $crate::store::sql::record! {
            $(#[$about])*
            pub struct $Name in $table, key $key {
                $(
                    $(#[$told])*
                    #[serde(skip_serializing_if = "crate::store::sql::is_default")]
                    pub $field: $type,
                )*
            }
        }
    };
    ($(#[$about:meta])* pub struct $Name:ident in $table:literal, key $key:literal {
        $($(#[$told:meta])* pub $field:ident: $type:ty,)*
    }) => {
        $(#[$about])*
        #[derive(Debug, Clone, PartialEq, Default, serde::Serialize, serde::Deserialize)]
        #[serde(default)]
        pub struct $Name {
            $($(#[$told])* pub $field: $type,)*
        }

        impl $crate::store::sql::Record for $Name {
            const TABLE: &'static str = $table;
            const COLUMNS: &'static [$crate::store::sql::Column] = &[$($crate::store::sql::Column {
                name: stringify!($field),
                ty: <$type as $crate::store::sql::Cell>::TYPE,
            },)*];
            const KEY: usize = $key;

            const CELLS: &'static [fn(&Self) -> $crate::store::sql::ValueRef<'_>] =
                &[$(|record| $crate::store::sql::Cell::to_ref(&record.$field),)*];

            fn read(row: $crate::store::sql::Row) -> $crate::store::Result<Self> {
                let mut cells = row.cells();
                Ok($Name { $($field: cells.take()?,)* })
            }
        }
    };
}
pub(crate) use record;

/// The names of a record's columns, with commas.
pub fn names<R: Record>() -> String {
    R::COLUMNS.iter().map(|c| c.name).collect::<Vec<_>>().join(", ")
}

/// `SELECT` of all columns of a record; the rest of the statement is to be added.
pub fn select<R: Record>() -> String {
    format!("SELECT {} FROM {}", names::<R>(), R::TABLE)
}

/// The condition that the primary key is what is bound from `$first` on.
pub fn by_key<R: Record>(first: usize) -> String {
    let parts: Vec<String> =
        R::COLUMNS[..R::KEY].iter().enumerate().map(|(n, c)| format!("{} = ${}", c.name, first + n)).collect();
    parts.join(" AND ")
}

/// Conditions and the values bound in them.
#[derive(Debug, Default, Clone)]
pub struct Where {
    text: String,
    pub params: Vec<Value>,
}

impl Where {
    /// One more condition; each `?` in it stands for the next of the values.
    pub fn and(&mut self, condition: &'static str, values: impl IntoIterator<Item = Value>) {
        self.text.push_str(if self.text.is_empty() { " WHERE " } else { " AND " });
        let mut values = values.into_iter();
        for (place, part) in condition.split('?').enumerate() {
            if place > 0 {
                let bound = self.bind(values.next().unwrap_or(Value::Null));
                self.text.push_str(&bound);
            }
            self.text.push_str(part);
        }
    }

    /// The same where there is something to compare with.
    pub fn and_some<T: Cell>(&mut self, condition: &'static str, value: Option<&T>) {
        if let Some(value) = value {
            self.and(condition, [value.to_value()]);
        }
    }

    /// The column is one of the values; none of them means that no row will do.
    pub fn and_in(&mut self, column: &'static str, values: &[String]) {
        if values.is_empty() {
            return self.and("1 = 0", []);
        }
        let bound: Vec<String> = values.iter().map(|v| self.bind(v.to_value())).collect();
        self.text.push_str(if self.text.is_empty() { " WHERE " } else { " AND " });
        self.text.push_str(&format!("{column} IN ({})", bound.join(", ")));
    }

    /// One column is this value, or the other one of those.
    pub fn and_either(&mut self, one: (&'static str, &str), other: (&'static str, &[String])) {
        let first = self.bind(one.1.to_owned().to_value());
        let bound: Vec<String> = other.1.iter().map(|v| self.bind(v.to_value())).collect();
        self.text.push_str(if self.text.is_empty() { " WHERE " } else { " AND " });
        match bound.is_empty() {
            true => self.text.push_str(&format!("{} = {first}", one.0)),
            false => self.text.push_str(&format!("({} = {first} OR {} IN ({}))", one.0, other.0, bound.join(", "))),
        }
    }

    /// The column is none of the values.
    pub fn and_not_in(&mut self, column: &'static str, values: &[String]) {
        if !values.is_empty() {
            let bound: Vec<String> = values.iter().map(|v| self.bind(v.to_value())).collect();
            self.text.push_str(if self.text.is_empty() { " WHERE " } else { " AND " });
            self.text.push_str(&format!("{column} NOT IN ({})", bound.join(", ")));
        }
    }

    /// The placeholder of one more value.
    pub fn bind(&mut self, value: Value) -> String {
        self.params.push(value);
        format!("${}", self.params.len())
    }

    /// The conditions with their `WHERE`, or nothing.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// A pattern for `LIKE .. ESCAPE '!'` that finds the text anywhere, in any case.
pub fn anywhere(text: &str) -> Value {
    let mut pattern = String::from("%");
    for c in text.chars() {
        if matches!(c, '%' | '_' | '!') {
            pattern.push('!');
        }
        pattern.extend(c.to_lowercase());
    }
    pattern.push('%');
    pattern.to_value()
}

/// An insertion of records: around what stands for the rows, and with a tail as `ON CONFLICT ..` and `RETURNING ..`.
pub fn insertion<R: Record>(rows: &str, tail: &str) -> String {
    format!("INSERT INTO {} ({}) {rows} {tail}", R::TABLE, names::<R>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_bind_what_they_compare_with() {
        let mut filter = Where::default();
        filter.and("a = ?", ["x".to_owned().to_value()]);
        filter.and_some::<i64>("b > ?", None);
        filter.and_some("(c, d) < (?, 1)", Some(&7_i64));
        filter.and_in("e", &["1".to_owned(), "2".to_owned()]);
        assert_eq!(filter.text(), " WHERE a = $1 AND (c, d) < ($2, 1) AND e IN ($3, $4)");
        assert_eq!(filter.params.len(), 4);
        let mut nothing = Where::default();
        nothing.and_in("e", &[]);
        assert_eq!(nothing.text(), " WHERE 1 = 0");
    }

    #[test]
    fn a_pattern_holds_no_wildcard_of_the_caller() {
        assert_eq!(anywhere("A_b%!"), Value::Text("%a!_b!%!!%".to_owned()));
    }

    #[test]
    fn a_nul_never_reaches_the_database() {
        assert_eq!("a\0b".to_owned().to_value(), Value::Text("a\u{fffd}b".to_owned()));
    }
}
