//! Keys of an issuer over HTTPS, with a private authority.

use std::net::SocketAddr;

use support::{
    Primary, SOON, adult,
    authority::Authority,
    front::{self, Front},
    grpc::{Call, Connection, PREDICT},
    issuer::{AUDIENCE, ISSUER, Issuer},
    until,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

const UNAVAILABLE: i32 = 14;

/// An HTTP server that says `body` to everybody, for ever.
async fn says(body: String) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer =
                format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
            let mut request = [0; 4096];
            // Whoever does not trust it has gone before it asked.
            if stream.read(&mut request).await.is_ok_and(|read| read > 0) {
                drop(stream.write_all(answer.as_bytes()).await);
            }
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_come_over_tls_from_whom_we_trust() {
    let directory = tempfile::tempdir().unwrap();
    let mut authority = Authority::new(directory.path(), "authority");
    let mut stranger = Authority::new(directory.path(), "stranger");
    let issuer = Issuer::p256("a");
    let keys = says(Issuer::jwks(&[&issuer])).await;
    let http = |pair| front::config(&pair, &["http/1.1"], None);
    let front = Front::before(keys, http(stranger.loopback())).await;
    let primary = Primary::with(|settings| {
        settings.jwt_issuer = Some(ISSUER.into());
        settings.jwt_audience = Some(AUDIENCE.into());
        settings.jwt_keys = Some(format!("{}/keys", front.url()));
        settings.jwt_keys_ca = Some(authority.path());
        settings.jwt_keys_interval = Some("100ms".into());
    })
    .await;
    let token = issuer.token(&Issuer::claims("scoring", &["reader"]));
    let call = Call::new(PREDICT, &adult::test_set().predict(0..1)).header("authorization", &format!("Bearer {token}"));
    let connection = Connection::open(primary.grpc()).await;
    until(SOON, "the failure is counted", async || {
        let failed = [("what", "jwt-keys"), ("outcome", "failed")];
        primary.scrape().await.sum("understudy_reloads_total", &failed) > 0.0
    })
    .await;
    assert_eq!(connection.call(&call).await.status, Some(UNAVAILABLE), "not the caller's fault");
    assert_eq!(front.handshakes().0, 0);
    front.show(http(authority.loopback()));
    until(SOON, "the keys are known", async || connection.call(&call).await.status == Some(0)).await;
    // What is known stays, whoever stands there later.
    front.show(http(stranger.loopback()));
    until(SOON, "it was tried again", async || front.handshakes().1 > 1).await;
    assert_eq!(connection.call(&call).await.status, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_authority_that_can_not_be_read_is_told_at_the_start() {
    let error = Primary::try_with(|settings| {
        settings.jwt_issuer = Some(ISSUER.into());
        settings.jwt_audience = Some(AUDIENCE.into());
        settings.jwt_keys = Some("https://127.0.0.1:1/keys".into());
        settings.jwt_keys_ca = Some("/nowhere/ca.pem".into());
    })
    .await
    .unwrap_err();
    assert!(error.to_string().contains("jwt-keys-ca: /nowhere/ca.pem: No such file"), "{error}");
    assert_eq!(error.exit_code(), 78);
}
