//! What is known of a model besides its price.

use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Limits and abilities; what is not known is absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// `chat`, `responses`, `completion`, `embedding`, `rerank`, `image_generation`, ... as LiteLLM names it.
    pub mode: Option<String>,
    pub max_input_tokens: Option<u64>,
    pub max_output_tokens: Option<u64>,
    /// The default length of an embedding.
    pub output_vector_size: Option<u64>,
    /// The day on which the provider takes the model away: `2027-06-15`.
    pub deprecation_date: Option<String>,
    /// By LiteLLM's names without `supports_`: `vision`, `function_calling`, ...
    pub supports: BTreeMap<String, bool>,
}

impl Facts {
    /// Whether the model can do that: `vision`, `function_calling`, `reasoning`, `response_schema`, `pdf_input`,
    /// `prompt_caching`, ...; `None` is unknown.
    pub fn supports(&self, what: &str) -> Option<bool> {
        self.supports.get(what).copied()
    }

    /// As members of LiteLLM's `model_info`.
    pub fn to_model_info(&self) -> Map<String, Value> {
        let mut info = Map::new();
        self.show(&mut info);
        info
    }

    /// With what an operator says of the model, by LiteLLM's names.
    ///
    /// # Errors
    /// A price beside the facts is none; the text names it.
    pub fn overridden(mut self, own: &Map<String, Value>) -> Result<Self, String> {
        self.take(super::fields::read(own)?.price.facts);
        Ok(self)
    }

    pub fn is_known(&self) -> bool {
        *self != Facts { mode: self.mode.clone(), ..Facts::default() }
    }
}

impl Facts {
    /// Takes over what the other states.
    pub(super) fn take(&mut self, own: Facts) {
        self.mode = own.mode.or(self.mode.take());
        self.max_input_tokens = own.max_input_tokens.or(self.max_input_tokens);
        self.max_output_tokens = own.max_output_tokens.or(self.max_output_tokens);
        self.output_vector_size = own.output_vector_size.or(self.output_vector_size);
        self.deprecation_date = own.deprecation_date.or(self.deprecation_date.take());
        self.supports.extend(own.supports);
    }

    /// Adds what is known to `model_info`.
    pub(super) fn show(&self, info: &mut Map<String, Value>) {
        let texts = [("mode", &self.mode), ("deprecation_date", &self.deprecation_date)];
        let numbers = [
            ("max_input_tokens", self.max_input_tokens),
            ("max_output_tokens", self.max_output_tokens),
            // LiteLLM's legacy twin, which clients still read.
            ("max_tokens", self.max_output_tokens),
            ("output_vector_size", self.output_vector_size),
        ];
        info.extend(texts.iter().filter_map(|(name, v)| Some(((*name).to_owned(), (*v).clone()?.into()))));
        info.extend(numbers.iter().filter_map(|(name, v)| Some(((*name).to_owned(), (*v)?.into()))));
        info.extend(self.supports.iter().map(|(what, can)| (format!("supports_{what}"), (*can).into())));
    }
}
