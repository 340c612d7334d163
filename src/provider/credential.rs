//! Credentials that are not simply a key: how a short-lived one is asked for, and what the answer means.
//!
//! Pure: the time is an argument, and the requests are sent by [`crate::upstream`]. Sources: Google's "OAuth 2.0 for
//! server to server", Microsoft's "client credentials flow" and "managed identities", IBM Cloud's IAM API, Databricks' "OAuth M2M", the AWS SDKs'
//! reference of credential providers.

use super::sigv4::{self, Keys, Signed};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use std::path::PathBuf;

/// What Google's tokens are for.
const GOOGLE_SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
/// Tokens whose answer does not say for how long they are good.
const USUAL_LIFE: u64 = 600;

/// How a short-lived credential is got.
#[derive(Debug)]
pub enum Grant {
    /// A service account of Google signs for itself.
    GoogleAccount { email: String, key_id: String, key: SecretString, url: String },
    /// A person's own credentials, as `gcloud auth application-default login` leaves them.
    GoogleUser { client_id: String, client_secret: SecretString, refresh_token: SecretString, url: String },
    /// The account of the machine.
    GoogleMachine { url: String },
    /// An application of Microsoft Entra, by its secret.
    EntraSecret { url: String, client_id: String, client_secret: SecretString, scope: String },
    /// The same by a token that a file holds and somebody renews.
    EntraFile { url: String, client_id: String, file: PathBuf, scope: String },
    /// The identity of the machine; of several, the one of this id.
    EntraMachine { url: String, client_id: Option<String>, resource: String },
    /// IBM Cloud, by an API key.
    Ibm { url: String, key: SecretString },
    /// A service principal of Databricks, by its secret.
    Databricks { url: String, client_id: String, client_secret: SecretString },
    /// GitHub Copilot, by a token of its device flow.
    Copilot { url: String, token: SecretString },
    /// The role of an EC2 instance.
    AwsInstance { url: String },
    /// The role of a container; the header may be in a file that somebody renews.
    AwsContainer { url: String, token: Option<SecretString>, file: Option<PathBuf> },
    /// A role, by a token that a file holds and somebody renews.
    AwsFile { url: String, role: String, session: String, file: PathBuf },
    /// A role, by other keys.
    AwsRole { url: String, region: String, role: String, session: String, external_id: Option<String>, keys: Keys },
}

/// A credential that is good for a while.
#[derive(Debug, Clone)]
pub enum Fresh {
    Bearer(SecretString),
    Aws(Keys),
}

/// A request for a credential. Its form holds secrets, so that it is not for the log.
pub struct Asking {
    pub method: &'static str,
    pub url: String,
    pub headers: Vec<(&'static str, SecretString)>,
    /// A form, or nothing.
    pub body: String,
}

impl Grant {
    /// The file whose text the request needs.
    pub fn file(&self) -> Option<&PathBuf> {
        match self {
            Grant::EntraFile { file, .. } | Grant::AwsFile { file, .. } => Some(file),
            Grant::AwsContainer { file, .. } => file.as_ref(),
            _ => None,
        }
    }

    /// Where it is asked for.
    pub fn url(&self) -> &str {
        match self {
            Grant::GoogleAccount { url, .. }
            | Grant::GoogleUser { url, .. }
            | Grant::GoogleMachine { url }
            | Grant::EntraSecret { url, .. }
            | Grant::EntraFile { url, .. }
            | Grant::EntraMachine { url, .. }
            | Grant::Ibm { url, .. }
            | Grant::Databricks { url, .. }
            | Grant::Copilot { url, .. }
            | Grant::AwsInstance { url }
            | Grant::AwsContainer { url, .. }
            | Grant::AwsFile { url, .. }
            | Grant::AwsRole { url, .. } => url,
        }
    }

    /// The request at this time, in seconds since 1970; `file` is the text of [`Grant::file`], or what a step before
    /// this one brought.
    ///
    /// # Errors
    /// A text that says what is wrong with the credentials; no secret is in it.
    pub fn asking(&self, now: u64, file: &str) -> Result<Asking, String> {
        let form = |url: &str, fields: &[(&str, &str)]| Asking {
            method: "POST",
            url: url.to_owned(),
            headers: vec![("accept", "application/json".into())],
            body: form(fields),
        };
        let get = |url: String, name: &'static str, value: SecretString| Asking {
            method: "GET",
            url,
            headers: vec![(name, value)],
            body: String::new(),
        };
        Ok(match self {
            Grant::GoogleAccount { email, key_id, key, url } => {
                let assertion = google_assertion(email, key_id, key, url, now)?;
                form(url, &[("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"), ("assertion", &assertion)])
            }
            Grant::GoogleUser { client_id, client_secret, refresh_token, url } => form(
                url,
                &[
                    ("grant_type", "refresh_token"),
                    ("client_id", client_id),
                    ("client_secret", client_secret.expose_secret()),
                    ("refresh_token", refresh_token.expose_secret()),
                ],
            ),
            Grant::GoogleMachine { url } => get(url.clone(), "metadata-flavor", "Google".into()),
            Grant::EntraSecret { url, client_id, client_secret, scope } => form(
                url,
                &[
                    ("grant_type", "client_credentials"),
                    ("client_id", client_id),
                    ("client_secret", client_secret.expose_secret()),
                    ("scope", scope),
                ],
            ),
            Grant::EntraFile { url, client_id, scope, .. } => form(
                url,
                &[
                    ("grant_type", "client_credentials"),
                    ("client_id", client_id),
                    ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
                    ("client_assertion", file.trim()),
                    ("scope", scope),
                ],
            ),
            Grant::EntraMachine { url, client_id, resource } => {
                let mut fields = vec![("api-version", "2018-02-01"), ("resource", resource.as_str())];
                fields.extend(client_id.as_deref().map(|id| ("client_id", id)));
                get(format!("{url}?{}", self::form(&fields)), "metadata", "true".into())
            }
            Grant::Ibm { url, key } => {
                form(url, &[("grant_type", "urn:ibm:params:oauth:grant-type:apikey"), ("apikey", key.expose_secret())])
            }
            Grant::Databricks { url, client_id, client_secret } => {
                let mut asking = form(url, &[("grant_type", "client_credentials"), ("scope", "all-apis")]);
                let pair = STANDARD.encode(format!("{client_id}:{}", client_secret.expose_secret()));
                asking.headers.push(("authorization", format!("Basic {pair}").into()));
                asking
            }
            Grant::Copilot { url, token } => {
                get(url.clone(), "authorization", format!("token {}", token.expose_secret()).into())
            }
            Grant::AwsInstance { url } => get(url.clone(), "x-aws-ec2-metadata-token", file.into()),
            Grant::AwsContainer { url, token, file: named } => {
                let token = if named.is_some() { Some(file.trim().into()) } else { token.clone() };
                let mut asking = get(url.clone(), "accept", "application/json".into());
                asking.headers.extend(token.map(|token: SecretString| ("authorization", token)));
                asking
            }
            Grant::AwsFile { url, role, session, .. } => form(
                url,
                &[
                    ("Action", "AssumeRoleWithWebIdentity"),
                    ("Version", "2011-06-15"),
                    ("RoleArn", role),
                    ("RoleSessionName", session),
                    ("WebIdentityToken", file.trim()),
                ],
            ),
            Grant::AwsRole { url, region, role, session, external_id, keys } => {
                let mut fields = vec![
                    ("Action", "AssumeRole"),
                    ("Version", "2011-06-15"),
                    ("RoleArn", role.as_str()),
                    ("RoleSessionName", session),
                ];
                fields.extend(external_id.as_deref().map(|id| ("ExternalId", id)));
                let mut asking = form(url, &fields);
                let host = url.split("://").nth(1).and_then(|rest| rest.split('/').next()).unwrap_or_default();
                let kind = "application/x-www-form-urlencoded";
                let body = asking.body.as_bytes();
                let signing = Signing { method: "POST", host, path: "/", query: "", content_type: kind, body };
                asking.headers.extend(aws_headers(keys, region, "sts", &signing, now));
                asking
            }
        })
    }

    /// The credential that an answer holds, and until when it is good.
    ///
    /// # Errors
    /// A text that says what is missing.
    pub fn read(&self, body: &[u8], now: u64) -> Result<(Fresh, u64), String> {
        let read: Value = serde_json::from_slice(body).map_err(|_| "its answer is no JSON".to_owned())?;
        let text = |of: &Value, names: &[&str]| {
            names.iter().find_map(|name| of[*name].as_str().filter(|text| !text.is_empty()).map(str::to_owned))
        };
        match self {
            Grant::AwsInstance { .. } | Grant::AwsContainer { .. } | Grant::AwsFile { .. } | Grant::AwsRole { .. } => {
                let results = [
                    &read["AssumeRoleWithWebIdentityResponse"]["AssumeRoleWithWebIdentityResult"]["Credentials"],
                    &read["AssumeRoleResponse"]["AssumeRoleResult"]["Credentials"],
                ];
                let told = results.into_iter().find(|told| told.is_object()).unwrap_or(&read);
                let (Some(id), Some(secret)) = (text(told, &["AccessKeyId"]), text(told, &["SecretAccessKey"])) else {
                    return Err("its answer holds no keys".to_owned());
                };
                let session = text(told, &["SessionToken", "Token"]).map(SecretString::from);
                let until = match &told["Expiration"] {
                    Value::String(time) => sigv4::seconds(time),
                    number => number.as_f64().map(|seconds| seconds.max(0.0) as u64),
                };
                let keys = Keys { id, secret: secret.into(), session };
                Ok((Fresh::Aws(keys), until.unwrap_or(now + USUAL_LIFE)))
            }
            _ => {
                let token = text(&read, &["access_token", "token"]).ok_or("its answer holds no token")?;
                let number = |name: &str| read[name].as_f64().or_else(|| read[name].as_str()?.parse().ok());
                let until = match (number("expires_in"), number("expires_at").or(number("expires_on"))) {
                    (Some(seconds), _) => now.saturating_add(seconds.max(0.0) as u64),
                    (None, Some(at)) => at.max(0.0) as u64,
                    (None, None) => now + USUAL_LIFE,
                };
                Ok((Fresh::Bearer(token.into()), until))
            }
        }
    }
}

/// A request that is to be signed, or shown to whoever signs.
#[derive(Debug, Clone, Copy, Default)]
pub struct Signing<'a> {
    pub method: &'a str,
    pub host: &'a str,
    pub path: &'a str,
    pub query: &'a str,
    pub content_type: &'a str,
    pub body: &'a [u8],
}

/// The headers that sign a request with Amazon's keys: all that it needs beside `host` and `content-type`.
pub fn aws_headers(
    keys: &Keys,
    region: &str,
    service: &str,
    request: &Signing<'_>,
    now: u64,
) -> Vec<(&'static str, SecretString)> {
    let Signing { method, host, path, query, content_type, body } = *request;
    let (time, sum) = (sigv4::time(now), sigv4::sha256(body));
    let session = keys.session.as_ref().map(ExposeSecret::expose_secret);
    let mut headers = vec![("content-type", content_type), ("host", host), ("x-amz-date", &*time)];
    headers.extend(session.map(|token| ("x-amz-security-token", token)));
    // In the order of their names.
    let mut pairs: Vec<&str> = query.split('&').filter(|pair| !pair.is_empty()).collect();
    pairs.sort_unstable();
    let query = pairs.join("&");
    let signed = Signed { method, path, query: &query, headers: &headers, body: &sum };
    let authorization = sigv4::authorization(keys, region, service, &time, &signed);
    let mut told = vec![("authorization", authorization.into()), ("x-amz-date", time.clone().into())];
    told.extend(session.map(|token| ("x-amz-security-token", token.into())));
    told
}

fn form(fields: &[(&str, &str)]) -> String {
    let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    fields.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value))).collect::<Vec<_>>().join("&")
}

/// What a service account says of itself, signed by its key (RFC 7523).
fn google_assertion(email: &str, key_id: &str, key: &SecretString, url: &str, now: u64) -> Result<String, String> {
    let der = PrivatePkcs8KeyDer::from_pem_slice(key.expose_secret().as_bytes())
        .map_err(|_| "the private_key of the service account is no PEM text".to_owned())?;
    let pair = RsaKeyPair::from_pkcs8(der.secret_pkcs8_der())
        .map_err(|_| "the private_key of the service account is no RSA key".to_owned())?;
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let head = part(json!({"alg": "RS256", "typ": "JWT", "kid": key_id}));
    let claims = json!({"iss": email, "scope": GOOGLE_SCOPE, "aud": url, "iat": now, "exp": now + 3600});
    let text = format!("{head}.{}", part(claims));
    let mut signature = vec![0; pair.public().modulus_len()];
    pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature)
        .map_err(|_| "the private_key of the service account cannot sign".to_owned())?;
    Ok(format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entra() -> Grant {
        let url = "https://login.example/t/oauth2/v2.0/token".to_owned();
        Grant::EntraSecret { url, client_id: "c".into(), client_secret: "s&=".into(), scope: "a/.default".into() }
    }

    #[test]
    fn forms_are_encoded() {
        let asking = entra().asking(0, "").unwrap();
        let expected = "grant%5Ftype=client%5Fcredentials&client%5Fid=c&client%5Fsecret=s%26%3D&scope=a%2F%2Edefault";
        assert_eq!((asking.method, asking.body.as_str()), ("POST", expected));
        let machine = Grant::EntraMachine { url: "http://m/t".into(), client_id: None, resource: "r".into() };
        let asking = machine.asking(0, "").unwrap();
        assert_eq!((asking.method, asking.url.as_str()), ("GET", "http://m/t?api%2Dversion=2018%2D02%2D01&resource=r"));
    }

    #[test]
    fn answers_of_every_kind_are_read() {
        let until = |grant: &Grant, body: &str| grant.read(body.as_bytes(), 1000).unwrap().1;
        assert_eq!(until(&entra(), r#"{"access_token":"t","expires_in":3599}"#), 4599);
        assert_eq!(until(&entra(), r#"{"access_token":"t","expires_in":"60"}"#), 1060);
        assert_eq!(until(&entra(), r#"{"access_token":"t","expires_on":"9000"}"#), 9000);
        let copilot = Grant::Copilot { url: String::new(), token: "t".into() };
        assert_eq!(until(&copilot, r#"{"token":"t","expires_at":5000}"#), 5000);
        let aws = Grant::AwsInstance { url: String::new() };
        let body = r#"{"AccessKeyId":"a","SecretAccessKey":"b","Token":"c","Expiration":"2026-01-02T03:04:05Z"}"#;
        assert_eq!(until(&aws, body), 1_767_323_045);
        let sts = r#"{"AssumeRoleResponse":{"AssumeRoleResult":{"Credentials":{"AccessKeyId":"a","SecretAccessKey":"b","SessionToken":"c","Expiration":1.5E9}}}}"#;
        assert_eq!(until(&aws, sts), 1_500_000_000);
        for (grant, body) in [(&entra(), "[]"), (&entra(), r#"{"error":"x"}"#), (&aws, "{}"), (&aws, "<html>")] {
            assert!(grant.read(body.as_bytes(), 0).is_err(), "{body}");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let shown = format!("{:?} {:?}", entra(), entra().asking(0, "").unwrap().headers);
        assert!(!shown.contains("s&="), "{shown}");
    }

    #[test]
    fn a_key_that_is_none_is_said_without_it() {
        let url = "https://oauth2.example/token".to_owned();
        let key = SecretString::from("-----BEGIN PRIVATE KEY-----\nsecret\n-----END PRIVATE KEY-----\n");
        let grant = Grant::GoogleAccount { email: "e".into(), key_id: "k".into(), key, url };
        let error = grant.asking(0, "").err().unwrap();
        assert!(error.contains("private_key") && !error.contains("secret"), "{error}");
    }
}
