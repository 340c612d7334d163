//! `limits.redis` and `limits.redis_*`: where several gateways count rates together.

use super::file::limits::{Limits as Written, Port};
use super::{Mode, look_up};
use crate::secret::{Secrets, Written as Text};
use secrecy::{ExposeSecret, SecretString};
use std::path::PathBuf;

/// Redis or Valkey.
#[derive(Debug, Clone)]
pub struct Redis {
    pub place: Place,
    /// Certificates that are trusted in the place of the system's.
    pub ca_file: Option<PathBuf>,
}

impl Redis {
    pub fn is_same(&self, other: &Redis) -> bool {
        let parts = |redis: &Redis| match &redis.place {
            Place::Url(url) => (url.expose_secret().to_owned(), 0, None, None, 0, false),
            Place::Host { host, port, username, password, db, tls } => {
                let password = password.as_ref().map(|password| password.expose_secret().to_owned());
                (host.clone(), *port, username.clone(), password, *db, *tls)
            }
        };
        parts(self) == parts(other) && self.ca_file == other.ca_file
    }
}

#[derive(Debug, Clone)]
pub enum Place {
    Url(SecretString),
    Host { host: String, port: u16, username: Option<String>, password: Option<SecretString>, db: i64, tls: bool },
}

const USUAL_PORT: u16 = 6379;
const SCHEMES: [&str; 7] =
    ["redis://", "rediss://", "valkey://", "valkeys://", "unix://", "redis+unix://", "valkey+unix://"];

pub(super) fn resolve(written: &Written, secrets: &Secrets, mode: Mode, errors: &mut Vec<String>) -> Option<Redis> {
    let mut find = |name: &str, text: Option<&Text>| {
        let text = text?;
        let found = look_up(text, secrets);
        if let (None, Some(variable), Mode::Live) = (&found, text.reference(), mode) {
            errors
                .push(format!("limits.{name}: the variable {variable} is not set in the env file or the environment"));
        }
        found
    };
    let url = find("redis", written.redis.as_ref());
    let host = find("redis_host", written.redis_host.as_ref());
    let username = find("redis_username", written.redis_username.as_ref());
    let password = find("redis_password", written.redis_password.as_ref());
    let port = match &written.redis_port {
        None => Some(USUAL_PORT),
        Some(Port::Number(port)) => Some(*port),
        Some(Port::Reference(text)) => {
            let found = find("redis_port", Some(text));
            let port = found.as_ref().and_then(|port| port.expose_secret().trim().parse().ok());
            if port.is_none() && (found.is_some() || text.reference().is_none()) {
                errors.push("limits.redis_port: it is no number of a port".to_owned());
            }
            port
        }
    };
    let has_parts = [&written.redis_username, &written.redis_password].iter().any(|part| part.is_some())
        || written.redis_port.is_some()
        || written.redis_db.is_some()
        || written.redis_tls;
    if written.redis.is_some() && (has_parts || written.redis_host.is_some()) {
        errors.push("limits.redis: an address says all; leave redis_host and the other parts out".to_owned());
    } else if written.redis_host.is_none() && has_parts {
        errors.push("limits.redis_host: the parts of an address need a host".to_owned());
    }
    let place = match (url, host) {
        (Some(url), _) => Place::Url(url),
        (None, Some(host)) => Place::Host {
            host: host.expose_secret().trim_matches(['[', ']']).to_owned(),
            port: port.unwrap_or(USUAL_PORT),
            username: username.map(|name| name.expose_secret().to_owned()),
            password,
            db: written.redis_db.map_or(0, i64::from),
            tls: written.redis_tls,
        },
        (None, None) => return None,
    };
    let is_tls = match &place {
        Place::Host { tls, .. } => *tls,
        Place::Url(url) => {
            let url = url.expose_secret();
            // Its value may hold a password, so it is not repeated.
            if mode == Mode::Live && !SCHEMES.iter().any(|scheme| url.starts_with(scheme)) {
                errors.push(
                    "limits.redis: it is no address such as `redis://:PASSWORD@host:6379/0`, `rediss://...` for TLS, or `unix:///run/redis.sock`"
                        .to_owned(),
                );
            }
            url.starts_with("rediss://") || url.starts_with("valkeys://")
        }
    };
    if let (Some(path), Mode::Live) = (&written.redis_ca_file, mode) {
        match crate::upstream::tls::check_ca(path) {
            Err(why) => errors.push(format!("limits.redis_ca_file: {why}")),
            Ok(()) if !is_tls => {
                errors.push(
                    "limits.redis_ca_file: without TLS (`rediss://`, `redis_tls`) nothing is checked with it"
                        .to_owned(),
                );
            }
            Ok(()) => (),
        }
    }
    Some(Redis { place, ca_file: written.redis_ca_file.clone() })
}
