//! What a call costs, exactly.
//!
//! Prices come from a table in this tree, from an operator's copy of LiteLLM's price map, and from single deployments.
//! A rate is a whole number of pico-dollars; a call's cost is summed exactly and rounded once to nano-dollars. What is
//! not known has no price: nothing is ever free because its price is missing.

mod build;
mod charge;
mod decimal;
mod facts;
mod fields;
mod map;
mod names;
mod overrides;
mod rates;
mod reported;
mod schedule;
mod table;

pub use build::{Built, build};
pub use charge::{Charge, Tokens};
pub use decimal::{put_usd, usd_number, usd_text};
pub use facts::Facts;
pub use overrides::not_charged;
pub use rates::{Price, Service};
pub use reported::provider_reported;

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use table::{Row, Table};

/// Written by `gateway prices build`; see there for what is in it.
const BUILT_IN: &str = include_str!("price/prices.tsv");

/// All prices that are known.
#[derive(Debug, Clone)]
pub struct Prices {
    /// In the order in which they are asked.
    tables: Vec<Arc<Table>>,
    notes: Vec<String>,
}

/// Only looked through when the first price is asked for.
static TABLE: LazyLock<Arc<Table>> = LazyLock::new(|| Arc::new(Table::from_text(BUILT_IN)));
static PRICES: LazyLock<Prices> = LazyLock::new(|| Prices { tables: vec![TABLE.clone()], notes: Vec::new() });

impl Prices {
    /// The prices of this release.
    pub fn built_in() -> &'static Prices {
        &PRICES
    }

    /// A LiteLLM price map over the built-in prices. An entry of the map replaces the whole built-in price of its model.
    ///
    /// # Errors
    /// The map or one of its entries is not acceptable; the text says which, and what is wrong.
    pub fn with_map(json: &str) -> Result<Prices, String> {
        let map = map::read(json)?;
        Ok(Prices { tables: vec![Arc::new(Table::from_rows(map.rows)), TABLE.clone()], notes: map.notes })
    }

    /// What an operator should know of the price map: prices that look wrong, units that are not charged.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The price of a provider's model; `None` where it is not known.
    ///
    /// The exact name is looked for first, then the name without its region, date (`-2025-08-07`, `-20250807`,
    /// `@20250807`), version, `:tag` or `-latest`. At resellers that add nothing to a vendor's prices, the vendor's own
    /// price is the last resort. Letters are compared without regard to case; beginnings are never compared.
    pub fn find(&self, provider: &str, model: &str) -> Option<Price> {
        let provider = names::provider(provider);
        self.first(&provider, model, Price::is_priced).or_else(|| {
            let (vendor, model) = names::vendor(&provider, model)?;
            self.first(vendor, model, Price::is_priced)
        })
    }

    /// What is known of a model besides its price, for models without a known price too.
    pub fn facts(&self, provider: &str, model: &str) -> Option<Facts> {
        let provider = names::provider(provider);
        self.first(&provider, model, |price| price.facts().is_known()).map(|price| price.facts)
    }

    fn first(&self, provider: &str, model: &str, serves: fn(&Price) -> bool) -> Option<Price> {
        names::names(provider, model).iter().find_map(|name| {
            let mut rows = self.tables.iter().flat_map(|table| table.rows(provider, name));
            rows.find(|row| serves(&row.price)).map(|Row { price, .. }| price)
        })
    }

    /// The models of a provider, each with its mode, in the order of their names.
    pub fn models(&self, provider: &str) -> impl Iterator<Item = (&str, &str)> {
        let provider = names::provider(provider);
        let mut models = BTreeMap::new();
        for table in &self.tables {
            for (model, mode) in table.models(&provider) {
                models.entry(model).or_insert(mode);
            }
        }
        models.into_iter()
    }
}

/// Whether models of that mode answer chat completions, directly or by way of another API.
pub fn is_chat(mode: &str) -> bool {
    matches!(mode, "chat" | "responses")
}

#[cfg(test)]
mod tests;
