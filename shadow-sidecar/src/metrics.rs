//! The sidecar's instruments for Prometheus: the rehearsal's counters, published at every tick, and the process's own.
//! The same names as over OTLP ([`crate::otlp`]), in Prometheus's spelling.

use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use metrics::{
    Counter, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};
use metrics_exporter_prometheus::{BuildError, PrometheusHandle, PrometheusRecorder};
use tonic::Code;
use understudy::{status, telemetry};

use crate::{
    compare::RowOutcome,
    intake::{IntakeState, Kind, Side, Unmatched},
    otlp::LogOutcome,
    outlets::Outlets,
    rehearsal::Epoch,
    tally::{DropReason, Latency, Tally},
    verdict::{Gates, Judgement, Verdict},
};

const EXCHANGES: &str = "shadow_exchanges_total";
const COMPARED: &str = "shadow_compared_total";
const AGREED: &str = "shadow_agreed_total";
const EXCHANGES_COMPARED: &str = "shadow_exchanges_compared_total";
const OBSERVATIONS: &str = "shadow_observations_total";
const SHARES: &str = "shadow_shares_millionths_total";
const VARIANCE: &str = "shadow_variance_millionths_total";
const SLOWER: &str = "shadow_slower_total";
const SLICE_OBSERVATIONS: &str = "shadow_slice_observations_total";
const SLICE_SHARES: &str = "shadow_slice_shares_millionths_total";
const NOISE_OBSERVATIONS: &str = "shadow_noise_observations_total";
const NOISE_SHARES: &str = "shadow_noise_shares_millionths_total";
const FLIPS: &str = "shadow_flips_total";
const UNMATCHED: &str = "shadow_unmatched_total";
const NO_EPOCH: &str = "shadow_no_epoch_total";
const CANDIDATE_ERRORS: &str = "shadow_candidate_errors_total";
const LOWER: &str = "shadow_agreement_lower";
const UPPER: &str = "shadow_agreement_upper";
const LOG_E: &str = "shadow_agreement_log_e";
const GATE: &str = "shadow_agreement_gate";
const ABORT: &str = "shadow_agreement_abort";
const ALPHA: &str = "shadow_agreement_alpha";
const COVERAGE: &str = "shadow_coverage";
const VERDICT: &str = "shadow_verdict";
const IN_FLIGHT: &str = "shadow_in_flight";
const SCORE_DELTA: &str = "shadow_score_delta";
const LATENCY: &str = "shadow_latency_seconds";
const INTAKE: &str = "shadow_intake_requests_total";
const INTAKE_CONNECTED: &str = "shadow_intake_connected";
const INTAKE_FAILURES: &str = "shadow_intake_failures_total";
const INTAKE_UNMATCHED: &str = "shadow_intake_unmatched_total";
const INTAKE_WAITING: &str = "shadow_intake_waiting";
const STATE: &str = "shadow_state_files_total";
const OTLP_EXPORTS: &str = "shadow_otlp_exports_total";
const DISAGREEMENT_LOGS: &str = "shadow_disagreement_logs_total";
const OUTLETS: &str = "shadow_outlet_exchanges_total";

const DELTA_BUCKETS: [f64; 12] = [-0.5, -0.2, -0.1, -0.05, -0.01, -0.001, 0.001, 0.01, 0.05, 0.1, 0.2, 0.5];

/// All instruments of one sidecar.
pub struct Metrics {
    recorder: PrometheusRecorder,
    /// What is published of epochs that go on, and only of those.
    epochs: Mutex<Epochs>,
    publishing: Mutex<()>,
    /// Exports to the collector that arrived, and that did not.
    pub otlp: [Counter; 2],
    /// Disagreements as log records, in the order of [`LogOutcome::ALL`].
    pub logs: [Counter; LogOutcome::ALL.len()],
    /// The file that survives a restart.
    pub state: StateCounters,
}

/// What every series of an epoch is labelled with.
type Labels = [(&'static str, String); 7];

struct Epochs {
    recorder: PrometheusRecorder,
    of: Vec<Labels>,
}

/// What is recorded for each comparison with one candidate.
#[derive(Clone)]
pub struct Comparisons {
    score_delta: Histogram,
    primary_latency: Histogram,
    candidate_latency: Histogram,
}

impl fmt::Debug for Comparisons {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Comparisons").finish_non_exhaustive()
    }
}

impl Comparisons {
    /// One exchange was compared.
    pub fn compared(&self, outcomes: &[RowOutcome], latency: Latency) {
        for delta in outcomes.iter().filter_map(|outcome| outcome.delta) {
            self.score_delta.record(delta);
        }
        self.primary_latency.record(latency.primary as f64 / 1e9);
        self.candidate_latency.record(latency.candidate as f64 / 1e9);
    }
}

/// What became of the file that survives a restart.
#[derive(Clone)]
pub struct StateCounters {
    /// Written.
    pub written: Counter,
    /// Not written.
    pub failed: Counter,
    /// Found and not used: torn, or of another program or version.
    pub refused: Counter,
}

impl fmt::Debug for StateCounters {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("StateCounters").finish_non_exhaustive()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    /// Registers everything.
    ///
    /// # Errors
    /// The recorder can't be built; see [`telemetry::recorder`].
    pub fn new() -> Result<Self, BuildError> {
        let recorder = telemetry::recorder(&[(SCORE_DELTA, &DELTA_BUCKETS), (LATENCY, &telemetry::LATENCY_BUCKETS)])?;
        let (otlp, logs, state) = metrics::with_local_recorder(&recorder, || {
            describe();
            (
                ["sent", "failed"].map(|outcome| counter!(OTLP_EXPORTS, "outcome" => outcome)),
                LogOutcome::ALL.map(|outcome| counter!(DISAGREEMENT_LOGS, "outcome" => outcome.as_str())),
                StateCounters {
                    written: counter!(STATE, "outcome" => "written"),
                    failed: counter!(STATE, "outcome" => "failed"),
                    refused: counter!(STATE, "outcome" => "refused"),
                },
            )
        });
        let epochs = Mutex::new(Epochs { recorder: telemetry::recorder(&[])?, of: Vec::new() });
        Ok(Self { recorder, epochs, publishing: Mutex::default(), otlp, logs, state })
    }

    /// These go on. What was published of others is not published any more: an old "promote" must not look like a new one, and a
    /// server that has many versions must not fill the memory of whoever scrapes. Before [`Self::publish`] of each.
    pub fn going_on<'a>(&self, epochs: impl Iterator<Item = &'a Epoch>) {
        let of: Vec<_> = epochs.map(labels).collect();
        let mut known = self.epochs();
        if known.of == of {
            return;
        }
        // Series can't be removed from a recorder.
        if let Ok(recorder) = telemetry::recorder(&[]) {
            metrics::with_local_recorder(&recorder, describe);
            *known = Epochs { recorder, of };
        }
    }

    fn epochs(&self) -> MutexGuard<'_, Epochs> {
        self.epochs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was published of epochs, in Prometheus's text format: the part of `/metrics` that is not in [`Self::handle`].
    pub fn render_epochs(&self) -> String {
        self.epochs().recorder.handle().render()
    }

    /// For comparisons with this candidate.
    pub fn comparisons(&self, candidate: &str) -> Comparisons {
        let candidate = candidate.to_owned();
        metrics::with_local_recorder(&self.recorder, || Comparisons {
            score_delta: histogram!(SCORE_DELTA, "candidate" => candidate.clone()),
            primary_latency: histogram!(LATENCY, "role" => "primary", "candidate" => candidate.clone()),
            candidate_latency: histogram!(LATENCY, "role" => "candidate", "candidate" => candidate),
        })
    }

    /// Publishes the counters of `epoch` as they are, and what they must prove.
    pub fn publish(&self, epoch: &Epoch, tally: &Tally, judgement: &Judgement, gates: &Gates) {
        let labels = labels(epoch);
        let epochs = self.epochs();
        let with = |more: &[(&'static str, String)]| -> Vec<(&'static str, String)> {
            labels.iter().chain(more).cloned().collect()
        };
        metrics::with_local_recorder(&epochs.recorder, || {
            counter!(EXCHANGES, &labels).absolute(tally.exchanges().offered());
            counter!(COMPARED, &labels).absolute(tally.rows().compared());
            counter!(AGREED, &labels).absolute(tally.agreed());
            counter!(EXCHANGES_COMPARED, &labels).absolute(tally.exchanges().compared());
            counter!(OBSERVATIONS, &labels).absolute(tally.observations());
            counter!(SHARES, &labels).absolute(millionths(tally.shares()));
            counter!(VARIANCE, &labels).absolute(millionths_up(tally.variance()));
            counter!(SLOWER, &with(&[("ratio", tally.latency_ratio().to_string())])).absolute(tally.slower());
            // All of them, also those without a row yet: a series that appears late has lost its beginning.
            for (slice, counts) in tally.slices().iter() {
                let named = with(&[("slice", slice.to_owned())]);
                counter!(SLICE_OBSERVATIONS, &named).absolute(counts.observations());
                counter!(SLICE_SHARES, &named).absolute(millionths(counts.shares()));
            }
            let noise = tally.noise_floor();
            if noise.observations() > 0 {
                counter!(NOISE_OBSERVATIONS, &labels).absolute(noise.observations());
                counter!(NOISE_SHARES, &labels).absolute(millionths(noise.shares()));
            }
            // All of these, too: what increases from nothing does not show in a rate.
            for reason in DropReason::ALL {
                let count = tally.exchanges().dropped(reason);
                counter!(UNMATCHED, &with(&[("reason", reason.as_str().into())])).absolute(count);
            }
            for (code, count) in tally.exchanges().failed() {
                let code = status::name(Code::from_i32(code as i32));
                counter!(CANDIDATE_ERRORS, &with(&[("code", code.into())])).absolute(count);
            }
            for flip in tally.flips().iter() {
                let pair = [("primary_class", flip.primary.into()), ("candidate_class", flip.candidate.into())];
                counter!(FLIPS, &with(&pair)).absolute(flip.count);
            }
            let figures = &judgement.figures;
            gauge!(LOWER, &labels).set(figures.lower);
            gauge!(UPPER, &labels).set(figures.upper);
            gauge!(LOG_E, &labels).set(figures.log_e);
            gauge!(GATE, &labels).set(gates.gate);
            gauge!(ABORT, &labels).set(gates.abort());
            gauge!(ALPHA, &labels).set(gates.alpha);
            gauge!(IN_FLIGHT, &labels).set(tally.exchanges().in_flight() as f64);
            if let Some(coverage) = figures.coverage {
                gauge!(COVERAGE, &labels).set(coverage);
            }
            gauge!(VERDICT, &labels).set(match judgement.verdict {
                Verdict::Promote => 1.0,
                Verdict::Undecided => 0.0,
                Verdict::Reject => -1.0,
            });
        });
    }

    /// Publishes how many exchanges came while no epoch could begin with this candidate.
    pub fn without_epoch(&self, candidate: &str, count: u64) {
        metrics::with_local_recorder(&self.recorder, || {
            counter!(NO_EPOCH, "candidate" => candidate.to_owned()).absolute(count);
        });
    }

    /// Publishes whether the primary is reached, and what became of the requests of a mirror or a proxy.
    pub fn took_in(&self, state: &IntakeState) {
        metrics::with_local_recorder(&self.recorder, || {
            gauge!(INTAKE_CONNECTED).set(f64::from(u8::from(state.connected)));
            counter!(INTAKE_FAILURES).absolute(state.failures);
        });
        if state.kind == Kind::Tap {
            return;
        }
        metrics::with_local_recorder(&self.recorder, || {
            for (outcome, count) in [
                ("matched", state.matched),
                ("denied", state.denied),
                ("looped", state.looped),
                ("sampled_out", state.sampled_out),
                ("executed", state.executed),
                ("repeated", state.repeated),
            ] {
                counter!(INTAKE, "outcome" => outcome).absolute(count);
            }
            for side in Side::ALL {
                let under_way = if side == Side::Mirror { state.under_way } else { 0 };
                let waiting = state.waiting[side as usize] + under_way;
                gauge!(INTAKE_WAITING, "side" => side.as_str()).set(waiting as f64);
                for reason in Unmatched::ALL {
                    let count = state.unmatched[side as usize][reason as usize];
                    counter!(INTAKE_UNMATCHED, "side" => side.as_str(), "reason" => reason.as_str()).absolute(count);
                }
            }
        });
    }

    /// Publishes what became of the copies of exchanges: of each outlet by outcome.
    pub fn copied(&self, outlets: &Outlets) {
        metrics::with_local_recorder(&self.recorder, || {
            for (outlet, outcome, count) in outlets.counts() {
                counter!(OUTLETS, "outlet" => outlet, "outcome" => outcome).absolute(count);
            }
        });
    }

    /// Held by whoever publishes several figures that belong together, and by whoever wants to see them so.
    pub fn publishing(&self) -> MutexGuard<'_, ()> {
        self.publishing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For instruments that are not the sidecar's own.
    pub fn recorder(&self) -> &PrometheusRecorder {
        &self.recorder
    }

    /// For `/metrics`.
    pub fn handle(&self) -> PrometheusHandle {
        self.recorder.handle()
    }
}

fn labels(epoch: &Epoch) -> Labels {
    [
        ("model", epoch.primary.name.clone()),
        ("primary_version", epoch.primary_version().to_owned()),
        ("candidate", epoch.candidate_name().to_owned()),
        ("candidate_version", epoch.candidate_version().to_owned()),
        // By these replicas are added up; numbers of epochs are each process's own.
        ("subject", epoch.subject_key().to_owned()),
        ("restarts", epoch.restarts.to_string()),
        ("epoch", epoch.number.to_string()),
    ]
}

/// Prometheus's counters are whole numbers here. Rounded down, so that a bound computed from them is not too good.
fn millionths(sum: f64) -> u64 {
    (sum * 1e6) as u64
}

/// Rounded up, for the same reason.
fn millionths_up(sum: f64) -> u64 {
    (sum * 1e6).ceil() as u64
}

fn describe() {
    describe_counter!(EXCHANGES, "exchanges offered for comparison");
    describe_counter!(COMPARED, "rows on which both models were compared");
    describe_counter!(AGREED, "rows on which both models agreed");
    describe_counter!(EXCHANGES_COMPARED, "exchanges that were compared");
    describe_counter!(OBSERVATIONS, "compared exchanges with rows: n of the evidence; add up over replicas");
    describe_counter!(SHARES, "sum over them of the share of agreeing rows, times a million: s of the evidence");
    describe_counter!(VARIANCE, "sum of squared deviations of the shares, times a million: V of the drifting bound");
    describe_counter!(
        SLOWER,
        "compared exchanges in which the candidate took more than ratio times the primary's time"
    );
    describe_counter!(SLICE_OBSERVATIONS, "compared exchanges with rows in the slice");
    describe_counter!(SLICE_SHARES, "sum over them of the share of the slice's rows that agree, times a million");
    describe_counter!(NOISE_OBSERVATIONS, "exchanges that the primary answered twice");
    describe_counter!(
        NOISE_SHARES,
        "sum over them of the share of rows in which it agreed with itself, times a million"
    );
    describe_counter!(FLIPS, "rows by the primary's and the candidate's class");
    describe_counter!(UNMATCHED, "exchanges that could not be compared, by reason");
    describe_counter!(NO_EPOCH, "exchanges that came while no epoch could begin: the report's first reason says why");
    describe_counter!(CANDIDATE_ERRORS, "exchanges on which the candidate failed, by gRPC code");
    describe_gauge!(LOWER, "lower end of the confidence sequence for agreement; not to be aggregated");
    describe_gauge!(UPPER, "upper end of the confidence sequence for agreement; not to be aggregated");
    describe_gauge!(LOG_E, "evidence for agreement above the gate, natural logarithm; not to be aggregated");
    describe_gauge!(GATE, "agreement that a promotion must prove");
    describe_gauge!(ABORT, "agreement below which a candidate is rejected");
    describe_gauge!(ALPHA, "chance of a wrong promotion that is accepted, and of a wrong rejection for each ground");
    describe_gauge!(COVERAGE, "share of what could have been compared that was");
    describe_gauge!(VERDICT, "1 promote, 0 undecided, -1 reject");
    describe_gauge!(IN_FLIGHT, "exchanges that wait for the candidate or are with it");
    describe_histogram!(SCORE_DELTA, "candidate's score minus primary's");
    describe_histogram!(LATENCY, Unit::Seconds, "of compared exchanges; the candidate's is not what clients would see");
    describe_counter!(INTAKE, "requests that came in through a mirror or a proxy, by what became of them");
    describe_gauge!(INTAKE_CONNECTED, "1 while the tap is subscribed or, without a tap, the primary is known");
    describe_counter!(INTAKE_FAILURES, "subscriptions that ended and attempts to reach the primary that failed");
    describe_counter!(INTAKE_UNMATCHED, "halves of exchanges that never found the other half, by side and reason");
    describe_gauge!(INTAKE_WAITING, "halves of exchanges that wait for the other half");
    describe_counter!(STATE, "files with counts that survive a restart, by what became of them");
    describe_counter!(OTLP_EXPORTS, "exports to the collector, by outcome");
    describe_counter!(DISAGREEMENT_LOGS, "disagreements as log records to the collector, by outcome");
    describe_counter!(OUTLETS, "copies of exchanges to the recording or to the sink of CloudEvents, by outcome");
}
