//! Over sockets, as a browser sees it; in a real one: `tests/page`.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
};

use metrics_exporter_prometheus::PrometheusHandle;
use understudy::{admin, health::Registry, shutdown::Shutdown, telemetry};

use super::*;

const HOSTILE: &str = "<script>alert(1)</script>";
/// A busy machine may take a while; what is not there then does not come.
const SOON: Duration = Duration::from_secs(20);

/// A rehearsal whose report the test decides.
#[derive(Default)]
struct Stage(Mutex<v1::Report>);

impl Subject for Stage {
    fn report(&self) -> v1::Report {
        v1::Report { generated_unix_nanos: crate::rehearsal::unix_nanos(), ..self.0.lock().unwrap().clone() }
    }

    fn distributions(&self) -> Json {
        json!({"score_delta": [[null, 0.1, 3]]})
    }

    fn history(&self) -> Json {
        json!({"epoch": 1, "points": []})
    }

    fn name(&self) -> String {
        self.0.lock().unwrap().epoch.as_ref().unwrap().candidate.as_ref().unwrap().name.clone()
    }

    fn disagreements(&self) -> Option<Json> {
        let name = self.name();
        (name != "without").then(|| json!({"disagreements": [{"difference": name}]}))
    }
}

impl Stage {
    fn of(verdict: v1::Verdict, class: &str) -> Arc<Self> {
        let version = |name: &str| Some(v1::ModelVersion { name: name.into(), version: "1".into() });
        let epoch =
            v1::Epoch { number: 1, primary: version("adult"), candidate: version(class), ..v1::Epoch::default() };
        Arc::new(Self(Mutex::new(v1::Report {
            epoch: Some(epoch),
            verdict: verdict.into(),
            reasons: vec![format!("class {class} & \"more\"")],
            agreement: Some(v1::Agreement {
                rate: Some(0.999_99),
                accuracy_change_bound: Some(0.0125),
                ..v1::Agreement::default()
            }),
            flips: vec![v1::Flip { primary: class.into(), candidate: class.into(), count: 1 }],
            ..v1::Report::default()
        })))
    }

    fn decide(&self, verdict: v1::Verdict) {
        self.0.lock().unwrap().set_verdict(verdict);
    }
}

fn serve(stages: Vec<Arc<Stage>>) -> (SocketAddr, Shutdown) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (shutdown, phases) = Shutdown::new();
    let handle = telemetry::recorder(&[]).unwrap().handle();
    admin::start(
        listener,
        handle,
        PrometheusHandle::render,
        &Registry::new(&[], &phases),
        &phases,
        routes(stages, &phases),
    )
    .unwrap();
    (address, shutdown)
}

/// A request whose head has been answered; the body comes after it.
struct Asked {
    code: u16,
    headers: BTreeMap<String, String>,
    rest: BufReader<TcpStream>,
}

fn ask(address: SocketAddr, path: &str) -> Asked {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").unwrap();
    let mut rest = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        rest.read_line(&mut line).unwrap();
        if line.trim().is_empty() {
            break;
        }
        lines.push(line.trim().to_owned());
    }
    let code = lines[0].split(' ').nth(1).unwrap().parse().unwrap();
    let headers = lines[1..].iter().filter_map(|line| line.split_once(": "));
    Asked { code, headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(), rest }
}

impl Asked {
    fn body(mut self) -> String {
        let mut body = String::new();
        self.rest.read_to_string(&mut body).unwrap();
        body
    }

    /// The next event of this name; absent when the stream has ended.
    fn event(&mut self, name: &str) -> Option<Json> {
        let mut ours = false;
        loop {
            let mut line = String::new();
            if self.rest.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            match line.trim().split_once(": ") {
                Some(("event", event)) => ours = event == name,
                Some(("data", data)) if ours => return Some(serde_json::from_str(data).unwrap()),
                _ => {}
            }
        }
    }
}

#[test]
fn what_is_served_is_guarded() {
    let (address, _shutdown) = serve(vec![Stage::of(v1::Verdict::Promote, "adult-candidate")]);
    let types = [
        ("/", "text/html; charset=utf-8"),
        ("/report.json", "application/json"),
        ("/history.json", "application/json"),
        ("/distributions.json", "application/json"),
        ("/disagreements.json", "application/json"),
        ("/report/events", "text/event-stream"),
    ];
    for (path, content) in types {
        let asked = ask(address, path);
        assert_eq!((asked.code, asked.headers["content-type"].as_str()), (200, content), "{path}");
        assert_eq!(asked.headers["x-content-type-options"], "nosniff", "{path}");
        assert!(asked.headers["content-security-policy"].starts_with("default-src 'none'"), "{path}");
        assert!(asked.headers["cache-control"].contains("no-"), "{path}: {:?}", asked.headers);
    }
    assert_eq!(ask(address, "/nothing").code, 404);
    assert_eq!(ask(address, "/livez").code, 200, "what was there before still is");
}

#[test]
fn only_the_own_script_and_style_run_and_each_answer_has_another_nonce() {
    let (address, _shutdown) = serve(vec![Stage::of(v1::Verdict::Promote, "adult-candidate")]);
    let nonces = [(); 2].map(|()| {
        let asked = ask(address, "/");
        let policy = asked.headers["content-security-policy"].clone();
        let nonce = policy.split_once("script-src 'nonce-").unwrap().1.split_once('\'').unwrap().0.to_owned();
        assert_eq!(nonce.len(), 32);
        assert!(!policy.contains("unsafe"), "{policy}");
        let page = asked.body();
        for tag in ["script", "style"] {
            assert_eq!(page.matches(&format!("<{tag}")).count(), 1);
            assert!(page.contains(&format!("<{tag} nonce=\"{nonce}\">")));
        }
        assert!(!page.contains("{{"), "every place is filled");
        assert!(!page.contains(" style=\"") && !page.contains("javascript:"));
        // Names of namespaces are no addresses.
        let elsewhere = page.replace("http://www.w3.org/2000/svg", "");
        assert!(!elsewhere.contains("http://") && !elsewhere.contains("https://"));
        nonce
    });
    assert_ne!(nonces[0], nonces[1]);
}

#[test]
fn without_a_script_the_verdict_and_the_figures_are_there_and_foreign_text_is_text() {
    let (address, _shutdown) = serve(vec![Stage::of(v1::Verdict::Reject, HOSTILE)]);
    let page = ask(address, "/").body();
    assert!(page.contains("Verdict: reject"));
    assert!(page.contains(
        "Accuracy changes by at most 1.25 %, without a single label; what was not compared counts as changed."
    ));
    assert!(page.contains("&gt;99.99 %"), "what is not complete never reads as complete");
    assert!(page.contains("class &lt;script&gt;alert(1)&lt;/script&gt; &amp; &quot;more&quot;"));
    assert!(!page.contains(HOSTILE));
    assert!(!page.contains("innerHTML") && !page.contains("onclick"));
}

#[test]
fn the_report_is_the_one_of_the_command_and_several_are_listed() {
    let one = Stage::of(v1::Verdict::Promote, HOSTILE);
    let (address, _shutdown) = serve(vec![one.clone()]);
    let mut told: Json = serde_json::from_str(&ask(address, "/report.json").body()).unwrap();
    told["generated_unix_nanos"] = json!(0);
    assert_eq!(told, report_json::report(&one.0.lock().unwrap()));

    let (address, _shutdown) = serve(vec![one, Stage::of(v1::Verdict::Reject, "another")]);
    let told: Json = serde_json::from_str(&ask(address, "/report.json").body()).unwrap();
    let verdicts: Vec<_> = told["reports"].as_array().unwrap().iter().map(|report| report["verdict"].clone()).collect();
    assert_eq!(verdicts, ["promote", "reject"]);
    for path in ["/history.json", "/distributions.json"] {
        let told: Json = serde_json::from_str(&ask(address, path).body()).unwrap();
        assert_eq!(told["candidates"].as_array().map(Vec::len), Some(2), "{path}");
    }
}

#[test]
fn disagreements_are_of_the_candidate_that_is_named_and_not_there_when_none_are_kept() {
    let one = Stage::of(v1::Verdict::Promote, HOSTILE);
    let told = |address, path: &str| -> Json { serde_json::from_str(&ask(address, path).body()).unwrap() };
    let (address, _shutdown) = serve(vec![one.clone()]);
    assert_eq!(told(address, "/disagreements.json")["disagreements"][0]["difference"], HOSTILE);

    let all = vec![one, Stage::of(v1::Verdict::Reject, "a b&c%"), Stage::of(v1::Verdict::Reject, "without")];
    let (address, _shutdown) = serve(all);
    for (name, query) in
        [(HOSTILE, "%3Cscript%3Ealert(1)%3C%2fscript%3E"), ("a b&c%", "a%20b%26c%25"), ("a b&c%", "a+b%26c%")]
    {
        let path = format!("/disagreements.json?other=1&candidate={query}");
        assert_eq!(told(address, &path)["disagreements"][0]["difference"], name, "{path}");
    }
    assert_eq!(ask(address, "/disagreements.json?candidate=without").code, 404);
    for path in ["/disagreements.json", "/disagreements.json?candidate=nobody"] {
        let asked = ask(address, path);
        assert_eq!((asked.code, asked.headers["content-type"].as_str()), (400, "text/plain; charset=utf-8"), "{path}");
        assert!(asked.body().contains("without"), "{path} says who there is");
    }
}

#[test]
fn a_stream_tells_what_changes_and_ends_with_the_process() {
    let stage = Stage::of(v1::Verdict::Undecided, HOSTILE);
    let (address, shutdown) = serve(vec![stage.clone()]);
    let mut stream = ask(address, "/report/events");
    let first = stream.event("report").unwrap();
    assert_eq!((first["verdict"].as_str(), first["flips"][0]["primary"].as_str()), (Some("undecided"), Some(HOSTILE)));
    assert_eq!(stream.event("distributions").unwrap()["candidates"][0]["score_delta"], json!([[null, 0.1, 3]]));
    stage.decide(v1::Verdict::Promote);
    assert_eq!(stream.event("report").unwrap()["verdict"], "promote", "no report twice");
    stage.decide(v1::Verdict::Reject);
    assert_eq!(stream.event("report").unwrap()["verdict"], "reject");
    shutdown.advance(Phase::Closing);
    assert_eq!(stream.event("report"), None, "the stream ends");
}

#[test]
fn there_is_a_limit_to_streams_and_a_place_becomes_free_again() {
    let (address, _shutdown) = serve(vec![Stage::of(v1::Verdict::Undecided, "adult-candidate")]);
    let mut streams: Vec<Asked> = (0..STREAMS).map(|_| ask(address, "/report/events")).collect();
    assert!(streams.iter().all(|stream| stream.code == 200));
    let refused = ask(address, "/report/events");
    assert_eq!((refused.code, refused.headers["retry-after"].as_str()), (503, "10"));
    assert_eq!(ask(address, "/report.json").code, 200, "a look is possible all the same");
    streams.pop();
    let started = Instant::now();
    while ask(address, "/report/events").code != 200 {
        assert!(started.elapsed() < SOON, "the place of a stream that was closed stays taken");
        std::thread::sleep(Duration::from_millis(50));
    }
}
