//! A candidate on a server of its own that can be told to misbehave, below and above HTTP/2.

use std::{
    net::SocketAddr,
    sync::{
        Arc, LazyLock, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use h2::{Reason, server::SendResponse};
use http::{HeaderMap, HeaderValue, Request, Response};
use prost::Message;
use shadow_sidecar::scheduling::Scheduling;
use support::{adult, authority::Pair, front, grpc::frame, tensors::text_to_raw};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpSocket, TcpStream},
    runtime::{Builder, Runtime},
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use understudy::inference::{
    ModelInferRequest, ModelInferResponse, ModelMetadataResponse, model_infer_response::InferOutputTensor,
};

/// Requests on a connection before it says GOAWAY.
const BEFORE_GOAWAY: u64 = 10;
/// Up, and then down, of a candidate that flaps.
const FLAP: Duration = Duration::from_secs(1);

/// What it does with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Behaviour {
    /// Answers.
    Answers,
    /// Takes it, and never answers.
    Hangs,
    /// Nobody listens.
    Refuses,
    /// Resets the stream in the middle of the answer, and every now and then the connection.
    Resets,
    /// The queue of connections is full: a SYN gets no answer.
    Blackholes,
    /// Sends one byte of the answer a second.
    Drips,
    /// Answers with a message of this many bytes.
    Answers100MiB,
    /// The same within the sidecar's own bound of a message.
    Answers60MiB,
    /// What it sends is no answer.
    Lies,
    /// Answers with each code of gRPC, and with some that there are not.
    Fails,
    /// Answers, and says GOAWAY after every ten requests.
    GoesAway,
    /// The handshake of TLS fails: another authority, or no TLS at all.
    BadTls,
    /// Is there for a second, and is not for another.
    Flaps,
}

/// What was asked.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) headers: HeaderMap,
    pub(crate) model: String,
}

/// Acceptors with a good and a bad certificate.
#[derive(Clone)]
struct Tls {
    good: TlsAcceptor,
    bad: TlsAcceptor,
}

/// On a free port. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Candidate {
    address: SocketAddr,
    behaviour: watch::Sender<Behaviour>,
    shared: Arc<Shared>,
    encrypted: bool,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    /// Calls of ModelInfer that have come.
    calls: AtomicU64,
    /// The first of them.
    asked: Mutex<Vec<Asked>>,
    /// Rows, by the id of the request, whose answer is another than the primary's.
    flipped: Mutex<Vec<usize>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Shared").field("calls", &self.calls).finish_non_exhaustive()
    }
}

/// See [`on_core`].
static CORE: OnceLock<usize> = OnceLock::new();

/// Candidates that are begun from now on run on this core.
///
/// A candidate has a machine of its own; here it shares cores with those whose latencies are measured, and it gives way to them. But in
/// the kernel it does not: on the clients' core it makes the clients late, of whom nobody has promised anything. 0.3 ms of the p99
/// that they saw was their own, while the server took as long as without a sidecar.
pub(crate) fn on_core(core: usize) {
    // The first call says where: the candidates of one process are together.
    CORE.get_or_init(|| core);
}

#[cfg(target_os = "linux")]
fn move_to(core: usize) -> std::io::Result<()> {
    let mut only = rustix::thread::CpuSet::new();
    only.set(core);
    Ok(rustix::thread::sched_setaffinity(None, &only)?)
}

#[cfg(not(target_os = "linux"))]
fn move_to(_: usize) -> std::io::Result<()> {
    Ok(())
}

static MACHINE: LazyLock<Runtime> = LazyLock::new(|| {
    let give_way = || {
        if let Err(error) = Scheduling::Idle.apply() {
            eprintln!("the candidate does not give way to the clients: {error}");
        }
        if let Some(Err(error)) = CORE.get().map(|core| move_to(*core)) {
            eprintln!("the candidate stays with the clients: {error}");
        }
    };
    Builder::new_multi_thread().worker_threads(1).enable_all().on_thread_start(give_way).build().expect("a runtime")
});

/// Calls whose headers are kept.
const KEPT: usize = 1_000;

impl Candidate {
    /// In plain text.
    pub(crate) fn start() -> Self {
        Self::listen(None)
    }

    /// With TLS: the certificate of `good`, and, when it is to misbehave, of `bad`.
    pub(crate) fn encrypted(good: &Pair, bad: &Pair) -> Self {
        let acceptor = |pair| TlsAcceptor::from(Arc::new(front::h2(pair)));
        Self::listen(Some(Tls { good: acceptor(good), bad: acceptor(bad) }))
    }

    fn listen(tls: Option<Tls>) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("a socket that does not block");
        let address = listener.local_addr().expect("an address");
        let (behaviour, told) = watch::channel(Behaviour::Answers);
        let (shared, encrypted) = (Arc::<Shared>::default(), tls.is_some());
        let of_task = shared.clone();
        let task = MACHINE.spawn(async move {
            live(TcpListener::from_std(listener).expect("a listener"), told, tls, of_task).await;
        });
        Self { address, behaviour, shared, encrypted, task }
    }

    pub(crate) fn url(&self) -> String {
        format!("http{}://{}", if self.encrypted { "s" } else { "" }, self.address)
    }

    /// From now on.
    pub(crate) fn behave(&self, behaviour: Behaviour) {
        self.behaviour.send_replace(behaviour);
    }

    /// Disagrees on requests with these ids, which are rows of the test set, and agrees on all others.
    pub(crate) fn disagree_on(&self, rows: Vec<usize>) {
        *self.shared.flipped.lock().unwrap_or_else(PoisonError::into_inner) = rows;
    }

    /// Calls of ModelInfer so far.
    pub(crate) fn calls(&self) -> u64 {
        self.shared.calls.load(Ordering::Relaxed)
    }

    /// The first of them.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.shared.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Candidate {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One state after another; between them all connections end.
async fn live(listener: TcpListener, mut told: watch::Receiver<Behaviour>, tls: Option<Tls>, shared: Arc<Shared>) {
    let address = listener.local_addr().expect("an address");
    let mut listener = Some(listener);
    loop {
        let now = *told.borrow_and_update();
        let changed = async {
            // The sender is dropped with the task that waits here.
            drop(told.changed().await);
        };
        match now {
            Behaviour::Refuses => {
                listener = None;
                changed.await;
            }
            Behaviour::Blackholes => {
                listener = None;
                let held = black_hole(address).await;
                changed.await;
                drop(held);
            }
            Behaviour::Flaps => {
                let flapping = async {
                    let mut up = listener.take();
                    for round in 0_u64.. {
                        let turn = async {
                            match up.take() {
                                _ if round % 2 == 1 => std::future::pending().await,
                                Some(listener) => accept(&listener, now, tls.as_ref(), &shared).await,
                                None => accept(&bound(address).await, now, tls.as_ref(), &shared).await,
                            }
                        };
                        drop(timeout(FLAP, turn).await);
                    }
                };
                tokio::select! { () = flapping => {}, () = changed => {} }
            }
            _ => {
                let open = match listener.take() {
                    Some(open) => open,
                    None => bound(address).await,
                };
                tokio::select! {
                    () = accept(&open, now, tls.as_ref(), &shared) => {}
                    () = changed => listener = Some(open),
                }
            }
        }
    }
}

/// The port is ours, but its last owner may be on its way out.
async fn bound(address: SocketAddr) -> TcpListener {
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(_) => sleep(Duration::from_millis(10)).await,
        }
    }
}

/// A listener that takes nobody any more, and the connections that fill its queue.
async fn black_hole(address: SocketAddr) -> (TcpListener, Vec<TcpStream>) {
    let listener = loop {
        let socket = TcpSocket::new_v4().expect("a socket");
        drop(socket.set_reuseaddr(true));
        match socket.bind(address).and_then(|()| socket.listen(1)) {
            Ok(listener) => break listener,
            Err(_) => sleep(Duration::from_millis(10)).await,
        }
    };
    let mut filling = Vec::new();
    while let Ok(Ok(stream)) = timeout(Duration::from_millis(100), TcpStream::connect(address)).await {
        filling.push(stream);
    }
    (listener, filling)
}

/// Serves whoever comes, for ever; all of them are gone when it is dropped.
async fn accept(listener: &TcpListener, behaviour: Behaviour, tls: Option<&Tls>, shared: &Arc<Shared>) {
    let mut connections = JoinSet::new();
    for number in 0_u64.. {
        let Ok((stream, _)) = listener.accept().await else { continue };
        drop(stream.set_nodelay(true));
        let (tls, shared) = (tls.cloned(), shared.clone());
        connections.spawn(async move {
            match tls {
                None => serve(stream, behaviour, &shared).await,
                Some(tls) if behaviour == Behaviour::BadTls => {
                    if number % 2 == 0 {
                        // Whom nobody vouches for: the other side ends it.
                        drop(tls.bad.accept(stream).await);
                    } else {
                        drop(
                            tokio::io::AsyncWriteExt::write_all(&mut { stream }, b"HTTP/1.1 400 no TLS\r\n\r\n").await,
                        );
                    }
                }
                Some(tls) => {
                    if let Ok(stream) = tls.good.accept(stream).await {
                        serve(stream, behaviour, &shared).await;
                    }
                }
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, behaviour: Behaviour, shared: &Arc<Shared>) {
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    let mut calls = JoinSet::new();
    let mut asked = 0;
    while let Some(Ok((request, respond))) = connection.accept().await {
        asked += 1;
        if behaviour == Behaviour::GoesAway && asked == BEFORE_GOAWAY {
            connection.graceful_shutdown();
        }
        if behaviour == Behaviour::Resets && asked == 50 {
            return;
        }
        // How a call ends is what is tested at the other side.
        calls.spawn(answer(request, respond, behaviour, shared.clone()));
        while calls.try_join_next().is_some() {}
    }
}

async fn answer(
    request: Request<h2::RecvStream>,
    mut respond: SendResponse<Bytes>,
    behaviour: Behaviour,
    shared: Arc<Shared>,
) -> Result<(), h2::Error> {
    let (parts, mut body) = request.into_parts();
    let mut bytes = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        bytes.extend_from_slice(&data);
    }
    if !parts.uri.path().ends_with("/ModelInfer") {
        let metadata = ModelMetadataResponse { name: "adult".into(), versions: vec!["1".into()], ..Default::default() };
        return send(&mut respond, &frame(0, &metadata.encode_to_vec()));
    }
    let number = shared.calls.fetch_add(1, Ordering::Relaxed);
    let asked = ModelInferRequest::decode(bytes.get(5..).unwrap_or_default()).unwrap_or_default();
    {
        let mut all = shared.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() < KEPT {
            all.push(Asked { headers: parts.headers, model: asked.model_name.clone() });
        }
    }
    let row = asked.id.parse().unwrap_or(0);
    let other = shared.flipped.lock().unwrap_or_else(PoisonError::into_inner).contains(&row);
    let good = frame(0, &prediction(row, other).encode_to_vec());
    match behaviour {
        Behaviour::Hangs => {
            std::future::poll_fn(|context| respond.poll_reset(context)).await?;
            Ok(())
        }
        Behaviour::Resets => {
            let mut stream = respond.send_response(head(), false)?;
            stream.send_data(Bytes::copy_from_slice(&good[..good.len() / 2]), false)?;
            // So that what was sent goes out first.
            sleep(Duration::from_millis(1)).await;
            stream.send_reset(Reason::INTERNAL_ERROR);
            Ok(())
        }
        Behaviour::Drips => {
            let mut stream = respond.send_response(head(), false)?;
            for byte in good {
                stream.send_data(Bytes::copy_from_slice(&[byte]), false)?;
                let reset = timeout(Duration::from_secs(1), std::future::poll_fn(|context| stream.poll_reset(context)));
                if reset.await.is_ok() {
                    break;
                }
            }
            Ok(())
        }
        Behaviour::Answers100MiB => flood(&mut respond, 100 << 20).await,
        Behaviour::Answers60MiB => flood(&mut respond, 60 << 20).await,
        Behaviour::Lies => send(&mut respond, &lie(number, row)),
        Behaviour::Fails => {
            let mut response = head();
            let code = match number % 18 {
                17 => 99,
                code => code + 1,
            };
            response.headers_mut().insert("grpc-status", HeaderValue::from(code));
            respond.send_response(response, true).map(drop)
        }
        _ => send(&mut respond, &good),
    }
}

fn head() -> Response<()> {
    let mut response = Response::new(());
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    response
}

fn send(respond: &mut SendResponse<Bytes>, body: &[u8]) -> Result<(), h2::Error> {
    let mut stream = respond.send_response(head(), false)?;
    stream.send_data(Bytes::copy_from_slice(body), false)?;
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    stream.send_trailers(trailers)
}

/// A message of `length` zero bytes, as fast as the other side takes it.
async fn flood(respond: &mut SendResponse<Bytes>, length: u32) -> Result<(), h2::Error> {
    let mut stream = respond.send_response(head(), false)?;
    let prefix = [&[0], length.to_be_bytes().as_slice()].concat();
    stream.send_data(prefix.into(), false)?;
    let zeros = Bytes::from(vec![0; 64 << 10]);
    let mut left = length as usize;
    while left > 0 {
        stream.reserve_capacity(left.min(zeros.len()));
        match std::future::poll_fn(|context| stream.poll_capacity(context)).await {
            Some(Ok(capacity)) => {
                let now = capacity.min(left).min(zeros.len());
                stream.send_data(zeros.slice(..now), false)?;
                left -= now;
            }
            Some(Err(error)) => return Err(error),
            None => return Ok(()),
        }
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    stream.send_trailers(trailers)
}

/// What is no answer, in several ways.
fn lie(number: u64, row: usize) -> Vec<u8> {
    let mut answer = prediction(row, false);
    match number % 6 {
        0 => return frame(0, &[0xff; 100]),
        1 => return frame(1, b"not compressed"),
        2 => return frame(0, &[])[..3].to_vec(),
        // More rows than were asked for.
        3 => answer.outputs.iter_mut().for_each(|output| output.shape[0] = i64::MAX),
        4 => answer.raw_output_contents.iter_mut().for_each(|raw| *raw = raw.slice(..raw.len() / 2)),
        _ => answer.outputs.iter_mut().for_each(|output| output.name = "other".into()),
    }
    frame(0, &answer.encode_to_vec())
}

/// As the primary answers `row` of the test set, or the other class.
fn prediction(row: usize, other: bool) -> ModelInferResponse {
    let probability = adult::test_set().primary().get(row).copied().unwrap_or(0.0);
    let high = if other { 1.0 - probability } else { probability };
    let label = adult::label(probability);
    let label = if other { adult::CLASSES[usize::from(label == adult::CLASSES[0])] } else { label };
    let output = |name: &str, datatype: &str, shape: Vec<i64>| InferOutputTensor {
        name: name.into(),
        datatype: datatype.into(),
        shape,
        ..InferOutputTensor::default()
    };
    ModelInferResponse {
        model_name: "adult".into(),
        model_version: "1".into(),
        outputs: vec![output("label", "BYTES", vec![1]), output("probabilities", "FP64", vec![1, 2])],
        raw_output_contents: vec![
            text_to_raw(label.as_bytes()).into(),
            [1.0 - high, high].map(f64::to_le_bytes).concat().into(),
        ],
        ..ModelInferResponse::default()
    }
}
