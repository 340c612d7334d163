//! Rows of prices as text, and finding one among many.
//!
//! A table is sorted text, one model a line: provider, model, mode and `key=value;...`, with tabs between. It is
//! searched as it is; only the row that is asked for is ever taken apart. Token rates are dollars per million, other
//! rates dollars per unit. Behind the name of a rate may stand when it holds: `@service`, `>tokens of the prompt`,
//! `~` off-peak, `^date from which`.

use super::decimal::{self, PICO};
use super::facts::Facts;
use super::rates::{Price, Rate, SPECS, Service, When};
use super::schedule::{self, Window};
use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt::Write;

/// Token rates are written per million.
const PER_MILLION: u32 = PICO - 6;

/// A model of a provider.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// In lower case.
    pub provider: String,
    pub model: String,
    pub price: Price,
}

impl Row {
    /// The row as a line of a table, without its end.
    pub fn line(&self) -> String {
        let mode = self.price.facts.mode.as_deref().unwrap_or("");
        format!("{}\t{}\t{mode}\t{}", self.provider, self.model, fields(&self.price))
    }

    /// Orders rows as a table wants them: names without regard to case.
    pub fn order(&self, other: &Row) -> Ordering {
        self.provider
            .cmp(&other.provider)
            .then_with(|| lower(&self.model).cmp(lower(&other.model)))
            .then_with(|| self.model.cmp(&other.model))
            .then_with(|| self.price.facts.mode.cmp(&other.price.facts.mode))
    }
}

fn fields(price: &Price) -> String {
    let mut rates = price.rates.clone();
    rates.sort_by_key(|e| (e.rate, e.when));
    let mut parts: Vec<String> = rates
        .iter()
        .map(|e| {
            let spec = e.rate.spec();
            let amount = decimal::text(e.pico, if spec.per_token { PER_MILLION } else { PICO });
            format!("{}{}={amount}", spec.key, condition(e.when))
        })
        .collect();
    if !price.off_peak.is_empty() {
        let windows: Vec<String> = price.off_peak.iter().map(|w| w.text()).collect();
        parts.push(format!("off_peak={}", windows.join(",")));
    }
    let facts = &price.facts;
    for (key, number) in [
        ("context", facts.max_input_tokens),
        ("max_output", facts.max_output_tokens),
        ("dimensions", facts.output_vector_size),
    ] {
        parts.extend(number.map(|n| format!("{key}={n}")));
    }
    parts.extend(facts.deprecation_date.iter().map(|date| format!("ends={date}")));
    let letters: String = ABILITIES
        .iter()
        .filter_map(|(letter, name)| {
            facts.supports(name).map(|yes| if yes { *letter } else { letter.to_ascii_uppercase() })
        })
        .collect();
    parts.extend(Some(format!("can={letters}")).filter(|_| !letters.is_empty()));
    let others: Vec<String> = (facts.supports.iter())
        .filter(|(name, _)| ABILITIES.iter().all(|(_, known)| known != name))
        .map(|(name, yes)| format!("{}{name}", if *yes { "" } else { "-" }))
        .collect();
    parts.extend(Some(format!("supports={}", others.join(","))).filter(|_| !others.is_empty()));
    parts.join(";")
}

/// The abilities that nearly every row has an opinion on, a letter each; a capital says that the model has it not.
const ABILITIES: &[(char, &str)] = &[
    ('c', "prompt_caching"),
    ('j', "response_schema"),
    ('p', "pdf_input"),
    ('r', "reasoning"),
    ('t', "function_calling"),
    ('v', "vision"),
];

fn ability(letter: char) -> Option<(String, bool)> {
    let (_, name) = ABILITIES.iter().find(|(known, _)| known.eq_ignore_ascii_case(&letter))?;
    Some(((*name).to_owned(), letter.is_ascii_lowercase()))
}

fn condition(when: When) -> String {
    let mut text = String::new();
    if when.service != Service::Standard {
        let _ = write!(text, "@{}", when.service.name());
    }
    if when.above > 0 {
        let _ = write!(text, ">{}", when.above);
    }
    if when.off_peak {
        text.push('~');
    }
    if when.from > 0 {
        let _ = write!(text, "^{}", schedule::day_text(when.from));
    }
    text
}

/// Takes a line of a table apart; `None` where it is none.
pub fn parse_line(line: &str) -> Option<Row> {
    let mut columns = line.splitn(4, '\t');
    let (provider, model, mode, fields) = (columns.next()?, columns.next()?, columns.next()?, columns.next()?);
    let facts = Facts { mode: Some(mode.to_owned()).filter(|m| !m.is_empty()), ..Facts::default() };
    let mut price = Price { facts, ..Price::default() };
    for field in fields.split(';').filter(|f| !f.is_empty()) {
        let (key, value) = field.split_once('=')?;
        let facts = &mut price.facts;
        match key {
            "context" => facts.max_input_tokens = Some(value.parse().ok()?),
            "max_output" => facts.max_output_tokens = Some(value.parse().ok()?),
            "dimensions" => facts.output_vector_size = Some(value.parse().ok()?),
            "ends" => facts.deprecation_date = Some(value.to_owned()),
            "can" => facts.supports.extend(value.chars().map(ability).collect::<Option<Vec<_>>>()?),
            "supports" => facts.supports.extend(value.split(',').map(|name| match name.strip_prefix('-') {
                Some(name) => (name.to_owned(), false),
                None => (name.to_owned(), true),
            })),
            "off_peak" => price.off_peak = value.split(',').map(Window::parse).collect::<Option<_>>()?,
            _ => {
                let (rate, when) = parse_key(key)?;
                let scale = if rate.spec().per_token { PER_MILLION } else { PICO };
                price.set(rate, when, decimal::parse_rate(value, scale).ok()?);
            }
        }
    }
    Some(Row { provider: provider.to_owned(), model: model.to_owned(), price })
}

fn parse_key(key: &str) -> Option<(Rate, When)> {
    let (key, from) = match key.split_once('^') {
        Some((key, date)) => (key, schedule::day(date)?),
        None => (key, 0),
    };
    let (key, off_peak) = key.strip_suffix('~').map_or((key, false), |key| (key, true));
    let (key, above) = match key.split_once('>') {
        Some((key, above)) => (key, above.parse().ok()?),
        None => (key, 0),
    };
    let (key, service) = key.split_once('@').map_or((key, Service::Standard), |(key, s)| (key, Service::named(s)));
    let spec = SPECS.iter().find(|spec| spec.key == key)?;
    Some((spec.rate, When { service, above, off_peak, from }))
}

/// Sorted rows.
#[derive(Debug)]
pub struct Table {
    text: Cow<'static, str>,
    /// Where each row begins and ends.
    lines: Vec<(u32, u32)>,
}

impl Table {
    /// A table from its text, whose rows are sorted; `#` begins a comment line.
    pub fn from_text(text: impl Into<Cow<'static, str>>) -> Table {
        let text = text.into();
        let mut lines = Vec::with_capacity(text.len() / 80);
        let mut start = 0u32;
        for line in text.split('\n') {
            let end = start.saturating_add(u32::try_from(line.len()).unwrap_or(u32::MAX));
            if !line.is_empty() && !line.starts_with('#') {
                lines.push((start, end));
            }
            start = end.saturating_add(1);
        }
        Table { text, lines }
    }

    /// A table of these rows; of rows of the same provider, model and mode the last counts.
    pub fn from_rows(rows: Vec<Row>) -> Table {
        let mut text = String::new();
        for row in last_of_each(rows) {
            text.push_str(&row.line());
            text.push('\n');
        }
        Table::from_text(text)
    }

    fn line(&self, at: usize) -> &str {
        self.lines.get(at).and_then(|&(start, end)| self.text.get(start as usize..end as usize)).unwrap_or("")
    }

    /// The rows of a model, one for each mode, whatever the case of its letters.
    pub fn rows(&self, provider: &str, model: &str) -> impl Iterator<Item = Row> {
        let order = |line: &str| {
            let (p, m, _) = names(line);
            p.cmp(provider).then_with(|| lower(m).cmp(lower(model)))
        };
        let first = self.first(|line| order(line) == Ordering::Less);
        (first..self.lines.len())
            .map(|at| self.line(at))
            .take_while(move |line| order(line) == Ordering::Equal)
            .filter_map(parse_line)
    }

    /// The models of a provider, each with its mode.
    pub fn models(&self, provider: &str) -> impl Iterator<Item = (&str, &str)> {
        let first = self.first(|line| names(line).0 < provider);
        (first..self.lines.len())
            .map(|at| names(self.line(at)))
            .take_while(move |(p, ..)| *p == provider)
            .map(|(_, model, mode)| (model, mode))
    }

    fn first(&self, before: impl Fn(&str) -> bool) -> usize {
        self.lines.partition_point(|&(start, end)| before(self.text.get(start as usize..end as usize).unwrap_or("")))
    }
}

/// Sorts rows and keeps the last of each provider, model and mode.
pub fn last_of_each(mut rows: Vec<Row>) -> Vec<Row> {
    rows.reverse();
    rows.sort_by(Row::order);
    rows.dedup_by(|later, kept| later.order(kept) == Ordering::Equal);
    rows
}

fn names(line: &str) -> (&str, &str, &str) {
    let mut columns = line.splitn(4, '\t');
    (columns.next().unwrap_or(""), columns.next().unwrap_or(""), columns.next().unwrap_or(""))
}

fn lower(text: &str) -> impl Iterator<Item = u8> {
    text.bytes().map(|b| b.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "acme\tModel-X\tchat\tin=2.5;in~=1.25;in>200000=5;out=10;out^2026-12-01=20;\
                        out@priority>272000=45;picture_out=0.04;off_peak=16:30-00:30/12345;context=200000;\
                        max_output=64000;dimensions=3072;ends=2027-01-01;can=rV;supports=-audio_input,web_search";

    #[test]
    fn a_row_comes_back_as_it_went() {
        let row = parse_line(LINE).unwrap();
        assert_eq!(row.line(), LINE);
        let when = When { service: Service::Priority, above: 272_000, ..When::default() };
        assert!(row.price.rates.iter().any(|e| (e.rate, e.when, e.pico) == (Rate::Output, when, 45_000_000)));
        assert_eq!((row.price.facts.supports("vision"), row.price.facts.supports("pdf_input")), (Some(false), None));
        for wrong in ["", "a\tb\tc", "a\tb\tc\tin", "a\tb\tc\tin=x", "a\tb\tc\tnone=1", "a\tb\tc\tin^2026=1"] {
            assert_eq!(parse_line(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn rows_are_found_without_regard_to_case() {
        let row = |provider: &str, model: &str, fields: &str| {
            parse_line(&format!("{provider}\t{model}\tchat\t{fields}")).unwrap()
        };
        let table = Table::from_rows(vec![
            row("b", "Zeta", "in=1"),
            row("a", "m", "in=2"),
            row("b", "alpha", "in=3"),
            row("b", "alpha", "in=4"),
        ]);
        assert_eq!(table.lines.len(), 3);
        let found = |p: &str, m: &str| table.rows(p, m).map(|r| r.price.rates[0].pico).collect::<Vec<_>>();
        assert_eq!(found("b", "ALPHA"), [4_000_000]);
        assert_eq!(found("b", "zeta"), [1_000_000]);
        assert!(found("b", "m").is_empty() && found("c", "m").is_empty() && found("", "").is_empty());
        assert_eq!(table.models("b").map(|(m, _)| m).collect::<Vec<_>>(), ["alpha", "Zeta"]);
    }
}
