//! What the process says on standard error.

use serde_json::Value;
use understudy::v1::{PredictRequest, SubscribeRequest, tap_service_client::TapServiceClient};

use crate::{channel, client, process::SOON, serving, young};

/// P46: whatever a client sends, a line of the log is one JSON object and nothing in it can move a terminal's cursor.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn every_line_of_the_log_is_one_object() {
    const HOSTILE: &str = "\u{1b}[31mred\r\n{\"level\":\"ERROR\"}\n\u{7f}\u{202e}";
    let process = serving(&["--log", "debug"]);
    let mut client = client(&process);
    for request in [
        PredictRequest { model: HOSTILE.into(), ..young() },
        PredictRequest { version: HOSTILE.into(), ..young() },
        PredictRequest { request_id: HOSTILE.into(), ..young() },
    ] {
        drop(client.predict(request).await);
    }
    let subscribe = SubscribeRequest { subscriber: HOSTILE.into(), ..SubscribeRequest::default() };
    let mut tap = TapServiceClient::new(channel(&process)).subscribe(subscribe).await.unwrap().into_inner();
    assert!(tap.message().await.unwrap().is_some());
    process.wait_for_log("tap subscribed");
    process.signal("TERM");
    let ended = process.wait(SOON);
    let lines: Vec<&str> = ended.stderr.lines().collect();
    assert!(lines.len() > 5, "{lines:#?}");
    for line in lines {
        let object: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
        assert!(object["level"].is_string() && object["timestamp"].is_string(), "{line}");
        assert!(!line.chars().any(char::is_control), "{line:?}");
    }
}

#[test]
fn ready_is_told_with_every_name_that_a_probe_may_use() {
    let process = serving(&[]);
    process.grpc();
    process.signal("TERM");
    let ended = process.wait(SOON);
    let ready = ended.stderr.lines().find(|line| line.contains("\"ready\"")).unwrap();
    for name in ["liveness", "readiness", "startup", "inference.GRPCInferenceService", "model/adult", "model/adult/1"] {
        assert!(ready.contains(name), "no {name} in {ready}");
    }
}
