//! An authority that issues certificates, and the files that they are in.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, KeyIdMethod, KeyPair,
    KeyUsagePurpose, RevocationReason, RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};

/// A certificate and its key, as PEM files.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The certificate.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    serial: u64,
}

/// An authority whose files are in one directory.
#[derive(Debug)]
pub struct Authority {
    issuer: rcgen::Issuer<'static, KeyPair>,
    pem: String,
    directory: PathBuf,
    name: String,
    serial: u64,
}

impl Authority {
    /// A new one called `name`.
    pub fn new(directory: &Path, name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        fs::write(directory.join(format!("{name}.pem")), &pem).expect("a file");
        let issuer = rcgen::Issuer::new(params, key);
        Self { issuer, pem, directory: directory.into(), name: name.into(), serial: 1 }
    }

    /// Its own certificate, as a file.
    pub fn path(&self) -> PathBuf {
        self.directory.join(format!("{}.pem", self.name))
    }

    /// Its own certificate.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// For a server at `names`: DNS names and IP addresses.
    pub fn server(&mut self, names: &[&str]) -> Pair {
        let params = CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>());
        self.issue(params.expect("names"))
    }

    /// For 127.0.0.1.
    pub fn loopback(&mut self) -> Pair {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST))];
        self.issue(params)
    }

    /// For the client with this URI.
    pub fn client(&mut self, uri: &str) -> Pair {
        self.issue(named(uri))
    }

    /// For the same, until long ago.
    pub fn expired(&mut self, uri: &str) -> Pair {
        let mut params = named(uri);
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2020, 1, 2);
        self.issue(params)
    }

    fn issue(&mut self, mut params: CertificateParams) -> Pair {
        self.serial += 1;
        params.serial_number = Some(SerialNumber::from(self.serial));
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate").pem();
        let file = |kind: &str, content: String| {
            let path = self.directory.join(format!("{}-{}.{kind}", self.name, self.serial));
            fs::write(&path, content).expect("a file");
            path
        };
        Pair { certificate: file("crt", certificate), key: file("key", key.serialize_pem()), serial: self.serial }
    }

    /// The list of the revoked, in `file`.
    pub fn revoke(&self, revoked: &[&Pair], file: &str) -> PathBuf {
        let revoked = revoked.iter().map(|pair| RevokedCertParams {
            serial_number: SerialNumber::from(pair.serial),
            revocation_time: date_time_ymd(2024, 1, 1),
            reason_code: Some(RevocationReason::KeyCompromise),
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2024, 1, 1),
            next_update: date_time_ymd(2100, 1, 1),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let path = self.directory.join(file);
        fs::write(&path, params.signed_by(&self.issuer).expect("a list").pem().expect("PEM")).expect("a file");
        path
    }
}

fn named(uri: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI(uri.try_into().expect("a URI"))];
    params
}
