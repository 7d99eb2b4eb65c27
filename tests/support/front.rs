//! TLS in front of a server that speaks plain text, as a mesh or a cloud has it.

use std::{
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{JoinHandle, JoinSet},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        RootCertStore, ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
        server::WebPkiClientVerifier,
    },
};

use crate::authority::Pair;

/// On a free port. Dropping it ends it and every connection.
#[derive(Debug)]
pub struct Front {
    address: SocketAddr,
    shown: watch::Sender<Arc<ServerConfig>>,
    counts: Arc<Counts>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Counts {
    opened: AtomicU64,
    refused: AtomicU64,
}

/// A server with this certificate and these protocols (ALPN), which asks its clients for certificates of `clients`, if that
/// is given.
pub fn config(pair: &Pair, protocols: &[&str], clients: Option<&Path>) -> ServerConfig {
    let several = |path: &Path| -> Vec<_> {
        let all = CertificateDer::pem_file_iter(path).expect("a file");
        all.map(|certificate| certificate.expect("a certificate")).collect()
    };
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone());
    let builder = builder.with_safe_default_protocol_versions().expect("versions");
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for root in several(path) {
                roots.add(root).expect("an authority");
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.expect("a verifier"))
        }
    };
    let key = PrivateKeyDer::from_pem_file(&pair.key).expect("a key");
    let mut config = builder.with_single_cert(several(&pair.certificate), key).expect("a key that fits");
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    config
}

/// One that speaks HTTP/2.
pub fn h2(pair: &Pair) -> ServerConfig {
    config(pair, &["h2"], None)
}

impl Front {
    /// Before `target`.
    pub async fn before(target: SocketAddr, shown: ServerConfig) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (shown, told) = watch::channel(Arc::new(shown));
        let counts = Arc::<Counts>::default();
        let task = tokio::spawn(serve(listener, told, target, counts.clone()));
        Self { address, shown, counts, task }
    }

    /// `https://IP:PORT`.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// This from now on; all connections end.
    pub fn show(&self, shown: ServerConfig) {
        self.shown.send_replace(Arc::new(shown));
    }

    /// Handshakes that succeeded, and that did not.
    pub fn handshakes(&self) -> (u64, u64) {
        (self.counts.opened.load(Ordering::Relaxed), self.counts.refused.load(Ordering::Relaxed))
    }
}

async fn serve(
    listener: TcpListener,
    mut told: watch::Receiver<Arc<ServerConfig>>,
    target: SocketAddr,
    counts: Arc<Counts>,
) {
    loop {
        let acceptor = TlsAcceptor::from(told.borrow_and_update().clone());
        let mut connections = JoinSet::new();
        loop {
            let stream = tokio::select! {
                biased;
                // First: whoever comes after a change must not be shown what was there before. The sender is dropped with this task.
                _ = told.changed() => break,
                accepted = listener.accept() => accepted.expect("a connection").0,
            };
            let (acceptor, counts) = (acceptor.clone(), counts.clone());
            connections.spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else {
                    counts.refused.fetch_add(1, Ordering::Relaxed);
                    return;
                };
                counts.opened.fetch_add(1, Ordering::Relaxed);
                let Ok(mut behind) = TcpStream::connect(target).await else { return };
                // How it ends is told by those at its ends.
                drop(tokio::io::copy_bidirectional(&mut stream, &mut behind).await);
            });
            while connections.try_join_next().is_some() {}
        }
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.task.abort();
    }
}
