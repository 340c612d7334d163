//! The place and the credentials of a cloud's model, from what the file says of the account and from the variables that
//! the clouds' own programs read.
//!
//! Nothing is asked over the network here; files with credentials are read.

use super::look_up;
use crate::config::file::{CloudAccount, Model};
use crate::provider::credential::Grant;
use crate::provider::sigv4::Keys;
use crate::provider::{Auth, Cloud, Path, bedrock};
use crate::secret::{Secrets, Written};
use crate::upstream::credentials::{AwsKeys, Credential, Source};
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
        Cloud::Google => google(&mut reading, start, base)?,
        Cloud::Aws => aws(&mut reading, start, base)?,
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

/// Vertex AI: a key, a service account, one's own credentials, or the machine's.
fn google(reading: &mut Reading<'_>, mut account: Account, base: Option<String>) -> Result<Account, String> {
    let cloud = reading.cloud;
    let mut project =
        reading.plain(cloud.project.as_ref(), &["VERTEXAI_PROJECT", "VERTEX_PROJECT", "GOOGLE_CLOUD_PROJECT"]);
    if account.keys.is_empty() {
        let (grant, own_project) = google_grant(reading)?;
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

fn google_grant(reading: &mut Reading<'_>) -> Result<(Grant, Option<String>), String> {
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

/// Bedrock: a key of its own, or whatever the AWS programs would sign with.
fn aws(reading: &mut Reading<'_>, mut account: Account, base: Option<String>) -> Result<Account, String> {
    let cloud = reading.cloud;
    let named = bedrock::named(&account.model);
    let written = reading.plain(cloud.region.as_ref(), &["AWS_REGION_NAME", "AWS_REGION", "AWS_DEFAULT_REGION"]);
    let region = named.region.map(str::to_owned).or(written).unwrap_or_else(|| "us-west-2".to_owned());
    account.model = named.id.to_owned();
    let suffix = if region.starts_with("cn-") { ".cn" } else { "" };
    let own = format!("https://bedrock-runtime.{region}.amazonaws.com{suffix}");
    account.base = Some(base.unwrap_or(own));
    if account.keys.is_empty() {
        let keys = aws_keys(reading, &region, suffix)?;
        account.credential = Some(Credential::Aws { keys, region, service: "bedrock" });
    }
    Ok(account)
}

fn aws_keys(reading: &mut Reading<'_>, region: &str, suffix: &str) -> Result<AwsKeys, String> {
    let cloud = reading.cloud;
    let sts = || format!("https://sts.{region}.amazonaws.com{suffix}/");
    let url = reading.plain(cloud.token_url.as_ref(), &["AWS_ENDPOINT_URL_STS"]).unwrap_or_else(sts);
    let session = reading.plain(cloud.role_session.as_ref(), &["AWS_ROLE_SESSION_NAME"]);
    let session = session.unwrap_or_else(|| "gateway".to_owned());
    let role = reading.plain(cloud.role.as_ref(), &["AWS_ROLE_ARN"]);
    let file = cloud.web_identity_file.clone();
    let file = file.or_else(|| reading.variable("AWS_WEB_IDENTITY_TOKEN_FILE").map(PathBuf::from));
    if let (Some(role), Some(file), None) = (&role, file, &cloud.access_key_id) {
        let grant = Grant::AwsFile { url, role: role.clone(), session, file };
        return Ok(AwsKeys::Renewed(Box::new(Source::new(grant))));
    }
    let keys = match own_keys(reading)? {
        Some(keys) => keys,
        None => return Ok(AwsKeys::Renewed(Box::new(Source::new(machine_keys(reading))))),
    };
    // A role in the environment belongs to the web identity beside it.
    match cloud.role.as_ref().and(role) {
        Some(role) => {
            let external_id = reading.plain(cloud.external_id.as_ref(), &[]);
            let region = region.to_owned();
            Ok(AwsKeys::Renewed(Box::new(Source::new(Grant::AwsRole {
                url,
                region,
                role,
                session,
                external_id,
                keys,
            }))))
        }
        None => Ok(AwsKeys::Own(keys)),
    }
}

/// Keys that are written down: in the file, in the environment, or in AWS's own file.
fn own_keys(reading: &mut Reading<'_>) -> Result<Option<Keys>, String> {
    let cloud = reading.cloud;
    if let Some(id) = &cloud.access_key_id {
        let Some(id) = look_up(id, reading.secrets) else { return Ok(None) };
        let Some(secret) = reading.secret(cloud.secret_access_key.as_ref(), &[]) else {
            return Err("cloud.access_key_id is set, and cloud.secret_access_key is not".to_owned());
        };
        let session = reading.secret(cloud.session_token.as_ref(), &[]);
        return Ok(Some(Keys { id: id.expose_secret().trim().to_owned(), secret, session }));
    }
    if cloud.profile.is_none()
        && let (Some(id), Some(secret)) =
            (reading.variable("AWS_ACCESS_KEY_ID"), reading.secret(None, &["AWS_SECRET_ACCESS_KEY"]))
    {
        let session = reading.secret(None, &["AWS_SESSION_TOKEN"]);
        return Ok(Some(Keys { id, secret, session }));
    }
    let path = reading.variable("AWS_SHARED_CREDENTIALS_FILE").map(PathBuf::from);
    let Some(path) = path.or_else(|| reading.home(".aws/credentials")) else {
        return match &cloud.profile {
            Some(profile) => Err(format!("cloud.profile is `{profile}`, and there is no file ~/.aws/credentials")),
            None => Ok(None),
        };
    };
    let profile = reading.plain(cloud.profile.as_ref(), &["AWS_PROFILE"]);
    let name = profile.as_deref().unwrap_or("default");
    let text = read(&path, "AWS's credentials")?;
    match section(text.expose_secret(), name) {
        Some(keys) => {
            reading.shown.push(keys.secret.clone());
            reading.shown.extend(keys.session.clone());
            Ok(Some(keys))
        }
        None if profile.is_some() => Err(format!("{} holds no keys for the profile `{name}`", path.display())),
        None => Ok(None),
    }
}

/// The keys of a section of AWS's credentials file.
fn section(text: &str, name: &str) -> Option<Keys> {
    let (mut inside, mut id, mut secret, mut session) = (false, None, None, None);
    for line in text.lines().map(str::trim) {
        if let Some(title) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            inside = title.trim() == name;
        } else if let (true, Some((key, value))) = (inside, line.split_once('=')) {
            let value = value.trim().to_owned();
            match key.trim() {
                "aws_access_key_id" => id = Some(value),
                "aws_secret_access_key" => secret = Some(SecretString::from(value)),
                "aws_session_token" => session = Some(SecretString::from(value)),
                _ => (),
            }
        }
    }
    Some(Keys { id: id?, secret: secret?, session })
}

/// The role of the container or the instance that the gateway runs in.
fn machine_keys(reading: &mut Reading<'_>) -> Grant {
    let full = reading.variable("AWS_CONTAINER_CREDENTIALS_FULL_URI");
    let relative = reading.variable("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
    if let Some(url) = full.or_else(|| relative.map(|path| format!("http://169.254.170.2{path}"))) {
        let file = reading.variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE").map(PathBuf::from);
        let token = reading.secret(None, &["AWS_CONTAINER_AUTHORIZATION_TOKEN"]);
        return Grant::AwsContainer { url, token, file };
    }
    let own = reading.plain(reading.cloud.metadata_url.as_ref(), &["AWS_EC2_METADATA_SERVICE_ENDPOINT"]);
    let url = own.unwrap_or_else(|| "http://169.254.169.254".to_owned());
    Grant::AwsInstance { url: url.trim_end_matches('/').to_owned() }
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

    #[test]
    fn a_section_of_the_credentials_file_is_read() {
        let text = "[default]\naws_access_key_id = A\naws_secret_access_key=B\n[work]\naws_access_key_id=C\naws_secret_access_key = D=\naws_session_token=E\n";
        assert_eq!(section(text, "default").unwrap().id, "A");
        let work = section(text, "work").unwrap();
        assert_eq!((work.id.as_str(), work.secret.expose_secret()), ("C", "D="));
        assert!(work.session.is_some() && section(text, "other").is_none());
    }
}
