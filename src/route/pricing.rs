//! What a deployment's model costs and what is known of it.

use crate::price::{Charge, Facts, Price, Prices};
use crate::usage::Usage;
use serde_json::{Map, Value};
use std::sync::Arc;
use std::time::SystemTime;

/// What is known of one model.
#[derive(Debug, Default)]
pub struct Known {
    pub price: Option<Price>,
    pub facts: Facts,
}

impl Known {
    /// What the tables say of a provider's model, under what the operator says of it.
    ///
    /// # Errors
    /// One of the operator's prices is none; the text names it.
    pub fn find(prices: &Prices, provider: &str, model: &str, own: &Map<String, Value>) -> Result<Self, String> {
        let listed = prices.find(provider, model);
        let price = Price::from_overrides(listed.as_ref(), own)?;
        let facts = match &price {
            Some(price) => price.facts().clone(),
            None => prices.facts(provider, model).unwrap_or_default().overridden(own)?,
        };
        Ok(Known { price, facts })
    }
}

/// Where a deployment's price comes from.
#[derive(Debug)]
pub enum Pricing {
    /// One model, looked up when the configuration was read.
    Fixed(Arc<Known>),
    /// A wildcard: the call names the model.
    ByName { prices: Prices, provider: &'static str, own: Map<String, Value> },
}

impl Pricing {
    /// What is known of the model that the deployment serves under this upstream name.
    pub fn known(&self, model: &str) -> Arc<Known> {
        match self {
            Pricing::Fixed(known) => known.clone(),
            // The operator's prices were checked when the configuration was read.
            Pricing::ByName { prices, provider, own } => {
                Arc::new(Known::find(prices, provider, model, own).unwrap_or_default())
            }
        }
    }
}

/// The price of one call: that of its model at the time of its start, so that all who ask get the same answer.
#[derive(Debug, Clone)]
pub struct Tariff {
    known: Option<Arc<Known>>,
    at: SystemTime,
}

impl Default for Tariff {
    fn default() -> Self {
        Tariff { known: None, at: SystemTime::UNIX_EPOCH }
    }
}

impl Tariff {
    pub fn new(known: Arc<Known>) -> Self {
        Tariff { known: Some(known), at: SystemTime::now() }
    }

    /// By LiteLLM's names, in dollars.
    pub fn shown(&self) -> Map<String, Value> {
        let price = self.known.as_ref().and_then(|known| known.price.as_ref());
        price.map(|price| price.to_model_info(self.at)).unwrap_or_default()
    }

    /// The most tokens that an answer of the model has, where that is known.
    pub fn max_output(&self) -> Option<u64> {
        self.known.as_ref()?.facts.max_output_tokens
    }

    /// What it costs, part by part. What the provider reports is no sum of parts: it counts as other.
    pub fn charge(&self, usage: &Usage) -> Charge {
        if let Some(nanos) = usage.reported_nanos {
            return Charge { nanos, other_nanos: nanos, ..Charge::default() };
        }
        match self.known.as_ref().and_then(|known| known.price.as_ref()) {
            Some(price) => price.charge_as(&usage.tokens(), self.at, usage.service),
            None => Charge { unpriced: true, ..Charge::default() },
        }
    }

    /// Nano-dollars; what the provider reports goes before what is computed. `None` where the price of anything that was
    /// used is not known.
    pub fn cost(&self, usage: &Usage) -> Option<u64> {
        let charge = self.charge(usage);
        (!charge.unpriced).then_some(charge.nanos)
    }
}
