//! `database_url`: what Postgres, libpq and LiteLLM's Prisma write there.

use crate::store::{Fault, Result};
use secrecy::{ExposeSecret, SecretString};
use std::path::PathBuf;
use std::time::Duration;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

/// A server, and how it is connected to.
#[derive(Clone)]
pub struct Address {
    pub config: Config,
    pub verify: Verify,
    /// The authority that signed the server's certificate, instead of the system's.
    pub root_cert: Option<PathBuf>,
    pub connections: usize,
    pub wait: Duration,
}

/// What is checked of a server's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verify {
    Nothing,
    /// Who signed it.
    Authority,
    /// And that it is for the host that is connected to.
    Name,
}

impl std::fmt::Debug for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Address(..)")
    }
}

/// Enough for what a gateway asks at once; a server has a hundred in all by default.
const CONNECTIONS: usize = 8;
const WAIT: Duration = Duration::from_secs(5);

/// Reads a URL such as `postgresql:///gateway?host=/run/postgresql` (a unix socket, whose peer is who we are) or
/// `postgresql://name:password@host:5432/gateway?sslmode=verify-full`.
///
/// `sslmode` means what it means to libpq (<https://www.postgresql.org/docs/15/libpq-ssl.html>): `verify-ca`, or `require`
/// with a `sslrootcert`, checks who signed the server's certificate, `verify-full` its name too. A `sslrootcert` without
/// a mode is `verify-full`, and so is Prisma's `sslaccept=strict`.
///
/// # Errors
/// What cannot be understood. The URL holds a password, so nothing of it is repeated.
pub fn read(url: &SecretString) -> Result<Address> {
    let url = url.expose_secret().trim();
    let (base, query) = url.split_once('?').unwrap_or((url, ""));
    let form = "is not of the form postgresql://USER:PASSWORD@HOST:PORT/DATABASE; special characters of a password are percent-encoded";
    if !base.starts_with("postgresql://") && !base.starts_with("postgres://") {
        return Err(wrong(form));
    }
    let mut left = Vec::new();
    let (mut mode, mut root_cert, mut options) = (None, None, String::new());
    // Asked for by the mode; by a certificate to check it with; by Prisma, or not.
    let (mut by_mode, mut by_authority, mut strict) = (Verify::Nothing, false, None);
    let (mut connections, mut wait, mut pooled) = (CONNECTIONS, WAIT, false);
    for pair in query.split('&').filter(|p| !p.is_empty()) {
        let (name, written) = pair.split_once('=').unwrap_or((pair, ""));
        let value = percent_encoding::percent_decode_str(written)
            .decode_utf8()
            .map_err(|_| wrong("holds an option that is not UTF-8"))?
            .into_owned();
        match name {
            "sslmode" => {
                mode = Some(match value.as_str() {
                    "disable" => SslMode::Disable,
                    "allow" | "prefer" => SslMode::Prefer,
                    "require" => SslMode::Require,
                    "verify-ca" => {
                        by_mode = Verify::Authority;
                        SslMode::Require
                    }
                    "verify-full" => {
                        by_mode = Verify::Name;
                        SslMode::Require
                    }
                    _ => {
                        return Err(wrong(
                            "has an sslmode other than disable, allow, prefer, require, verify-ca, verify-full",
                        ));
                    }
                });
            }
            "sslrootcert" | "sslcert" if value == "system" => by_authority = true,
            // Prisma's name for the authority is sslcert.
            "sslrootcert" | "sslcert" => {
                by_authority = true;
                root_cert = Some(PathBuf::from(value));
            }
            "sslaccept" => {
                strict = Some(match value.as_str() {
                    "strict" => true,
                    "accept_invalid_certs" => false,
                    _ => return Err(wrong("has a sslaccept other than strict and accept_invalid_certs")),
                });
            }
            "connection_limit" => {
                let many: usize = value.parse().map_err(|_| wrong("has a connection_limit that is not a number"))?;
                connections = many.clamp(1, 64);
            }
            "pool_timeout" => {
                let seconds: u64 = value.parse().map_err(|_| wrong("has a pool_timeout that is not a number"))?;
                wait = Duration::from_secs(seconds.clamp(1, 60));
            }
            "schema" => {
                if value.is_empty() || !value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
                    return Err(wrong("has a schema whose name is not of letters, digits and underscores"));
                }
                options.push_str(&format!(" -csearch_path={value}"));
            }
            "options" => options.push_str(&format!(" {value}")),
            // Prisma's, for its own engine: there is nothing they would change here.
            "statement_cache_size" | "socket_timeout" | "sslidentity" | "sslpassword" => (),
            "pgbouncer" => pooled = value == "true",
            "host"
            | "hostaddr"
            | "port"
            | "user"
            | "password"
            | "dbname"
            | "application_name"
            | "connect_timeout"
            | "keepalives"
            | "keepalives_idle"
            | "keepalives_interval"
            | "keepalives_retries"
            | "tcp_user_timeout"
            | "target_session_attrs"
            | "channel_binding"
            | "load_balance_hosts" => left.push(pair),
            _ => {
                return Err(wrong(
                    "has an option after the `?` that is not known; a `?` or `&` within the password is written %3F or %26",
                ));
            }
        }
    }
    let rest = if left.is_empty() { base.to_owned() } else { format!("{base}?{}", left.join("&")) };
    let mut config: Config = rest.parse().map_err(|_| wrong(form))?;
    if config.get_hosts().is_empty() {
        config.host_path("/run/postgresql");
    }
    let verify = match (by_mode, strict) {
        (Verify::Nothing, Some(false)) => Verify::Nothing,
        (_, Some(true)) => Verify::Name,
        (Verify::Nothing, None) if by_authority && mode == Some(SslMode::Require) => Verify::Authority,
        (Verify::Nothing, None) if by_authority => Verify::Name,
        (asked, _) => asked,
    };
    let local = config.get_hosts().iter().all(|h| matches!(h, Host::Unix(_)));
    config.ssl_mode(match mode {
        // As libpq: no TLS on a unix socket.
        _ if local => SslMode::Disable,
        None if verify != Verify::Nothing => SslMode::Require,
        None => SslMode::Prefer,
        Some(mode) => mode,
    });
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(WAIT);
    }
    config.keepalives_idle(Duration::from_secs(60));
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(Duration::from_secs(30));
    }
    if config.get_application_name().is_none() {
        config.application_name("gateway");
    }
    if !pooled {
        // A transaction whose gateway hangs must not keep its locks, nor a statement run on that nobody waits for.
        // PgBouncer refuses a connection that brings options.
        options.push_str(" -cidle_in_transaction_session_timeout=60s -cstatement_timeout=130s");
    }
    if !options.is_empty() {
        config.options(options.trim());
    }
    Ok(Address { config, verify, root_cert, connections, wait })
}

fn wrong(what: &str) -> Fault {
    Fault::Invalid(format!("database_url {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(url: &str) -> Address {
        read(&SecretString::from(url)).unwrap()
    }

    #[test]
    fn urls_of_postgres_and_of_prisma_are_read() {
        let socket = address("postgresql:///gateway?host=/run/postgresql");
        assert_eq!(socket.config.get_hosts(), [Host::Unix("/run/postgresql".into())]);
        assert_eq!((socket.config.get_ssl_mode(), socket.config.get_dbname()), (SslMode::Disable, Some("gateway")));

        let prisma = address(
            "postgres://llm:p%40ss@db:5433/litellm?schema=litellm&connection_limit=3&pool_timeout=9&sslmode=require&pgbouncer=true",
        );
        assert_eq!(prisma.config.get_password(), Some("p@ss".as_bytes()));
        assert_eq!((prisma.connections, prisma.wait, prisma.verify), (3, Duration::from_secs(9), Verify::Nothing));
        assert_eq!(prisma.config.get_ssl_mode(), SslMode::Require);
        assert!(prisma.config.get_options().unwrap().contains("search_path=litellm"));

        let verified = address("postgresql://a@db/x?sslrootcert=/etc/ca.pem");
        assert_eq!((verified.verify, verified.config.get_ssl_mode()), (Verify::Name, SslMode::Require));
        assert_eq!(address("postgresql://a@db/x").config.get_ssl_mode(), SslMode::Prefer);
        assert_eq!(address("postgresql://").config.get_hosts(), [Host::Unix("/run/postgresql".into())]);
    }

    #[test]
    fn what_is_checked_of_a_certificate_is_what_libpq_and_prisma_check() {
        for (query, checked) in [
            ("sslmode=disable", Verify::Nothing),
            ("sslmode=require", Verify::Nothing),
            ("sslmode=verify-ca", Verify::Authority),
            ("sslmode=verify-full", Verify::Name),
            ("sslmode=require&sslrootcert=/ca.pem", Verify::Authority),
            ("sslrootcert=/ca.pem", Verify::Name),
            ("sslrootcert=system", Verify::Name),
            ("sslmode=require&sslaccept=strict", Verify::Name),
            ("sslmode=require&sslcert=/ca.pem&sslaccept=accept_invalid_certs", Verify::Nothing),
            ("sslmode=verify-full&sslaccept=accept_invalid_certs", Verify::Name),
        ] {
            assert_eq!(address(&format!("postgresql://a@db/x?{query}")).verify, checked, "{query}");
        }
    }

    #[test]
    fn a_broken_url_is_not_repeated() {
        for url in [
            "postgresql://u:hush@db:hush/x",
            "host=db password=hush",
            "postgresql://u:pa?hush=1@db/x",
            "mysql://u:hush@db/x",
            "postgresql://u:hush@db/x?sslmode=hush",
            "postgresql://u:hush@db/x?sslaccept=hush",
            "postgresql://u:hush@db/x?schema=a;hush",
        ] {
            let fault = read(&SecretString::from(url)).unwrap_err().to_string();
            assert!(!fault.contains("hush") && fault.starts_with("database_url"), "{fault}");
        }
    }
}
