//! H1 to H4.

use std::time::Duration;

use support::{grpc::Call, primary::endpoint, target::Target};
use tokio::time::timeout;
use tokio_stream::StreamExt as _;
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use super::{Try, word};

/// More than may be open.
const ASKED: usize = 300;

pub(super) async fn tries(target: &Target) -> Vec<Try> {
    let connection = target.connect().await;
    let check = |name: &str| Call::new("/grpc.health.v1.Health/Check", &HealthCheckRequest { service: name.into() });
    let mut tries = vec![
        Try::expect("H1 nope", word(&connection.call(&check("nope")).await), &["5"]),
        Try::expect("H0 readiness", word(&connection.call(&check("")).await), &["0"]),
        Try::expect("H3 a name of 1 MB", word(&connection.call(&check(&"x".repeat(1_000_000))).await), &["3", "8"]),
        Try::expect("H3 a name of 300 bytes", word(&connection.call(&check(&"x".repeat(300))).await), &["3"]),
    ];
    tries.push(Try::expect("H2 nope", watch_unknown(target).await, &["SERVICE_UNKNOWN"]));
    tries.push(watches(target).await);
    tries
}

async fn watch_unknown(target: &Target) -> String {
    let mut client = HealthClient::new(endpoint(&format!("http://{}", target.grpc)).connect_lazy());
    match client.watch(HealthCheckRequest { service: "nope".into() }).await {
        Err(status) => (status.code() as i32).to_string(),
        Ok(answer) => {
            let mut stream = answer.into_inner();
            match timeout(Duration::from_secs(1), stream.next()).await {
                Ok(Some(Ok(first))) if first.status() == ServingStatus::ServiceUnknown => {
                    // That nothing follows is the stream staying open.
                    match timeout(Duration::from_millis(200), stream.next()).await {
                        Err(_) => "SERVICE_UNKNOWN".into(),
                        Ok(next) => format!("SERVICE_UNKNOWN, then {next:?}"),
                    }
                }
                other => format!("{other:?}"),
            }
        }
    }
}

/// Opens so many that the bound must show, and leaves.
async fn watches(target: &Target) -> Try {
    // Until the server has seen the watches of before go.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (mut open, mut refused, mut strange) = (Vec::new(), 0_usize, Vec::new());
    let mut client = None;
    for n in 0..ASKED {
        if n % 120 == 0 {
            client = endpoint(&format!("http://{}", target.grpc)).connect().await.ok().map(HealthClient::new);
        }
        let Some(client) = &mut client else { continue };
        match timeout(Duration::from_secs(5), client.watch(HealthCheckRequest::default())).await {
            Ok(Ok(answer)) => open.push(answer.into_inner()),
            Ok(Err(status)) if status.code() == Code::ResourceExhausted => {
                refused += 1;
                // More of the same is known.
                if refused == 20 {
                    break;
                }
            }
            other => strange.push(format!("{:?}", other.map(|answered| answered.map(drop)))),
        }
    }
    let mut tried = Try::expect("H4 Watch", if refused > 0 { "8" } else { "all open" }, &["8"]);
    tried.require(strange.is_empty(), format!("nothing but 8, {:?}", strange.first()));
    // Without identity a caller is its address, over all of its connections.
    tried.require(open.len() == 100, format!("100 open before the first 8, {}", open.len()));
    tried
}
