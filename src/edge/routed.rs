//! Calls that tonic's own services answer: everything but predictions. The edge reads their one message itself, so that
//! sizes, deadlines and broken framing get the same statuses as everywhere, and hands it over framed anew; an answer of one message it
//! takes whole, so that its bytes and the time to read it are bounded as a prediction's.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use tonic::{Code, Status, codegen::Service as _, service::Routes};

use super::{
    Client, Inbound, Peer,
    admission::Permit,
    arriving::{Arriving, in_time},
    body::{Body, code, observed, streamed},
    stream::{Messages, StreamLimits, Until, Verdict},
    turns::Turn,
    unary::{Gate, MessageLimits, PREFIX, allowed, failure, frame, receive, refuse_http, too_large},
};

/// The methods to which a client sends more than one message; tonic reads those.
const CLIENT_STREAMING: [&str; 4] = [
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    "/inference.GRPCInferenceService/ModelStreamInfer",
    "/understudy.v1.FeedbackService/StreamFeedback",
];
/// The methods that answer one message with many.
const SERVER_STREAMING: [&str; 4] = [
    "/grpc.health.v1.Health/Watch",
    "/understudy.v1.DriftService/WatchDrift",
    "/understudy.v1.ShadowService/WatchReport",
    "/understudy.v1.TapService/Subscribe",
];

/// Probes are answered however busy we are.
pub(super) const HEALTH: &str = "/grpc.health.v1.Health/";
/// Bytes of a message to health: a name. As these are not counted they must be few.
const HEALTH_MESSAGE: usize = 4 << 10;
/// A name in, a file of descriptors out: a hundred times as long.
const REFLECTION: &str = "/grpc.reflection.";
/// Files that a client may ask for on one stream. All of them are fewer.
const REFLECTION_MESSAGES: usize = 100;

/// What tonic has answered.
enum Answer {
    /// A message, its trailers and the bytes of it.
    Whole(http::response::Parts, Bytes, HeaderMap, Permit),
    /// Many messages, or no message at all; until when, and why it ends before.
    Stream(Response<tonic::body::Body>, Option<Until>, Verdict),
}

/// Lets `routes` answer. The deadline holds until the answer begins. A stream ends by itself, with its caller or at the deadline that
/// the caller has set; those of reflection also after [`MessageLimits::time`].
/// `ended` is called once, with the code that the client sees, or CANCELLED when it sees none.
pub async fn routed(
    routes: Routes,
    mut request: http::Request<Inbound>,
    peer: Peer,
    client: impl FnOnce() -> Client,
    gate: &Gate,
    turn: Turn,
    ended: impl FnOnce(Code) + Send + 'static,
) -> Response<Body> {
    if let Some(refusal) = refuse_http(&request) {
        ended(Code::Unimplemented);
        return refusal;
    }
    let (timeout, allowed) = match allowed(request.headers(), gate.messages) {
        Ok(allowed) => allowed,
        Err((http, status)) => {
            ended(status.code());
            return failure(http, &status);
        }
    };
    let began = Instant::now();
    let client = client();
    request.extensions_mut().insert(peer);
    request.extensions_mut().insert(client.clone());
    let arriving = Arriving::default();
    let answered = async {
        if CLIENT_STREAMING.contains(&request.uri().path()) {
            stream(routes, request, client, gate, turn, (began, timeout)).await
        } else {
            one(routes, request, client, gate, turn, (began, timeout), &arriving).await
        }
    };
    let status = match in_time(began + allowed, allowed, &arriving, answered).await {
        Ok(Answer::Whole(parts, message, trailers, permit)) => {
            ended(code(&trailers));
            return Response::from_parts(parts, Body::unary(message, trailers, permit));
        }
        Ok(Answer::Stream(response, until, verdict)) => return streamed(observed(response, ended), until, verdict),
        Err(status) => status,
    };
    ended(status.code());
    failure(StatusCode::OK, &status)
}

type Times = (Instant, Option<Duration>);

/// A call with one message.
async fn one(
    mut routes: Routes,
    request: http::Request<Inbound>,
    client: Client,
    gate: &Gate,
    mut turn: Turn,
    (began, timeout): Times,
    arriving: &Arriving,
) -> Result<Answer, Status> {
    let MessageLimits { request: most, response: most_answered, .. } = gate.messages;
    let (mut permit, most) = if request.uri().path().starts_with(HEALTH) {
        (gate.admission.exempt(), most.min(HEALTH_MESSAGE))
    } else {
        (gate.admission.begin(|| client)?, most)
    };
    let is_stream = SERVER_STREAMING.contains(&request.uri().path());
    let (mut parts, body) = request.into_parts();
    let message = receive(body, &parts.headers, most, &mut permit, arriving).await?;
    permit.take_place()?;
    turn.begin().await?;
    // Decompressed already.
    parts.headers.remove("grpc-encoding");
    let body: Full<Bytes> = frame(&message).into();
    // Tells, and evaluates nothing: what comes after it need not wait for it.
    turn.end();
    let Ok(response) = routes.call(http::Request::from_parts(parts, body)).await;
    if is_stream || response.headers().contains_key("grpc-status") {
        // A stream is bounded by its connection and by its service.
        return Ok(Answer::Stream(response, timeout.map(|timeout| Until::new(began, timeout)), Verdict::default()));
    }
    let (parts, body) = response.into_parts();
    let whole = body.collect().await?;
    let trailers = whole.trailers().cloned().unwrap_or_default();
    let answer = whole.to_bytes();
    if answer.len() > most_answered.saturating_add(PREFIX) {
        return Err(too_large("answer", Some(answer.len() - PREFIX), most_answered));
    }
    permit.answered(answer.len())?;
    Ok(Answer::Whole(parts, answer, trailers, permit))
}

/// A call with many.
async fn stream(
    mut routes: Routes,
    request: http::Request<Inbound>,
    client: Client,
    gate: &Gate,
    mut turn: Turn,
    (began, timeout): Times,
) -> Result<Answer, Status> {
    turn.end();
    let permit = gate.admission.begin(|| client)?;
    let message = gate.messages.request;
    let (all, timeout) = if request.uri().path().starts_with(REFLECTION) {
        let most = gate.messages.time;
        (Some((REFLECTION_MESSAGES, message)), Some(timeout.map_or(most, |timeout| timeout.min(most))))
    } else {
        (None, timeout)
    };
    let until = || timeout.map(|timeout| Until::new(began, timeout));
    let verdict = Verdict::default();
    let request = request.map(|body| Messages::new(body, StreamLimits { message, all }, until(), &verdict, permit));
    let Ok(response) = routes.call(request).await;
    Ok(Answer::Stream(response, until(), verdict))
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use prost_types::FileDescriptorSet;

    use super::*;

    /// A stream that is not known as one would be read until its deadline.
    #[test]
    fn every_stream_is_known() {
        let sets = [
            crate::DESCRIPTORS,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ];
        let (mut by_client, mut by_server) = (Vec::new(), Vec::new());
        for file in sets.into_iter().flat_map(|set| FileDescriptorSet::decode(set).expect("generated").file) {
            for service in &file.service {
                for method in &service.method {
                    let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                    match (method.client_streaming(), method.server_streaming()) {
                        (true, _) => by_client.push(path),
                        (false, true) => by_server.push(path),
                        (false, false) => {}
                    }
                }
            }
        }
        by_client.sort();
        by_server.sort();
        assert_eq!(by_client, CLIENT_STREAMING);
        assert_eq!(by_server, SERVER_STREAMING);
    }
}
