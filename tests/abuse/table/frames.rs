//! W34 to W42: what goes wrong in HTTP/2, or before it.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request};
use support::{
    SOON, adult,
    grpc::{Call, PREDICT},
    target::Target,
    wire::{DATA, END_STREAM, Frame, GOAWAY, HEADERS, RST_STREAM, Wire},
};
use tokio::{net::TcpStream, time::timeout};

use super::{Try, word};

pub(super) async fn tries(target: &Target) -> Vec<Try> {
    let mut tries = headers(target).await;
    for (name, value) in [("Upper", "x"), ("x-broken", "a\r\nb: c"), ("x-newline", "a\nb"), ("x-nul", "a\0b")] {
        let call = Frame::call(1, END_STREAM, PREDICT, &[(name, value)]);
        let seen = stream_ends(target, &[call]).await;
        tries.push(Try::expect(&format!("W37 {name}"), seen, &["RST 1", "GOAWAY 1"]));
    }
    let lie = |lengths: &[(&str, &str)], flags| Frame::call(1, flags, PREDICT, lengths);
    let body = |bytes: usize| Frame::new(DATA, END_STREAM, 1, vec![0; bytes]);
    let twice = lie(&[("content-length", "5"), ("content-length", "6")], 0);
    tries.push(Try::expect(
        "W38 5 and 6, five bytes",
        stream_ends(target, &[twice.clone(), body(5)]).await,
        &["RST 1"],
    ));
    tries.push(Try::expect("W38 5 and 6, six bytes", stream_ends(target, &[twice, body(6)]).await, &["RST 1"]));
    for (name, length, bytes) in [("more", "1", 5), ("less", "9", 5)] {
        let seen = stream_ends(target, &[lie(&[("content-length", length)], 0), body(bytes)]).await;
        tries.push(Try::expect(&format!("W39 {name} than announced"), seen, &["RST 1"]));
    }
    let seen = stream_ends(target, &[lie(&[("content-length", "5")], END_STREAM)]).await;
    tries.push(Try::expect("W39 announced and none", seen, &["RST 1"]));
    for uri in ["http://evil.example", "http://169.254.169.254", ""] {
        let seen = authority(target, uri).await;
        tries.push(Try::expect(&format!("W40 {uri:?}"), seen, &["0"]));
    }
    let upgrade = "GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAA\r\n\r\n";
    for (name, greeting) in [
        ("W41 HTTP/1.1", &b"GET /v2/health/ready HTTP/1.1\r\nhost: x\r\n\r\n"[..]),
        ("W41 a TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
        ("W42 h2c upgrade", upgrade.as_bytes()),
    ] {
        tries.push(Try::expect(name, hung_up(target, greeting).await, &["closed"]));
    }
    tries
}

async fn headers(target: &Target) -> Vec<Try> {
    let good = || Call::new(PREDICT, &adult::test_set().predict(0..1));
    let connection = target.connect().await;
    let long = connection.call(&good().header("x-long", &"x".repeat(20 << 10))).await;
    let mut many = good();
    many.headers.extend((0..1_000).map(|n| (format!("x-{n}").parse().ok(), HeaderValue::from_static("x"))));
    let many = connection.call(&many).await;
    vec![
        Try::expect("W34 a header of 20 KiB", word(&long), &["HTTP 431", "HTTP 431/8"]),
        Try::expect("W35 1,000 headers", word(&many), &["HTTP 431", "HTTP 431/8"]),
        Try::expect(
            "W0 10 KiB of headers",
            word(&connection.call(&good().header("x", &"x".repeat(10 << 10))).await),
            &["0"],
        ),
    ]
}

/// How stream 1, or the connection, ends.
async fn stream_ends(target: &Target, frames: &[Frame]) -> String {
    let mut wire = Wire::open(target.grpc).await;
    if wire.send(frames).await.is_err() {
        return "closed".into();
    }
    loop {
        match wire.next(SOON).await {
            Some(frame) if frame.kind == RST_STREAM && frame.stream == 1 => return format!("RST {}", frame.number(0)),
            Some(frame) if frame.kind == GOAWAY => return format!("GOAWAY {}", frame.number(4)),
            Some(frame) if frame.kind == HEADERS && frame.flags & END_STREAM != 0 => return "answered".into(),
            Some(_) => {}
            None => return "closed".into(),
        }
    }
}

/// Whether the server has closed the connection within five seconds (P20), and what it did else.
pub(super) async fn hung_up(target: &Target, greeting: &[u8]) -> String {
    let mut wire = Wire::silent(target.grpc).await;
    if wire.bytes(greeting).await.is_err() {
        return "closed".into();
    }
    let closed = timeout(Duration::from_secs(7), async { while wire.next(SOON).await.is_some() {} }).await;
    if closed.is_ok() { "closed".into() } else { "open after 7 s".into() }
}

/// The status of a good call to `uri`; without one, there is no `:authority`.
async fn authority(target: &Target, uri: &str) -> String {
    let exchange = async {
        let stream = TcpStream::connect(target.grpc).await?;
        let (send, connection) = h2::client::handshake(stream).await?;
        let driver = tokio::spawn(async move { drop(connection.await) });
        let call = Call::new(PREDICT, &adult::test_set().predict(0..1));
        let mut request = Request::post(format!("{uri}{PREDICT}")).body(())?;
        *request.headers_mut() = call.headers;
        let (response, mut body) = send.ready().await?.send_request(request, false)?;
        body.send_data(Bytes::clone(&call.body), true)?;
        let mut answer = response.await?.into_body();
        while let Some(data) = answer.data().await {
            answer.flow_control().release_capacity(data?.len())?;
        }
        let trailers = answer.trailers().await?.unwrap_or_default();
        driver.abort();
        anyhow::Ok(trailers.get("grpc-status").and_then(|code| code.to_str().ok()).unwrap_or("no status").to_owned())
    };
    exchange.await.unwrap_or_else(|error| error.to_string())
}
