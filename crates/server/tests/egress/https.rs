//! The API over https, and what becomes of renewals of its certificate.

use std::{path::Path, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore, SupportedProtocolVersion,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
    version::{TLS12, TLS13},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::support::{
    Server,
    certificates::{Authority, Identity, Validity},
};

fn write(directory: &Path, identity: &Identity) {
    std::fs::write(directory.join("cert.pem"), &identity.certificate).unwrap();
    std::fs::write(directory.join("key.pem"), &identity.key).unwrap();
}

async fn start(directory: &Path) -> (Server, crate::support::Log) {
    let path = |name: &str| directory.join(name).to_str().unwrap().to_owned();
    let (certificate, key) = (path("cert.pem"), path("key.pem"));
    Server::start_and_listen(&["--tls-cert", &certificate, "--tls-key", &key]).await
}

/// A connection to the API, under the name `api.example`.
async fn connect(
    server: &Server,
    authority: &Authority,
    version: &'static SupportedProtocolVersion,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let address = server.url.strip_prefix("https://").expect("it says that it is https");
    let tcp = TcpStream::connect(address).await?;
    let name = ServerName::try_from("api.example").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, tcp).await
}

/// Whose certificate clients are shown.
async fn shown(server: &Server, authority: &Authority) -> Vec<u8> {
    let stream = connect(server, authority, &TLS13).await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

#[tokio::test]
async fn the_api_is_served_over_tls_1_2_and_1_3_as_http_1_1() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new("Our CA");
    write(directory.path(), &authority.certify(&["api.example"], Validity::Now));
    let (mut server, _log) = start(directory.path()).await;
    let token = std::fs::read_to_string(server.data_dir().join("admin.token")).unwrap();
    for version in [&TLS12, &TLS13] {
        let mut stream = connect(&server, &authority, version).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        let request = format!(
            "GET /api/v2/webhook/endpoint/?limit=1&offset=1 HTTP/1.1\r\nhost: api.example\r\nauthorization: Bearer {}\r\nconnection: \
             close\r\n\r\n",
            token.trim()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert!(answer.contains("\"https://api.example/api/v2/"), "links are https: {answer}");
    }
    // Whoever speaks http there gets nothing, and is in nobody's way.
    let address = server.url.strip_prefix("https://").unwrap().to_owned();
    let mut plain = TcpStream::connect(address).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP/"));
    assert!(server.stop().await, "it stops as ever");
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_without_a_restart_and_a_broken_one_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new("Our CA");
    let first = authority.certify(&["api.example"], Validity::Now);
    write(directory.path(), &first);
    let (server, mut log) = start(directory.path()).await;
    let before = shown(&server, &authority).await;

    // Another's certificate with the old key.
    let second = authority.certify(&["api.example"], Validity::Now);
    std::fs::write(directory.path().join("cert.pem"), &second.certificate).unwrap();
    let told = log.line_with("the renewed certificate is broken, and the old one stays").await;
    assert!(told.contains("the key is not that of the (first) certificate"), "{told}");
    assert_eq!(shown(&server, &authority).await, before);

    std::fs::write(directory.path().join("key.pem"), &second.key).unwrap();
    log.line_with("clients are shown the renewed certificate").await;
    assert_ne!(shown(&server, &authority).await, before);

    std::fs::write(directory.path().join("key.pem"), "nonsense").unwrap();
    let told = log.line_with("the renewed certificate is broken, and the old one stays").await;
    assert!(told.contains("no private key in PEM form") && !told.contains("nonsense"), "{told}");
    shown(&server, &authority).await;
}
