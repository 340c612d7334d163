//! Soft budgets that are reached, told to an address of the operator's choice.
//!
//! The members are those of LiteLLM's webhook (its page "Alerting", "Webhooks"). A few are kept while the receiver is
//! away; nothing waits for it.

use super::book::Crossed;
use super::subject::Who;
use crate::gateway::Gateway;
use crate::price::usd_number;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Older ones are dropped for newer ones.
const MOST: usize = 256;
/// For the receiver to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Before each of the later tries.
const PAUSES: [Duration; 3] = [Duration::ZERO, Duration::from_secs(2), Duration::from_secs(10)];

/// Those that are not told yet.
#[derive(Debug, Default)]
pub struct Alerts {
    waiting: Mutex<VecDeque<Crossed>>,
    news: tokio::sync::Notify,
}

impl Alerts {
    pub fn push(&self, crossed: Crossed) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() >= MOST {
            waiting.pop_front();
        }
        waiting.push_back(crossed);
        self.news.notify_one();
    }

    async fn next(&self) -> Crossed {
        loop {
            let next = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            match next {
                Some(crossed) => return crossed,
                None => self.news.notified().await,
            }
        }
    }
}

/// Tells what there is to tell, until the process ends.
pub async fn keep(gateway: Arc<Gateway>) {
    loop {
        let crossed = gateway.limits.alerts.next().await;
        let Some(url) = gateway.live().config.limits.webhook.clone() else { continue };
        let body = body(&crossed);
        for pause in PAUSES {
            tokio::time::sleep(pause).await;
            match tell(&gateway, secrecy::ExposeSecret::expose_secret(&url), &body).await {
                Ok(()) => break,
                // The address may hold a secret, so it is not repeated.
                Err(e) => tracing::warn!("limits.webhook cannot be told that a soft budget is reached: {e}"),
            }
        }
    }
}

async fn tell(gateway: &Gateway, url: &str, body: &Value) -> Result<(), String> {
    let connector = awc::Connector::new().timeout(PATIENCE);
    let connector = match url.starts_with("https:") {
        true => connector.rustls_0_23(gateway.tls.get(None)?),
        false => connector,
    };
    let client = awc::Client::builder().connector(connector).timeout(PATIENCE).disable_redirects().finish();
    let response = client.post(url).send_json(body).await.map_err(|e| match e {
        awc::error::SendRequestError::Url(_) => "it is no http or https address".to_owned(),
        other => other.to_string(),
    })?;
    match response.status() {
        status if status.is_success() => Ok(()),
        status => Err(format!("it answered with {status}")),
    }
}

fn body(crossed: &Crossed) -> Value {
    let Crossed { pot, spent } = crossed;
    let usd = |nanos: i64| usd_number(u64::try_from(nanos).unwrap_or(0));
    let id = |who: Who| (pot.subject.who == who).then_some(pot.subject.id.as_str());
    let group = match pot.subject.who {
        Who::Key | Who::KeyModel => "key",
        Who::User | Who::UserModel => "internal_user",
        Who::Team | Who::TeamModel => "team",
        Who::Member => "team_member",
        Who::Organization => "organization",
        Who::Customer | Who::CustomerModel => "customer",
        Who::Gateway => "proxy",
        Who::Tag | Who::TagModel => Who::Tag.word(),
        Who::Deployment | Who::Provider => pot.subject.who.word(),
    };
    json!({
        "event": "soft_budget_crossed",
        "event_group": group,
        "event_message": format!("The soft budget of {} is reached.", pot.subject.who.word()),
        "id": pot.subject.id,
        "spend": usd(*spent),
        "soft_budget": pot.soft_nanos.map(usd),
        "max_budget": pot.max_nanos.map(usd),
        "token": id(Who::Key),
        "user_id": id(Who::User),
        "team_id": id(Who::Team),
        "customer_id": id(Who::Customer),
        "organization_id": id(Who::Organization),
        "budget_duration": (!pot.entity.span.is_empty()).then_some(&pot.entity.span),
    })
}
