//! Whose certificates are believed.

use sparse_core::{Error, ErrorKind, Result};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};

/// Variables that name a file of certificates; the first that is set counts.
const VARIABLES: [&str; 3] = ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"];

/// Returns the configuration of TLS: the certificates of a file that the environment names, as
/// networks with a proxy of their own need, else Mozilla's, which are part of the program.
///
/// # Errors
/// With the file: `Io` or `NotFound` when it cannot be read, `InvalidInput` without a certificate.
pub(crate) fn from_environment() -> Result<TlsConfig> {
    let named = |name: &&str| std::env::var_os(name).filter(|value| !value.is_empty());
    let Some(path) = VARIABLES.iter().find_map(named) else {
        return Ok(TlsConfig::builder().root_certs(RootCerts::WebPki).build());
    };
    let place = path.to_string_lossy().into_owned();
    let pem = std::fs::read(&path)
        .map_err(|e| Error::io("cannot read the certificates", e).in_file(&*place))?;
    let certificates: Vec<_> = parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if certificates.is_empty() {
        let e = Error::new(ErrorKind::InvalidInput, "there is no certificate in PEM form in it");
        return Err(e.in_file(place));
    }
    Ok(TlsConfig::builder().root_certs(RootCerts::new_with_certs(&certificates)).build())
}
