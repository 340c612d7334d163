//! The server side of TLS over blocking sockets, reading and writing from two threads.

use super::link::Link;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection};
use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex};

/// The authority that signed the upstream's certificate.
pub const CA_FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/tls/ca.pem");
pub const CERTIFICATE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/tls/localhost.pem");
pub const KEY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/tls/localhost.key");

type Session = Arc<Mutex<ServerConnection>>;

pub struct Reader {
    session: Session,
    link: Link,
    pending: Vec<u8>,
}

pub struct Writer {
    session: Session,
    link: Link,
}

/// Both halves of a TLS session on an accepted connection.
pub fn split(link: &Link) -> (Reader, Writer) {
    let certificates = CertificateDer::pem_file_iter(CERTIFICATE).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(KEY).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .unwrap();
    let session = Arc::new(Mutex::new(ServerConnection::new(Arc::new(config)).unwrap()));
    let reader = Reader { session: session.clone(), link: link.try_clone().unwrap(), pending: Vec::new() };
    (reader, Writer { session, link: link.try_clone().unwrap() })
}

impl Read for Reader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.pending.is_empty() {
            // The session is not locked while waiting, so that the writer can go on.
            let mut sealed = [0; 16 * 1024];
            let count = self.link.read(&mut sealed)?;
            if count == 0 {
                return Ok(0);
            }
            let mut session = self.session.lock().unwrap();
            let mut sealed = &sealed[..count];
            while !sealed.is_empty() {
                session.read_tls(&mut sealed)?;
                let state = session.process_new_packets().map_err(io::Error::other)?;
                let mut plain = vec![0; state.plaintext_bytes_to_read()];
                session.reader().read_exact(&mut plain)?;
                self.pending.extend(plain);
                if state.peer_has_closed() && self.pending.is_empty() {
                    return Ok(0);
                }
            }
            flush(&mut session, &mut self.link)?;
        }
        let count = buf.len().min(self.pending.len());
        buf[..count].copy_from_slice(&self.pending[..count]);
        self.pending.drain(..count);
        Ok(count)
    }
}

impl Write for Writer {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let mut session = self.session.lock().unwrap();
        let count = session.writer().write(buf)?;
        flush(&mut session, &mut self.link)?;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn flush(session: &mut ServerConnection, link: &mut Link) -> io::Result<()> {
    while session.wants_write() {
        session.write_tls(link)?;
    }
    Ok(())
}
