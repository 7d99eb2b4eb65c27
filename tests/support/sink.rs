//! A sink of CloudEvents: an HTTP/1.1 server of forty lines that keeps what it is sent.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// Headers in lower case, and the body.
pub type Event = (BTreeMap<String, String>, serde_json::Value);

/// A sink on a free port.
#[derive(Debug)]
pub struct Sink {
    address: SocketAddr,
    events: Arc<Mutex<Vec<Event>>>,
    task: JoinHandle<()>,
}

impl Sink {
    /// One that answers each call with `status`, such as `200 OK`.
    pub async fn start(status: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let events: Arc<Mutex<Vec<Event>>> = Arc::default();
        let kept = events.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let kept = kept.clone();
                // How a connection ends is its client's concern.
                tokio::spawn(async move { drop(serve(stream, status, &kept).await) });
            }
        });
        Self { address, events, task }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://IP:PORT/events`.
    pub fn url(&self) -> String {
        format!("http://{}/events", self.address)
    }

    /// What has come so far.
    pub fn events(&self) -> Vec<Event> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn serve(stream: TcpStream, status: &str, kept: &Mutex<Vec<Event>>) -> anyhow::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut headers = BTreeMap::new();
        loop {
            let mut line = String::new();
            anyhow::ensure!(stream.read_line(&mut line).await? > 0, "closed");
            match line.trim().split_once(": ") {
                Some((name, value)) => drop(headers.insert(name.to_lowercase(), value.to_owned())),
                None if line.trim().is_empty() => break,
                None => {}
            }
        }
        let mut body = vec![0; headers.get("content-length").map_or(Ok(0), |length| length.parse())?];
        stream.read_exact(&mut body).await?;
        kept.lock().unwrap_or_else(PoisonError::into_inner).push((headers, serde_json::from_slice(&body)?));
        stream.write_all(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").as_bytes()).await?;
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.task.abort();
    }
}
