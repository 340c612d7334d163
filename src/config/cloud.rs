//! The place and the credentials of a cloud's model, from what the file says of the account and from the variables that
//! the clouds' own programs read.
//!
//! Nothing is asked over the network here; files with credentials are read.

mod aws;
mod google;

use super::look_up;
use crate::config::file::{CloudAccount, Model};
use crate::provider::credential::Grant;
use crate::provider::{Auth, Cloud, Path};
use crate::secret::{Secrets, Written};
use crate::upstream::credentials::{Credential, Source};
use actix_web::http::Uri;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use std::path::PathBuf;

/// What a cloud makes of a model.
#[derive(Debug, Default)]
pub struct Account {
    /// The address that follows from the account, or the operator's one made whole.
    pub base: Option<String>,
    pub path: Option<Path>,
    pub query: String,
    pub auth: Option<Auth>,
    /// The upstream's name of the model, without what it says of the account.
    pub model: String,
    /// The name by which the model's rules are found, where the upstream's is the operator's invention.
    pub kind: Option<String>,
    /// In place of the provider's keys.
    pub keys: Vec<SecretString>,
    pub credential: Option<Credential>,
    /// Members of every request.
    pub body: Vec<(String, Box<[u8]>)>,
    /// What must not come back in an error.
    pub secrets: Vec<SecretString>,
}

/// Reads what is written of the account.
struct Reading<'a> {
    cloud: &'a CloudAccount,
    secrets: &'a Secrets,
    /// What was shown to nobody.
    shown: Vec<SecretString>,
}

impl Reading<'_> {
    fn plain(&self, written: Option<&String>, variables: &[&str]) -> Option<String> {
        let own = written.and_then(|text| look_up(&Written(text.clone()), self.secrets));
        let found = own.or_else(|| variables.iter().find_map(|name| self.secrets.get(name)));
        found.map(|text| text.expose_secret().trim().to_owned()).filter(|text| !text.is_empty())
    }

    fn secret(&mut self, written: Option<&Written>, variables: &[&str]) -> Option<SecretString> {
        let own = written.and_then(|text| look_up(text, self.secrets));
        let found = own.or_else(|| variables.iter().find_map(|name| self.secrets.get(name)))?;
        self.shown.push(found.clone());
        Some(found)
    }

    fn variable(&self, name: &str) -> Option<String> {
        self.plain(None, &[name])
    }

    fn home(&self, path: &str) -> Option<PathBuf> {
        self.variable("HOME").map(|home| PathBuf::from(home).join(path)).filter(|path| path.is_file())
    }
}

/// The account of a model. `base` is the operator's address, `keys` are his keys or those of the provider's variables.
///
/// # Errors
/// Texts that say what is wrong or missing, and where to put it.
pub fn account(
    cloud: Cloud,
    model: &Model,
    upstream: &str,
    base: Option<String>,
    keys: Vec<SecretString>,
    secrets: &Secrets,
) -> Result<Account, String> {
    let mut reading = Reading { cloud: &model.cloud, secrets, shown: Vec::new() };
    // What the file says of an account goes before a key that happens to be in the environment.
    let keys = match model.api_key.is_none() && *reading.cloud != CloudAccount::default() && says_who(reading.cloud) {
        true => Vec::new(),
        false => keys,
    };
    let start = Account { model: upstream.to_owned(), keys, ..Account::default() };
    let mut account = match cloud {
        Cloud::Google => google::account(&mut reading, start, base)?,
        Cloud::Aws => aws::account(&mut reading, start, base)?,
        Cloud::Azure => azure(&mut reading, start, base, model)?,
        Cloud::AzureAi => azure_ai(&mut reading, start, base)?,
        Cloud::Ibm => ibm(&mut reading, start, base)?,
        Cloud::Databricks => databricks(&mut reading, start, base)?,
        Cloud::GithubCopilot => copilot(&mut reading, start, base),
    };
    account.secrets = reading.shown;
    Ok(account)
}

/// Whether the account names somebody, and not only a place.
fn says_who(cloud: &CloudAccount) -> bool {
    cloud.credentials.is_some()
        || cloud.access_key_id.is_some()
        || cloud.profile.is_some()
        || cloud.role.is_some()
        || cloud.client_secret.is_some()
        || cloud.token.is_some()
        || cloud.managed_identity
}

fn renewed(grant: Grant) -> Option<Credential> {
    Some(Credential::Bearer(Box::new(Source::new(grant))))
}

/// Azure OpenAI: the address in any of the forms that users paste, a key or Entra.
fn azure(
    reading: &mut Reading<'_>,
    mut account: Account,
    base: Option<String>,
    model: &Model,
) -> Result<Account, String> {
    let Some(base) = base else {
        return Err("no address: set api_base to the resource, such as `https://NAME.openai.azure.com`".to_owned());
    };
    let (url, query) = base.split_once('?').unwrap_or((&base, ""));
    let (root, rest) = match url.find("/openai") {
        Some(at) => url.split_at(at),
        None => (url.trim_end_matches('/'), ""),
    };
    let given = query.split('&').find_map(|part| part.strip_prefix("api-version="));
    let written = reading.plain(reading.cloud.api_version.as_ref(), &["AZURE_API_VERSION"]);
    let version = given.map(str::to_owned).or(written);
    let is_v1 = rest.starts_with("/openai/v1");
    account.base = Some(root.to_owned());
    match version.as_deref() {
        Some("preview") => {
            account.path = Some(Path::Behind("openai/v1/"));
            account.query = "api-version=preview".to_owned();
        }
        version if is_v1 || matches!(version, Some("v1" | "latest")) => {
            account.path = Some(Path::Behind("openai/v1/"));
        }
        version => {
            let version = version.unwrap_or("2025-02-01-preview");
            let fine = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
            if version.is_empty() || !version.bytes().all(fine) {
                return Err("api_version must be a date such as `2024-10-21`, or `v1`".to_owned());
            }
            account.query = format!("api-version={version}");
        }
    }
    // The operator says what is behind a name that is his own.
    let base_model = model.info.get("base_model").and_then(Value::as_str);
    account.kind = base_model.map(|name| name.rsplit('/').next().unwrap_or(name).to_owned());
    for (prefix, kind) in [("o_series/", "o1"), ("gpt5_series/", "gpt-5")] {
        if let Some(name) = account.model.strip_prefix(prefix) {
            account.kind.get_or_insert(kind.to_owned());
            account.model = name.to_owned();
            break;
        }
    }
    entra(reading, &mut account)?;
    if account.keys.is_empty() && account.credential.is_none() {
        return Err(
            "no key: set api_key or AZURE_API_KEY, or an application of Entra (cloud.tenant_id, cloud.client_id, \
                    cloud.client_secret), or cloud.managed_identity"
                .to_owned(),
        );
    }
    Ok(account)
}

/// Other models of Azure: the address tells which of its services is meant.
fn azure_ai(reading: &mut Reading<'_>, mut account: Account, base: Option<String>) -> Result<Account, String> {
    let Some(base) = base else {
        return Err("no address: set api_base to the resource, such as `https://NAME.services.ai.azure.com`".to_owned());
    };
    let (url, query) = base.split_once('?').unwrap_or((&base, ""));
    let url = url.trim_end_matches('/');
    let host = url.parse::<Uri>().ok().and_then(|uri| uri.host().map(str::to_ascii_lowercase)).unwrap_or_default();
    let given = query.split('&').find_map(|part| part.strip_prefix("api-version=")).map(str::to_owned);
    let version = given.or_else(|| reading.plain(reading.cloud.api_version.as_ref(), &["AZURE_AI_API_VERSION"]));
    let of = |ending: &str| host.ends_with(ending);
    if account.model.starts_with("claude-") {
        account.base = Some(url.split("/anthropic").next().unwrap_or(url).to_owned());
    } else if of(".models.ai.azure.com") {
        let end = if has_no_path(url) { "/v1" } else { "" };
        account.base = Some(format!("{url}{end}"));
    } else if has_no_path(url) || url.ends_with("/models") || url.ends_with("/models/chat/completions") {
        let root = url.strip_suffix("/chat/completions").unwrap_or(url);
        account.base = Some(root.strip_suffix("/models").unwrap_or(root).to_owned());
        account.path = Some(Path::Behind("models/"));
        account.query = format!("api-version={}", version.as_deref().unwrap_or("2024-05-01-preview"));
    } else {
        account.base = Some(url.to_owned());
        account.query = version.map(|version| format!("api-version={version}")).unwrap_or_default();
    }
    if !account.model.starts_with("claude-")
        && (of(".services.ai.azure.com") || of(".openai.azure.com") || of(".cognitiveservices.azure.com"))
    {
        account.auth = Some(Auth::Header("api-key"));
    }
    entra(reading, &mut account)?;
    if account.keys.is_empty() && account.credential.is_none() {
        return Err("no key: set api_key or AZURE_AI_API_KEY, or an application of Entra (cloud.tenant_id, \
                    cloud.client_id, cloud.client_secret)"
            .to_owned());
    }
    Ok(account)
}

/// Microsoft Entra, where there is no key.
fn entra(reading: &mut Reading<'_>, account: &mut Account) -> Result<(), String> {
    if !account.keys.is_empty() {
        return Ok(());
    }
    let cloud = reading.cloud;
    let scope = reading.plain(cloud.scope.as_ref(), &["AZURE_SCOPE"]);
    let scope = scope.unwrap_or_else(|| "https://cognitiveservices.azure.com/.default".to_owned());
    if cloud.managed_identity {
        let url = "http://169.254.169.254/metadata/identity/oauth2/token";
        let url = reading.plain(cloud.metadata_url.as_ref(), &[]).unwrap_or_else(|| url.to_owned());
        let client_id = reading.plain(cloud.client_id.as_ref(), &["AZURE_CLIENT_ID"]);
        let resource = scope.strip_suffix("/.default").unwrap_or(&scope).to_owned();
        account.credential = renewed(Grant::EntraMachine { url, client_id, resource });
        return Ok(());
    }
    if let Some(token) = reading.secret(cloud.token.as_ref(), &["AZURE_AD_TOKEN"]) {
        account.keys = vec![token];
        account.auth = Some(Auth::Bearer);
        return Ok(());
    }
    let tenant = reading.plain(cloud.tenant_id.as_ref(), &["AZURE_TENANT_ID"]);
    let client = reading.plain(cloud.client_id.as_ref(), &["AZURE_CLIENT_ID"]);
    let secret = reading.secret(cloud.client_secret.as_ref(), &["AZURE_CLIENT_SECRET"]);
    let file = reading.variable("AZURE_FEDERATED_TOKEN_FILE").map(PathBuf::from);
    let (Some(tenant), Some(client_id)) = (tenant, client) else { return Ok(()) };
    let authority = reading.variable("AZURE_AUTHORITY_HOST");
    let authority = authority.unwrap_or_else(|| "https://login.microsoftonline.com".to_owned());
    let url = reading.plain(cloud.token_url.as_ref(), &[]);
    let url = url.unwrap_or_else(|| format!("{}/{tenant}/oauth2/v2.0/token", authority.trim_end_matches('/')));
    account.credential = match (secret, file) {
        (Some(client_secret), _) => renewed(Grant::EntraSecret { url, client_id, client_secret, scope }),
        (None, Some(file)) => renewed(Grant::EntraFile { url, client_id, file, scope }),
        (None, None) => None,
    };
    Ok(())
}

/// watsonx: an API key of IBM Cloud, exchanged for a token; on one's own premises, a key as it is.
fn ibm(reading: &mut Reading<'_>, mut account: Account, base: Option<String>) -> Result<Account, String> {
    let cloud = reading.cloud;
    let Some(base) = base else {
        return Err("no address: set api_base to the region's, such as `https://us-south.ml.cloud.ibm.com`".to_owned());
    };
    account.base = Some(base.split("/ml/").next().unwrap_or(&base).trim_end_matches('/').to_owned());
    let version = reading.plain(cloud.api_version.as_ref(), &["WATSONX_API_VERSION"]);
    account.query = format!("version={}", version.as_deref().unwrap_or("2025-02-11"));
    let project = reading.plain(cloud.project.as_ref(), &["WATSONX_PROJECT_ID", "WX_PROJECT_ID"]);
    let space = reading.plain(cloud.space.as_ref(), &["WATSONX_SPACE_ID", "WATSONX_DEPLOYMENT_SPACE_ID"]);
    let (name, id) = match (project, space) {
        (Some(project), _) => ("project_id", project),
        (None, Some(space)) => ("space_id", space),
        (None, None) => return Err("no project: set cloud.project or cloud.space, or WATSONX_PROJECT_ID".to_owned()),
    };
    account.body = vec![(name.to_owned(), Value::from(id).to_string().into_bytes().into())];
    if let Some(key) = reading.secret(None, &["WATSONX_ZENAPIKEY"]).filter(|_| account.keys.is_empty()) {
        account.keys = vec![key];
        account.auth = Some(Auth::Scheme("ZenApiKey"));
        return Ok(account);
    }
    // A token is used as it is; a key is exchanged for one.
    let is_token = |key: &SecretString| key.expose_secret().starts_with("eyJ");
    if account.keys.first().is_some_and(is_token) {
        return Ok(account);
    }
    let variables = ["WATSONX_APIKEY", "WATSONX_API_KEY", "WX_API_KEY"];
    let key = account.keys.pop().or_else(|| reading.secret(None, &variables));
    let Some(key) = key else { return Err("no key: set api_key, or WATSONX_API_KEY".to_owned()) };
    account.keys.clear();
    let url = "https://iam.cloud.ibm.com/identity/token";
    let url = reading.plain(cloud.token_url.as_ref(), &["WATSONX_IAM_URL"]).unwrap_or_else(|| url.to_owned());
    account.credential = renewed(Grant::Ibm { url, key });
    Ok(account)
}

/// Databricks: a token, or a service principal of the workspace.
fn databricks(reading: &mut Reading<'_>, mut account: Account, base: Option<String>) -> Result<Account, String> {
    let Some(base) = base else {
        return Err("no address: set api_base to the workspace, such as `https://NAME.cloud.databricks.com`".to_owned());
    };
    // The host's own variable has no scheme.
    let base = if base.contains("://") { base } else { format!("https://{base}") };
    let url = base.trim_end_matches('/');
    let url = url.strip_suffix("/chat/completions").unwrap_or(url);
    let host = url.find("://").map_or(0, |at| at + 3);
    let root = url[..url[host..].find('/').map_or(url.len(), |at| host + at)].to_owned();
    if has_no_path(url) || url.ends_with("/serving-endpoints") {
        account.base = Some(format!("{root}/serving-endpoints"));
    } else {
        // A gateway of the workspace, which has OpenAI's paths.
        account.base = Some(url.to_owned());
        account.path = Some(Path::OWN);
    }
    if !account.keys.is_empty() {
        return Ok(account);
    }
    let cloud = reading.cloud;
    let client_id = reading.plain(cloud.client_id.as_ref(), &["DATABRICKS_CLIENT_ID"]);
    let client_secret = reading.secret(cloud.client_secret.as_ref(), &["DATABRICKS_CLIENT_SECRET"]);
    let (Some(client_id), Some(client_secret)) = (client_id, client_secret) else {
        return Err("no key: set api_key or DATABRICKS_API_KEY, or a service principal (cloud.client_id, \
                    cloud.client_secret, or DATABRICKS_CLIENT_ID and DATABRICKS_CLIENT_SECRET)"
            .to_owned());
    };
    let url = reading.plain(cloud.token_url.as_ref(), &[]).unwrap_or_else(|| format!("{root}/oidc/v1/token"));
    account.credential = renewed(Grant::Databricks { url, client_id, client_secret });
    Ok(account)
}

/// GitHub Copilot: the token of the device flow is exchanged for one that is good for half an hour.
fn copilot(reading: &mut Reading<'_>, mut account: Account, base: Option<String>) -> Account {
    account.base = base;
    let is_githubs =
        |key: &SecretString| ["gho_", "ghu_", "ghp_", "github_pat_"].iter().any(|p| key.expose_secret().starts_with(p));
    if account.keys.first().is_some_and(is_githubs)
        && let Some(token) = account.keys.pop()
    {
        account.keys.clear();
        reading.shown.push(token.clone());
        let url = reading.plain(reading.cloud.token_url.as_ref(), &["GITHUB_COPILOT_API_KEY_URL"]);
        let url = url.unwrap_or_else(|| "https://api.github.com/copilot_internal/v2/token".to_owned());
        account.credential = renewed(Grant::Copilot { url, token });
    }
    account
}

fn has_no_path(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.trim_end_matches('/').find('/').is_none()
}

fn read(path: &PathBuf, what: &str) -> Result<SecretString, String> {
    std::fs::read_to_string(path).map(SecretString::from).map_err(|e| format!("{what}: {}: {e}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(cloud: Cloud, upstream: &str, base: &str, own: CloudAccount) -> Result<Account, String> {
        let model = Model { cloud: own, ..Model::default() };
        let base = Some(base.to_owned()).filter(|base| !base.is_empty());
        account(cloud, &model, upstream, base, vec!["key-0123".into()], &Secrets::default())
    }

    #[test]
    fn azures_addresses_come_in_many_forms() {
        for (base, version, expected) in [
            (
                "https://r.openai.azure.com",
                None,
                "openai/deployments/d/chat/completions?api-version=2025-02-01-preview",
            ),
            (
                "https://r.openai.azure.com/",
                Some("2024-10-21"),
                "openai/deployments/d/chat/completions?api-version=2024-10-21",
            ),
            (
                "https://r.openai.azure.com/openai/deployments/x/chat/completions?api-version=2024-06-01",
                None,
                "openai/deployments/d/chat/completions?api-version=2024-06-01",
            ),
            ("https://r.openai.azure.com/openai/v1/", None, "openai/v1/chat/completions"),
            ("https://r.openai.azure.com", Some("v1"), "openai/v1/chat/completions"),
            ("https://r.openai.azure.com", Some("preview"), "openai/v1/chat/completions?api-version=preview"),
        ] {
            let own = CloudAccount { api_version: version.map(str::to_owned), ..CloudAccount::default() };
            let made = of(Cloud::Azure, "d", base, own).unwrap();
            let place =
                crate::route::Place { base: made.base.unwrap(), path: made.path, auth: None, query: made.query };
            let provider = crate::provider::compatible::find("azure").unwrap();
            let url = place.url(provider.dialect("d"), crate::provider::Endpoint::Call, "d");
            assert_eq!(url, format!("https://r.openai.azure.com/{expected}"), "{base}");
        }
        let own = CloudAccount { api_version: Some("x&y".to_owned()), ..CloudAccount::default() };
        assert!(of(Cloud::Azure, "d", "https://r.openai.azure.com", own).is_err());
    }

    #[test]
    fn vertex_lives_where_its_project_does() {
        for (region, expected) in [
            (None, "https://us-central1-aiplatform.googleapis.com/v1beta1/projects/p/locations/us-central1"),
            (Some("global"), "https://aiplatform.googleapis.com/v1beta1/projects/p/locations/global"),
            (Some("eu"), "https://aiplatform.eu.rep.googleapis.com/v1beta1/projects/p/locations/eu"),
        ] {
            let own = CloudAccount {
                project: Some("p".to_owned()),
                region: region.map(str::to_owned),
                ..CloudAccount::default()
            };
            assert_eq!(of(Cloud::Google, "gemini-x", "", own).unwrap().base.as_deref(), Some(expected));
        }
        let express = of(Cloud::Google, "gemini-x", "", CloudAccount::default()).unwrap();
        assert_eq!(express.base.as_deref(), Some("https://aiplatform.googleapis.com/v1beta1"));
    }

    #[test]
    fn a_model_may_say_where_it_runs() {
        let made = of(Cloud::Aws, "us-east-1/amazon.nova-pro-v1:0", "", CloudAccount::default()).unwrap();
        assert_eq!(made.base.as_deref(), Some("https://bedrock-runtime.us-east-1.amazonaws.com"));
        assert_eq!(made.model, "amazon.nova-pro-v1:0");
    }
}
