//! TLS on the listener, with ring as the one cryptographic library, and the certificates of clients. Everything comes from
//! files that are [read again](crate::reload) when they change: a new certificate is for new connections, those that are open
//! stay until their age ends them.

use std::{fmt, io, path::PathBuf, sync::Arc};

use arc_swap::ArcSwap;
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, pem::PemObject},
    server::{NoServerSessionStorage, WebPkiClientVerifier, danger::ClientCertVerifier},
    version::{TLS12, TLS13},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::{
    identity::{self, certificate::several},
    reload::Source,
};

/// Where certificates are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's certificate and those between it and its authority, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// Who vouches for clients; absent: clients are not asked for certificates.
    pub clients: Option<ClientAuthority>,
}

/// Who vouches for clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientAuthority {
    /// Certificates of the authorities, PEM.
    pub certificates: PathBuf,
    /// Lists of revoked certificates, PEM.
    pub revoked: Option<PathBuf>,
    /// Whether a client without a certificate is turned away.
    pub required: bool,
}

/// The certificates in use.
pub struct Tls {
    config: ArcSwap<ServerConfig>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Tls").finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads the files; the source keeps what is in use up to date.
    ///
    /// # Errors
    /// A file can't be read, or they do not fit together.
    pub fn load(files: &TlsFiles) -> Result<(Arc<Self>, Source), String> {
        let mut paths = vec![files.certificate.clone(), files.key.clone()];
        if let Some(clients) = &files.clients {
            paths.push(clients.certificates.clone());
            paths.extend(clients.revoked.clone());
        }
        let required = files.clients.as_ref().is_none_or(|clients| clients.required);
        // Never seen by a client: the source reads the files before anything is accepted.
        let nothing = builder()?.with_no_client_auth().with_cert_resolver(Arc::new(NoCertificate));
        let tls = Arc::new(Self { config: ArcSwap::from_pointee(nothing) });
        let target = tls.clone();
        let source = Source::load("tls", paths, move |contents| {
            target.config.store(Arc::new(config(contents, required)?));
            Ok(())
        })?;
        Ok((tls, source))
    }

    /// With the certificates of now.
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.config.load_full())
    }

    /// The handshake, and the name in the certificate of the client, if it has shown one.
    pub(super) async fn accept(&self, stream: TcpStream) -> io::Result<(TlsStream<TcpStream>, Option<Arc<str>>)> {
        let stream = self.acceptor().accept(stream).await?;
        let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let name = certificate.and_then(|certificate| identity::certificate::name(certificate));
        Ok((stream, name))
    }
}

#[derive(Debug)]
struct NoCertificate;

impl rustls::server::ResolvesServerCert for NoCertificate {
    fn resolve(&self, _: rustls::server::ClientHello<'_>) -> Option<Arc<rustls::sign::CertifiedKey>> {
        None
    }
}

fn builder() -> Result<rustls::ConfigBuilder<ServerConfig, rustls::WantsVerifier>, String> {
    ServerConfig::builder_with_provider(identity::provider())
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(|error| error.to_string())
}

/// From certificate, key, and where clients have certificates those of the authorities and the lists of the revoked.
fn config(contents: &[Vec<u8>], required: bool) -> Result<ServerConfig, String> {
    let (certificate, key, authorities, revoked) = match contents {
        [certificate, key] => (certificate, key, None, None),
        [certificate, key, authorities] => (certificate, key, Some(authorities), None),
        [certificate, key, authorities, revoked] => (certificate, key, Some(authorities), Some(revoked)),
        _ => return Err(format!("expected 2 to 4 files, got {}", contents.len())),
    };
    let chain: Vec<_> = several("certificate", CertificateDer::pem_slice_iter(certificate))?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| format!("private key: {error}"))?;
    let builder = match authorities {
        None => builder()?.with_no_client_auth(),
        Some(authorities) => builder()?.with_client_cert_verifier(verifier(authorities, revoked, required)?),
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|error| error.to_string())?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    // A session that is taken up again would skip the look at the client's certificate; connections live long here.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn verifier(
    authorities: &[u8],
    revoked: Option<&Vec<u8>>,
    required: bool,
) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let mut roots = RootCertStore::empty();
    for authority in several("certificate of an authority", CertificateDer::pem_slice_iter(authorities))? {
        roots.add(authority).map_err(|error| format!("certificate of an authority: {error}"))?;
    }
    let mut verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), identity::provider());
    if let Some(revoked) = revoked {
        let lists = several("list of revoked certificates", CertificateRevocationListDer::pem_slice_iter(revoked))?;
        // One list need not cover all authorities; what it covers is denied.
        verifier = verifier.with_crls(lists).allow_unknown_revocation_status();
    }
    if !required {
        verifier = verifier.allow_unauthenticated();
    }
    verifier.build().map_err(|error| error.to_string())
}
