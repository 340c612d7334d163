//! TLS towards upstreams: the system's certificate authorities, and one more where the operator names it.
//!
//! Nothing is read before the first https upstream is called (or the warm-up after the start), so that a start needs
//! no certificates.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// The TLS configurations in use, one per additional authority.
#[derive(Default)]
pub struct TlsConfigs {
    made: Mutex<HashMap<Option<PathBuf>, Arc<ClientConfig>>>,
}

impl TlsConfigs {
    /// The configuration that trusts the system's authorities and the one in `ca_file`.
    ///
    /// # Errors
    /// A text that names the file and what is wrong with it.
    pub fn get(&self, ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, String> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let name = ca_file.map(Path::to_owned);
        if let Some(config) = made.get(&name) {
            return Ok(config.clone());
        }
        let config = Arc::new(build(ca_file)?);
        made.insert(name, config.clone());
        Ok(config)
    }

    /// Forgets what was read, so that renewed files are read again.
    pub fn clear(&self) {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// The authorities of the system.
fn of_system() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    for error in &system.errors {
        tracing::warn!("a certificate of this system cannot be read: {error}");
    }
    roots.add_parsable_certificates(system.certs);
    roots
}

/// Those in this file and no others, or those of the system.
///
/// # Errors
/// A text that names the file and what is wrong with it, or that there are none.
pub fn authorities(file: Option<&Path>) -> Result<RootCertStore, String> {
    let Some(path) = file else {
        let roots = of_system();
        return if roots.is_empty() { Err(NONE.to_owned()) } else { Ok(roots) };
    };
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(read(path)?);
    if roots.is_empty() { Err(format!("{}: no certificate in it can be used", path.display())) } else { Ok(roots) }
}

const NONE: &str =
    "This system has no certificate authorities (install ca-certificates), so that nobody can be trusted.";

fn build(ca_file: Option<&Path>) -> Result<ClientConfig, String> {
    let mut roots = of_system();
    if let Some(path) = ca_file {
        roots.add_parsable_certificates(read(path)?);
    }
    if roots.is_empty() {
        return Err("This system has no certificate authorities (install ca-certificates), so no https upstream can be trusted.".to_owned());
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| format!("TLS cannot be set up: {e}"))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    // HTTP/1.1 costs less per call than HTTP/2 and streams as well.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Whether the file holds certificates.
///
/// # Errors
/// A text that names the file and what is wrong with it.
pub fn check_ca(path: &Path) -> Result<(), String> {
    read(path).map(drop)
}

fn read(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let name = path.display();
    let certificates: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(path).map_err(|e| format!("{name}: {e}"))?.collect();
    let certificates = certificates.map_err(|e| format!("{name}: {e}"))?;
    if certificates.is_empty() { Err(format!("{name} holds no PEM certificate")) } else { Ok(certificates) }
}
