//! Certificates of the tests' own, good and bad.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, date_time_ymd,
};
use rustls::{
    RootCertStore, ServerConfig, SupportedProtocolVersion,
    crypto::aws_lc_rs,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    server::WebPkiClientVerifier,
};
use tokio_rustls::TlsAcceptor;

/// An authority that nobody trusts who was not told to.
pub struct Authority {
    pub pem: String,
    certificate: rcgen::Certificate,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key.
pub struct Identity {
    /// The certificate in PEM form.
    pub certificate: String,
    /// The key in PEM form.
    pub key: String,
    der: rustls::pki_types::CertificateDer<'static>,
    key_der: Vec<u8>,
}

/// How a certificate is meant.
#[derive(Clone, Copy, Debug)]
pub enum Validity {
    Now,
    Past,
    Future,
}

/// What a certificate for these hosts begins with, named after the first.
fn params(hosts: &[&str], validity: Validity) -> CertificateParams {
    let names: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, hosts[0]);
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    (params.not_before, params.not_after) = match validity {
        Validity::Now => (date_time_ymd(2020, 1, 1), date_time_ymd(2120, 1, 1)),
        Validity::Past => (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 2, 3)),
        Validity::Future => (date_time_ymd(2119, 4, 5), date_time_ymd(2120, 1, 1)),
    };
    params
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = params(&[name], Validity::Now);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.extended_key_usages.clear();
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self { pem: certificate.pem(), certificate, issuer: Issuer::new(params, key) }
    }

    /// A certificate for these hosts.
    pub fn certify(&self, hosts: &[&str], validity: Validity) -> Identity {
        let key = KeyPair::generate().unwrap();
        let certificate = params(hosts, validity).signed_by(&key, &self.issuer).unwrap();
        Identity::new(certificate, &key)
    }
}

impl Identity {
    fn new(certificate: rcgen::Certificate, key: &KeyPair) -> Self {
        Self {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            der: certificate.der().clone(),
            key_der: key.serialize_der(),
        }
    }

    /// One that vouches for itself.
    pub fn self_signed(hosts: &[&str]) -> Self {
        let key = KeyPair::generate().unwrap();
        Self::new(params(hosts, Validity::Now).self_signed(&key).unwrap(), &key)
    }

    /// What a receiver with this certificate accepts connections with, of these versions of TLS; it demands a certificate
    /// of that authority, if one is named.
    pub fn acceptor(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        clients: Option<&Authority>,
    ) -> TlsAcceptor {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(versions)
            .unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                roots.add(authority.certificate.der().clone()).unwrap();
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.key_der.clone()));
        let config = builder.with_single_cert(vec![self.der.clone()], key).unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}
