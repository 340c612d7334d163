//! Vertex AI.

use super::{Account, Reading, has_no_path, read, renewed};
use crate::provider::credential::Grant;
use secrecy::ExposeSecret;
use serde_json::Value;
use std::path::PathBuf;

/// Vertex AI: a key, a service account, one's own credentials, or the machine's.
pub(super) fn account(
    reading: &mut Reading<'_>,
    mut account: Account,
    base: Option<String>,
) -> Result<Account, String> {
    let cloud = reading.cloud;
    let mut project =
        reading.plain(cloud.project.as_ref(), &["VERTEXAI_PROJECT", "VERTEX_PROJECT", "GOOGLE_CLOUD_PROJECT"]);
    if account.keys.is_empty() {
        let (grant, own_project) = grant(reading)?;
        project = project.or(own_project);
        account.credential = renewed(grant);
    }
    let place = reading.plain(
        cloud.region.as_ref(),
        &["VERTEXAI_LOCATION", "VERTEX_LOCATION", "GOOGLE_CLOUD_LOCATION", "GOOGLE_CLOUD_REGION"],
    );
    let place = place.unwrap_or_else(|| "us-central1".to_owned());
    let inside = project.as_ref().map(|project| format!("/v1beta1/projects/{project}/locations/{place}"));
    account.base = match (base, inside) {
        (Some(base), inside) if has_no_path(&base) => {
            Some(format!("{}{}", base.trim_end_matches('/'), inside.as_deref().unwrap_or("/v1beta1")))
        }
        (Some(base), _) => Some(base),
        (None, Some(inside)) => Some(match place.as_str() {
            "global" => format!("https://aiplatform.googleapis.com{inside}"),
            "us" | "eu" => format!("https://aiplatform.{place}.rep.googleapis.com{inside}"),
            place => format!("https://{place}-aiplatform.googleapis.com{inside}"),
        }),
        (None, None) if !account.keys.is_empty() => Some("https://aiplatform.googleapis.com/v1beta1".to_owned()),
        (None, None) => {
            return Err("no project: set cloud.project (LiteLLM: vertex_project), or VERTEXAI_PROJECT".to_owned());
        }
    };
    account.model = account.model.strip_prefix("anthropic/").unwrap_or(&account.model).to_owned();
    Ok(account)
}

fn grant(reading: &mut Reading<'_>) -> Result<(Grant, Option<String>), String> {
    let cloud = reading.cloud;
    let written = reading.secret(cloud.credentials.as_ref(), &["GOOGLE_APPLICATION_CREDENTIALS"]);
    let text = match written {
        Some(text) if text.expose_secret().trim_start().starts_with('{') => text,
        Some(path) => {
            // A path is no secret.
            reading.shown.pop();
            read(&PathBuf::from(path.expose_secret()), "Google's credentials")?
        }
        None => match reading.home(".config/gcloud/application_default_credentials.json") {
            Some(path) => read(&path, "Google's credentials")?,
            None => {
                let url = "http://metadata.google.internal/computeMetadata/v1/instance/service-accounts/default/token";
                let url = reading.plain(cloud.metadata_url.as_ref(), &[]).unwrap_or_else(|| url.to_owned());
                return Ok((Grant::GoogleMachine { url }, None));
            }
        },
    };
    let file: Value =
        serde_json::from_str(text.expose_secret()).map_err(|_| "Google's credentials are no JSON".to_owned())?;
    let of = |name: &str| match file[name].as_str() {
        Some(text) if !text.is_empty() => Ok(text.to_owned()),
        _ => Err(format!("Google's credentials hold no {name}")),
    };
    let own = reading.plain(cloud.token_url.as_ref(), &[]).or_else(|| of("token_uri").ok());
    let url = own.unwrap_or_else(|| "https://oauth2.googleapis.com/token".to_owned());
    let project = of("project_id").or_else(|_| of("quota_project_id")).ok();
    let grant = match file["type"].as_str() {
        Some("service_account") => Grant::GoogleAccount {
            email: of("client_email")?,
            key_id: of("private_key_id").unwrap_or_default(),
            key: of("private_key")?.into(),
            url,
        },
        Some("authorized_user") => Grant::GoogleUser {
            client_id: of("client_id")?,
            client_secret: of("client_secret")?.into(),
            refresh_token: of("refresh_token")?.into(),
            url,
        },
        other => {
            let other: String = other.unwrap_or("none").chars().take(60).collect();
            return Err(format!(
                "Google's credentials are of the type `{other}`; `service_account` and `authorized_user` are served"
            ));
        }
    };
    // What is wrong with a key is said now, not at the first call.
    grant.asking(0, "")?;
    Ok((grant, project))
}
