//! Where a deployment is: the address as it was written, made whole.

use crate::provider::{Language, Quirks};
use crate::secret::Secrets;
use actix_web::http::Uri;
use secrecy::ExposeSecret;
use std::path::PathBuf;

/// An operator's base URL that has no path gets the provider's.
pub(super) fn with_path(base: String, quirks: &Quirks) -> String {
    let path = quirks.base_path;
    let bare = base.trim_end_matches('/');
    if quirks.cloud.is_some() {
        return base;
    }
    if quirks.language == Language::Ollama {
        // Of its OpenAI face, of its own API, or of a whole route: its root is meant.
        let ends = ["/v1/chat/completions", "/v1", "/api/chat", "/api"];
        let root = ends.iter().find_map(|end| bare.strip_suffix(end));
        return root.unwrap_or(bare).to_owned();
    }
    if quirks.language == Language::ElevenLabs {
        // The version is a part of each path.
        return bare.strip_suffix("/v1").unwrap_or(bare).to_owned();
    }
    if quirks.language == Language::Anthropic {
        let bare = bare.strip_suffix("/messages").unwrap_or(bare);
        return if bare.ends_with(path) { bare.to_owned() } else { format!("{bare}{path}") };
    }
    match bare.split_once("://") {
        Some((_, host)) if !host.contains('/') => format!("{bare}{path}"),
        _ => base,
    }
}

/// Puts variables in the place of `{NAME}`; the error is the name that is not set.
pub(super) fn fill_names(base: &str, secrets: &Secrets) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = base;
    while let Some((before, after)) = rest.split_once('{') {
        let Some((name, after)) = after.split_once('}') else { break };
        out.push_str(before);
        out.push_str(secrets.get(name).ok_or(name)?.expose_secret());
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

/// The socket, if any, and the URL of a base without a slash at its end, and without the `route` that users paste.
pub(super) fn parse_base(base: &str, route: Option<&str>) -> Result<(Option<PathBuf>, String), String> {
    let (socket, url) = match base.strip_prefix("unix:") {
        Some(rest) => {
            let (path, prefix) = rest.split_once(':').unwrap_or((rest, ""));
            if !path.starts_with('/') {
                return Err("the path of a unix socket must be absolute: `unix:/run/model.sock`".to_owned());
            }
            (
                Some(PathBuf::from(path)),
                format!(
                    "http://localhost{}{prefix}",
                    if prefix.is_empty() || prefix.starts_with('/') { "" } else { "/" }
                ),
            )
        }
        None => (None, base.to_owned()),
    };
    let uri: Uri = url.parse().map_err(|_| "it is not a URL".to_owned())?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err("it must begin with `http://`, `https://` or `unix:/`".to_owned());
    }
    if uri.query().is_some() || uri.authority().is_none_or(|a| a.as_str().contains('@')) {
        return Err("it must have a host, and neither a user nor a query".to_owned());
    }
    let trimmed = url.trim_end_matches('/');
    let pasted = route.and_then(|route| trimmed.strip_suffix(route)?.strip_suffix('/'));
    Ok((socket, pasted.unwrap_or(trimmed).to_owned()))
}

/// The base as it may be shown.
pub(super) fn shown_base(base: &str) -> String {
    base.trim_end_matches('/').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bases_become_routes() {
        let route = |base: &str| parse_base(base, Some("chat/completions"));
        assert_eq!(route("http://h:1/v1/").unwrap(), (None, "http://h:1/v1".to_owned()));
        assert_eq!(route("https://h/v1/chat/completions").unwrap().1, "https://h/v1");
        assert_eq!(
            route("unix:/run/m.sock:/v1").unwrap(),
            (Some("/run/m.sock".into()), "http://localhost/v1".to_owned())
        );
        for bad in ["h:1", "ftp://h", "http://u:p@h/v1", "http://h/v1?x=1", "unix:run", ""] {
            assert!(route(bad).is_err(), "{bad}");
        }
    }
}
