//! Certificates: whose are taken, whose are not, and what happens when they change.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use support::{
    Primary, SOON, adult,
    authority::{Authority, Pair},
    eventually, until, within,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use understudy::{identity::credentials::Credentials, v1::prediction_service_client::PredictionServiceClient};

/// A server with certificates in `directory`, which asks its clients for theirs.
struct Guarded {
    primary: Primary,
    authority: Authority,
    directory: tempfile::TempDir,
}

fn replace(pair: &Pair, directory: &Path) {
    fs::copy(&pair.certificate, directory.join("server.crt")).unwrap();
    fs::copy(&pair.key, directory.join("server.key")).unwrap();
}

impl Guarded {
    async fn start(change: impl FnOnce(&mut server::Settings)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let mut authority = Authority::new(path, "authority");
        replace(&authority.loopback(), path);
        authority.revoke(&[], "revoked.pem");
        let primary = Primary::with(|settings| {
            settings.tls_cert = Some(path.join("server.crt"));
            settings.tls_key = Some(path.join("server.key"));
            settings.tls_client_ca = Some(authority.path());
            settings.tls_client_crl = Some(path.join("revoked.pem"));
            settings.tls_reload_interval = Some("20ms".into());
            settings.max_connections_per_address = Some(1000);
            change(settings);
        })
        .await;
        Self { primary, authority, directory }
    }

    fn url(&self) -> String {
        format!("https://{}", self.primary.grpc())
    }

    fn shown(&self, pair: &Pair) -> Credentials {
        Credentials {
            ca: Some(self.authority.path()),
            certificate: Some(pair.certificate.clone()),
            key: Some(pair.key.clone()),
            token: None,
        }
    }

    /// One call over a connection of its own.
    async fn call(&self, shown: &Credentials) -> anyhow::Result<()> {
        call(&self.url(), shown).await
    }
}

async fn call(url: &str, shown: &Credentials) -> anyhow::Result<()> {
    let channel = shown.dialer(url).map_err(anyhow::Error::msg)?.connect().await?;
    PredictionServiceClient::new(channel).predict(adult::test_set().predict(0..1)).await?;
    Ok(())
}

#[tokio::test]
async fn only_certificates_of_the_authority_are_let_in() {
    let mut guarded = Guarded::start(|_| {}).await;
    let good = guarded.authority.client("spiffe://test/good");
    let bad = guarded.authority.client("spiffe://test/bad");
    guarded.call(&guarded.shown(&good)).await.unwrap();
    guarded.call(&guarded.shown(&bad)).await.unwrap();

    let none = Credentials { ca: Some(guarded.authority.path()), ..Credentials::default() };
    let mut stranger = Authority::new(guarded.directory.path(), "stranger");
    let of_stranger = stranger.client("spiffe://test/good");
    let expired = guarded.authority.expired("spiffe://test/good");
    for (what, shown) in [
        ("none", none.clone()),
        ("another authority", guarded.shown(&of_stranger)),
        ("expired", guarded.shown(&expired)),
        ("a server of another authority", Credentials { ca: Some(stranger.path()), ..guarded.shown(&good) }),
    ] {
        guarded.call(&shown).await.expect_err(what);
    }
    // A name that the server's certificate does not hold.
    let other = guarded.authority.server(&["other.test"]);
    replace(&other, guarded.directory.path());
    until(SOON, "another name is refused", async || guarded.call(&guarded.shown(&good)).await.is_err()).await;
    let loopback = guarded.authority.loopback();
    replace(&loopback, guarded.directory.path());
    eventually(SOON, async || guarded.call(&guarded.shown(&good)).await).await;

    // Revoked from now on, and not before.
    guarded.call(&guarded.shown(&bad)).await.unwrap();
    guarded.authority.revoke(&[&bad], "revoked.pem");
    until(SOON, "the revoked is refused", async || guarded.call(&guarded.shown(&bad)).await.is_err()).await;
    guarded.call(&guarded.shown(&good)).await.unwrap();
    // Plaintext is no TLS.
    call(&guarded.primary.url(), &Credentials::default()).await.expect_err("plaintext");
    let local = PredictionServiceClient::new(guarded.primary.unix_channel());
    local.clone().predict(adult::test_set().predict(0..1)).await.expect("the Unix socket is plaintext");
}

#[tokio::test]
async fn a_certificate_may_be_optional_and_names_its_client() {
    let directory = tempfile::tempdir().unwrap();
    let clients = directory.path().join("clients.toml");
    let text = "[[client]]\nname = 'scoring'\nroles = ['reader']\ncertificate = ['spiffe://test/scoring']\n";
    fs::write(&clients, text).unwrap();
    let mut guarded = Guarded::start(|settings| {
        settings.tls_client_auth = Some("optional".into());
        settings.clients = Some(clients);
        settings.rate_limit = Some(2);
    })
    .await;
    let code = |error: anyhow::Error| error.downcast::<tonic::Status>().unwrap().code();
    let none = Credentials { ca: Some(guarded.authority.path()), ..Credentials::default() };
    assert_eq!(code(guarded.call(&none).await.unwrap_err()), tonic::Code::Unauthenticated);
    let other = guarded.authority.client("spiffe://test/other");
    assert_eq!(code(guarded.call(&guarded.shown(&other)).await.unwrap_err()), tonic::Code::PermissionDenied);
    let scoring = guarded.authority.client("spiffe://test/scoring");
    for _ in 0..2 {
        guarded.call(&guarded.shown(&scoring)).await.unwrap();
    }
    assert_eq!(code(guarded.call(&guarded.shown(&scoring)).await.unwrap_err()), tonic::Code::ResourceExhausted);
}

#[tokio::test]
async fn old_versions_and_silence_end_the_connection() {
    let guarded = Guarded::start(|_| {}).await;
    // A hello of TLS 1.1: version, random, no session, one suite, no compression, no extensions.
    let hello = [&[3, 2][..], &[7; 32], &[0, 0, 2, 0xc0, 0x13, 1, 0]].concat();
    let handshake = [&[1, 0, 0, hello.len() as u8][..], &hello].concat();
    let record = [&[22, 3, 1, 0, handshake.len() as u8][..], &handshake].concat();
    let mut old = TcpStream::connect(guarded.primary.grpc()).await.unwrap();
    old.write_all(&record).await.unwrap();
    let mut answer = Vec::new();
    // That it is reset after the alert is as good as that it ends.
    drop(within(SOON, old.read_to_end(&mut answer)).await);
    assert_eq!(answer.first(), Some(&21), "an alert: {answer:?}");
    assert_eq!(answer.get(5), Some(&2), "a fatal one: {answer:?}");

    for begun in [&record[..0], &record[..20]] {
        let mut silent = TcpStream::connect(guarded.primary.grpc()).await.unwrap();
        silent.write_all(begun).await.unwrap();
        let mut answer = Vec::new();
        drop(within(SOON, silent.read_to_end(&mut answer)).await);
    }
    // The socket is closed a moment before it is counted.
    until(SOON, "both were cut", async || {
        let cut = [("reason", "greeting")];
        guarded.primary.scrape().await.sum("understudy_connections_cut_total", &cut) == 2.0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_change_under_load_without_an_error() {
    let mut guarded = Guarded::start(|_| {}).await;
    let client = guarded.authority.client("spiffe://test/good");
    let mut new = Authority::new(guarded.directory.path(), "new");
    let both = guarded.directory.path().join("both.pem");
    fs::write(&both, [guarded.authority.pem(), new.pem()].concat()).unwrap();
    let shown = Credentials { ca: Some(both), ..guarded.shown(&client) };
    let (done, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..3 {
        let (shown, url, done, calls) = (shown.clone(), guarded.url(), done.clone(), calls.clone());
        callers.spawn(async move {
            while !done.load(Ordering::Relaxed) {
                call(&url, &shown).await?;
                calls.fetch_add(1, Ordering::Relaxed);
            }
            Ok::<_, anyhow::Error>(())
        });
    }
    // One connection that stays throughout.
    let channel = shown.dialer(&guarded.url()).unwrap().connect().await.unwrap();
    let mut steady = PredictionServiceClient::new(channel);

    let only_new = Credentials { ca: Some(new.path()), ..shown.clone() };
    let only_old = Credentials { ca: Some(guarded.authority.path()), ..shown.clone() };
    for _ in 0..3 {
        replace(&new.loopback(), guarded.directory.path());
        eventually(SOON, async || guarded.call(&only_new).await).await;
        steady.predict(adult::test_set().predict(0..1)).await.unwrap();
        let old = guarded.authority.loopback();
        replace(&old, guarded.directory.path());
        eventually(SOON, async || guarded.call(&only_old).await).await;
    }
    // What is broken changes nothing.
    fs::write(guarded.directory.path().join("server.crt"), "broken").unwrap();
    let failed = [("what", "tls"), ("outcome", "failed")];
    until(SOON, "the failure is counted", async || {
        guarded.primary.scrape().await.sum("understudy_reloads_total", &failed) > 0.0
    })
    .await;
    guarded.call(&only_old).await.unwrap();
    steady.predict(adult::test_set().predict(0..1)).await.unwrap();
    done.store(true, Ordering::Relaxed);
    while let Some(ended) = callers.join_next().await {
        ended.unwrap().unwrap();
    }
    assert!(calls.load(Ordering::Relaxed) > 0);
}
