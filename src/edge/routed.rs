//! Calls that tonic's own services answer: everything but predictions. What is no gRPC call is refused as in
//! [`unary`](super::unary), and the deadline holds until the answer begins; a stream then ends by itself or with its caller.

use http::{Response, StatusCode};
use hyper::body::Incoming;
use tonic::{Code, Status, codegen::Service as _, service::Routes};

use super::{
    Peer,
    body::{Body, observed},
    timeout,
    unary::{failure, refuse_http},
};

/// Lets `routes` answer. `ended` is called once, with the code that the client sees, or CANCELLED when it sees none.
pub async fn routed(
    mut routes: Routes,
    mut request: http::Request<Incoming>,
    peer: Peer,
    ended: impl FnOnce(Code) + Send + 'static,
) -> Response<Body> {
    if let Some(refusal) = refuse_http(&request) {
        ended(Code::Unimplemented);
        return refusal;
    }
    let timeout = match timeout::parse(request.headers()) {
        Ok(timeout) => timeout,
        Err(text) => {
            ended(Code::Internal);
            return failure(StatusCode::BAD_REQUEST, &Status::internal(text));
        }
    };
    request.extensions_mut().insert(peer);
    let answered = routes.call(request);
    let answered = match timeout {
        None => answered.await,
        Some(timeout) => match tokio::time::timeout(timeout, answered).await {
            Ok(answered) => answered,
            Err(_) => {
                ended(Code::DeadlineExceeded);
                let status = Status::deadline_exceeded(format!("not answered within {timeout:?}"));
                return failure(StatusCode::OK, &status);
            }
        },
    };
    let Ok(response) = answered;
    observed(response, ended)
}
