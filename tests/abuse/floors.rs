//! P50: no dependency is older than the release in which what is known of it was mended (`reliability.md` section 6). Where the
//! advisory database can be reached, `cargo deny check advisories` says more; this holds where it can't.

use std::{collections::BTreeMap, path::Path};

/// A crate, its oldest version that will do, and why. Absent crates are fine.
const FLOORS: [(&str, [u64; 3], &str); 16] = [
    ("h2", [0, 4, 20], "RUSTSEC-2026-0258, -2024-0332, -2024-0003, -2023-0034; refused streams count as resets"),
    ("tonic", [0, 14, 9], "RUSTSEC-2024-0376"),
    ("prost", [0, 14, 0], "RUSTSEC-2020-0002"),
    ("protobuf", [3, 7, 2], "RUSTSEC-2024-0437"),
    ("rustls", [0, 23, 5], "RUSTSEC-2024-0336"),
    ("rustls-webpki", [0, 103, 13], "RUSTSEC-2026-0049, -0098, -0099, -0104"),
    ("tokio", [1, 44, 2], "RUSTSEC-2025-0023"),
    ("bytes", [1, 11, 1], "RUSTSEC-2026-0007"),
    ("tracing-subscriber", [0, 3, 20], "RUSTSEC-2025-0055"),
    ("tar", [0, 4, 45], "RUSTSEC-2026-0067, -0068"),
    ("zip", [2, 3, 0], "RUSTSEC-2025-0168"),
    ("memmap2", [0, 9, 11], "RUSTSEC-2026-0186"),
    // The bundled SQLite is 3.51.3 or newer, which mends a corruption of the write-ahead log.
    ("libsqlite3-sys", [0, 39, 1], "SQLite's WAL reset"),
    ("tokio-postgres", [0, 7, 18], "RUSTSEC-2026-0178"),
    ("postgres-protocol", [0, 6, 12], "RUSTSEC-2026-0179, -0180"),
    ("sqlx", [0, 8, 1], "RUSTSEC-2024-0363"),
];

/// Without these the promise would be about nothing.
const LINKED: [&str; 7] = ["h2", "tonic", "prost", "rustls", "rustls-webpki", "tokio", "bytes"];

/// Every version of every package in a lock file.
fn versions(lock: &str) -> BTreeMap<&str, Vec<[u64; 3]>> {
    let mut versions: BTreeMap<&str, Vec<_>> = BTreeMap::new();
    let mut name = "";
    for line in lock.lines() {
        let Some(value) = line.split('"').nth(1) else { continue };
        if line.starts_with("name = ") {
            name = value;
        } else if line.starts_with("version = ") && !name.is_empty() {
            // Before a release there is nothing that we would use, and build metadata has no order.
            let mut numbers = value.split(['-', '+']).next().unwrap_or_default().split('.').map(str::parse);
            let mut number = || numbers.next().and_then(Result::ok).unwrap_or(0);
            versions.entry(name).or_default().push([number(), number(), number()]);
            name = "";
        }
    }
    versions
}

fn too_old(lock: &str) -> Vec<String> {
    let versions = versions(lock);
    let mut complaints = Vec::new();
    for (name, floor, why) in FLOORS {
        for version in versions.get(name).into_iter().flatten() {
            if *version < floor {
                complaints.push(format!("{name} {version:?} is older than {floor:?}: {why}"));
            }
        }
    }
    complaints
}

#[test]
fn no_dependency_is_older_than_what_was_mended_in_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    for lock in ["Cargo.lock", "fuzz/Cargo.lock"] {
        let text = std::fs::read_to_string(root.join(lock)).unwrap();
        assert_eq!(too_old(&text), Vec::<String>::new(), "{lock}");
        let versions = versions(&text);
        let missing: Vec<_> = LINKED.into_iter().filter(|name| !versions.contains_key(name)).collect();
        // What is fuzzed is no server.
        assert!(missing.is_empty() || lock.starts_with("fuzz"), "{lock} has no {missing:?}: is it read at all?");
    }
    let old =
        "[[package]]\nname = \"h2\"\nversion = \"0.4.19\"\n\n[[package]]\nname = \"tokio\"\nversion = \"1.54.1\"\n";
    assert_eq!(too_old(old).len(), 1, "an old one is found");
}
