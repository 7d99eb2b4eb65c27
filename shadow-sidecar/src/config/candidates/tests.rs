use std::time::Duration;

use understudy::settings;

use super::*;
use crate::{Config, Settings, answers::Decision};

fn config(text: &str) -> Result<Config, Problems> {
    settings::merge(&Settings::default(), text).and_then(Settings::validate)
}

fn problems(text: &str) -> String {
    config(text).expect_err(text).to_string()
}

#[test]
fn a_table_wins_over_what_is_for_all() {
    let config = config(
        r#"
        candidate-model = "shared"
        candidate-scores-output = "probabilities"
        candidate-timeout = "1s"
        concurrency = 5
        tolerance-relative = 0.5
        candidate-ca = "ca.crt"
        candidate-cert = "shared.crt"
        candidate-key = "shared.key"
        candidate-token-file = "shared.token"

        [[candidates]]
        name = "a"
        url = "https://a:8001"

        [[candidates]]
        name = "b"
        url = "https://b:8001"
        model = "wider"
        version = "3"
        task = "binary"
        classes = ["no", "yes"]
        label-output = "class"
        scores-output = "p"
        decision = "threshold=0.3"
        tolerance-absolute = 0.25
        cert = "b.crt"
        key = "b.key"
        token-file = "b.token"
        timeout = "250ms"
        concurrency = 2
        queue = 8
        queue-bytes = 4096

        [[candidates]]
        name = "c"
        package = "models/c"
        concurrency = 1
        "#,
    )
    .expect("valid");
    let [a, b, c] = config.candidates.as_slice() else { panic!("{:?}", config.candidates) };
    let server = |url: &str, model: &str, version: &str| CandidateSource::Server {
        url: url.into(),
        model: Some(model.into()),
        version: version.into(),
    };
    assert_eq!(
        (&a.source, &b.source),
        (&server("https://a:8001", "shared", ""), &server("https://b:8001", "wider", "3"))
    );
    assert_eq!(c.source, CandidateSource::Package("models/c".into()));
    assert_eq!((a.task, b.task), (None, Some(understudy::v1::Task::Binary)));
    assert_eq!(a.outputs, Outputs { scores: Some("probabilities".into()), ..Outputs::default() });
    let classes = vec!["no".to_owned(), "yes".to_owned()];
    let decision = Some(Decision::Threshold(0.3));
    assert_eq!(b.outputs, Outputs { label: Some("class".into()), scores: Some("p".into()), classes, decision });
    let path = |name: &str| Some(PathBuf::from(name));
    assert_eq!((&a.credentials.token, &b.credentials.token), (&path("shared.token"), &path("b.token")));
    assert_eq!((&a.credentials.certificate, &b.credentials.certificate), (&path("shared.crt"), &path("b.crt")));
    assert_eq!((&a.credentials.ca, &b.credentials.ca), (&path("ca.crt"), &path("ca.crt")));
    assert_eq!((b.tolerance.absolute, b.tolerance.relative), (0.25, 0.5));
    assert_eq!((a.bounds.timeout, b.bounds.timeout), (Duration::from_secs(1), Duration::from_millis(250)));
    assert_eq!((a.bounds.queue, b.bounds.queue, b.bounds.queue_bytes), (4096, 8, 4096));
    assert_eq!((a.concurrency, b.concurrency, c.concurrency), (5, 2, 1));
}

#[test]
fn all_that_is_wrong_with_tables_is_told_at_once() {
    let said = problems(
        r#"
        [[candidates]]
        name = "a"
        url = "nowhere"
        task = "guessing"
        decision = "mostly"
        concurrency = 0
        cert = "a.crt"

        [[candidates]]
        name = "a"
        package = "models/a"
        model = "wider"
        token-file = "a.token"

        [[candidates]]
        url = "http://c:8001"
        package = "models/c"

        [[candidates]]
        name = "d"
        "#,
    );
    for expected in [
        "candidates.a.url: expected http://HOST:PORT",
        "candidates.a.task: expected binary",
        "candidates.a.decision: expected argmax",
        "candidates.a.concurrency: expected 1 to 4096, got 0",
        "candidates.a.cert: expected candidates.a.key, too",
        "candidates.a.cert: only for https://",
        "candidates.a.model: only for a candidate on a server",
        "candidates.a.token-file: only for a candidate on a server",
        "candidates.?.name: expected a name",
        "candidates.?.url: either package or url",
        "candidates.d.url: expected package or url",
        "candidates: two are called \"a\"",
    ] {
        assert!(said.contains(expected), "{expected}\nis not in\n{said}");
    }
}

#[test]
fn an_unknown_key_of_a_table_is_refused_with_its_line() {
    let said = problems("[[candidates]]\nname = \"a\"\nurl = \"http://a:1\"\nmodle = \"x\"");
    assert!(said.contains("modle") && said.contains("line 4"), "{said}");
}

#[test]
fn a_token_for_all_is_not_sent_to_several_servers() {
    let several =
        problems("candidate-token-file = \"t\"\ncandidates = [\"a=http://a:1\", \"b=http://b:1\", \"c=models/c\"]");
    assert!(several.contains("candidate-token-file: would be sent to http://a:1 and http://b:1"), "{several}");
    // Models of one server may share it, and packages are not asked.
    config("candidate-token-file = \"t\"\ncandidates = [\"a=http://a:1\", \"b=http://a:1\", \"c=models/c\"]")
        .expect("one server");
    let own = r#"
        candidate-token-file = "t"
        candidates = ["a=http://a:1", { name = "b", url = "http://b:1", token-file = "u" }]
    "#;
    config(own).expect("the other has its own");
}

#[test]
fn flags_replace_the_tables_of_the_file() {
    let flags = Settings { candidates: Some(vec!["x=models/x".to_owned().into()]), ..Settings::default() };
    let merged = settings::merge(&flags, "[[candidates]]\nname = \"a\"\nurl = \"http://a:1\"").expect("valid");
    let config = merged.validate().expect("valid");
    assert_eq!(config.candidates.iter().map(|candidate| candidate.name.as_str()).collect::<Vec<_>>(), ["x"]);
}
