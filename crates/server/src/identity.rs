//! A certificate and its key, read from PEM: what we prove to be ourselves with. Where they are kept is not here.

use std::sync::Arc;

use anyhow::{Context, anyhow, bail, ensure};
use rustls::{
    Error, InconsistentKeys,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};

use crate::tls::provider;

/// Reads a chain, the own certificate first, and the key of that.
///
/// # Errors
/// In words: what of it is no PEM, no certificate or no key, or that the two don't belong together. The key is not told.
pub fn read(chain: &[u8], key: &[u8]) -> anyhow::Result<Arc<CertifiedKey>> {
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(chain)
        .collect::<Result<_, _>>()
        .context("the certificate is not valid PEM")?;
    ensure!(!chain.is_empty(), "there is no certificate in PEM form (-----BEGIN CERTIFICATE-----)");
    if key.windows(ENCRYPTED.len()).any(|window| window == ENCRYPTED) {
        bail!("the key is encrypted; decrypt it (`openssl pkey -in key.pem -out plain.pem`)");
    }
    // What a parser says of a key could tell a part of it.
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| {
        anyhow!("there is no private key in PEM form (-----BEGIN PRIVATE KEY-----)")
    })?;
    let key = provider()
        .key_provider
        .load_private_key(key)
        .map_err(|_| anyhow!("the private key is of no kind that can be used"))?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Ok(()) => Ok(Arc::new(certified)),
        Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
            bail!("the key is not that of the (first) certificate")
        }
        Err(error) => Err(error).context("the certificate can't be used"),
    }
}

const ENCRYPTED: &[u8] = b"ENCRYPTED";
