//! The table of `reliability.md` section 4, case by case: what must be seen, and what is.
//!
//! A case may be tried in many ways, on many methods; each try has an exact expectation of its own, and what it sees must be
//! among what the table allows for its case, too, unless the difference is argued here.

use std::{collections::BTreeMap, fmt::Write as _};

use support::{
    adult,
    case::{Case, Expected},
    examples,
    grpc::{MODEL_INFER, PREDICT, Reply},
    strict::strict,
    target::{How, Target},
    tensors::RAW,
};
use tonic_health::pb::HealthCheckRequest;
use understudy::inference::ModelMetadataRequest;

mod frames;
mod health;
mod identity;
mod inference;
pub(super) mod size;

#[path = "../e2e/contract/rows.rs"]
mod rows;
#[path = "../e2e/contract/tensors.rs"]
mod tensors;
#[path = "../e2e/contract/wire.rs"]
mod wire;

/// Number, what is wrong, and what may be seen, separated by `|`: a gRPC code, `HTTP n`, `HTTP n/code`, `RST n` and `GOAWAY n`
/// with HTTP/2's error code, `closed`.
const CASES: [(&str, &str, &str); 96] = [
    ("W1", "GET method", "HTTP 405"),
    ("W2", "content-type application/json", "HTTP 415"),
    ("W3", "no content-type", "HTTP 415"),
    ("W4", "application/grpc+json", "12"),
    ("W5", "application/grpc-web", "HTTP 415"),
    ("W6", "no te: trailers", "0"),
    ("W7", "unknown service", "12"),
    ("W8", "unknown method", "12"),
    ("W9", "path in another case, double slash, 8 KB", "12"),
    ("W10", "garbage instead of protobuf", "13"),
    ("W11", "invalid UTF-8 in a string field", "13"),
    ("W12", "truncated message, then END_STREAM", "13"),
    ("W13", "empty body, END_STREAM", "13"),
    ("W14", "two messages on a unary call", "12"),
    ("W15", "length 0xFFFFFFFF", "8"),
    ("W16", "limit + 1 byte", "8"),
    ("W17", "exactly the limit", "0|3"),
    ("W18", "flag 1, no grpc-encoding", "13"),
    ("W19", "flag 7", "13"),
    ("W20", "grpc-encoding: snappy", "12"),
    ("W21", "gzip garbage", "13"),
    ("W22", "gzip bomb over the limit", "8"),
    ("W23", "gzip with trailing bytes, two members", "13"),
    ("W24", "groups nested 500 deep", "13"),
    ("W25", "a million unknown fields", "0|3"),
    ("W26", "4 MiB of empty inputs", "3"),
    ("W27", "4 MiB of packed varints of one byte", "0|3"),
    ("W28", "500,000 parameters", "3"),
    ("W29", "overlong varint, tag 0, field 2^29", "13"),
    ("W30", "wrong wire type", "13"),
    ("W31", "grpc-timeout that is none", "HTTP 400/13"),
    ("W32", "grpc-timeout 0n, 1n", "4"),
    ("W33", "grpc-timeout 99999999H", "0"),
    ("W34", "headers over 16 KiB", "HTTP 431/8"),
    ("W35", "1,000 small headers", "HTTP 431|HTTP 431/8|GOAWAY 11"),
    ("W36", "x-bin in bad base64 that nobody reads", "0"),
    ("W37", "header with CR/LF, NUL, uppercase", "GOAWAY 1"),
    ("W38", "two content-lengths, unequal", "RST 1"),
    ("W39", "content-length lies", "RST 1"),
    ("W40", ":authority foreign, absent", "0"),
    ("W41", "HTTP/1.1, a TLS hello on the plaintext port", "closed"),
    ("W42", "h2c upgrade", "closed"),
    ("I1", "unknown model", "5"),
    ("I2", "unknown version", "5"),
    ("I3", "version that is no number", "3"),
    ("I4", "empty model name", "3"),
    ("I5", "model name that is none", "3"),
    ("I6", "model is loading", "14"),
    ("I7", "model removed a moment ago", "5"),
    ("I8", "no inputs", "3"),
    ("I9", "required input is missing", "3"),
    ("I10", "unknown input", "3"),
    ("I11", "input twice", "3"),
    ("I12", "datatype FP99, int64, empty", "3"),
    ("I13", "datatype not the model's", "3"),
    ("I14", "shape [], wrong rank", "3"),
    ("I15", "zero rows", "0"),
    ("I16", "shape with -1, i64::MIN", "3"),
    ("I17", "shape product overflows", "3"),
    ("I18", "shape [2^40] with few bytes", "3"),
    ("I19", "contents are not as many as the shape says", "3"),
    ("I20", "raw contents are not as long as the shape says", "3"),
    ("I21", "both raw_input_contents and contents", "3"),
    ("I22", "raw list shorter, longer than inputs", "3"),
    ("I23", "contents in the wrong typed field", "3"),
    ("I24", "FP16 not raw", "3"),
    ("I25", "BYTES length past the end", "3"),
    ("I26", "BYTES element of 16 MiB", "8"),
    ("I27", "BOOL byte 2", "3"),
    ("I28", "NaN, infinities, -0, subnormal, f32::MAX", "0"),
    ("I29", "INT64 past 2^53", "0"),
    ("I30", "category unknown", "0"),
    ("I31", "text with NUL, no UTF-8, 1 MB", "0|3"),
    ("I32", "unknown output", "3"),
    ("I33", "output twice", "3"),
    ("I34", "more rows than allowed", "8"),
    ("I35", "answer over the limit", "8"),
    ("I36", "request id over 256 bytes", "3"),
    ("I37", "parameter without value", "3"),
    ("I38", "shared memory", "3"),
    ("I39", "unknown parameters of Triton", "3"),
    ("I40", "ModelInfer during the drain", "14"),
    ("S1", "no token", "16"),
    ("S2", "bad, expired, not-yet, alg none, other scheme", "16"),
    ("S3", "good token, no right", "7"),
    ("S4", "two authorization headers", "16"),
    ("S5", "token of 1 MB", "HTTP 431|HTTP 431/8"),
    ("S6", "no client certificate, plaintext", "closed"),
    ("S7", "admin call while disabled", "12"),
    ("S8", "reflection while disabled", "12"),
    ("S9", "over the client's cap", "8"),
    ("S10", "x-shadow: 1 from outside", "0"),
    ("H1", "Check(\"nope\")", "5"),
    ("H2", "Watch(\"nope\")", "SERVICE_UNKNOWN"),
    ("H3", "Check of a name of 1 MB", "3|8"),
    ("H4", "10,000 Watch", "8"),
];

/// Where we see something else than the table on purpose. Apart from these:
///
/// * F1 to F10 are not tried: this server takes no feedback yet.
/// * I28 and I30 are the table's own alternatives: what it has the policy decide.
/// * S2 is tried with the tokens of a file and with signed ones; a token that is signed well and has no role is S3.
/// * S6 has "a certificate with another name" fail its handshake; ours succeeds, and the name, which nobody knows, is denied with
///   7: its owner is told what is missing, and the authority vouched for him (`tests/e2e/identity/tls.rs`, with expired and revoked
///   certificates).
/// * S10 says "stripped", which a caller with the role `observer` is exempt from: else a rehearsal of a rehearsal would never end.
/// * H4 is 100 for each address where there is no identity, and 1,000 in all.
/// * M1 to M43 are about packages: `cli/tests/refusals`.
const ARGUED: [(&str, &str, &str); 15] = [
    ("W4", "0", "+proto and parameters are the same format by gRPC's specification; only +json is refused"),
    (
        "W20",
        "0",
        "gzip, and identity in spite of the header, are served; only snappy is refused, with grpc-accept-encoding",
    ),
    ("W26", "8", "rows are counted before anything else: what is refused is the size of the batch, as in I34"),
    ("W27", "8", "the shape says so many rows: what is refused is the size of the batch, as in I34"),
    ("W34", "HTTP 431", "the HTTP/2 library answers before it has headers to hand over, so none can be added"),
    (
        "W37",
        "RST 1",
        "RFC 9113 section 8.1.1: a malformed request is an error of its stream; GOAWAY would cost innocent calls",
    ),
    ("I8", "0", "Predict without rows is the batch of zero rows of I15; ModelInfer without inputs is refused with 3"),
    ("I9", "0", "an input that is not required may be left out"),
    ("I10", "0", "Predict under `sanitize` drops an unknown feature and warns; strict and ModelInfer refuse it with 3"),
    ("I28", "3", "an infinity is refused under `strict`: the policy that the table asks for"),
    ("I30", "3", "an unknown category is refused under `strict`; else the model's rule holds"),
    ("I34", "0", "exactly as many rows as allowed are answered"),
    (
        "S5",
        "RST 11",
        "four times over the limit the HTTP/2 library ends the connection (GOAWAY 11) instead of reading on",
    ),
    ("S5", "closed", "the same, when the end of the connection overtakes its GOAWAY"),
    ("I36", "0", "256 bytes are allowed, control characters are escaped wherever the id is shown"),
];

/// One try of a case.
#[derive(Debug)]
pub(super) struct Try {
    /// "W1 and some words".
    pub(super) name: String,
    /// As in `CASES`.
    pub(super) seen: String,
    /// Absent when this was to be seen.
    pub(super) complaint: Option<String>,
    /// The server can't do what the case needs.
    pub(super) absent: Option<String>,
}

impl Try {
    fn seen(name: &str, seen: impl Into<String>) -> Self {
        Self { name: name.into(), seen: seen.into(), complaint: None, absent: None }
    }

    /// Must see one of `expected`.
    fn expect(name: &str, seen: impl Into<String>, expected: &[&str]) -> Self {
        let mut tried = Self::seen(name, seen);
        tried.require(expected.contains(&tried.seen.as_str()), format!("expected {}", expected.join(" or ")));
        tried
    }

    fn absent(name: &str, why: impl Into<String>) -> Self {
        Self { absent: Some(why.into()), ..Self::seen(name, "") }
    }

    fn require(&mut self, fine: bool, otherwise: impl Into<String>) {
        if !fine && self.complaint.is_none() {
            self.complaint = Some(format!("{}: {}, got {}", self.name, otherwise.into(), self.seen));
        }
    }

    /// Its number.
    fn case(&self) -> &str {
        self.name.split(' ').next().unwrap_or_default()
    }
}

/// What a reply is in the words of `CASES`.
fn word(reply: &Reply) -> String {
    match (reply.http, reply.status, reply.reset) {
        (0, _, Some(reason)) => format!("RST {}", u32::from(reason)),
        (200, Some(code), _) => code.to_string(),
        (http, Some(code), _) => format!("HTTP {http}/{code}"),
        (0, None, None) => "closed".into(),
        (http, None, _) => format!("HTTP {http}"),
    }
}

async fn calls(target: &Target, cases: Vec<Case>) -> Vec<Try> {
    let mut connection = target.connect().await;
    let mut tries = Vec::new();
    for case in cases {
        let reply = connection.call(&case.call).await;
        let complaint = case.complaint(&reply);
        tries.push(Try { name: case.name, seen: word(&reply), complaint, absent: None });
        if connection.is_closed() {
            let name = tries.last().map(|tried| tried.name.clone()).unwrap_or_default();
            let complaint = Some(format!("{name}: the connection is gone"));
            tries.push(Try { complaint, ..Try::seen(&name, "closed") });
            connection = target.connect().await;
        }
    }
    tries
}

/// Runs everything; the table, and how many cases are not as expected.
pub(super) async fn run(how: &How) -> (String, usize) {
    let tries = collect(how).await;
    render(&tries)
}

async fn collect(how: &How) -> Vec<Try> {
    let mut tries = Vec::new();
    let one = how.start(&[]).await.expect("the server starts");
    let (columns, rows_of_one) = (adult::test_set().columns(0..1, RAW), adult::test_set().predict(0..1));
    let mut cases = wire::unknown_paths();
    cases.extend(wire::cases(MODEL_INFER, &columns));
    cases.extend(wire::cases(PREDICT, &rows_of_one));
    cases.extend(wire::compressed(MODEL_INFER, &columns));
    cases.extend(wire::compressed(PREDICT, &rows_of_one));
    let metadata = ModelMetadataRequest { name: "adult".into(), ..ModelMetadataRequest::default() };
    cases.extend(wire::cases("/inference.GRPCInferenceService/ModelMetadata", &metadata));
    cases.extend(wire::cases("/grpc.health.v1.Health/Check", &HealthCheckRequest::default()));
    tries.extend(calls(&one, cases).await);
    tries.extend(frames::tries(&one).await);
    tries.extend(health::tries(&one).await);
    tries.extend(inference::values(&one).await);
    tries.extend(still_answers(&one).await);
    drop(one);

    let package = strict();
    let models = format!("{},{}", examples().join("models/adult").display(), package.repository().display());
    let two = how.start(&["--models", &models]).await.expect("the server starts");
    tries.extend(calls(&two, tensors::cases()).await);
    tries.extend(calls(&two, rows::cases()).await);
    tries.extend(still_answers(&two).await);
    drop(two);

    tries.extend(size::tries(how).await);
    tries.extend(inference::beginning_and_end(how).await);
    tries.extend(identity::tries(how).await);
    tries
}

/// Whatever came before, the next request is answered.
async fn still_answers(target: &Target) -> Vec<Try> {
    let good = understudy::v1::PredictRequest { model: "adult".into(), ..adult::test_set().predict(0..1) };
    calls(target, vec![Case::code("W0 a good call after all", support::grpc::Call::new(PREDICT, &good), 0, &[])]).await
}

fn render(tries: &[Try]) -> (String, usize) {
    let mut by_case: BTreeMap<&str, Vec<&Try>> = BTreeMap::new();
    for tried in tries {
        by_case.entry(tried.case()).or_default().push(tried);
    }
    let mut text = format!("{:<5} {:<46} {:<28} {:<28} ok\n", "case", "what", "expected", "seen");
    let (mut wrong, mut expected_ones, mut argued_ones, mut absent_ones) = (0, 0, 0, 0);
    for (number, what, allowed) in CASES {
        let tries = by_case.remove(number).unwrap_or_default();
        let mut seen: Vec<&str> =
            tries.iter().map(|tried| tried.seen.as_str()).filter(|seen| !seen.is_empty()).collect();
        seen.sort_unstable();
        seen.dedup();
        let mut complaints: Vec<String> = tries.iter().filter_map(|tried| tried.complaint.clone()).collect();
        let mut arguments = Vec::new();
        for seen in &seen {
            if !allowed.split('|').any(|allowed| allowed == *seen) {
                match ARGUED.iter().find(|(case, other, _)| (*case, *other) == (number, *seen)) {
                    Some((_, _, argument)) => arguments.push(format!("{seen}: {argument}")),
                    None => complaints.push(format!("the table does not allow {seen}, and nothing argues for it")),
                }
            }
        }
        let absent = tries.iter().find_map(|tried| tried.absent.clone());
        if tries.is_empty() {
            complaints.push("not tried".into());
        }
        let mark = match (&complaints[..], &arguments[..], &absent) {
            ([_, ..], _, _) => {
                wrong += 1;
                "✗"
            }
            ([], _, Some(_)) => {
                absent_ones += 1;
                "–"
            }
            ([], [_, ..], None) => {
                argued_ones += 1;
                "✓ argued"
            }
            ([], [], None) => {
                expected_ones += 1;
                "✓"
            }
        };
        let shown = format!("{} ({} tries)", seen.join("|"), tries.len());
        writeln!(text, "{number:<5} {what:<46} {allowed:<28} {shown:<28} {mark}").expect("a string takes it");
        for note in arguments.into_iter().chain(absent).chain(complaints) {
            writeln!(text, "      {note}").expect("a string takes it");
        }
    }
    // Good calls, so that nobody refuses everything, and rules that have no number in the table.
    let others: Vec<&&Try> = by_case.values().flatten().collect();
    let strays: Vec<&String> = others.iter().filter_map(|tried| tried.complaint.as_ref()).collect();
    let count = CASES.len();
    writeln!(
        text,
        "{count} cases by {} calls: {expected_ones} as expected, {argued_ones} argued, {absent_ones} not in this server, {wrong} \
         wrong\n{} calls without a number: {} wrong",
        tries.len(),
        others.len(),
        strays.len()
    )
    .expect("a string takes it");
    for stray in &strays {
        writeln!(text, "      {stray}").expect("a string takes it");
    }
    (text, wrong + strays.len())
}
