//! OAuth 2 client credentials (RFC 6749, section 4.4): a token that the gateway gets for itself.

use super::Fault;
use super::http::{gather, unsent};
use crate::config::mcp;
use actix_web::http::StatusCode;
use actix_web::http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use awc::Client;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use std::cell::RefCell;
use std::time::{Duration, Instant};

/// A token is not used in its last moments.
const MARGIN: Duration = Duration::from_secs(60);
/// How long a token is good that does not say so (RFC 6749 leaves it open).
const USUAL: u64 = 300;
const PATIENCE: Duration = Duration::from_secs(15);

pub struct Tokens {
    client: Client,
    of: mcp::Client,
    held: RefCell<Option<(HeaderValue, Instant)>>,
}

impl Tokens {
    pub fn new(client: Client, of: mcp::Client) -> Self {
        Tokens { client, of, held: RefCell::default() }
    }

    /// The `Authorization` to send, and whether it was got just now.
    ///
    /// # Errors
    /// There is no token to be had.
    pub async fn get(&self) -> Result<(HeaderValue, bool), Fault> {
        if let Some((token, until)) = &*self.held.borrow()
            && *until > Instant::now()
        {
            return Ok((token.clone(), false));
        }
        let fetched = tokio::time::timeout(PATIENCE, self.fetch()).await;
        let (token, age) = fetched.map_err(|_| Fault::Unreached("its token_url does not answer".to_owned()))??;
        let until = Instant::now() + age.saturating_sub(MARGIN).max(age / 2);
        *self.held.borrow_mut() = Some((token.clone(), until));
        Ok((token, true))
    }

    /// The token was refused; the next request gets another one.
    pub fn forget(&self) {
        self.held.borrow_mut().take();
    }

    async fn fetch(&self) -> Result<(HeaderValue, Duration), Fault> {
        let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let (id, secret) = (encode(&self.of.id.0), encode(&self.of.secret.0));
        let mut form = "grant_type=client_credentials".to_owned();
        if !self.of.scopes.is_empty() {
            form += &format!("&scope={}", encode(&self.of.scopes.join(" ")));
        }
        let basic = format!("Basic {}", BASE64_STANDARD.encode(format!("{id}:{secret}")));
        let (status, body) = self.send(&form, Some(&basic)).await?;
        // Who does not take the header (which all must, section 2.3.1) takes it in the form.
        let (status, body) = match status.as_u16() {
            400 | 401 => self.send(&format!("{form}&client_id={id}&client_secret={secret}"), None).await?,
            _ => (status, body),
        };
        if status != StatusCode::OK {
            return Err(Fault::Unreached(format!("its token_url answers with the status {}", status.as_u16())));
        }
        let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
        let token = answer["access_token"].as_str().filter(|token| !token.is_empty());
        let value = token.and_then(|token| HeaderValue::from_str(&format!("Bearer {token}")).ok());
        let mut value = value.ok_or_else(|| Fault::Unreached("its token_url gives no access_token".to_owned()))?;
        value.set_sensitive(true);
        let seconds = answer["expires_in"].as_u64().unwrap_or(USUAL);
        Ok((value, Duration::from_secs(seconds.min(86_400))))
    }

    async fn send(&self, form: &str, basic: Option<&str>) -> Result<(StatusCode, bytes::Bytes), Fault> {
        let mut request = self
            .client
            .post(self.of.token_url.clone())
            .insert_header((CONTENT_TYPE, "application/x-www-form-urlencoded"))
            .insert_header((ACCEPT, "application/json"));
        if let Some(basic) = basic {
            let mut value = HeaderValue::from_str(basic).map_err(|e| Fault::Broken(e.to_string()))?;
            value.set_sensitive(true);
            request = request.insert_header((AUTHORIZATION, value));
        }
        let response = request.send_body(form.to_owned()).await.map_err(|e| match unsent(&e) {
            Fault::Unreached(why) => Fault::Unreached(format!("its token_url: {why}")),
            other => other,
        })?;
        let status = response.status();
        Ok((status, gather(response, 64 << 10).await?))
    }
}
