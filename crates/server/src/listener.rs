//! HTTPS for the API's clients: the certificate that `--tls-cert` and `--tls-key` name, and its renewals, which are taken in
//! without a restart. A renewal that is broken leaves the old one where it is.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context;
use arc_swap::ArcSwap;
use rustls::{
    ServerConfig,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use crate::{clock::Clock, identity, tls::provider};

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Where the certificate and its key are, in PEM form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The chain, the own certificate first.
    pub chain: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl CertificateFiles {
    /// Reads both, and checks that they belong together.
    ///
    /// # Errors
    /// Which can't be read, or what is wrong with them.
    pub fn read(&self) -> anyhow::Result<Arc<CertifiedKey>> {
        self.contents()?.parse(self)
    }

    fn contents(&self) -> anyhow::Result<Contents> {
        let read = |path: &PathBuf| {
            std::fs::read(path).with_context(|| format!("{} can't be read", path.display()))
        };
        Ok(Contents { chain: read(&self.chain)?, key: Zeroizing::new(read(&self.key)?) })
    }
}

/// What stood in the files.
#[derive(PartialEq)]
struct Contents {
    chain: Vec<u8>,
    key: Zeroizing<Vec<u8>>,
}

impl Contents {
    fn parse(&self, files: &CertificateFiles) -> anyhow::Result<Arc<CertifiedKey>> {
        identity::read(&self.chain, &self.key)
            .with_context(|| format!("{} with {}", files.chain.display(), files.key.display()))
    }
}

/// The certificate that is shown to clients now.
#[derive(Debug)]
struct Shown(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

/// What clients are served with.
pub struct Https {
    files: CertificateFiles,
    shown: Arc<Shown>,
    /// What stood in the files when that was read.
    seen: Contents,
}

impl Https {
    /// Reads the certificate.
    ///
    /// # Errors
    /// As [`CertificateFiles::read`].
    pub fn new(files: CertificateFiles) -> anyhow::Result<Self> {
        let seen = files.contents()?;
        let shown = Arc::new(Shown(ArcSwap::new(seen.parse(&files)?)));
        Ok(Self { files, shown, seen })
    }

    /// What accepts clients: TLS 1.2 or 1.3, and HTTP/1.1.
    ///
    /// # Errors
    /// When the TLS library refuses its own defaults.
    pub fn acceptor(&self) -> Result<TlsAcceptor, rustls::Error> {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(self.shown.clone());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }

    /// Takes renewals in until it is told to stop.
    pub async fn renew(mut self, clock: Arc<dyn Clock>, stopping: CancellationToken) {
        // What was wrong at the last look, and whether the log has it.
        let mut trouble: Option<(String, bool)> = None;
        loop {
            tokio::select! {
                biased;
                () = stopping.cancelled() => return,
                () = clock.sleep(LOOK) => {}
            }
            trouble = match (self.look(), trouble) {
                (Ok(()), _) => None,
                (Err(error), before) => {
                    let now = format!("{error:#}");
                    let (is_still_so, mut is_told) = match before {
                        Some((before, is_told)) if before == now => (true, is_told),
                        _ => (false, false),
                    };
                    // Between the writing of one file and of the other they don't fit; only what stays so is worth a word.
                    if is_still_so && !is_told {
                        tracing::error!(
                            "the renewed certificate is broken, and the old one stays: {now}"
                        );
                        is_told = true;
                    }
                    Some((now, is_told))
                }
            };
        }
    }

    /// Looks at the files, and shows what is in them if it is new.
    fn look(&mut self) -> anyhow::Result<()> {
        let contents = self.files.contents()?;
        if contents == self.seen {
            return Ok(());
        }
        self.shown.0.store(contents.parse(&self.files)?);
        self.seen = contents;
        tracing::info!(
            "clients are shown the renewed certificate of {}",
            self.files.chain.display()
        );
        Ok(())
    }
}
