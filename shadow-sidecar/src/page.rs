//! The report page on the admin port, and what it lives on:
//!
//! * `/` — the page, with the verdict and the figures of the moment already in it
//! * `/report.json` — what `understudy report --json` says
//! * `/report/events` — server-sent events: `report`, and `distributions` after it, at most once a second and only when
//!   something has changed
//! * `/history.json` — how agreement went in this epoch
//! * `/distributions.json` — differences of scores, and latencies
//! * `/disagreements.json` — the last of the rows on which the models differ (`?candidate=NAME` where several rehearse); not
//!   there when none are kept. This port asks nobody who he is: inputs in full are for gRPC.
//!
//! With several candidates `/report.json` and the events say `{"reports": [...]}`; the others list `candidates` in the same
//! order, always.
//!
//! The page is one document without anything from elsewhere. Its policy lets only its own script and style run, by a nonce;
//! the script puts foreign text in as text, and [`summary`] escapes it.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::State,
    http::{HeaderName, HeaderValue, StatusCode, Uri, header},
    response::{
        Html, IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
    routing::get,
};
use serde_json::{Value as Json, json};
use tokio::{
    sync::{Semaphore, mpsc},
    time::MissedTickBehavior,
};
use tokio_stream::wrappers::ReceiverStream;
use understudy::{
    shutdown::{Phase, Phases},
    v1,
};

use crate::{
    disagreements::{self, Inputs},
    rehearsal::Rehearsal,
    report, report_json,
};

mod distributions;
mod summary;

/// Streams of events at the same time.
const STREAMS: usize = 64;
/// Between two events of a stream.
const INTERVAL: Duration = Duration::from_secs(1);
/// Whoever looks within this time sees the same: reports cost bounds and quantiles.
const FRESH: Duration = Duration::from_millis(200);
/// A stream without news says that it is alive.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// A reader who takes nothing for so long has gone.
const PATIENCE: Duration = Duration::from_secs(30);

const DOCUMENT: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
/// In the order in which they build on each other.
const SCRIPT: [&str; 3] =
    [include_str!("page/figures.js"), include_str!("page/charts.js"), include_str!("page/page.js")];

/// One rehearsal, as the page shows it.
pub trait Subject: Send + Sync + 'static {
    /// The report now.
    fn report(&self) -> v1::Report;
    /// `{"score_delta": BINS, "primary_latency": BINS, "candidate_latency": BINS}`; BINS are `[lower, upper, count]`, from
    /// the lowest, null for what has no edge. Latencies are in seconds.
    fn distributions(&self) -> Json;
    /// `{"epoch", "interval_seconds", "points": [{"unix_nanos", "compared", "agreed", "rate", "lower", "upper", "log_e"}]}`.
    fn history(&self) -> Json;
    /// The candidate's name.
    fn name(&self) -> String;
    /// Examples of what the models differ on; absent when none are kept.
    fn disagreements(&self) -> Option<Json>;
}

impl Subject for Rehearsal {
    fn report(&self) -> v1::Report {
        report::report(self)
    }

    fn distributions(&self) -> Json {
        self.epoch().map_or_else(|| json!({}), |epoch| distributions::of(&epoch.tally().clone()))
    }

    fn history(&self) -> Json {
        self.epoch().map_or_else(
            || json!({}),
            |epoch| {
                let history = epoch.history().clone();
                let points = history.points().iter().map(|point| {
                    json!({
                        "unix_nanos": point.unix_nanos,
                        "compared": point.compared,
                        "agreed": point.agreed,
                        "rate": point.rate,
                        "lower": point.lower,
                        "upper": point.upper,
                        "log_e": point.log_e,
                    })
                });
                json!({
                    "epoch": epoch.number,
                    "interval_seconds": Duration::from_nanos(history.interval()).as_secs_f64(),
                    "points": points.collect::<Json>(),
                })
            },
        )
    }

    fn name(&self) -> String {
        Self::name(self)
    }

    fn disagreements(&self) -> Option<Json> {
        (self.disagreements.keep > 0).then(|| {
            // Without a token and a kind nothing can be wrong with the request.
            let mut page = disagreements::list(self, &v1::ListDisagreementsRequest::default()).unwrap_or_default();
            if self.disagreements.inputs == Inputs::Full {
                page.disagreements.iter_mut().for_each(|each| each.features.clear());
            }
            disagreements::response_json(&page)
        })
    }
}

/// The routes of the page about `subjects`, whose streams end at [`Phase::Closing`].
pub fn routes(subjects: Vec<Arc<impl Subject>>, phases: &Phases) -> Router {
    let subjects = subjects.into_iter().map(|subject| -> Arc<dyn Subject> { subject }).collect();
    let board =
        Board { subjects, latest: Mutex::default(), places: Arc::new(Semaphore::new(STREAMS)), phases: phases.clone() };
    Router::new()
        .route("/", get(page))
        .route("/report.json", get(async |State(board): State<Arc<Board>>| json_of(&board.latest().report)))
        .route("/report/events", get(events))
        .route("/history.json", get(async |State(board): State<Arc<Board>>| json_of(&board.history())))
        .route(
            "/distributions.json",
            get(async |State(board): State<Arc<Board>>| json_of(&board.latest().distributions)),
        )
        .route("/disagreements.json", get(disagreements_json))
        .with_state(Arc::new(board))
}

/// What all requests share.
struct Board {
    subjects: Vec<Arc<dyn Subject>>,
    latest: Mutex<Option<Latest>>,
    places: Arc<Semaphore>,
    phases: Phases,
}

/// What was known a moment ago. Cheap to clone.
#[derive(Clone)]
struct Latest {
    made: Instant,
    /// Another one for each change.
    version: u64,
    reports: Arc<[v1::Report]>,
    report: Arc<str>,
    distributions: Arc<str>,
}

impl Board {
    fn latest(&self) -> Latest {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(fresh) = latest.as_ref().filter(|latest| latest.made.elapsed() < FRESH) {
            return fresh.clone();
        }
        let reports: Arc<[v1::Report]> = self.subjects.iter().map(|subject| subject.report()).collect();
        let report = match &reports[..] {
            [only] => report_json::report(only),
            all => json!({"reports": all.iter().map(report_json::report).collect::<Json>()}),
        };
        let distributions: Json = self.subjects.iter().map(|subject| subject.distributions()).collect();
        let version = match latest.as_ref() {
            Some(before) if !changed(&before.reports, &reports) => before.version,
            before => before.map_or(1, |before| before.version + 1),
        };
        let now = Latest {
            made: Instant::now(),
            version,
            reports,
            report: report.to_string().into(),
            distributions: json!({"candidates": distributions}).to_string().into(),
        };
        *latest = Some(now.clone());
        now
    }

    fn history(&self) -> Arc<str> {
        let histories: Json = self.subjects.iter().map(|subject| subject.history()).collect();
        json!({"candidates": histories}).to_string().into()
    }
}

/// That time goes on is no change.
fn changed(before: &[v1::Report], now: &[v1::Report]) -> bool {
    let timeless = |report: &v1::Report| v1::Report { generated_unix_nanos: 0, ..report.clone() };
    !before.iter().map(timeless).eq(now.iter().map(timeless))
}

async fn page(State(board): State<Arc<Board>>) -> Response {
    let mut nonce = [0; 16];
    if getrandom::fill(&mut nonce).is_err() {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    let nonce = format!("{:032x}", u128::from_ne_bytes(nonce));
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src data:; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    // What comes from outside comes last, so that nothing is looked for in it.
    let document = DOCUMENT
        .replace("{{nonce}}", &nonce)
        .replacen("{{style}}", STYLE, 1)
        .replacen("{{script}}", &SCRIPT.concat(), 1)
        .replacen("{{summary}}", &summary::html(&board.latest().reports), 1);
    guarded(&policy, Html(document))
}

fn json_of(text: &str) -> Response {
    guarded(DATA, ([(header::CONTENT_TYPE, "application/json")], text.to_owned()))
}

async fn disagreements_json(State(board): State<Arc<Board>>, uri: Uri) -> Response {
    let asked = uri.query().unwrap_or_default().split('&').find_map(|pair| pair.strip_prefix("candidate="));
    let found = match (asked.map(decoded), board.subjects.as_slice()) {
        (None, [only]) => Some(only),
        (None, _) => None,
        (Some(name), all) => all.iter().find(|subject| subject.name() == name),
    };
    let Some(subject) = found else {
        let names: Vec<String> = board.subjects.iter().map(|subject| subject.name()).collect();
        return guarded(DATA, (StatusCode::BAD_REQUEST, format!("expected ?candidate=NAME, one of {names:?}\n")));
    };
    match subject.disagreements() {
        Some(told) => json_of(&told.to_string()),
        None => guarded(DATA, (StatusCode::NOT_FOUND, "none are kept: the setting disagreements is 0\n")),
    }
}

/// A value of a query: percent signs and pluses undone.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let escaped = digits.filter(|_| first == b'%').and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(escaped.unwrap_or(if first == b'+' { b' ' } else { first }));
        rest = if escaped.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

async fn events(State(board): State<Arc<Board>>) -> Response {
    let Ok(place) = board.places.clone().try_acquire_owned() else {
        let text = format!("too many streams: limit {STREAMS}\n");
        return guarded(DATA, (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "10")], text));
    };
    let (send, receive) = mpsc::channel(1);
    tokio::spawn(async move {
        let phases = board.phases.clone();
        // The place is free again when the stream has ended, whoever ends it.
        tokio::select! {
            () = tell(&board, &send) => {}
            () = send.closed() => {}
            () = phases.reached(Phase::Closing) => {}
        }
        drop(place);
    });
    let keep_alive = KeepAlive::new().interval(HEARTBEAT).text("alive");
    guarded(DATA, Sse::new(ReceiverStream::new(receive)).keep_alive(keep_alive))
}

/// Tells what changes, until the reader has gone.
async fn tell(board: &Board, send: &mpsc::Sender<Result<Event, Infallible>>) {
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told = None;
    loop {
        ticks.tick().await;
        let latest = board.latest();
        if told.replace(latest.version) == Some(latest.version) {
            continue;
        }
        for (name, data) in [("report", &latest.report), ("distributions", &latest.distributions)] {
            let event = Event::default().event(name).data(&**data);
            if send.send_timeout(Ok(event), PATIENCE).await.is_err() {
                return;
            }
        }
    }
}

/// The policy of what is no document.
const DATA: &str = "default-src 'none'; frame-ancestors 'none'";

/// An answer that a browser takes for what it is, keeps to itself, and does not keep.
fn guarded(policy: &str, answer: impl IntoResponse) -> Response {
    let mut answer = answer.into_response();
    let headers = [
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    for (name, value) in headers {
        // A policy is visible ASCII, so that every value is a header's.
        if let Ok(value) = HeaderValue::from_str(value) {
            answer.headers_mut().insert(name, value);
        }
    }
    answer
}

#[cfg(test)]
mod tests;
