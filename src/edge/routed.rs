//! Calls that tonic's own services answer: everything but predictions. The edge reads their one message itself, so that
//! sizes, deadlines and broken framing get the same statuses as everywhere, and hands it over framed anew.

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use tonic::{Code, codegen::Service as _, service::Routes};

use super::{
    Client, Peer,
    body::{Body, observed},
    turns::Turn,
    unary::{Gate, allowed, expired, failure, frame, receive, refuse_http},
};

/// The methods to which a client sends more than one message; tonic reads those.
const CLIENT_STREAMING: [&str; 4] = [
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    "/inference.GRPCInferenceService/ModelStreamInfer",
    "/understudy.v1.FeedbackService/StreamFeedback",
];

/// Probes are answered however busy we are.
pub(super) const HEALTH: &str = "/grpc.health.v1.Health/";

/// Lets `routes` answer. The deadline holds until the answer begins; a stream then ends by itself or with its caller.
/// `ended` is called once, with the code that the client sees, or CANCELLED when it sees none.
pub async fn routed(
    mut routes: Routes,
    mut request: http::Request<Incoming>,
    peer: Peer,
    client: impl FnOnce() -> Client,
    gate: &Gate,
    mut turn: Turn,
    ended: impl FnOnce(Code) + Send + 'static,
) -> Response<Body> {
    if let Some(refusal) = refuse_http(&request) {
        ended(Code::Unimplemented);
        return refusal;
    }
    let allowed = match allowed(request.headers(), gate.messages) {
        Ok((_, allowed)) => allowed,
        Err((http, status)) => {
            ended(status.code());
            return failure(http, &status);
        }
    };
    request.extensions_mut().insert(peer);
    let answered = async {
        // Held until the answer begins: a stream is bounded by its connection.
        let mut permit = if request.uri().path().starts_with(HEALTH) {
            gate.admission.exempt()
        } else {
            gate.admission.begin(client)?
        };
        if CLIENT_STREAMING.contains(&request.uri().path()) {
            turn.end();
            let Ok(response) = routes.call(request).await;
            return Ok(response);
        }
        let (mut parts, body) = request.into_parts();
        let message = receive(body, &parts.headers, gate.messages.request, &mut permit).await?;
        permit.take_place()?;
        turn.begin().await?;
        // Decompressed already.
        parts.headers.remove("grpc-encoding");
        let body: Full<Bytes> = frame(&message).into();
        // Tells, and evaluates nothing: what comes after it need not wait for it.
        turn.end();
        let Ok(response) = routes.call(http::Request::from_parts(parts, body)).await;
        Ok(response)
    };
    let status = match tokio::time::timeout(allowed, answered).await {
        Ok(Ok(response)) => return observed(response, ended),
        Ok(Err(status)) => status,
        Err(_) => expired(allowed),
    };
    ended(status.code());
    failure(StatusCode::OK, &status)
}
