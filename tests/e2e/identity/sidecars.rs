//! Sidecars that have to show who they are, to their primary and to their candidate.

use std::path::PathBuf;

use support::{
    Primary, Rehearsal, adult,
    authority::{Authority, Pair},
};
use tonic::{service::interceptor::InterceptedService, transport::Channel};
use understudy::{
    identity::credentials::{Bearer, Credentials},
    v1::prediction_service_client::PredictionServiceClient,
};

use super::Callers;

/// Servers with TLS that want tokens.
struct Guarded {
    callers: Callers,
    authority: Authority,
    pair: Pair,
}

impl Guarded {
    fn new() -> Self {
        let callers = Callers::new();
        let mut authority = Authority::new(callers.directory.path(), "authority");
        let pair = authority.loopback();
        Self { callers, authority, pair }
    }

    async fn server(&self) -> Primary {
        Primary::with(|settings| {
            self.callers.primary()(settings);
            settings.tls_cert = Some(self.pair.certificate.clone());
            settings.tls_key = Some(self.pair.key.clone());
        })
        .await
    }

    /// A file with the token of who has this role, and no other.
    fn token(&self, role: &str) -> PathBuf {
        let path = self.callers.directory.path().join(role);
        std::fs::write(&path, format!("{role}\n")).unwrap();
        path
    }

    async fn reader(&self, server: &Primary) -> PredictionServiceClient<InterceptedService<Channel, Bearer>> {
        let reader = Credentials {
            ca: Some(self.authority.path()),
            token: Some(self.token("reader")),
            ..Credentials::default()
        };
        let channel = reader.dialer(&url(server)).unwrap().connect().await.unwrap();
        PredictionServiceClient::with_interceptor(channel, reader.bearer().unwrap())
    }

    /// A sidecar that comes to the tap with `role`, and asks the candidate as a reader.
    async fn sidecar(&self, primary: &Primary, role: &str, candidate: &Primary) -> Rehearsal {
        Rehearsal::alone(|settings| {
            settings.primary = Some(url(primary));
            settings.primary_ca = Some(self.authority.path());
            settings.primary_token_file = Some(self.token(role));
            settings.candidate = Some(url(candidate));
            settings.candidate_ca = Some(self.authority.path());
            settings.candidate_token_file = Some(self.token("reader"));
        })
        .await
    }
}

fn url(server: &Primary) -> String {
    format!("https://{}", server.grpc())
}

async fn connected(rehearsal: &Rehearsal) {
    rehearsal.report_when(|report| report.intake.as_ref().is_some_and(|intake| intake.connected)).await;
}

#[tokio::test]
async fn a_sidecar_follows_with_a_token_over_tls() {
    let guarded = Guarded::new();
    let (primary, candidate) = (guarded.server().await, guarded.server().await);
    let rehearsal = guarded.sidecar(&primary, "observer", &candidate).await;
    connected(&rehearsal).await;
    guarded.reader(&primary).await.predict(adult::test_set().predict(0..100)).await.unwrap();
    let report = rehearsal.settled(1).await;
    assert_eq!(report.rows.unwrap().compared, 100);

    // Without the role it is told why, and goes on trying.
    let denied = guarded.sidecar(&primary, "writer", &candidate).await;
    denied
        .report_when(|report| {
            report.intake.as_ref().is_some_and(|intake| intake.last_error.contains("role 'observer'"))
        })
        .await;
}

/// Where both sidecars ask with tokens that do not take the role observer nobody believes their mark. The circle ends all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_that_rehearse_on_each_other_unbelieved_stop_after_one_round() {
    let guarded = Guarded::new();
    let (a, b) = (guarded.server().await, guarded.server().await);
    let beside_a = guarded.sidecar(&a, "observer", &b).await;
    let beside_b = guarded.sidecar(&b, "observer", &a).await;
    connected(&beside_a).await;
    connected(&beside_b).await;
    let mut client = guarded.reader(&a).await;
    for row in 0..20 {
        client.predict(adult::test_set().predict(row..row + 1)).await.unwrap();
    }
    // From a's clients to b, from b to a, and there it is known again.
    let report = beside_a.report_when(|report| report.intake.as_ref().is_some_and(|it| it.looped == 20)).await;
    assert_eq!(report.exchanges.unwrap().offered, 20);
    let report = beside_b.settled(20).await;
    assert_eq!((report.exchanges.unwrap().compared, report.intake.unwrap().looped), (20, 0));
    assert_eq!(beside_a.settled(20).await.intake.unwrap().looped, 20, "and no more");
}
