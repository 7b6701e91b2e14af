//! TLS, by a door before the test's server that encrypts what goes through it.

use std::{io, path::Path, sync::Arc};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{ServerConfig, pki_types::PrivatePkcs8KeyDer};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream, UnixStream},
};
use tokio_postgres::config::Host;
use tokio_rustls::TlsAcceptor;

use super::TestDatabase;
use crate::{
    Result, StoreError,
    postgres::{PostgresStore, connect::Address},
};

/// What a client says who wants TLS: the length of it, and a number that is no version.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// An issuer of certificates, as a file that can be trusted.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    file: tempfile::NamedTempFile,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut parameters = CertificateParams::new([]).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = parameters.self_signed(&key).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), certificate.pem()).unwrap();
        Self { issuer: Issuer::new(parameters, key), file }
    }

    fn path(&self) -> &Path {
        self.file.path()
    }

    /// Whoever shows a certificate of this authority for that host.
    fn acceptor(&self, host: &str) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let parameters = CertificateParams::new([host.to_owned()]).unwrap();
        let certificate = parameters.signed_by(&key, &self.issuer).unwrap();
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key.into())
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// Opens a door to a database's server; answers its port.
async fn open_door(acceptor: Option<TlsAcceptor>, url: String) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, url) = (acceptor.clone(), url.clone());
            tokio::spawn(async move { pass_through(stream, acceptor, &url).await });
        }
    });
    port
}

async fn pass_through(
    mut stream: TcpStream,
    acceptor: Option<TlsAcceptor>,
    url: &str,
) -> io::Result<()> {
    let mut first = [0; 8];
    stream.read_exact(&mut first).await?;
    if first != SSL_REQUEST {
        return pass_on(stream, &first, url).await;
    }
    let Some(acceptor) = acceptor else {
        stream.write_all(b"N").await?;
        return pass_on(stream, &[], url).await;
    };
    stream.write_all(b"S").await?;
    pass_on(acceptor.accept(stream).await?, &[], url).await
}

async fn pass_on(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    first: &[u8],
    url: &str,
) -> io::Result<()> {
    let address = Address::parse(url).unwrap();
    let port = address.config.get_ports().first().copied().unwrap_or(5432);
    match &address.config.get_hosts()[0] {
        Host::Tcp(host) => {
            let mut server = TcpStream::connect((host.as_str(), port)).await?;
            server.write_all(first).await?;
            copy_bidirectional(&mut stream, &mut server).await?;
        }
        Host::Unix(directory) => {
            let path = directory.join(format!(".s.PGSQL.{port}"));
            let mut server = UnixStream::connect(path).await?;
            server.write_all(first).await?;
            copy_bidirectional(&mut stream, &mut server).await?;
        }
    }
    Ok(())
}

/// Opens a store through a door.
async fn open_through(
    database: &TestDatabase,
    (host, port): (&str, u16),
    query: &str,
) -> Result<PostgresStore> {
    let address = Address::parse(&database.url()).unwrap();
    let user = address.config.get_user().unwrap_or("postgres");
    let name = address.config.get_dbname().unwrap();
    let password = address.config.get_password().unwrap_or_default();
    let password = String::from_utf8_lossy(password);
    let url = format!("postgres://{user}:{password}@{host}:{port}/{name}?{query}");
    PostgresStore::open(&url).await
}

#[tokio::test]
async fn certificates_are_checked_as_the_mode_says() {
    let database = TestDatabase::create().await;
    let (trusted, stranger) = (Authority::new(), Authority::new());
    let port = open_door(Some(trusted.acceptor("localhost")), database.url()).await;
    let (ours, others) = (trusted.path().display(), stranger.path().display());
    let roots = format!("sslrootcert={ours}");
    let other_roots = format!("sslrootcert={others}");
    for (host, query, opens) in [
        ("localhost", "sslmode=disable".into(), true),
        ("127.0.0.1", "".into(), true),
        ("127.0.0.1", "sslmode=require".into(), true),
        ("127.0.0.1", format!("sslmode=require&{roots}"), true),
        ("127.0.0.1", format!("sslmode=require&{other_roots}"), false),
        ("127.0.0.1", format!("sslmode=verify-ca&{roots}"), true),
        ("127.0.0.1", format!("sslmode=verify-ca&{other_roots}"), false),
        ("127.0.0.1", format!("sslmode=verify-full&{roots}"), false),
        ("localhost", format!("sslmode=verify-full&{roots}"), true),
        ("localhost", format!("sslmode=verify-full&{other_roots}"), false),
        ("localhost", "sslmode=verify-full".into(), false),
    ] {
        match open_through(&database, (host, port), &query).await {
            Ok(_) => assert!(opens, "{host} {query}"),
            Err(StoreError::Unavailable(_)) => assert!(!opens, "{host} {query}"),
            Err(error) => panic!("{host} {query}: {error}"),
        }
    }
}

#[tokio::test]
async fn a_server_without_tls_is_good_enough_only_where_it_may_be() {
    let database = TestDatabase::create().await;
    let port = open_door(None, database.url()).await;
    for (query, opens) in [("sslmode=prefer", true), ("sslmode=require", false)] {
        let opened = open_through(&database, ("127.0.0.1", port), query).await;
        assert_eq!(opened.is_ok(), opens, "{query}");
    }
}
