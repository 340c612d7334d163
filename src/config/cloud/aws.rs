//! Bedrock, and whose keys sign for it.

use super::{Account, Reading, read};
use crate::config::look_up;
use crate::provider::bedrock;
use crate::provider::credential::Grant;
use crate::provider::sigv4::Keys;
use crate::upstream::credentials::{AwsKeys, Credential, Source};
use secrecy::{ExposeSecret, SecretString};
use std::path::PathBuf;

/// Bedrock: a key of its own, or whatever the AWS programs would sign with.
pub(super) fn account(
    reading: &mut Reading<'_>,
    mut account: Account,
    base: Option<String>,
) -> Result<Account, String> {
    let cloud = reading.cloud;
    let named = bedrock::named(&account.model);
    let written = reading.plain(cloud.region.as_ref(), &["AWS_REGION_NAME", "AWS_REGION", "AWS_DEFAULT_REGION"]);
    let region = named.region.map(str::to_owned).or(written).unwrap_or_else(|| "us-west-2".to_owned());
    account.model = named.id.to_owned();
    let suffix = if region.starts_with("cn-") { ".cn" } else { "" };
    let own = format!("https://bedrock-runtime.{region}.amazonaws.com{suffix}");
    account.base = Some(base.unwrap_or(own));
    if account.keys.is_empty() {
        let keys = keys(reading, &region, suffix)?;
        account.credential = Some(Credential::Aws { keys, region, service: "bedrock" });
    }
    Ok(account)
}

fn keys(reading: &mut Reading<'_>, region: &str, suffix: &str) -> Result<AwsKeys, String> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_of_the_credentials_file_is_read() {
        let text = "[default]\naws_access_key_id = A\naws_secret_access_key=B\n[work]\naws_access_key_id=C\naws_secret_access_key = D=\naws_session_token=E\n";
        assert_eq!(section(text, "default").unwrap().id, "A");
        let work = section(text, "work").unwrap();
        assert_eq!((work.id.as_str(), work.secret.expose_secret()), ("C", "D="));
        assert!(work.session.is_some() && section(text, "other").is_none());
    }
}
