//! The name in a client's certificate, which TLS has verified before; and what several certificates are in one file.

use std::{fmt, sync::Arc};

use x509_cert::{
    Certificate,
    der::Decode,
    ext::pkix::{SubjectAltName, name::GeneralName},
};

/// Bytes of a name; a longer one is none.
const MAX_NAME: usize = 256;

/// The first URI among the alternative names (SPIFFE), else the first DNS name, else the common name of the subject.
/// Absent when there is none, or the certificate (DER) can't be read.
pub fn name(der: &[u8]) -> Option<Arc<str>> {
    let certificate = Certificate::from_der(der).ok()?;
    let tbs = certificate.tbs_certificate();
    let alternatives = tbs.get_extension::<SubjectAltName>().ok()?.map(|(_, names)| names.0).unwrap_or_default();
    let uri = alternatives.iter().find_map(|name| match name {
        GeneralName::UniformResourceIdentifier(uri) => Some(uri.to_string()),
        _ => None,
    });
    let dns = || {
        alternatives.iter().find_map(|name| match name {
            GeneralName::DnsName(dns) => Some(dns.to_string()),
            _ => None,
        })
    };
    let common = || tbs.subject().common_name().ok().flatten().map(|name| name.value().into_owned());
    let name = uri.or_else(dns).or_else(common)?;
    (!name.is_empty() && name.len() <= MAX_NAME).then(|| name.into())
}

/// All that a PEM file holds of what is wanted: at least one.
pub(crate) fn several<T, E: fmt::Display>(
    what: &str,
    items: impl Iterator<Item = Result<T, E>>,
) -> Result<Vec<T>, String> {
    let items = items.collect::<Result<Vec<_>, _>>().map_err(|error| format!("{what}: {error}"))?;
    if items.is_empty() { Err(format!("expected at least one {what} in PEM, got none")) } else { Ok(items) }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    fn named(common: &str, alternatives: Vec<SanType>) -> Option<Arc<str>> {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.distinguished_name.push(DnType::CommonName, common);
        params.subject_alt_names = alternatives;
        let key = KeyPair::generate().expect("a key");
        name(params.self_signed(&key).expect("a certificate").der())
    }

    #[test]
    fn the_uri_comes_before_the_dns_name_before_the_common_name() {
        let uri = SanType::URI("spiffe://example.org/scoring".try_into().expect("a URI"));
        let dns = SanType::DnsName("scoring.example.org".try_into().expect("a name"));
        assert_eq!(named("cn", vec![dns.clone(), uri]).as_deref(), Some("spiffe://example.org/scoring"));
        assert_eq!(named("cn", vec![dns]).as_deref(), Some("scoring.example.org"));
        assert_eq!(named("cn", vec![]).as_deref(), Some("cn"));
        assert_eq!(named(&"x".repeat(1000), vec![]), None);
        assert_eq!(name(b"no certificate"), None);
    }
}
