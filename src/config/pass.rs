//! Paths that lead to other APIs, checked.

use super::file::PassThrough;
use super::{Mode, look_up};
use crate::route::Transport;
use crate::secret::{Secrets, Written};
use actix_web::http::Uri;
use actix_web::http::header::{self, HeaderName, HeaderValue};
use secrecy::ExposeSecret;
use std::time::Duration;

/// A path whose requests go on to another address.
#[derive(Debug, Clone)]
pub struct Passage {
    /// Without a slash at its end.
    pub path: String,
    /// A URL without a slash at its end and without a query.
    pub target: String,
    pub authority: String,
    pub transport: Transport,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// What lies below the path leads below the target.
    pub below: bool,
    pub asks_key: bool,
    pub cost_nanos: u64,
}

impl Passage {
    /// What stands behind the path, where it is this passage's; empty, or with a slash at its beginning.
    fn rest<'a>(&self, path: &'a str) -> Option<&'a str> {
        let rest = path.strip_prefix(&*self.path)?;
        (rest.is_empty() || (self.below && rest.starts_with('/'))).then_some(rest)
    }

    /// The URL of a request behind the path; none where it would lead anywhere else than below the target.
    pub fn url(&self, rest: &str, query: Option<&str>) -> Option<Uri> {
        below(&self.target, &self.authority, rest, query)
    }
}

/// The URL of what lies below a target; none where it would lead anywhere else.
pub fn below(target: &str, authority: &str, rest: &str, query: Option<&str>) -> Option<Uri> {
    let lower = rest.to_ascii_lowercase().replace("%2e", ".").replace("%2f", "/").replace("%5c", "\\");
    if lower.split(['/', '\\']).any(|part| matches!(part, "." | "..")) {
        return None;
    }
    let url: Uri = match query {
        Some(query) => format!("{target}{rest}?{query}").parse().ok()?,
        None => format!("{target}{rest}").parse().ok()?,
    };
    (url.authority()?.as_str() == authority).then_some(url)
}

/// The passage of a path, and what stands behind it. The longest path wins.
pub fn find<'a, 'p>(passages: &'a [Passage], path: &'p str) -> Option<(&'a Passage, &'p str)> {
    let all = passages.iter().filter_map(|passage| Some((passage, passage.rest(path)?)));
    all.max_by_key(|(passage, _)| passage.path.len())
}

/// Checks all of them.
pub fn resolve(
    written: &[PassThrough],
    secrets: &Secrets,
    mode: Mode,
    errors: &mut Vec<String>,
    warnings: &mut Vec<String>,
) -> Vec<Passage> {
    let mut passages: Vec<Passage> = Vec::new();
    for (place, entry) in written.iter().enumerate() {
        let at = format!("pass_through[{place}]");
        let path = entry.path.trim_end_matches('/').to_owned();
        if !path.starts_with('/')
            || path.len() > 256
            || !path.bytes().all(|b| b.is_ascii_alphanumeric() || b"/-._~".contains(&b))
        {
            errors
                .push(format!("{at}.path: it must begin with a slash and hold letters, digits, `-`, `.`, `_` and `~`"));
            continue;
        }
        if passages.iter().any(|other| other.path == path) {
            errors.push(format!("{at}.path: {path} is there already"));
            continue;
        }
        if crate::http::all().any(|(_, route)| route == path) {
            warnings.push(format!(
                "{at}.path: the gateway serves {path} itself, so this entry has no effect; choose another path"
            ));
            continue;
        }
        let target = entry.target.trim_end_matches('/').to_owned();
        let uri = target.parse::<Uri>().ok().filter(|uri| matches!(uri.scheme_str(), Some("http" | "https")));
        let authority = uri.as_ref().and_then(|uri| Some(uri.authority()?.as_str().to_owned()));
        let (Some(uri), Some(authority)) = (uri, authority.filter(|a| !a.contains('@'))) else {
            errors.push(format!("{at}.target: it must be a URL, http:// or https://, without a user"));
            continue;
        };
        if uri.query().is_some() {
            errors.push(format!("{at}.target: it must have no query"));
            continue;
        }
        let mut headers = Vec::new();
        for (name, value) in &entry.headers {
            let Ok(header) = HeaderName::from_bytes(name.as_bytes()) else {
                errors.push(format!("{at}.headers.{name}: not a header name"));
                continue;
            };
            if is_of_connection(&header) {
                errors.push(format!("{at}.headers.{name}: it belongs to the connection"));
                continue;
            }
            match text(value, secrets) {
                None if mode == Mode::Offline => (),
                None => warnings.push(format!("{at}.headers.{name}: the variable is not set; the header is left out")),
                Some(text) => match HeaderValue::from_str(&text) {
                    Ok(mut value) => {
                        value.set_sensitive(true);
                        headers.push((header, value));
                    }
                    Err(_) => errors.push(format!("{at}.headers.{name}: its value cannot stand in a header")),
                },
            }
        }
        let cost = entry.cost_per_request.unwrap_or(0.0);
        if !(0.0..=1e6).contains(&cost) {
            errors.push(format!("{at}.cost_per_request: {cost} is no amount of dollars"));
            continue;
        }
        let asks_key = entry.auth != Some(false);
        if !asks_key {
            warnings.push(format!("{at}: {path} is open to whoever reaches the gateway, without a key (auth = false)"));
        }
        passages.push(Passage {
            path,
            transport: Transport {
                socket: None,
                tls: uri.scheme_str() == Some("https"),
                ca_file: None,
                connect_timeout: Duration::from_secs(10),
            },
            target,
            authority,
            headers,
            below: entry.include_subpath,
            asks_key,
            cost_nanos: (cost * 1e9).round() as u64,
        });
    }
    passages
}

/// Headers that are about one connection, or about the length of a body on it.
pub fn is_of_connection(name: &HeaderName) -> bool {
    [
        header::HOST,
        header::CONNECTION,
        header::CONTENT_LENGTH,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
        header::TE,
        header::TRAILER,
        header::EXPECT,
    ]
    .contains(name)
        || matches!(name.as_str(), "keep-alive" | "proxy-connection" | "proxy-authorization" | "proxy-authenticate")
}

/// A value that is a text, a reference, or a word and a reference.
fn text(written: &Written, secrets: &Secrets) -> Option<String> {
    if let Some((word, last)) = written.0.rsplit_once(' ') {
        let last = Written(last.to_owned());
        if last.reference().is_some() {
            return look_up(&last, secrets).map(|value| format!("{word} {}", value.expose_secret()));
        }
    }
    look_up(written, secrets).map(|value| value.expose_secret().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passages(entries: &[PassThrough]) -> (Vec<Passage>, Vec<String>) {
        let (mut errors, mut warnings) = (Vec::new(), Vec::new());
        (resolve(entries, &Secrets::none(), Mode::Live, &mut errors, &mut warnings), errors)
    }

    fn entry(path: &str, target: &str, include_subpath: bool) -> PassThrough {
        PassThrough { path: path.into(), target: target.into(), include_subpath, ..PassThrough::default() }
    }

    #[test]
    fn nothing_leads_out_of_the_target() {
        let (passages, errors) =
            passages(&[entry("/a", "https://x.example/v1/", true), entry("/a/b", "http://y.example", false)]);
        assert!(errors.is_empty(), "{errors:?}");
        let at = |path: &str, query: Option<&str>| {
            let (passage, rest) = find(&passages, path)?;
            passage.url(rest, query).map(|url| url.to_string())
        };
        assert_eq!(at("/a", None).as_deref(), Some("https://x.example/v1"));
        assert_eq!(at("/a/c/d", Some("q=1")).as_deref(), Some("https://x.example/v1/c/d?q=1"));
        assert_eq!(at("/a/b", None).as_deref(), Some("http://y.example/"));
        assert_eq!(at("/a/b/c", None).as_deref(), Some("https://x.example/v1/b/c"));
        assert_eq!(at("/a//evil.example/x", None).as_deref(), Some("https://x.example/v1//evil.example/x"));
        for path in ["/ab", "/a/../x", "/a/%2e%2E/x", "/a/x/..%2fy", "/a/..\\x", "/b", "/a@evil.example"] {
            assert_eq!(at(path, None), None, "{path}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (path, target) in [
            ("a", "https://x.example"),
            ("/", "https://x.example"),
            ("/a", "ftp://x.example"),
            ("/a", "https://user@x.example"),
            ("/a", "https://x.example?q"),
        ] {
            assert_eq!(passages(&[entry(path, target, false)]).1.len(), 1, "{path} {target}");
        }
    }
}
