//! The calls of a connection: each is refused when its headers have been read, or becomes a task of its own.

use std::{future::poll_fn, panic::AssertUnwindSafe, sync::Arc, task::Poll, time::Instant};

use bytes::Bytes;
use futures_util::FutureExt as _;
use h2::{
    RecvStream,
    server::{Connection, SendResponse},
};
use http::{Request, Response, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::{Code, Status};

use super::{
    Body, Client, Front, Inbound, Peer,
    answer::{answer, send},
    body::code,
    connection::Worker,
    meter::State,
    routed::HEALTH,
    turns::{Seat, Turn, late},
    unary::failure,
};

type Incoming = Result<(Request<RecvStream>, SendResponse<Bytes>), h2::Error>;

/// What the calls of a connection share.
pub(super) struct Calls<'a, F> {
    worker: &'a Worker<F>,
    peer: Peer,
    state: Arc<State>,
    seat: Seat,
}

impl<'a, F: Front> Calls<'a, F> {
    pub(super) fn new(worker: &'a Worker<F>, peer: Peer, state: Arc<State>) -> Self {
        let client = peer.certificate().map_or_else(|| Client::from(&peer), |name| Client::Named(name.clone()));
        let seat = Seat::new(&worker.turns, client);
        Self { worker, peer, state, seat }
    }

    /// Lets them in until the connection has ended. Nothing is lost when it is dropped before.
    pub(super) async fn serve<I>(&self, connection: &mut Connection<I, Bytes>) -> Result<(), h2::Error>
    where
        I: AsyncRead + AsyncWrite + Unpin,
    {
        while let Some(accepted) = self.accept(connection).await {
            let (request, respond) = accepted?;
            let request = request.map(|body| Inbound::new(body, &self.state));
            match self.turn(&request) {
                Ok(turn) => self.begin(request, respond, turn),
                // At once, before the body goes, of which no more is wanted.
                Err(refusal) => {
                    self.state.called(true);
                    drop(send(refusal, respond));
                }
            }
        }
        Ok(())
    }

    /// As [`Connection::accept`], which writes an answer in two pieces, and each by itself: what there is goes at once, at the end.
    async fn accept<I>(&self, connection: &mut Connection<I, Bytes>) -> Option<Incoming>
    where
        I: AsyncRead + AsyncWrite + Unpin,
    {
        poll_fn(|context| {
            self.state.holds();
            match connection.poll_accept(context) {
                Poll::Pending if self.state.lets_go() => connection.poll_accept(context),
                polled => polled,
            }
        })
        .await
    }

    /// Probes are let in whenever they come.
    fn turn(&self, request: &Request<Inbound>) -> Result<Turn, Response<Body>> {
        if request.uri().path().starts_with(HEALTH) {
            return Ok(Turn::exempt());
        }
        let token = self.worker.front.token(request.headers());
        self.seat.join(token, Instant::now()).map_err(|wait| failure(StatusCode::OK, &late(wait)))
    }

    fn begin(&self, request: Request<Inbound>, respond: SendResponse<Bytes>, turn: Turn) {
        let (front, peer, state) = (self.worker.front.clone(), self.peer.clone(), self.state.clone());
        let instruments = self.worker.instruments.clone();
        let call = async move {
            let answered = AssertUnwindSafe(front.call(request, peer, turn)).catch_unwind().await;
            let response = answered.unwrap_or_else(|_| {
                // The hook has logged what and where; the client learns that it was not its fault, and nothing else.
                instruments.panics.increment(1);
                failure(StatusCode::OK, &Status::internal("internal error"))
            });
            state.called(code(response.headers()) == Code::ResourceExhausted);
            response.map(|body| body.kept_until_sent(&state))
        };
        tokio::spawn(answer(call, respond));
    }
}
