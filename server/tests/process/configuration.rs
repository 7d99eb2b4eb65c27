//! What is wrong with a configuration is told before anything listens.

use std::fs;

use crate::{adult, process::SOON, start};

#[test]
fn every_problem_of_a_configuration_is_told_at_once() {
    let flags = [
        "--grpc-listen",
        "localhost",
        "--workers",
        "0",
        "--tap",
        "maybe",
        "--request-timeout",
        "soon",
        "--suspicious",
        "perhaps",
        "--suspicious-z-score",
        "nan",
    ];
    let ended = start(&flags, &[("UNDERSTUDY_LOG_FORMAT", "xml")]).wait(SOON);
    assert_eq!(ended.code, Some(78), "{}", ended.stderr);
    let lines: Vec<&str> = ended.stderr.lines().collect();
    for setting in [
        "models: ",
        "grpc-listen: ",
        "workers: ",
        "tap: ",
        "request-timeout: ",
        "log-format: ",
        "suspicious: ",
        "suspicious-z-score: ",
    ] {
        assert_eq!(lines.iter().filter(|line| line.starts_with(setting)).count(), 1, "{setting}in {lines:#?}");
    }
    assert_eq!(lines.len(), 8, "{lines:#?}");
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("server.toml");
    let good = format!("models = [{:?}]\n", adult());
    // What wins is seen by what is found wrong: 0 workers are.
    for (toml, environment, flag, code, words) in [
        ("workers = 2", None, None, 0, "valid"),
        ("workers = 0", None, None, 78, "workers: expected 1 to 1024, got 0"),
        ("workers = 0", Some("2"), None, 0, "valid"),
        ("workers = 2", Some("0"), None, 78, "workers: expected 1 to 1024, got 0"),
        ("workers = 2", Some("0"), Some("2"), 0, "valid"),
        ("workers = 2", Some("2"), Some("0"), 78, "workers: expected 1 to 1024, got 0"),
        ("wrokers = 2", None, None, 78, "unknown field `wrokers`"),
        ("\nworkers = 'two'", None, None, 78, "line 3"),
        ("workers = ", None, None, 78, "line 2"),
        ("max-request-bytes = 16777217", None, None, 78, "max-request-bytes: expected 1 to 16777216, got 16777217"),
        (
            "jwt-keys = 'http://issuer.test/keys'\njwt-issuer = 'x'\njwt-audience = 'x'",
            None,
            None,
            0,
            "warning: jwt-keys: the keys of 'issuer.test' come in plaintext",
        ),
    ] {
        fs::write(&file, format!("{good}{toml}\n")).unwrap();
        let mut flags = vec!["--check-config", "--config", file.to_str().unwrap()];
        flags.extend(flag.iter().flat_map(|value| ["--workers", value]));
        let environment: Vec<_> = environment.iter().map(|value| ("UNDERSTUDY_WORKERS", *value)).collect();
        let ended = start(&flags, &environment).wait(SOON);
        let case = format!("{toml:?} {environment:?} {flag:?}: {}", ended.stderr);
        assert_eq!((ended.code, ended.was_ready), (Some(code), false), "{case}");
        assert!(ended.stderr.contains(words), "{case}");
    }
    let nowhere = start(&["--check-config", "--config", "/nowhere.toml"], &[]).wait(SOON);
    assert_eq!(nowhere.code, Some(78));
    assert!(nowhere.stderr.contains("/nowhere.toml"), "{}", nowhere.stderr);
    assert_eq!(start(&["--modles", "x"], &[]).wait(SOON).code, Some(64), "a flag that is none");
    assert_eq!(start(&["--version"], &[]).wait(SOON).code, Some(0));
}
