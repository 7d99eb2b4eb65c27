//! Any method, headers and bytes as a call over HTTP/2, well-formed as HTTP/2 but not necessarily as gRPC.

use std::net::{Ipv4Addr, SocketAddr};

use bytes::Bytes;
use h2::client::SendRequest;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri};
use prost::Message;
use tokio::{
    net::{TcpSocket, TcpStream},
    task::JoinHandle,
};

/// `inference.GRPCInferenceService/ModelInfer`.
pub const MODEL_INFER: &str = "/inference.GRPCInferenceService/ModelInfer";
/// `understudy.v1.PredictionService/Predict`.
pub const PREDICT: &str = "/understudy.v1.PredictionService/Predict";

/// A connection.
#[derive(Debug)]
pub struct Connection {
    send: SendRequest<Bytes>,
    address: SocketAddr,
    driver: JoinHandle<()>,
}

/// What is sent.
#[derive(Clone, Debug)]
pub struct Call {
    /// POST for gRPC.
    pub method: Method,
    /// `/package.Service/Method`.
    pub path: String,
    /// All of them.
    pub headers: HeaderMap,
    /// With its prefixes.
    pub body: Bytes,
}

/// What came back.
#[derive(Debug, Default)]
pub struct Reply {
    /// The HTTP status; 0 when the stream was reset before one came.
    pub http: u16,
    /// `grpc-status`, in the headers or the trailers.
    pub status: Option<i32>,
    /// `grpc-message`, decoded.
    pub message: String,
    /// Headers and trailers.
    pub metadata: HeaderMap,
    /// The message without its prefix.
    pub body: Bytes,
    /// Why the stream was reset, if it was.
    pub reset: Option<h2::Reason>,
}

/// A message behind its prefix: `flag` is 1 for "compressed".
pub fn frame(flag: u8, message: &[u8]) -> Vec<u8> {
    [&[flag], (message.len() as u32).to_be_bytes().as_slice(), message].concat()
}

impl Call {
    /// A call as every client makes it.
    pub fn new(path: &str, message: &impl Message) -> Self {
        Self::bytes(path, frame(0, &message.encode_to_vec()))
    }

    /// A call with this body.
    pub fn bytes(path: &str, body: impl Into<Bytes>) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", HeaderValue::from_static("application/grpc"));
        headers.insert("te", HeaderValue::from_static("trailers"));
        Self { method: Method::POST, path: path.into(), headers, body: body.into() }
    }

    /// With one header more, or another.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.insert(HeaderName::from_static(name), value.parse().expect("a header value"));
        self
    }

    /// Without a header.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.headers.remove(name);
        self
    }

    /// With another method.
    #[must_use]
    pub fn method(mut self, method: Method) -> Self {
        self.method = method;
        self
    }
}

impl Connection {
    /// Connects.
    pub async fn open(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.expect("somebody listens"), address).await
    }

    /// Connects from another address of this machine: 127.0.0.`n`.
    pub async fn open_from(n: u8, address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind((Ipv4Addr::new(127, 0, 0, n), 0).into()).expect("loopback has them all");
        Self::over(socket.connect(address).await.expect("somebody listens"), address).await
    }

    async fn over(stream: TcpStream, address: SocketAddr) -> Self {
        // As every gRPC client: else headers and body, sent one after the other, are 40 ms apart.
        stream.set_nodelay(true).expect("a TCP socket");
        let (send, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
        // How the connection ends is told by the calls on it.
        let driver = tokio::spawn(async move { drop(connection.await) });
        Self { send, address, driver }
    }

    /// Sends `call` and waits for all of the answer.
    pub async fn call(&self, call: &Call) -> Reply {
        match self.exchange(call).await {
            Ok(reply) => reply,
            Err(error) => Reply { reset: error.reason(), message: error.to_string(), ..Reply::default() },
        }
    }

    /// Sends `call` and waits for the head of the answer only: the rest of a stream may never come.
    pub async fn head(&self, call: &Call) -> Reply {
        match self.begin(call).await {
            Ok(response) => {
                let status = response.headers().get("grpc-status").and_then(|value| value.to_str().ok()?.parse().ok());
                Reply { http: response.status().as_u16(), status, ..Reply::default() }
            }
            Err(error) => Reply { reset: error.reason(), message: error.to_string(), ..Reply::default() },
        }
    }

    async fn exchange(&self, call: &Call) -> Result<Reply, h2::Error> {
        read(self.begin(call).await?).await
    }

    async fn begin(&self, call: &Call) -> Result<Response<h2::RecvStream>, h2::Error> {
        let uri = Uri::builder().scheme("http").authority(self.address.to_string()).path_and_query(call.path.as_str());
        let mut request = Request::new(());
        *request.method_mut() = call.method.clone();
        *request.uri_mut() = uri.build().expect("a URI");
        *request.headers_mut() = call.headers.clone();
        let mut ready = self.send.clone().ready().await?;
        let (response, mut body) = ready.send_request(request, call.body.is_empty())?;
        if !call.body.is_empty() {
            // Kept by h2 until the server's window lets it through. A server that refuses by the headers alone may have ended
            // the stream by now; what it said is still to be read.
            drop(body.send_data(call.body.clone(), true));
        }
        response.await
    }

    /// Whether the server has closed the connection, or the connection has broken.
    pub fn is_closed(&self) -> bool {
        self.driver.is_finished()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

async fn read(response: Response<h2::RecvStream>) -> Result<Reply, h2::Error> {
    let (parts, mut stream) = response.into_parts();
    let mut body = Vec::new();
    while let Some(data) = stream.data().await {
        let data = data?;
        // Given back at once: the window is not what is tested.
        stream.flow_control().release_capacity(data.len())?;
        body.extend_from_slice(&data);
    }
    let mut metadata = parts.headers;
    metadata.extend(stream.trailers().await?.unwrap_or_default());
    let text = |name: &str| metadata.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    Ok(Reply {
        http: parts.status.as_u16(),
        status: text("grpc-status").parse().ok(),
        message: decode_percent(text("grpc-message")),
        body: body.get(5..).map(Bytes::copy_from_slice).unwrap_or_default(),
        metadata,
        reset: None,
    })
}

/// `grpc-message` is percent-encoded.
fn decode_percent(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()).filter(|_| *first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
