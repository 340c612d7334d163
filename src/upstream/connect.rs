//! Connections: TCP without Nagle's delay, or a unix socket.

use super::ends::Watched;
use super::tls::TlsConfigs;
use crate::route::Transport;
use actix_service::fn_service;
use actix_tls::connect::{ConnectError, ConnectInfo, Connection};
use actix_web::http::Uri;
use actix_web::http::uri::Authority;
use awc::{Client, Connector};
use std::io;
use std::rc::Rc;
use std::time::Duration;
use tokio::net::{TcpStream, UnixStream};

/// A client whose connections are of this kind.
///
/// # Errors
/// A text that says which certificates cannot be read.
pub fn client(transport: &Transport, tls: &TlsConfigs, idle: Duration, lifetime: Duration) -> Result<Client, String> {
    macro_rules! finish {
        ($connector:expr) => {{
            let mut connector = Connector::new()
                .connector($connector)
                .limit(0)
                .timeout(transport.connect_timeout)
                .handshake_timeout(transport.connect_timeout)
                .conn_keep_alive(idle)
                .conn_lifetime(lifetime);
            if transport.tls {
                connector = connector.rustls_0_23(tls.get(transport.ca_file.as_deref())?);
            }
            // Time limits are the caller's: they depend on the deployment and on whether the answer is streamed.
            Client::builder().connector(connector).disable_timeout().disable_redirects().no_default_headers().finish()
        }};
    }
    let is_plain = !transport.tls;
    Ok(match &transport.socket {
        None => finish!(fn_service(move |info: ConnectInfo<Uri>| async move {
            let uri = info.request().clone();
            let authority = uri.authority().ok_or(ConnectError::Unresolved)?;
            let stream = tcp(authority, uri.scheme_str() == Some("https")).await.map_err(ConnectError::Io)?;
            Ok::<_, ConnectError>(Connection::new(uri, Watched::new(stream, is_plain)))
        })),
        Some(path) => {
            let path: Rc<std::path::Path> = Rc::from(path.as_path());
            finish!(fn_service(move |info: ConnectInfo<Uri>| {
                let path = path.clone();
                async move {
                    let stream = UnixStream::connect(&*path).await.map_err(ConnectError::Io)?;
                    Ok::<_, ConnectError>(Connection::new(info.request().clone(), Watched::new(stream, is_plain)))
                }
            }))
        }
    })
}

/// Connects to a host, at the port of its scheme where none is named.
///
/// # Errors
/// Its name is not known, or nobody answers there.
pub async fn tcp(authority: &Authority, tls: bool) -> io::Result<TcpStream> {
    let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
    let stream = TcpStream::connect((bare(authority.host()), port)).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A host without the brackets of an address.
pub fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host)
}
