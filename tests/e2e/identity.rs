//! Who is let in, on the wire: every method against every role, tokens, limits by name, and the sidecar as a client.

use std::{net::SocketAddr, path::PathBuf};

use prost::Message as _;
use prost_types::FileDescriptorSet;
use shadow_sidecar::Sidecar;
use support::{
    Primary, SOON, adult, endpoint,
    grpc::{Call, Connection, PREDICT, Reply, frame},
    issuer::{AUDIENCE, ISSUER, Issuer, now, sha256},
    rehearsal::package,
    within,
};
use tempfile::TempDir;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

mod keys;
mod sidecars;
mod tls;

const UNIMPLEMENTED: i32 = 12;
const UNAUTHENTICATED: i32 = 16;
const PERMISSION_DENIED: i32 = 7;
const RESOURCE_EXHAUSTED: i32 = 8;

/// Who calls in the tests: a client for each role, whose token is the role's name, and one whose token has expired.
struct Callers {
    directory: TempDir,
    issuer: Issuer,
}

const ROLES: [&str; 4] = ["reader", "writer", "observer", "admin"];

impl Callers {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let issuer = Issuer::p256("key");
        let client =
            |role| format!("[[client]]\nname = '{role}'\nroles = ['{role}']\ntoken-sha256 = ['{}']\n", sha256(role));
        std::fs::write(directory.path().join("clients.toml"), ROLES.map(client).concat()).unwrap();
        std::fs::write(directory.path().join("keys.json"), Issuer::jwks(&[&issuer])).unwrap();
        Self { directory, issuer }
    }

    fn clients(&self) -> PathBuf {
        self.directory.path().join("clients.toml")
    }

    fn keys(&self) -> String {
        self.directory.path().join("keys.json").to_string_lossy().into()
    }

    fn primary(&self) -> impl FnOnce(&mut server::Settings) {
        |settings| {
            settings.clients = Some(self.clients());
            settings.jwt_keys = Some(self.keys());
            settings.jwt_issuer = Some(ISSUER.into());
            settings.jwt_audience = Some(AUDIENCE.into());
        }
    }

    fn expired(&self) -> String {
        let mut claims = Issuer::claims("reader", &ROLES);
        claims["exp"] = (now() - 3600).into();
        self.issuer.token(&claims)
    }
}

/// The role that each method takes, written down once more: what the table of the product is compared with.
fn expected(path: &str) -> &'static str {
    let (service, method) = path[1..].split_once('/').unwrap();
    match (service, method) {
        ("grpc.health.v1.Health", _) => "nobody",
        ("inference.GRPCInferenceService", "RepositoryModelLoad" | "RepositoryModelUnload")
        | ("understudy.v1.ShadowService", "StartEpoch") => "admin",
        ("understudy.v1.FeedbackService", "SubmitFeedback" | "StreamFeedback") => "writer",
        ("inference.GRPCInferenceService" | "understudy.v1.PredictionService", _) => "reader",
        (reflection, _) if reflection.starts_with("grpc.reflection.") => "reader",
        _ => "observer",
    }
}

/// Every method that is described anywhere.
fn methods() -> Vec<String> {
    let sets = [
        understudy::DESCRIPTORS,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
    ];
    let mut methods = Vec::new();
    for file in sets.into_iter().flat_map(|set| FileDescriptorSet::decode(set).unwrap().file) {
        for service in &file.service {
            let path = |method: &str| format!("/{}.{}/{method}", file.package(), service.name());
            methods.extend(service.method.iter().map(|method| path(method.name())));
        }
    }
    methods.sort();
    methods
}

fn call(path: &str, token: Option<&str>) -> Call {
    let call = Call::bytes(path, frame(0, b""));
    match token {
        Some(token) => call.header("authorization", &format!("Bearer {token}")),
        None => call,
    }
}

/// What the server says first: streams go on after that.
async fn first(connection: &Connection, call: &Call) -> Reply {
    within(SOON, connection.head(call)).await
}

/// Every method x {none, each role, expired}; how many were looked at.
async fn walk(address: SocketAddr, callers: &Callers) -> usize {
    let expired = callers.expired();
    let mut looked = 0;
    for path in methods() {
        let needed = expected(&path);
        // An epoch that begins by hand is one more than enough; each has a connection that ends with it.
        let connection = Connection::open(address).await;
        let tokens = [None, Some(expired.as_str())].into_iter().chain(ROLES.map(Some));
        for token in tokens {
            let reply = first(&connection, &call(&path, token)).await;
            let told = format!("{path} as {token:?}: {reply:?}");
            match token {
                _ if needed == "nobody" => assert!(![Some(7), Some(16)].contains(&reply.status), "{told}"),
                Some(role) if role == needed => {
                    assert!(![Some(PERMISSION_DENIED), Some(UNAUTHENTICATED)].contains(&reply.status), "{told}");
                }
                Some(role) if ROLES.contains(&role) => {
                    assert_eq!(reply.status, Some(PERMISSION_DENIED), "{told}");
                }
                _ => assert_eq!(reply.status, Some(UNAUTHENTICATED), "{told}"),
            }
            looked += 1;
        }
    }
    looked
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_method_takes_its_role_on_the_server() {
    let callers = Callers::new();
    let primary = Primary::with(callers.primary()).await;
    assert_eq!(walk(primary.grpc(), &callers).await, 6 * methods().len());
    assert_eq!(first(&primary.connect().await, &call("/a.B/C", Some("admin"))).await.status, Some(UNIMPLEMENTED));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_method_takes_its_role_on_the_sidecar() {
    let callers = Callers::new();
    let settings = shadow_sidecar::Settings {
        candidate: Some(package("adult-candidate")),
        primary: Some("http://127.0.0.1:9".into()),
        grpc_listen: Some("127.0.0.1:0".into()),
        admin_listen: Some("127.0.0.1:0".into()),
        clients: Some(callers.clients()),
        jwt_keys: Some(callers.keys()),
        jwt_issuer: Some(ISSUER.into()),
        jwt_audience: Some(AUDIENCE.into()),
        ..shadow_sidecar::Settings::default()
    };
    let sidecar = Sidecar::start(settings.validate().unwrap()).await.unwrap();
    let address = sidecar.addresses().grpc.parse().unwrap();
    assert_eq!(walk(address, &callers).await, 6 * methods().len());
}

#[tokio::test]
async fn what_is_off_is_not_there() {
    let primary = Primary::with(|settings| {
        settings.tap = Some("off".into());
        settings.control = Some("off".into());
        settings.reflection = Some("off".into());
    })
    .await;
    let connection = primary.connect().await;
    for path in [
        "/understudy.v1.TapService/Subscribe",
        "/inference.GRPCInferenceService/RepositoryModelLoad",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    ] {
        assert_eq!(first(&connection, &call(path, None)).await.status, Some(UNIMPLEMENTED), "{path}");
    }
}

#[tokio::test]
async fn a_denial_tells_nothing_and_reads_nothing() {
    let callers = Callers::new();
    let primary = Primary::with(callers.primary()).await;
    let connection = primary.connect().await;
    let ready = "/inference.GRPCInferenceService/ModelReady";
    let of_model = |name: &str, token| {
        let message = understudy::inference::ModelReadyRequest { name: name.into(), version: String::new() };
        Call { body: frame(0, &message.encode_to_vec()).into(), ..call(ready, token) }
    };
    for token in [None, Some("writer")] {
        let known = connection.call(&of_model("adult", token)).await;
        let unknown = connection.call(&of_model("missing", token)).await;
        assert_eq!((known.status, &known.message), (unknown.status, &unknown.message));
        // Nor does a body that no message begins with make a difference.
        let broken = Call { body: vec![9; 100].into(), ..call(ready, token) };
        assert_eq!(connection.call(&broken).await.message, known.message);
    }
    assert_eq!(connection.call(&of_model("missing", Some("reader"))).await.status, Some(5));

    let mut two = call(ready, Some("reader"));
    two.headers.append("authorization", "Bearer reader".parse().unwrap());
    assert_eq!(connection.call(&two).await.status, Some(UNAUTHENTICATED));
    let missing = connection.call(&call(ready, None).method(http::Method::GET)).await;
    assert_eq!(missing.http, 405, "what is no gRPC is told so first");
}

#[tokio::test]
async fn a_token_of_a_megabyte_is_too_large_and_nothing_else_happens() {
    let callers = Callers::new();
    let primary = Primary::with(callers.primary()).await;
    let connection = primary.connect().await;
    let reply = connection.call(&call(PREDICT, Some(&"x".repeat(1 << 20)))).await;
    // As a whole the header block is more than h2 lets anybody send before it looks: then the connection ends, with a word that
    // whoever is still writing may not get to read.
    assert!(matches!(reply.http, 0 | 431) && reply.status.is_none(), "{reply:?}");
    let connection = primary.connect().await;
    assert_eq!(connection.call(&call(PREDICT, Some(&"x".repeat(20 << 10)))).await.http, 431);
    assert_eq!(first(&connection, &call(PREDICT, Some(&"x".repeat(8 << 10)))).await.status, Some(UNAUTHENTICATED));
}

#[tokio::test]
async fn health_asks_for_a_token_only_where_it_is_told_to() {
    let callers = Callers::new();
    let primary = Primary::with(|settings| {
        callers.primary()(settings);
        settings.health_open = Some(false);
    })
    .await;
    let connection = primary.connect().await;
    let check = "/grpc.health.v1.Health/Check";
    assert_eq!(connection.call(&call(check, None)).await.status, Some(UNAUTHENTICATED));
    assert_eq!(connection.call(&call(check, Some("reader"))).await.status, Some(0));
    // The admin port is for probes.
    let admin = Connection::open(primary.admin()).await;
    assert_eq!(admin.call(&call(check, None)).await.status, Some(0));
}

#[tokio::test]
async fn limits_hold_for_a_name_and_not_for_an_address() {
    let callers = Callers::new();
    let primary = Primary::with(|settings| {
        callers.primary()(settings);
        settings.rate_limit = Some(2);
    })
    .await;
    let connection = primary.connect().await;
    let predict = |token: &str| {
        Call::new(PREDICT, &adult::test_set().predict(0..1)).header("authorization", &format!("Bearer {token}"))
    };
    for status in [0, 0, RESOURCE_EXHAUSTED] {
        assert_eq!(connection.call(&predict("reader")).await.status, Some(status));
    }
    // The same address, another name.
    let other = callers.issuer.token(&Issuer::claims("other", &["reader"]));
    assert_eq!(connection.call(&predict(&other)).await.status, Some(0));
    // A subject that is called as a client of the file is somebody else, and spends a quota of its own.
    let same = callers.issuer.token(&Issuer::claims("reader", &["reader"]));
    for status in [0, 0, RESOURCE_EXHAUSTED] {
        assert_eq!(connection.call(&predict(&same)).await.status, Some(status));
    }
}

/// Whoever is nobody has a rate, too: that of the address, and not that of those who are known.
#[tokio::test]
async fn denials_are_charged_to_the_address() {
    let callers = Callers::new();
    let primary = Primary::with(|settings| {
        callers.primary()(settings);
        settings.rate_limit = Some(5);
    })
    .await;
    let connection = primary.connect().await;
    let mut statuses = Vec::new();
    for token in [Some("guessed"), None, Some("writer")].into_iter().cycle().take(8) {
        statuses.push(first(&connection, &call(PREDICT, token)).await.status.unwrap());
    }
    assert_eq!(statuses, [16, 16, 7, 16, 16, 8, 8, 8], "UNAUTHENTICATED, PERMISSION_DENIED, then RESOURCE_EXHAUSTED");
    let request = Call::new(PREDICT, &adult::test_set().predict(0..1)).header("authorization", "Bearer reader");
    assert_eq!(connection.call(&request).await.status, Some(0), "a client that is known has its own");
    let other = Connection::open_from(2, primary.grpc()).await;
    assert_eq!(first(&other, &call(PREDICT, None)).await.status, Some(UNAUTHENTICATED));
    assert_eq!(primary.scrape().await.sum("understudy_refused_calls_total", &[("reason", "client_rate")]), 3.0);
}

/// Watches are counted by caller, on both ports together; health is open, so a token is not asked for, but it is a name.
#[tokio::test]
async fn watches_are_the_callers_own_on_whichever_port() {
    let callers = Callers::new();
    let primary = Primary::with(callers.primary()).await;
    let open = async |address: SocketAddr, token: Option<&str>, times: usize| {
        let mut client = HealthClient::new(endpoint(&format!("http://{address}")).connect_lazy());
        let (mut watching, mut refused) = (Vec::new(), 0);
        for _ in 0..times {
            let mut request = tonic::Request::new(HealthCheckRequest::default());
            if let Some(token) = token {
                request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
            }
            match within(SOON, client.watch(request)).await {
                Ok(stream) => watching.push(stream),
                Err(status) => {
                    assert_eq!(status.code() as i32, RESOURCE_EXHAUSTED, "{status:?}");
                    refused += 1;
                }
            }
        }
        (watching, refused)
    };
    let (_first, refused) = open(primary.grpc(), Some("reader"), 105).await;
    assert_eq!(refused, 5);
    let (_second, refused) = open(primary.grpc(), Some("writer"), 100).await;
    assert_eq!(refused, 0, "another caller from the same address");
    // Nobody in particular, so the address.
    let (_third, refused) = open(primary.grpc(), None, 90).await;
    assert_eq!(refused, 0);
    let (_fourth, refused) = open(primary.admin(), None, 15).await;
    assert_eq!(refused, 5, "the same caller on the other port");
}
