//! Postgres that goes away, is busy, or speaks TLS.

use super::*;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use secrecy::SecretString;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, UnixStream};
use tokio::runtime::Handle;

fn connect(url: &str) -> Result<Store> {
    Store::postgres(&read_url(&SecretString::from(url))?, Handle::current())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_the_server_closed_are_made_anew() {
    let Some(url) = engines::schema_url(6) else { return };
    let name = format!("app_{:x}", rand::random::<u64>());
    let store = connect(&format!("{url}&application_name={name}")).unwrap();
    let killer = connect(&url).unwrap();
    store.migrate(NOW).await.unwrap();
    for round in 0..5 {
        let calls = (0..6).map(|n| {
            let store = store.clone();
            async move { store.book(&[call(NOW, round * 10 + n)]).await }
        });
        for booked in futures_util::future::join_all(calls).await {
            booked.unwrap();
        }
        let sql = "SELECT CAST(COUNT(*) AS BIGINT) FROM (SELECT pg_terminate_backend(pid, 5000) AS done \
                   FROM pg_stat_activity WHERE application_name = $1) AS killed WHERE done";
        let killed = killer.db.read(sql, records::id(&name)).await.unwrap().rows.pop().unwrap();
        assert!(killed.one::<i64>().unwrap() > 0);
        // Whether the end of a connection was seen yet or not.
        store.health().await.unwrap();
    }
    assert_eq!(store.count_logs(&LogFilter::default(), 100).await.unwrap(), 30);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_in_use_is_waited_for_and_not_forever() {
    let Some(url) = engines::schema_url(1) else { return };
    let store = connect(&format!("{url}&pool_timeout=1")).unwrap();
    store.migrate(NOW).await.unwrap();
    let held = store.db.begin().await.unwrap();
    let began = Instant::now();
    let fault = store.health().await.unwrap_err();
    assert!(fault.is_unavailable() && began.elapsed() < Duration::from_secs(5), "{fault:?}");
    drop(held);
    store.health().await.unwrap();
}

/// A door to the server of the tests that speaks TLS; gives its port.
async fn tls_door(socket: String) -> u16 {
    let file = |name: &str| format!("{}/tests/fixtures/tls/{name}", env!("CARGO_MANIFEST_DIR"));
    let certificates: Vec<_> =
        CertificateDer::pem_file_iter(file("localhost.pem")).unwrap().map(std::result::Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(file("localhost.key")).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (acceptor, socket) = (acceptor.clone(), socket.clone());
            tokio::spawn(async move {
                // https://www.postgresql.org/docs/15/protocol-message-formats.html: SSLRequest.
                let mut asked = [0; 8];
                stream.read_exact(&mut asked).await.unwrap();
                assert_eq!(asked, [0, 0, 0, 8, 4, 210, 22, 47]);
                stream.write_all(b"S").await.unwrap();
                let Ok(mut plain) = acceptor.accept(stream).await else { return };
                let mut server = UnixStream::connect(socket).await.unwrap();
                let _ = copy_bidirectional(&mut plain, &mut server).await;
            });
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_is_spoken_and_the_server_verified_where_asked_for() {
    let Some(url) = engines::schema_url(2) else { return };
    let (_, query) = url.split_once("?host=").unwrap();
    let (home, rest) = query.split_once('&').unwrap();
    let port = tls_door(format!("{home}/.s.PGSQL.5432")).await;
    let tcp =
        |host: &str, more: &str| connect(&format!("postgresql://gateway:unused@{host}:{port}/postgres?{rest}&{more}"));
    let ca = format!("{}/tests/fixtures/tls/ca.pem", env!("CARGO_MANIFEST_DIR"));

    tcp("localhost", &format!("sslmode=verify-full&sslrootcert={ca}")).unwrap().migrate(NOW).await.unwrap();
    tcp("localhost", "sslmode=require").unwrap().health().await.unwrap();
    tcp("localhost", "").unwrap().health().await.unwrap();
    // Signed by nobody that this system knows; and by one that is known, for another name.
    for (host, more) in [("localhost", "sslmode=verify-full".to_owned()), ("127.0.0.1", format!("sslrootcert={ca}"))] {
        let refused = tcp(host, &more).unwrap().health().await.unwrap_err().to_string();
        assert!(refused.contains("certificate") && !refused.contains("unused"), "{refused}");
    }
    let missing = tcp("localhost", "sslrootcert=/nonexistent/ca.pem").unwrap().health().await.unwrap_err();
    assert!(missing.is_unavailable() && missing.to_string().contains("/nonexistent/ca.pem"), "{missing}");
}
