//! `deploy/shadow-sidecar.toml` is what it says that it is.

use std::{collections::BTreeSet, fs};

use shadow_sidecar::Settings;
use understudy::settings;

use super::*;

fn example() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/shadow-sidecar.toml"))
}

/// Of a line that begins with `mark` and sets something: the key, and the rest.
fn setting<'a>(line: &'a str, mark: &str) -> Option<&'a str> {
    let key = line.strip_prefix(mark)?.split_once(" = ")?.0;
    (!key.is_empty() && key.chars().all(|c| c.is_ascii_lowercase() || c == '-')).then_some(key)
}

#[test]
fn the_example_is_accepted_and_names_every_setting() {
    let path = example();
    let ended = start(&["--config", path.to_str().unwrap(), "--check-config"]).wait(SOON);
    assert_eq!((ended.code, ended.was_ready), (Some(0), false), "{}", ended.stderr);

    let text = fs::read_to_string(&path).unwrap();
    let of = |mark: &str| text.lines().filter_map(|line| setting(line, mark)).collect::<BTreeSet<_>>();
    let named: BTreeSet<&str> = [of(""), of("#"), of("# ")].into_iter().flatten().collect();
    let settings = serde_json::to_value(Settings::default()).unwrap();
    let settings: BTreeSet<&str> = settings.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(named, settings, "left: named in the example, right: settings that there are");
    assert!(of("#").is_disjoint(&of("# ")), "a setting has a default or it has none");
}

#[test]
fn what_the_example_gives_as_defaults_are_the_defaults() {
    let text = fs::read_to_string(example()).unwrap();
    let config = |text: &str| {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sidecar.toml");
        fs::write(&path, text).unwrap();
        let settings: Settings = settings::load(&Settings::default(), Some(&path)).unwrap();
        format!("{:#?}", settings.validate().unwrap())
    };
    let uncommented: String =
        text.lines().flat_map(|line| [setting(line, "#").map_or(line, |_| &line[1..]), "\n"]).collect();
    assert!(uncommented.lines().filter(|line| setting(line, "").is_some()).count() > 30);
    assert_eq!(config(&uncommented), config(&text));
}

/// Some go together and some exclude each other, so one at a time.
#[test]
fn the_examples_of_values_are_of_the_right_kind() {
    let text = fs::read_to_string(example()).unwrap();
    for line in text.lines() {
        if let Some(key) = setting(line, "# ") {
            let one = settings::merge(&Settings::default(), line.trim_start_matches("# "));
            let one = serde_json::to_value(one.unwrap_or_else(|error| panic!("{line}: {error}"))).unwrap();
            assert!(!one[key].is_null(), "{line}");
        }
    }
}
