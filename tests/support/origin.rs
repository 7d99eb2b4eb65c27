//! A server that answers every call with the same headers, data and trailers, whatever a gRPC library would make of them.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use tokio::{net::TcpListener, sync::Notify, task::JoinHandle};

/// What it answers.
#[derive(Clone, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a vice of its own")]
pub struct Canned {
    /// Beside the status 200.
    pub headers: HeaderMap,
    /// One DATA frame each; the first comes before the request has ended.
    pub data: Vec<Bytes>,
    /// None: the headers are all there is.
    pub trailers: Option<HeaderMap>,
    /// Never answers.
    pub hangs: bool,
    /// One byte of `data` after another, for ever slowly.
    pub drips: bool,
    /// Says UNIMPLEMENTED to whoever asks for the metadata of a model.
    pub undescribed: bool,
    /// Answers, and then resets the stream in place of the trailers.
    pub resets: bool,
    /// Ends the connection in place of an answer, and with it whatever else is under way there.
    pub hangs_up: bool,
}

/// A call that came.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// With pseudo-headers as the URI has them.
    pub uri: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// All of its body.
    pub body: Vec<u8>,
    /// The caller has reset it.
    pub reset: bool,
}

/// A server on a free port.
#[derive(Debug)]
pub struct Origin {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    task: JoinHandle<()>,
}

impl Origin {
    /// Answers with `canned`.
    pub async fn start(canned: Canned) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let noted = seen.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (canned, noted) = (canned.clone(), noted.clone());
                tokio::spawn(async move {
                    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
                    let over = Arc::new(Notify::new());
                    loop {
                        let (request, respond) = tokio::select! {
                            accepted = connection.accept() => match accepted {
                                Some(Ok(call)) => call,
                                _ => return,
                            },
                            () = over.notified() => return,
                        };
                        // How it ends is told by what was seen.
                        tokio::spawn(answer(request, respond, canned.clone(), noted.clone(), over.clone()));
                    }
                });
            }
        });
        Self { address, seen, task }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://IP:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Every call whose body has ended, or that was reset.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(
    request: Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
    canned: Canned,
    noted: Arc<Mutex<Vec<Seen>>>,
    over: Arc<Notify>,
) -> Result<(), h2::Error> {
    let (parts, mut body) = request.into_parts();
    let mut seen = Seen { uri: parts.uri.to_string(), headers: parts.headers, ..Seen::default() };
    let note = |seen: Seen| noted.lock().unwrap_or_else(PoisonError::into_inner).push(seen);
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        seen.body.extend_from_slice(&data);
    }
    let canned = if canned.undescribed && seen.uri.ends_with("/ModelMetadata") {
        let headers = [("content-type", "application/grpc"), ("grpc-status", "12")];
        let header = |(name, value)| (http::HeaderName::from_static(name), http::HeaderValue::from_static(value));
        Canned { headers: headers.map(header).into_iter().collect(), ..Canned::default() }
    } else {
        canned
    };
    if canned.hangs {
        let reset = std::future::poll_fn(|context| respond.poll_reset(context)).await;
        seen.reset = reset.is_ok();
        note(seen);
        return Ok(());
    }
    note(seen);
    if canned.hangs_up {
        over.notify_one();
        // Dropped before the connection it would be reset.
        return std::future::poll_fn(|context| respond.poll_reset(context)).await.map(drop);
    }
    let mut response = Response::new(());
    *response.headers_mut() = canned.headers;
    let ends = canned.data.is_empty() && canned.trailers.is_none() && !canned.resets;
    let mut stream = respond.send_response(response, ends)?;
    for data in canned.data {
        for byte in data.iter().filter(|_| canned.drips) {
            stream.send_data(Bytes::copy_from_slice(&[*byte]), false)?;
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        stream.send_data(data, false)?;
        // So that they are frames of their own.
        tokio::task::yield_now().await;
    }
    if canned.resets {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        stream.send_reset(h2::Reason::INTERNAL_ERROR);
    } else if let Some(trailers) = canned.trailers {
        stream.send_trailers(trailers)?;
    }
    Ok(())
}
