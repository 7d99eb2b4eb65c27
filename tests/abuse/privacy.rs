//! P46, P48 and P49: what a request leaves behind in logs and metrics.

use support::{
    adult::test_set,
    case::leaks,
    grpc::{Call, MODEL_INFER, PREDICT},
    machine,
    promises::Report,
    scrape::{self, Scrape},
    target::How,
    tensors::RAW,
};
use understudy::v1::{PredictRequest, Value, value::Kind};

const CANARY: &str = "ZZPII-5f0c7e1a";

/// The canary in every place that takes a text, behind what would steer a terminal or end a line.
fn canaries() -> Vec<Call> {
    let hostile = format!("\u{1b}[31m\r\n{{\"level\":\"ERROR\"}}\n{CANARY}\u{202e}\0");
    let mut calls = Vec::new();
    let mut rows = |change: &dyn Fn(&mut PredictRequest)| {
        let mut request = PredictRequest { model: "adult".into(), ..test_set().predict(0..1) };
        change(&mut request);
        calls.push(Call::new(PREDICT, &request));
    };
    let text = || Value { kind: Some(Kind::Text(hostile.clone())) };
    rows(&|request| request.model.clone_from(&hostile));
    rows(&|request| request.version.clone_from(&hostile));
    rows(&|request| request.request_id.clone_from(&hostile));
    rows(&|request| drop(request.rows[0].values.insert("race".into(), text())));
    rows(&|request| drop(request.rows[0].values.insert("age".into(), text())));
    rows(&|request| drop(request.rows[0].values.insert(hostile.clone(), text())));
    let mut tensors = test_set().columns(0..1, RAW);
    tensors.inputs[0].name.clone_from(&hostile);
    calls.push(Call::new(MODEL_INFER, &tensors));
    let mut tensors = test_set().columns(0..1, RAW);
    tensors.inputs[0].datatype.clone_from(&hostile);
    tensors.id.clone_from(&hostile);
    calls.push(Call::new(MODEL_INFER, &tensors));
    let good = || Call::new(PREDICT, &test_set().predict(0..1));
    for name in ["x-request-id", "authorization", "user-agent", "traceparent", "x-shadow-id", "grpc-timeout", "cookie"]
    {
        calls.push(good().header(name, CANARY));
    }
    calls.push(Call { path: format!("/{CANARY}.Service/Method"), ..good() });
    calls.push(good().header("grpc-encoding", CANARY));
    calls.push(good().header("content-type", CANARY));
    calls
}

/// P46 and P49.
pub(crate) async fn canary(report: &mut Report, how: &How, flags: &[&str]) {
    for filter in ["info", "debug"] {
        let target = how.start(&[flags, &["--log", filter]].concat()).await.expect("the server starts");
        let mut leaking = Vec::new();
        let calls = canaries();
        let count = calls.len();
        for call in calls {
            let reply = target.connect().await.call(&call).await;
            if leaks(&reply.message) {
                leaking.push(reply.message);
            }
        }
        let metrics = scrape::get(target.admin, "/metrics").await.map_or_else(|error| error.to_string(), |got| got.1);
        let log = target.log();
        let lines = log.lines().count();
        let parsed = log.lines().filter(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()).count();
        let steering = log.chars().filter(|c| (c.is_control() && *c != '\n') || *c == '\u{202e}').count();
        let hits = log.matches(CANARY).count() + metrics.matches(CANARY).count();
        let text =
            format!("{count} places: {parsed} of {lines} lines parse, {steering} control characters, {hits} hits");
        // What is debugged may be shown, escaped; by default nothing is.
        let kept = parsed == lines && steering == 0 && (hits == 0 || filter == "debug");
        report.line(
            "P46",
            &format!("canary, log level {filter}"),
            "every line JSON, 0 control characters, 0 hits",
            &text,
            kept,
        );
        let text = format!("{} of {count} answers", leaking.len());
        report.line(
            "P49",
            &format!("texts of errors, {filter}"),
            "no path, address, source place, control character",
            &text,
            leaking.is_empty(),
        );
    }
}

/// P48.
pub(crate) async fn cardinality(report: &mut Report, how: &How, flags: &[&str], names: u32) {
    let target = how.start(flags).await.expect("the server starts");
    let connection = target.connect().await;
    let ask = |n: u32| {
        let name = format!("m{:x}", u64::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        Call::new(PREDICT, &PredictRequest { model: name, ..PredictRequest::default() })
    };
    for n in 0..1_000 {
        drop(connection.call(&ask(n)).await);
    }
    drop(connection.call(&Call { path: "/s.Service/Method".into(), ..ask(0) }).await);
    let (series, before) = (Scrape::of(target.admin).await.samples().len(), machine::rss(target.pid()));
    let mut strange = 0;
    for n in 0..names / 64 {
        for k in 0..64 {
            strange += u32::from(connection.call(&ask(1_000 + 64 * n + k)).await.status != Some(5));
        }
        // Names of methods are labels, too.
        let method = Call { path: format!("/s{n}.Service/Method"), ..ask(n) };
        strange += u32::from(connection.call(&method).await.status != Some(12));
    }
    let growth = machine::rss(target.pid()).saturating_sub(before);
    let added = Scrape::of(target.admin).await.samples().len().saturating_sub(series);
    let text = format!("+{added} series, +{:.2} MiB, {strange} strange answers", machine::mib(growth));
    let kept = added == 0 && growth < 1 << 20 && strange == 0;
    report.line("P48", &format!("{names} names of models"), "+0 series, +< 1 MiB", &text, kept);
}
