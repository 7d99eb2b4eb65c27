#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::path::Path;

use understudy::v1::{Exchange, Method, ModelDescription, TapDescription, Task};

use super::{Bounds, Part, Reader, Recorder, Writer, read::files};
use crate::tally::DropReason;

fn description(version: &str) -> TapDescription {
    TapDescription {
        server_instance_id: "server-1".into(),
        models: vec![ModelDescription {
            name: "adult".into(),
            version: version.into(),
            task: Task::Binary.into(),
            classes: vec!["<=50K".into(), ">50K".into()],
            schema_json: r#"{"features": []}"#.into(),
            reference_json: "{}".into(),
            decision_threshold: Some(0.3),
        }],
    }
}

fn exchange(n: u64) -> Exchange {
    Exchange {
        sequence: n,
        method: if n.is_multiple_of(2) { Method::Predict } else { Method::ModelInfer }.into(),
        model: "adult".into(),
        version: "1".into(),
        request: n.to_le_bytes().repeat(n as usize % 50).into(),
        response: vec![7; n as usize % 90].into(),
        status: n as u32 % 17,
        rows: n as u32 % 5,
        // A second apart; the last bit of a u64 must survive, too.
        arrived_unix_nanos: 1_700_000_000_000_000_001 + n * 1_000_000_000,
        latency_nanos: n * 1_001,
        deadline_nanos: 0,
        request_id: format!("request {n} äöü"),
        shadow_id: String::new(),
        marked: false,
        shadow_via: String::new(),
        traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into(),
    }
}

fn read(path: &Path) -> (Vec<TapDescription>, Vec<Exchange>) {
    let mut reader = Reader::open(path).unwrap();
    let expected = reader.exchanges();
    let (mut descriptions, mut exchanges) = (Vec::new(), Vec::new());
    while let Some(part) = reader.read().unwrap() {
        match part {
            Part::Description(description) => descriptions.push(description),
            Part::Exchanges(more) => exchanges.extend(more),
            Part::Lost(_) => {}
        }
    }
    assert_eq!(exchanges.len() as u64, expected);
    (descriptions, exchanges)
}

#[test]
fn what_is_written_is_read_to_the_last_bit() {
    let directory = tempfile::tempdir().unwrap();
    // Not a whole number of row groups, and several files: a new one every 600 s of traffic.
    let bounds = Bounds { file_nanos: 600_000_000_000, ..Bounds::default() };
    let mut writer = Writer::create(directory.path(), bounds).unwrap();
    writer.describe(&description("1")).unwrap();
    let exchanges: Vec<Exchange> = (0..2_345).map(exchange).collect();
    for exchange in &exchanges {
        writer.write(exchange.clone()).unwrap();
    }
    let before = files(directory.path()).unwrap().len();
    writer.finish().unwrap();
    assert_eq!((before, files(directory.path()).unwrap().len()), (3, 4), "a file appears when it is complete");
    let (descriptions, back) = read(directory.path());
    assert!(descriptions.iter().all(|it| *it == description("1")) && descriptions.len() == 4);
    assert_eq!(back, exchanges);
}

#[test]
fn another_description_begins_another_file() {
    let directory = tempfile::tempdir().unwrap();
    let mut writer = Writer::create(directory.path(), Bounds::default()).unwrap();
    for (version, n) in [("1", 0), ("1", 1), ("2", 1), ("2", 2)] {
        writer.describe(&description(version)).unwrap();
        writer.write(exchange(n)).unwrap();
    }
    writer.finish().unwrap();
    let (descriptions, exchanges) = read(directory.path());
    assert_eq!(descriptions, [description("1"), description("2")]);
    assert_eq!(exchanges.len(), 4);
}

#[test]
fn a_directory_is_bounded_and_what_was_left_half_written_is_removed() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("exchanges-1.parquet.partial"), "torn").unwrap();
    std::fs::write(directory.path().join("somebody-elses.parquet"), "stays").unwrap();
    let bounds = Bounds { file_bytes: 2_000, directory_bytes: 20_000, ..Bounds::default() };
    let mut writer = Writer::create(directory.path(), bounds).unwrap();
    writer.describe(&description("1")).unwrap();
    for n in 0..2_000 {
        writer.write(exchange(n)).unwrap();
    }
    writer.finish().unwrap();
    let files = files(directory.path()).unwrap();
    let bytes: u64 = files.iter().map(|path| path.metadata().unwrap().len()).sum();
    assert!((10_000..=20_000).contains(&bytes), "{bytes} bytes in {} files", files.len());
    assert_eq!(read(directory.path()).1.last(), Some(&exchange(1_999)), "the oldest go");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), files.len() + 1, "nothing else is touched");
}

#[test]
fn what_is_no_recording_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let empty = Reader::open(directory.path()).unwrap_err().to_string();
    assert!(empty.contains("no files named exchanges-"), "{empty}");
    let path = directory.path().join("exchanges-1.parquet");
    for bytes in [&b""[..], b"PAR1", b"PAR1PAR1", b"PAR1\xff\xff\xff\x7fPAR1", &[0; 4_096]] {
        std::fs::write(&path, bytes).unwrap();
        let refused = Reader::open(&path).unwrap_err().to_string();
        assert!(refused.contains("not a recording"), "{refused}");
    }
}

#[test]
fn whatever_is_changed_in_a_file_is_refused_or_read_but_never_a_crash() {
    let directory = tempfile::tempdir().unwrap();
    let mut writer = Writer::create(directory.path(), Bounds::default()).unwrap();
    writer.describe(&description("1")).unwrap();
    for n in 0..50 {
        writer.write(exchange(n)).unwrap();
    }
    writer.finish().unwrap();
    let path = files(directory.path()).unwrap().remove(0);
    let whole = std::fs::read(&path).unwrap();
    let try_read = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        let Ok(mut reader) = Reader::open(&path) else { return };
        while let Ok(Some(_)) = reader.read() {}
    };
    for cut in (0..whole.len()).step_by(whole.len() / 64) {
        try_read(&whole[..cut]);
    }
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..500 {
        let mut changed = whole.clone();
        let at = random.usize(..changed.len());
        changed[at] ^= 1 << random.u8(..8);
        try_read(&changed);
    }
}

#[test]
fn a_recorder_keeps_its_books() {
    let directory = tempfile::tempdir().unwrap();
    let recorder = Recorder::start(directory.path(), Bounds::default(), 0.5).unwrap();
    recorder.describe(description("1"));
    for n in 0..3_000 {
        recorder.offer(&exchange(n));
    }
    let counts = recorder.finish().unwrap();
    assert_eq!(counts.offered, 3_000);
    assert_eq!(counts.written + counts.sampled_out + counts.dropped + counts.failed, 3_000, "{counts:?}");
    assert!((1_200..1_800).contains(&counts.sampled_out), "{counts:?}");
    assert_eq!(read(directory.path()).1.len() as u64, counts.written);
}

/// What could not be recorded is said at the end of the file that was written when it was lost.
#[test]
fn what_was_lost_is_read_back() {
    let directory = tempfile::tempdir().unwrap();
    let recorder = Recorder::start(directory.path(), Bounds::default(), 1.0).unwrap();
    recorder.describe(description("1"));
    recorder.offer(&exchange(1));
    recorder.lost(DropReason::ServerQueueFull, 2, 20);
    recorder.lost(DropReason::Ttl, 1, 1);
    recorder.lost(DropReason::ServerQueueFull, 3, 30);
    recorder.finish().unwrap();
    let mut reader = Reader::open(directory.path()).unwrap();
    let mut parts = Vec::new();
    while let Some(part) = reader.read().unwrap() {
        parts.push(part);
    }
    let [Part::Description(_), Part::Exchanges(_), Part::Lost(lost)] = parts.as_slice() else { panic!("{parts:?}") };
    assert_eq!(*lost, [(DropReason::ServerQueueFull, 5, 50), (DropReason::Ttl, 1, 1)]);
}
