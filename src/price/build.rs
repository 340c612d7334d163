//! Makes the table of prices in this tree: `gateway prices build FILE... --date YYYY-MM-DD`.

use super::fields;
use super::map;
use super::rates::{Entry, Rate, SUSPICIOUS, Service, When};
use super::schedule::{self, ANNOUNCED};
use super::table::{Row, last_of_each};
use super::{decimal, names};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What came of it.
#[derive(Debug)]
pub struct Built {
    /// The table.
    pub text: String,
    /// What was read and what was left out, a line each.
    pub report: Vec<String>,
}

#[derive(Debug, Default)]
struct Rows {
    rows: Vec<Row>,
    read: usize,
    left_out: BTreeMap<&'static str, Vec<String>>,
    notes: Vec<String>,
}

/// Reads tables of facts (`.csv`) and LiteLLM price maps (`.json`); later files win.
///
/// # Errors
/// A file cannot be read or used; the text says where.
pub fn build(files: &[PathBuf], date: &str) -> Result<Built, String> {
    let texts: Result<Vec<(&Path, String)>, String> = files
        .iter()
        .map(|file| {
            let text = std::fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
            Ok((file.as_path(), text))
        })
        .collect();
    table(&texts?, date)
}

/// As [`build`], from the texts of the files.
fn table(files: &[(&Path, String)], date: &str) -> Result<Built, String> {
    let today = schedule::day(date).ok_or_else(|| format!("'{date}' is not a date: write YYYY-MM-DD"))?;
    let mut all = Rows::default();
    for (file, text) in files {
        let read = match file.extension().and_then(|e| e.to_str()) {
            Some("csv") => csv(text),
            Some("json") => map::read(text).map(|m| Rows {
                rows: m.rows,
                read: m.read,
                left_out: BTreeMap::from([("neither price nor limit", m.skipped)]),
                notes: m.notes,
            }),
            _ => Err("only .csv and .json are known".into()),
        };
        let mut read = read.map_err(|e| format!("{}: {e}", file.display()))?;
        all.rows.append(&mut read.rows);
        all.read += read.read;
        all.notes.append(&mut read.notes);
        for (why, mut names) in read.left_out {
            all.left_out.entry(why).or_default().append(&mut names);
        }
    }
    let before = all.rows.len();
    let mut rows = last_of_each(all.rows);
    let replaced = before - rows.len();
    rows.iter_mut().for_each(mend);
    rows.iter_mut().for_each(|row| announce(row, today));
    Ok(Built { text: written(&rows, date), report: report(all.read, &rows, replaced, &all.left_out, all.notes) })
}

fn written(rows: &[Row], date: &str) -> String {
    let providers: std::collections::BTreeSet<&str> = rows.iter().map(|r| r.provider.as_str()).collect();
    let mut text = format!(
        "# Prices of language models as of {date}: {} models of {} providers, {} with a price.\n\
         # Written by `gateway prices build`; do not edit. The columns are told in docs/prices.md.\n",
        rows.len(),
        providers.len(),
        rows.iter().filter(|r| r.price.is_priced()).count(),
    );
    for row in rows {
        text.push_str(&row.line());
        text.push('\n');
    }
    text
}

fn report(
    read: usize,
    rows: &[Row],
    replaced: usize,
    left_out: &BTreeMap<&str, Vec<String>>,
    notes: Vec<String>,
) -> Vec<String> {
    let priced = rows.iter().filter(|r| r.price.is_priced()).count();
    let mut lines = vec![format!("{read} rows read, {} carried, {priced} of them with a price", rows.len())];
    if replaced > 0 {
        lines.push(format!("{replaced} left out: a later row is of the same provider, model and mode"));
    }
    for (why, names) in left_out.iter().filter(|(_, names)| !names.is_empty()) {
        lines.push(format!("{} left out: {why}: {}", names.len(), names.join(", ")));
    }
    lines.extend(notes);
    lines
}

/// Slips of the sources: provider, model, what they state and what is true, in pico-dollars a token. A source that has
/// mended its slip is left as it is.
const SLIPS: &[(&str, &str, Rate, u64, u64)] =
    &[("cohere", "embed-multilingual-light-v3.0", Rate::Input, 100_000_000, 100_000)];

fn mend(row: &mut Row) {
    for (provider, model, rate, stated, real) in SLIPS {
        let is_it = row.provider == *provider && row.model == *model;
        let stated = |entry: &&Entry| entry.rate == *rate && entry.pico == *stated;
        let slips: Vec<When> = row.price.rates.iter().filter(|e| is_it && stated(e)).map(|e| e.when).collect();
        slips.into_iter().for_each(|when| row.price.set(*rate, when, *real));
    }
}

/// Adds the rates that are known to hold from a later date on.
fn announce(row: &mut Row, today: u64) {
    for change in ANNOUNCED {
        let names = change.providers.contains(&row.provider.as_str()) && change.models.contains(&row.model.as_str());
        let now = row.price.rates.iter().any(|e| e.rate == Rate::Input && e.when.is_plain() && e.pico == change.input);
        let Some(from) = schedule::day(change.from).filter(|from| names && now && *from > today) else { continue };
        for entry in row.price.rates.clone() {
            row.price.set(entry.rate, When { from, ..entry.when }, entry.pico.saturating_mul(change.factor));
        }
    }
}

/// What a column of prices means.
const PRICES: &[(&str, Rate, Service)] = &[
    ("input_usd_per_mtok", Rate::Input, Service::Standard),
    ("output_usd_per_mtok", Rate::Output, Service::Standard),
    ("cache_read_usd_per_mtok", Rate::CacheRead, Service::Standard),
    ("cache_write_usd_per_mtok", Rate::CacheWrite, Service::Standard),
    ("cache_write_1h_usd_per_mtok", Rate::CacheWrite1h, Service::Standard),
    ("reasoning_output_usd_per_mtok", Rate::Reasoning, Service::Standard),
    ("audio_input_usd_per_mtok", Rate::AudioIn, Service::Standard),
    ("audio_output_usd_per_mtok", Rate::AudioOut, Service::Standard),
    ("image_input_usd_per_mtok", Rate::ImageTokenIn, Service::Standard),
    ("image_output_usd_per_mtok", Rate::ImageTokenOut, Service::Standard),
    ("batch_input_usd_per_mtok", Rate::Input, Service::Batches),
    ("batch_output_usd_per_mtok", Rate::Output, Service::Batches),
    ("usd_per_image_in", Rate::ImageIn, Service::Standard),
    ("usd_per_image_out", Rate::ImageOut, Service::Standard),
    ("usd_per_second_in", Rate::SecondIn, Service::Standard),
    ("usd_per_second_out", Rate::SecondOut, Service::Standard),
    ("usd_per_character_in", Rate::CharacterIn, Service::Standard),
    ("usd_per_query", Rate::Query, Service::Standard),
];

const TIER: &[(&str, Rate)] = &[
    ("tier_input_usd_per_mtok", Rate::Input),
    ("tier_output_usd_per_mtok", Rate::Output),
    ("tier_cache_read_usd_per_mtok", Rate::CacheRead),
    ("tier_cache_write_usd_per_mtok", Rate::CacheWrite),
];

/// Columns of facts, as members of LiteLLM's map.
const FACTS: &[(&str, &str)] = &[
    ("mode", "mode"),
    ("context_window", "max_input_tokens"),
    ("max_output", "max_output_tokens"),
    ("embedding_dims", "output_vector_size"),
    ("deprecation_date", "deprecation_date"),
    ("supports_tools", "supports_function_calling"),
    ("supports_vision", "supports_vision"),
    ("supports_reasoning", "supports_reasoning"),
    ("supports_json_schema", "supports_response_schema"),
    ("supports_pdf", "supports_pdf_input"),
    ("supports_prompt_caching", "supports_prompt_caching"),
];

/// Columns that are read by name, and those that only say where a row is from.
const OTHERS: &[&str] = &["provider", "model", "tier_above_tokens", "tiers", "source", "price_map_key"];

/// Reads a table of facts: a line of column names, then rows without quotes.
fn csv(text: &str) -> Result<Rows, String> {
    let mut lines = text.lines().enumerate().filter(|(_, line)| !line.is_empty());
    let header: Vec<&str> = lines.next().map(|(_, line)| line.split(',').collect()).unwrap_or_default();
    let known = |name: &str| {
        PRICES.iter().any(|(n, ..)| *n == name)
            || TIER.iter().any(|(n, _)| *n == name)
            || FACTS.iter().any(|(n, _)| *n == name)
            || OTHERS.contains(&name)
    };
    if let Some(unknown) = header.iter().find(|name| !known(name)) {
        return Err(format!("line 1: the column '{unknown}' is not known"));
    }
    let mut rows = Rows::default();
    for (at, line) in lines {
        let values: Vec<&str> = line.split(',').collect();
        if line.contains(['"', '\t']) || values.len() != header.len() {
            return Err(format!("line {}: {} plain columns are expected", at + 1, header.len()));
        }
        rows.read += 1;
        let cells: BTreeMap<&str, &str> =
            header.iter().copied().zip(values).filter(|(_, value)| !value.is_empty()).collect();
        let row = row(&cells, &mut rows.notes).map_err(|e| format!("line {}: {e}", at + 1))?;
        let name = format!("{}/{}", row.provider, row.model);
        if row.model.contains('*') {
            rows.left_out.entry("the name is a pattern, and no model has it").or_default().push(name);
        } else if !row.price.is_priced() && !row.price.facts().is_known() {
            rows.left_out.entry("neither price nor limit").or_default().push(name);
        } else {
            rows.rows.push(row);
        }
    }
    Ok(rows)
}

fn row(cells: &BTreeMap<&str, &str>, notes: &mut Vec<String>) -> Result<Row, String> {
    let cell = |name: &str| cells.get(name).copied();
    let (Some(provider), Some(model)) = (cell("provider"), cell("model")) else {
        return Err("a row needs a provider and a model".into());
    };
    let facts = FACTS.iter().filter_map(|(column, member)| {
        let value = cell(column)?;
        let value = match value {
            "1" | "0" if member.starts_with("supports_") => (value == "1").into(),
            _ => value.into(),
        };
        Some(((*member).to_owned(), value))
    });
    let mut price = fields::read(&facts.collect())?.price;
    let amount = |column: &str, text: &str, rate: Rate| {
        let scale = if rate.spec().per_token { decimal::PICO - 6 } else { decimal::PICO };
        decimal::parse_rate(text, scale).map_err(|fault| format!("{column} {fault}: {text}"))
    };
    for (column, rate, service) in PRICES {
        if let Some(text) = cell(column) {
            let pico = amount(column, text, *rate)?;
            if rate.spec().per_token && pico > SUSPICIOUS {
                notes.push(format!("{provider}/{model}: {column} is more than 1000 dollars per million tokens"));
            }
            price.set(*rate, When { service: *service, ..When::default() }, pico);
        }
    }
    if let Some(above) = cell("tier_above_tokens") {
        let above = decimal::parse(above, 0).map_err(|fault| format!("tier_above_tokens {fault}: {above}"))?;
        for (column, rate) in TIER {
            if let Some(text) = cell(column) {
                price.set(*rate, When { above, ..When::default() }, amount(column, text, *rate)?);
            }
        }
    }
    // All ranges, `FROM-TO:INPUT/OUTPUT;...`; the first is the base price, the second the tier of the other columns.
    for range in cell("tiers").into_iter().flat_map(|t| t.split(';')) {
        let parts =
            range.split_once(':').and_then(|(range, prices)| Some((range.split_once('-')?.0, prices.split_once('/')?)));
        let (from, (input, output)) = parts.ok_or_else(|| format!("tiers: not a range: {range}"))?;
        let above = decimal::parse(from, 0).map_err(|fault| format!("tiers: {from} {fault}"))?;
        let when = When { above, ..When::default() };
        price.set(Rate::Input, when, amount("tiers", input, Rate::Input)?);
        price.set(Rate::Output, when, amount("tiers", output, Rate::Output)?);
    }
    Ok(Row { provider: names::provider(provider), model: model.to_owned(), price })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CSV: &str = include_str!("../../tests/fixtures/prices/facts.csv");
    const MAP: &str = include_str!("../../tests/fixtures/prices/map.json");
    const TABLE: &str = include_str!("../../tests/fixtures/prices/table.tsv");

    fn built(files: &[(&str, &str)], date: &str) -> Result<Built, String> {
        let files: Vec<_> = files.iter().map(|(name, text)| (Path::new(*name), (*text).to_owned())).collect();
        table(&files, date)
    }

    #[test]
    fn facts_become_a_table() {
        let built = built(&[("facts.csv", CSV), ("map.json", MAP)], "2026-11-20").unwrap();
        assert_eq!(built.text, TABLE);
        assert_eq!(
            built.report,
            [
                "12 rows read, 9 carried, 8 of them with a price",
                "1 left out: a later row is of the same provider, model and mode",
                "1 left out: neither price nor limit: acme/empty",
                "1 left out: the name is a pattern, and no model has it: bedrock/*/1-month-commitment/x",
                "acme/dear: input_usd_per_mtok is more than 1000 dollars per million tokens",
            ]
        );
    }

    #[test]
    fn what_was_announced_is_left_out_once_it_holds() {
        let later = built(&[("facts.csv", CSV)], "2026-12-01").unwrap();
        assert!(!later.text.contains("^2026-12-01"), "{}", later.text);
    }

    #[test]
    fn what_cannot_be_used_is_said_with_its_place() {
        for (name, text, named) in [
            ("a.txt", "", "a.txt: only .csv and .json"),
            ("a.csv", "provider,model,colour\n", "a.csv: line 1: the column 'colour'"),
            ("a.csv", "provider,model\na\n", "a.csv: line 2: 2 plain columns"),
            ("a.csv", "provider,model\n\"a\",b\n", "a.csv: line 2: 2 plain columns"),
            ("a.csv", "provider,model\na,\n", "a.csv: line 2: a row needs a provider"),
            ("a.csv", "provider,model,input_usd_per_mtok\na,b,x\n", "line 2: input_usd_per_mtok is not a number: x"),
            ("a.csv", "provider,model,tiers\na,b,x\n", "line 2: tiers: not a range: x"),
            ("a.json", "{", "a.json: the price map is not a JSON object"),
        ] {
            let error = built(&[(name, text)], "2026-11-20").unwrap_err();
            assert!(error.contains(named), "{error}");
        }
        assert!(built(&[], "20.11.2026").unwrap_err().contains("YYYY-MM-DD"));
        assert!(build(&["/nowhere.csv".into()], "2026-11-20").unwrap_err().starts_with("/nowhere.csv: "));
    }
}
