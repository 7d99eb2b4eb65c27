//! The way of a request, the same for both services: decode, find the model, encode, evaluate, answer, record.

use std::{
    cell::Cell,
    ops::Range,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use model::Predictions;
use tonic::{Code, Status};
use understudy::{
    MARKER, VIA,
    edge::{Call, Frame, MessageLimits, Turn},
    encode::{Answered, Encoded, RequestError, RowsMessage, answer, asked, decode_tensors, read_rows, read_tensors},
    v1::{Exchange, Method},
};

use crate::{
    compute::Compute,
    ids::PredictionIds,
    models::{Models, Served},
    tap::Tap,
};

/// An evaluation that is expected to take longer goes to a compute thread, if there is a core for it. What takes less is done where it
/// was read: decoding as many rows takes as long.
const INLINE: Duration = Duration::from_micros(500);
/// Rows between two looks at whether the caller is still there, at most...
const BLOCK: usize = 64;
/// ...and what evaluating them may take on a compute thread: whoever has gone is noticed in a quarter of the 20 ms in which work must
/// have stopped...
const BLOCK_TIME: Duration = Duration::from_millis(5);
/// ...and where it was read, where others wait for their turn...
const SLICE: Duration = Duration::from_micros(100);
/// ...but for so many rows, in which an engine still has what it gains from several.
const FEW: u32 = 16;
/// What is left after a slice is worth handing over when it takes longer.
const WORTH_A_THREAD: Duration = Duration::from_micros(150);

/// Answers requests.
#[derive(Debug)]
pub struct Predictor {
    /// What may answer.
    pub models: Arc<Models>,
    /// Who gets a copy.
    pub tap: Arc<Tap>,
    /// Where long evaluations run.
    pub compute: Compute,
    /// Bytes of a message.
    pub messages: MessageLimits,
    /// Names every prediction.
    pub ids: PredictionIds,
}

/// What a request needs and the next one on the same thread can use again.
#[derive(Debug)]
struct Scratch {
    encoded: Encoded,
    predictions: Predictions,
}

thread_local! {
    static SCRATCH: Cell<Option<Box<Scratch>>> = const { Cell::new(None) };
}

impl Scratch {
    fn take() -> Box<Self> {
        let new = || Box::new(Self { encoded: Encoded::new(0), predictions: Predictions::new() });
        SCRATCH.take().unwrap_or_else(new)
    }

    fn give_back(self: Box<Self>) {
        SCRATCH.set(Some(self));
    }
}

impl Predictor {
    /// `inference.GRPCInferenceService/ModelInfer`.
    ///
    /// # Errors
    /// As `understudy::status` maps them.
    pub async fn infer(&self, call: Call, turn: Turn) -> Result<Frame, Status> {
        let request = match decode_tensors(&call.message) {
            Ok(request) => request,
            Err(error) => return Err(self.undecoded(Method::ModelInfer, &call, error)),
        };
        let served = self.models.find(&request.model_name, &request.model_version, true)?;
        let mut scratch = Scratch::take();
        let read = read_tensors(&request, &served.model, served.rules(), &mut scratch.encoded);
        let (outputs, encoded) = match read {
            Ok(outputs) => (outputs, Ok(())),
            Err(error) => (Vec::new(), Err(error)),
        };
        let write = |answered: &Answered<'_>, id: &mut dyn FnMut() -> String| {
            Frame::encode(&answer::tensors(&request, answered, &outputs, id), self.messages.response)
        };
        self.answer(Method::ModelInfer, (&call, turn), &served, scratch, encoded, write).await
    }

    /// `understudy.v1.PredictionService/Predict`.
    ///
    /// # Errors
    /// As `understudy::status` maps them.
    pub async fn predict(&self, call: Call, turn: Turn) -> Result<Frame, Status> {
        let request = match RowsMessage::read(&call.message, self.models.most_rows()) {
            Ok(request) => request,
            Err(error) => return Err(self.undecoded(Method::Predict, &call, error)),
        };
        let served = self.models.find(&request.head().model, &request.head().version, false)?;
        let mut scratch = Scratch::take();
        let encoded = read_rows(&request, &served.model, served.rules(), &mut scratch.encoded);
        let write = |answered: &Answered<'_>, ids: &mut dyn FnMut() -> String| {
            let id = &request.head().request_id;
            Frame::written(|out| answer::write_rows(id, answered, ids, out), self.messages.response)
        };
        self.answer(Method::Predict, (&call, turn), &served, scratch, encoded, write).await
    }

    async fn answer<W>(
        &self,
        method: Method,
        (call, mut turn): (&Call, Turn),
        served: &Arc<Served>,
        scratch: Box<Scratch>,
        encoded: Result<(), RequestError>,
        write: W,
    ) -> Result<Frame, Status>
    where
        W: FnOnce(&Answered<'_>, &mut dyn FnMut() -> String) -> Result<Frame, Status>,
    {
        let rows = scratch.encoded.batch.rows();
        let answered = match encoded {
            Err(error) => {
                scratch.give_back();
                Err(error.into())
            }
            Ok(()) => match self.evaluate(served, scratch, &mut turn).await {
                Err(status) => Err(status),
                Ok(scratch) => {
                    let Scratch { encoded, predictions } = &*scratch;
                    let answered = Answered { model: &served.model, predictions, encoded };
                    let frame = write(&answered, &mut self.ids.take(rows));
                    if frame.is_ok() {
                        served.metrics.answered(&served.model, predictions, encoded);
                    }
                    scratch.give_back();
                    frame
                }
            },
        };
        self.copy(method, call, served, rows, answered.as_ref());
        answered
    }

    /// A request that was refused before it was decoded is an exchange all the same, if a model can be found for it: a mesh
    /// has mirrored it, too.
    fn undecoded(&self, method: Method, call: &Call, error: RequestError) -> Status {
        let status = Status::from(error);
        let (model, version) = asked(&call.message);
        if let Ok(served) = self.models.find(model, version, method == Method::ModelInfer) {
            self.copy(method, call, &served, 0, Err(&status));
        }
        status
    }

    fn copy(&self, method: Method, call: &Call, served: &Served, rows: usize, answered: Result<&Frame, &Status>) {
        self.tap.offer(|| {
            let latency = call.arrived.elapsed();
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            Exchange {
                sequence: 0,
                method: method.into(),
                model: served.model.name().into(),
                version: served.model.version().into(),
                request: call.message.clone(),
                response: answered.map(Frame::message).unwrap_or_default(),
                status: answered.map_or_else(Status::code, |_| Code::Ok) as u32,
                rows: rows as u32,
                arrived_unix_nanos: now.saturating_sub(latency).as_nanos() as u64,
                latency_nanos: latency.as_nanos() as u64,
                deadline_nanos: call.timeout.map_or(0, |timeout| timeout.as_nanos() as u64),
                request_id: call.header("x-request-id").into(),
                shadow_id: call.header("x-shadow-id").into(),
                traceparent: call.header("traceparent").into(),
                marked: call.headers.contains_key(MARKER),
                shadow_via: call.header(VIA).into(),
            }
        });
    }

    /// On a compute thread when it takes long and there is a core for it, else here, a slice at a time. Stops between blocks when the
    /// caller has gone.
    async fn evaluate(
        &self,
        served: &Arc<Served>,
        mut scratch: Box<Scratch>,
        turn: &mut Turn,
    ) -> Result<Box<Scratch>, Status> {
        let Scratch { encoded, predictions } = &mut *scratch;
        let rows = encoded.batch.rows();
        let failed = |error: model::PredictError| Status::internal(format!("evaluation failed: {error}"));
        let left = |done: usize| served.row_cost.saturating_mul((rows - done) as u32);
        if left(0) <= INLINE {
            served.model.predict(&encoded.batch, predictions).map_err(failed)?;
            return Ok(scratch);
        }
        predictions.clear();
        let mut done = 0;
        // A row is not divided.
        if served.row_cost <= INLINE && !self.compute.has_core() {
            let _ahead_of_others = self.compute.elsewhere(left(0))?;
            for block in blocks(0..rows, served.row_cost, slice(served.row_cost)) {
                done = block.end;
                served.model.predict_rows(&encoded.batch, block, predictions).map_err(failed)?;
                if done == rows || left(done) > WORTH_A_THREAD && self.compute.has_core() {
                    break;
                }
                turn.next_slice().await;
            }
        }
        if done == rows {
            return Ok(scratch);
        }
        turn.end();
        let cost = left(done);
        let served = served.clone();
        self.compute
            .run(cost, move |caller| {
                let Scratch { encoded, predictions } = &mut *scratch;
                for block in blocks(done..rows, served.row_cost, BLOCK_TIME) {
                    if caller.has_gone() {
                        return None;
                    }
                    if let Err(error) = served.model.predict_rows(&encoded.batch, block, predictions) {
                        return Some(Err(failed(error)));
                    }
                }
                Some(Ok(scratch))
            })
            .await?
    }
}

/// What rows of a request may take before others have their turn, where one takes `row_cost`.
fn slice(row_cost: Duration) -> Duration {
    SLICE.max(row_cost.saturating_mul(FEW).min(INLINE))
}

/// All of `rows`, as many at once as take `time`, where one takes `row_cost`.
fn blocks(rows: Range<usize>, row_cost: Duration, time: Duration) -> impl Iterator<Item = Range<usize>> {
    let block = usize::try_from(time.as_nanos() / row_cost.as_nanos().max(1)).unwrap_or(BLOCK).clamp(1, BLOCK);
    let end = rows.end;
    rows.step_by(block).map(move |start| start..end.min(start + block))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_takes_no_longer_than_it_may_unless_one_row_does() {
        for (row_cost, rows) in [
            (Duration::ZERO, 64),
            (Duration::from_micros(1), 64),
            (Duration::from_micros(78), 64),
            (Duration::from_micros(100), 50),
            (Duration::from_millis(1), 5),
            (Duration::from_millis(4), 1),
            (Duration::from_millis(100), 1),
            (Duration::MAX, 1),
        ] {
            let all: Vec<_> = blocks(0..100, row_cost, BLOCK_TIME).collect();
            assert_eq!(all[0], 0..rows, "{row_cost:?}");
            assert!(all.windows(2).all(|two| two[0].end == two[1].start) && all[all.len() - 1].end == 100, "{all:?}");
        }
        assert_eq!(blocks(0..0, Duration::ZERO, BLOCK_TIME).count(), 0);
    }

    #[test]
    fn a_slice_has_what_an_engine_gains_from_unless_others_would_wait_for_long() {
        for (row_cost, rows) in [(1, 64), (5, 20), (10, 16), (31, 16), (50, 10), (300, 1), (500, 1)] {
            let row_cost = Duration::from_micros(row_cost);
            assert_eq!(blocks(0..100, row_cost, slice(row_cost)).next(), Some(0..rows), "{row_cost:?}");
        }
    }
}
