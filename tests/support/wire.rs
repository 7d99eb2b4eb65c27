//! HTTP/2 frame by frame: what no library would send, and what the server really sends.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use bytes::BytesMut;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use crate::SOON;

/// Frame types.
pub const DATA: u8 = 0;
#[expect(missing_docs, reason = "RFC 9113, section 6")]
mod kinds {
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}
pub use kinds::*;

/// The flag of DATA and HEADERS that nothing follows on the stream.
pub const END_STREAM: u8 = 1;
/// The flag of SETTINGS and PING that it answers one.
pub const ACK: u8 = 1;
/// The flag of HEADERS that no CONTINUATION follows.
pub const END_HEADERS: u8 = 4;

/// A frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it is.
    pub kind: u8,
    /// By kind.
    pub flags: u8,
    /// 0 is the connection.
    pub stream: u32,
    /// Without the nine bytes before it.
    pub payload: Vec<u8>,
}

impl Frame {
    /// A frame.
    pub fn new(kind: u8, flags: u8, stream: u32, payload: impl Into<Vec<u8>>) -> Self {
        Self { kind, flags, stream, payload: payload.into() }
    }

    /// The headers of a gRPC call, uncompressed, as a whole; the body is still to come unless `flags` says otherwise.
    pub fn call(stream: u32, flags: u8, path: &str, more: &[(&str, &str)]) -> Self {
        let pseudo = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "localhost")];
        let usual = [("content-type", "application/grpc"), ("te", "trailers")];
        Self::headers(stream, flags, &[&pseudo[..], &usual, more].concat())
    }

    /// Exactly these headers.
    pub fn headers(stream: u32, flags: u8, headers: &[(&str, &str)]) -> Self {
        let mut block = Vec::new();
        for (name, value) in headers {
            // Literal, never indexed, not Huffman: RFC 7541, section 6.2.3.
            block.push(0x10);
            for text in [name, value] {
                push_length(&mut block, text.len());
                block.extend_from_slice(text.as_bytes());
            }
        }
        Self::new(HEADERS, END_HEADERS | flags, stream, block)
    }

    /// Bytes on the wire.
    pub fn to_bytes(&self) -> Vec<u8> {
        let length = (self.payload.len() as u32).to_be_bytes();
        let head = [length[1], length[2], length[3], self.kind, self.flags];
        [&head[..], &self.stream.to_be_bytes(), &self.payload].concat()
    }

    /// The number in four bytes at `at` of the payload: an error code, a window.
    pub fn number(&self, at: usize) -> u32 {
        u32::from_be_bytes(self.payload[at..at + 4].try_into().expect("four bytes"))
    }

    /// A SETTINGS frame's values by identifier.
    pub fn setting(&self, identifier: u16) -> Option<u32> {
        assert_eq!(self.kind, SETTINGS);
        let pairs = self.payload.as_chunks::<6>().0.iter();
        let value = |pair: &[u8; 6]| u32::from_be_bytes([pair[2], pair[3], pair[4], pair[5]]);
        pairs.filter(|pair| u16::from_be_bytes([pair[0], pair[1]]) == identifier).map(value).next_back()
    }
}

/// An integer with a prefix of seven bits: RFC 7541, section 5.1.
fn push_length(block: &mut Vec<u8>, length: usize) {
    match length.checked_sub(127) {
        None => block.push(length as u8),
        Some(mut rest) => {
            block.push(127);
            while rest >= 128 {
                block.push((rest % 128) as u8 | 128);
                rest /= 128;
            }
            block.push(rest as u8);
        }
    }
}

/// A connection on which anything may be written.
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    /// Received and not yet a whole frame.
    received: BytesMut,
}

impl Wire {
    /// Connects and says nothing.
    pub async fn silent(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.expect("somebody listens"))
    }

    /// Over a connection that is there, on which nothing was said.
    pub fn over(stream: TcpStream) -> Self {
        // Frames go out when they are sent; on a socket that is broken already the next write says so.
        drop(stream.set_nodelay(true));
        Self { stream, received: BytesMut::new() }
    }

    /// Connects and sends the preface and empty SETTINGS.
    pub async fn open(address: SocketAddr) -> Self {
        Self::with_settings(address, &[]).await
    }

    /// As [`Self::open`], and no byte of an answer may be sent until it is asked for.
    pub async fn without_window(address: SocketAddr) -> Self {
        // SETTINGS_INITIAL_WINDOW_SIZE.
        Self::with_settings(address, &[0, 4, 0, 0, 0, 0]).await
    }

    /// As [`Self::open`], from another address of this machine: 127.0.0.`n`.
    pub async fn open_from(n: u8, address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind((Ipv4Addr::new(127, 0, 0, n), 0).into()).expect("loopback has them all");
        Self::greeting(Self::over(socket.connect(address).await.expect("somebody listens")), &[]).await
    }

    async fn with_settings(address: SocketAddr, settings: &[u8]) -> Self {
        Self::greeting(Self::silent(address).await, settings).await
    }

    async fn greeting(mut wire: Self, settings: &[u8]) -> Self {
        let settings = Frame::new(SETTINGS, 0, 0, settings).to_bytes();
        wire.bytes(&[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", settings.as_slice()].concat()).await.expect("sent");
        wire
    }

    /// Sends `bytes`.
    ///
    /// # Errors
    /// The server has closed the connection.
    pub async fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Sends `frames` in one piece.
    ///
    /// # Errors
    /// The server has closed the connection.
    pub async fn send(&mut self, frames: &[Frame]) -> io::Result<()> {
        self.bytes(&frames.iter().flat_map(Frame::to_bytes).collect::<Vec<_>>()).await
    }

    /// The next frame; `None` when the server has closed the connection.
    ///
    /// # Panics
    /// When neither happens within `deadline`.
    pub async fn next(&mut self, deadline: Duration) -> Option<Frame> {
        let next = timeout(deadline, self.read()).await;
        next.unwrap_or_else(|_| panic!("no frame and no end within {deadline:?}")).ok()
    }

    /// Reads until a frame of `kind` and on `stream`; what came before is lost. `None` when the server closes the
    /// connection first.
    pub async fn next_of(&mut self, kind: u8, stream: u32) -> Option<Frame> {
        loop {
            let frame = self.next(SOON).await?;
            if (frame.kind, frame.stream) == (kind, stream) {
                return Some(frame);
            }
        }
    }

    /// The frames that have come by now, and whether the server has closed the connection.
    pub async fn heard(&mut self) -> (Vec<Frame>, bool) {
        let mut frames = Vec::new();
        loop {
            match timeout(Duration::from_millis(1), self.read()).await {
                Err(_) => return (frames, false),
                Ok(Err(_)) => return (frames, true),
                Ok(Ok(frame)) => frames.push(frame),
            }
        }
    }

    /// Loses nothing when it is dropped half-way.
    async fn read(&mut self) -> io::Result<Frame> {
        const HEAD: usize = 9;
        loop {
            if let Some(head) = self.received.first_chunk::<HEAD>().copied() {
                let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
                if self.received.len() >= HEAD + length {
                    let payload = self.received.split_to(HEAD + length)[HEAD..].to_vec();
                    let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff;
                    return Ok(Frame { kind: head[3], flags: head[4], stream, payload });
                }
            }
            if self.stream.read_buf(&mut self.received).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}
