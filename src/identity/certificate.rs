//! The name in a client's certificate, which TLS has verified before; and what several certificates are in one file.

use std::{fmt, sync::Arc};

use x509_cert::{
    Certificate,
    der::Decode,
    ext::pkix::{SubjectAltName, name::GeneralName},
};

/// What a URI begins with in [`name`].
pub(super) const URI: &str = "URI:";
/// What a DNS name begins with.
pub(super) const DNS: &str = "DNS:";
/// What a common name begins with.
pub(super) const CN: &str = "CN:";

/// Bytes of a name; a longer one is none.
const MAX_NAME: usize = 256;

/// `URI:` and the first URI among the alternative names (SPIFFE), else `DNS:` and the first DNS name, in small letters. A
/// certificate without alternative names has `CN:` and the common name of its subject. The kind is part of the name: a common
/// name that looks like a URI is none, and an authority may take less care of it.
///
/// Absent when there is none, or the certificate (DER) can't be read.
pub fn name(der: &[u8]) -> Option<Arc<str>> {
    let certificate = Certificate::from_der(der).ok()?;
    let tbs = certificate.tbs_certificate();
    let alternatives = tbs.get_extension::<SubjectAltName>().ok()?.map(|(_, names)| names.0).unwrap_or_default();
    let uri = alternatives.iter().find_map(|name| match name {
        GeneralName::UniformResourceIdentifier(uri) => Some((URI, uri.to_string())),
        _ => None,
    });
    let dns = || {
        alternatives.iter().find_map(|name| match name {
            GeneralName::DnsName(dns) => Some((DNS, dns.as_str().to_ascii_lowercase())),
            _ => None,
        })
    };
    let common = || {
        let name = tbs.subject().common_name().ok().flatten().filter(|_| alternatives.is_empty())?;
        Some((CN, name.value().into_owned()))
    };
    let (kind, name) = uri.or_else(dns).or_else(common)?;
    (!name.is_empty() && name.len() <= MAX_NAME).then(|| format!("{kind}{name}").into())
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
        let dns = SanType::DnsName("Scoring.example.org".try_into().expect("a name"));
        assert_eq!(named("cn", vec![dns.clone(), uri]).as_deref(), Some("URI:spiffe://example.org/scoring"));
        assert_eq!(named("cn", vec![dns]).as_deref(), Some("DNS:scoring.example.org"));
        assert_eq!(named("spiffe://cn", vec![]).as_deref(), Some("CN:spiffe://cn"));
        let address = SanType::IpAddress([127, 0, 0, 1].into());
        assert_eq!(named("cn", vec![address]), None, "whoever has alternative names goes by them");
        assert_eq!(named(&"x".repeat(1000), vec![]), None);
        assert_eq!(name(b"no certificate"), None);
    }
}
