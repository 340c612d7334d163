//! The requests of a batch: each names a model, which the caller must be allowed and the account must have.

use crate::auth::{Caller, access};
use crate::error::{Error, Result};
use crate::gateway::Live;
use crate::route::Deployment;
use crate::wire::json::{self, Kind};
use std::ops::Range;

/// Nested deeper, a request is none.
const MAX_DEPTH: usize = 128;
/// So many models are remembered, to tell what a batch costs.
const MOST_MODELS: usize = 16;

/// Checks the lines of a batch, and puts the provider's names of models in the place of the gateway's.
pub struct Lines<'a> {
    live: &'a Live,
    caller: &'a Caller,
    deployment: &'a Deployment,
    /// Names that were checked, and what the provider calls them.
    known: Vec<(String, String)>,
}

impl<'a> Lines<'a> {
    pub fn new(live: &'a Live, caller: &'a Caller, deployment: &'a Deployment) -> Self {
        Lines { live, caller, deployment, known: Vec::new() }
    }

    /// The provider's names of all models that are asked.
    pub fn models(&self) -> Vec<String> {
        let mut models: Vec<String> = self.known.iter().map(|(_, model)| model.clone()).collect();
        models.sort();
        models.dedup();
        models
    }

    /// The line with the provider's name of its model, where that is another one.
    ///
    /// # Errors
    /// It is no request, or asks a model that the caller may not use.
    pub fn check(&mut self, number: usize, line: &[u8]) -> Result<Option<Vec<u8>>> {
        if line.iter().all(u8::is_ascii_whitespace) {
            return Ok(None);
        }
        let wrong = |what: &str| Error::invalid(format!("Line {number} of the batch: {what}.")).at_param("file");
        let place = model_of(line).map_err(|_| wrong("it is not one JSON object"))?;
        let place = place.ok_or_else(|| wrong("it has no body with a model"))?;
        let name: String = serde_json::from_slice(&line[place.clone()]).map_err(|_| wrong("its model is no text"))?;
        let known = self.known.iter().find(|(asked, _)| *asked == name);
        let model = match known {
            Some((_, model)) => model.clone(),
            None => {
                let model = self.model(&name).map_err(|error| {
                    Error::new(error.kind, format!("Line {number} of the batch: {error}")).at_param("file")
                })?;
                if self.known.len() == MOST_MODELS {
                    return Err(wrong(&format!("a batch asks at most {MOST_MODELS} models")));
                }
                self.known.push((name.clone(), model.clone()));
                model
            }
        };
        if model == name {
            return Ok(None);
        }
        let text = serde_json::to_vec(&model).map_err(|_| wrong("its model is no text"))?;
        Ok(Some([&line[..place.start], &text, &line[place.end..]].concat()))
    }

    fn model(&self, name: &str) -> Result<String> {
        let (live, own) = (self.live, self.deployment);
        let routed = live.routes.plan(name).ok();
        if let Some(plan) = &routed {
            let group = &plan.group().deployments;
            // The account is what counts: another deployment of it does as well.
            let same = |d: &Deployment| d.provider.name == own.provider.name && d.place.base == own.place.base;
            if let Some(deployment) = group.iter().find(|d| d.id == own.id).or_else(|| group.iter().find(|d| same(d))) {
                access::model(live, self.caller, name)?;
                return Ok(plan.to(deployment).model().to_owned());
            }
        }
        // The provider's own name for a model.
        access::upstream(live, self.caller, own.provider.name, name)?;
        match routed {
            Some(_) => Err(Error::invalid(format!(
                "the model '{}' is not at the provider that the file goes to; name it in target_model_names",
                crate::envelope::shorten(name)
            ))),
            None => Ok(name.to_owned()),
        }
    }
}

/// Where the model of a line stands.
fn model_of(line: &[u8]) -> std::result::Result<Option<Range<usize>>, json::Fault> {
    let mut body = None;
    json::object(line, MAX_DEPTH, |m| {
        if &line[m.key.clone()] == b"body" && m.value.kind == Kind::Object {
            body = Some(m.value.span);
        }
    })?;
    let Some(body) = body else { return Ok(None) };
    let mut model = None;
    let text = &line[body.clone()];
    json::object(text, MAX_DEPTH, |m| {
        if &text[m.key.clone()] == b"model" && m.value.kind == Kind::String {
            model = Some(m.value.span);
        }
    })?;
    Ok(model.map(|span| body.start + span.start..body.start + span.end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_of_a_line_is_that_of_its_body() {
        let line = br#"{"model":"no","custom_id":"1","body":{"messages":[{"model":"no"}],"model" : "yes"},"url":"/x"}"#;
        let place = model_of(line).unwrap().unwrap();
        assert_eq!(&line[place], br#""yes""#);
        assert_eq!(model_of(br#"{"body":{}}"#).unwrap(), None);
        assert!(model_of(b"[]").is_err() && model_of(b"{").is_err());
    }
}
