//! TLS towards receivers: rustls with the system's roots and those of `--ca-file`, or, for an endpoint whose owner asked for
//! it, without any.

use std::{error::Error as StdError, fmt, io, path::Path, sync::Arc};

use anyhow::{Context, ensure};
use postrider_kernel::Timestamp;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError,
    RootCertStore, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor, verify_server_name,
    },
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
    server::ParsedCertificate,
};
use x509_parser::parse_x509_certificate;

/// What connections to receivers are secured with. Sessions that were begun with one are not resumed with the other.
pub struct Tls {
    verifying: Arc<ClientConfig>,
    trusting: Arc<ClientConfig>,
}

impl Tls {
    /// Trusts the system's roots (`SSL_CERT_FILE` and `SSL_CERT_DIR` are honoured) and those of a PEM file.
    ///
    /// # Errors
    /// When the file can't be read, or holds no certificate.
    pub fn new(ca_file: Option<&Path>) -> anyhow::Result<Self> {
        let trusting = Arc::new(client_config(None)?);
        Ok(Self { verifying: Arc::new(client_config(Some(roots(ca_file)?))?), trusting })
    }

    /// How to secure a connection, with a look at the receiver's certificate or without one.
    pub fn config(&self, verify: bool) -> Arc<ClientConfig> {
        if verify { self.verifying.clone() } else { self.trusting.clone() }
    }
}

fn client_config(roots: Option<RootCertStore>) -> Result<ClientConfig, Error> {
    let algorithms = provider().signature_verification_algorithms;
    let verifier = Arc::new(Verifier { roots, algorithms });
    let versions =
        ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let builder = versions.dangerous().with_custom_certificate_verifier(verifier);
    Ok(builder.with_no_client_auth())
}

/// The one cryptographic library.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// The system's roots, and those of a file.
fn roots(ca_file: Option<&Path>) -> anyhow::Result<RootCertStore> {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!("a system root certificate can't be used: {error}");
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if let Some(file) = ca_file {
        add_roots(&mut roots, file).with_context(|| {
            format!("the certificates of --ca-file {} can't be used", file.display())
        })?;
    }
    if roots.is_empty() {
        tracing::warn!(
            "the system has no root certificates: no https endpoint will be trusted; install ca-certificates, or name \
             a file of them with --ca-file"
        );
    }
    Ok(roots)
}

fn add_roots(roots: &mut RootCertStore, file: &Path) -> anyhow::Result<()> {
    let pem = std::fs::read(file)?;
    let before = roots.len();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        roots.add(certificate?)?;
    }
    ensure!(roots.len() > before, "there is no certificate in PEM form in it");
    Ok(())
}

/// Looks at receivers' certificates. Without roots it takes any: `ssl_cert_verification: false`. The connection is still
/// encrypted, and the handshake's signatures are still checked, so that whoever answers holds the key of the certificate
/// that it shows.
#[derive(Debug)]
struct Verifier {
    roots: Option<RootCertStore>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(roots) = &self.roots {
            let certificate = ParsedCertificate::try_from(end_entity)?;
            let algorithms = self.algorithms.all;
            verify_server_cert_signed_by_trust_anchor(
                &certificate,
                roots,
                intermediates,
                now,
                algorithms,
            )
            .map_err(|error| told_apart(error, end_entity))?;
            verify_server_name(&certificate, server_name)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// A certificate that its own subject issued, which nobody who matters has vouched for.
#[derive(Debug)]
struct SelfSigned;

impl fmt::Display for SelfSigned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("self-signed certificate")
    }
}

impl StdError for SelfSigned {}

/// To the library a self-signed certificate is one of an unknown issuer, or an authority's own; to an admin it is neither.
fn told_apart(error: Error, end_entity: &CertificateDer<'_>) -> Error {
    let is_about_the_issuer = matches!(
        error,
        Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::Other(_))
    );
    let is_self_signed = || {
        parse_x509_certificate(end_entity).is_ok_and(|(_, certificate)| {
            certificate.subject().as_raw() == certificate.issuer().as_raw()
        })
    };
    if is_about_the_issuer && is_self_signed() {
        return CertificateError::Other(OtherError(Arc::new(SelfSigned))).into();
    }
    error
}

/// A failed handshake, in an admin's words.
pub fn in_words(error: &io::Error) -> String {
    match inner(error) {
        Some(Error::InvalidCertificate(problem)) => certificate_in_words(problem),
        Some(Error::AlertReceived(alert)) => alert_in_words(*alert),
        Some(error) => error.to_string(),
        None => format!("the handshake failed: {error}"),
    }
}

/// What a receiver said that ended a connection by TLS's own means, in an admin's words.
pub fn refusal(error: &io::Error) -> Option<String> {
    match inner(error) {
        Some(Error::AlertReceived(alert)) => Some(alert_in_words(*alert)),
        _ => None,
    }
}

fn inner(error: &io::Error) -> Option<&Error> {
    error.get_ref().and_then(|inner| inner.downcast_ref::<Error>())
}

fn certificate_in_words(problem: &CertificateError) -> String {
    use CertificateError as Is;
    match problem {
        Is::Expired => "the certificate has expired".into(),
        Is::ExpiredContext { not_after, .. } => {
            format!("the certificate has expired: it was valid until {}", moment(*not_after))
        }
        Is::NotValidYet => "the certificate is not yet valid".into(),
        Is::NotValidYetContext { not_before, .. } => {
            format!("the certificate is not yet valid: it will be from {}", moment(*not_before))
        }
        Is::NotValidForName => "the certificate is for the wrong host".into(),
        Is::NotValidForNameContext { presented, .. } => {
            format!("the certificate is for the wrong host: it names {}", names(presented))
        }
        Is::UnknownIssuer => "the certificate is of an unknown issuer".into(),
        Is::Other(OtherError(other)) if other.is::<SelfSigned>() => {
            "the certificate is self-signed".into()
        }
        problem => format!("the certificate can't be trusted: {problem}"),
    }
}

/// The names that a certificate is for; a receiver may have written thousands.
fn names(presented: &[String]) -> String {
    const SHOWN: usize = 5;
    // The library writes `DnsName("receiver.example")`.
    let plain = |name: &String| name.split('"').nth(1).unwrap_or(name).to_owned();
    let shown: Vec<_> = presented.iter().take(SHOWN).map(plain).collect();
    let shown = shown.join(", ");
    match presented.len() {
        0 => "none".into(),
        count if count > SHOWN => format!("{shown} and {} more", count - SHOWN),
        _ => shown,
    }
}

fn alert_in_words(alert: AlertDescription) -> String {
    use AlertDescription as Is;
    match alert {
        Is::CertificateRequired => {
            "the receiver requires a client certificate, and the endpoint has none".into()
        }
        Is::BadCertificate
        | Is::UnsupportedCertificate
        | Is::CertificateRevoked
        | Is::CertificateExpired
        | Is::CertificateUnknown
        | Is::UnknownCA => format!("the receiver refuses the client certificate: {alert:?}"),
        alert => format!("the receiver refuses the handshake: {alert:?}"),
    }
}

fn moment(time: UnixTime) -> Timestamp {
    Timestamp::from_micros(0).plus(std::time::Duration::from_secs(time.as_secs()))
}
