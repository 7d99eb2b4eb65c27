//! From the bytes of a request to its status, the way a server goes, without the server. `fuzz/` and the tests here run
//! the same.

use bytes::Bytes;
use model::{Model, OnSuspicious, Predictions, Suspicion};
use prost::Message;
use tonic::{Code, Status};
use understudy::{
    encode::{
        Answered, Asked, Encoded, RequestError, RowsMessage, Rules, answer, decode_rows, decode_tensors, encode_rows,
        read_rows, read_tensors,
    },
    inference::ModelInferRequest,
    v1::{PredictRequest, PredictResponse},
};

/// A model and the two ways in which a server may serve it: by the package's rules, and as strictly as can be.
pub(super) struct Subject {
    model: Model,
    severe: Suspicion,
}

impl Subject {
    pub(super) fn new(model: Model) -> Self {
        let severe = model.suspicion().stricter(Some(OnSuspicious::Refuse), Some(1.0));
        Self { model, severe }
    }

    fn rules(&self) -> [Rules<'_>; 2] {
        let own = Rules::of(&self.model);
        let on_suspicious = self.severe.action();
        [own, Rules { refuses_non_finite: true, suspicion: &self.severe, on_suspicious, ..own }]
    }

    /// `ModelInfer`.
    pub(super) fn infer(&self, bytes: &[u8]) {
        let message = Bytes::copy_from_slice(bytes);
        for rules in self.rules() {
            let decoded = decode_tensors(&message);
            let Some(request) = check(decoded, || ModelInferRequest::decode(bytes).is_err()) else { return };
            let mut encoded = Encoded::new(0);
            let outputs = read_tensors(&request, &self.model, rules, &mut encoded);
            let Some(outputs) = check(outputs, || false) else { continue };
            let predictions = self.evaluate(&encoded);
            let answered = Answered { model: &self.model, predictions: &predictions, encoded: &encoded };
            let response = answer::tensors(&request, &answered, &outputs, String::new);
            assert_eq!(response.outputs.len(), outputs.len());
            assert!(!response.encode_to_vec().is_empty());
        }
    }

    /// `Predict`.
    pub(super) fn predict(&self, bytes: &[u8]) {
        let message = Bytes::copy_from_slice(bytes);
        for rules in self.rules() {
            let decoded = decode_rows(&message, rules.max_rows);
            let mut encoded = Encoded::new(0);
            let read = RowsMessage::read(&message, rules.max_rows)
                .and_then(|request| read_rows(&request, &self.model, rules, &mut encoded));
            self.is_as_decoded(&decoded, &read, rules, &encoded);
            let Some(request) = check(decoded, || PredictRequest::decode(bytes).is_err()) else { return };
            let Some(()) = check(read, || false) else { continue };
            let predictions = self.evaluate(&encoded);
            let answered = Answered { model: &self.model, predictions: &predictions, encoded: &encoded };
            let response = check_written(&request.request_id, &answered);
            assert_eq!(response.predictions.len(), request.rows.len());
        }
    }

    /// Rows that are read where they lie are what they are when they are decoded.
    fn is_as_decoded(
        &self,
        decoded: &Result<PredictRequest, RequestError>,
        read: &Result<(), RequestError>,
        rules: Rules<'_>,
        encoded: &Encoded,
    ) {
        let request = match decoded {
            Ok(request) => request,
            Err(error) => {
                let read = read.as_ref().expect_err("they can't be decoded");
                return assert_eq!(format!("{read:?}"), format!("{error:?}"));
            }
        };
        // What is wrong apart from the rows is said first, and by the same lines.
        let asked = Asked::by_rows(request).and_then(|asked| rules.asked(asked));
        let (Ok(rules), ..=256) = (asked, request.request_id.len()) else { return assert!(read.is_err()) };
        let mut expected = Encoded::new(0);
        match (read, encode_rows(&request.rows, &self.model, rules, &mut expected)) {
            (Ok(()), Ok(())) => assert_eq!(format!("{encoded:?}"), format!("{expected:?}")),
            (Err(read), Err(expected)) => assert_eq!(format!("{read:?}"), format!("{expected:?}")),
            (read, expected) => panic!("{read:?}, decoded {expected:?}"),
        }
    }

    fn evaluate(&self, encoded: &Encoded) -> Predictions {
        let mut predictions = Predictions::new();
        self.model.predict(&encoded.batch, &mut predictions).expect("what is encoded can be evaluated");
        assert_eq!(predictions.rows(), encoded.batch.rows());
        assert!(predictions.scores.iter().all(|score| (0.0..=1.0).contains(score)), "{:?}", predictions.scores);
        predictions
    }
}

/// What is written at once is what is built and encoded.
pub(super) fn check_written(request_id: &str, answered: &Answered<'_>) -> PredictResponse {
    let ids = || {
        let mut next = 0;
        move || {
            next += 1;
            // The first has none.
            "id".repeat(next - 1)
        }
    };
    let response = answer::rows(request_id.to_owned(), answered, ids());
    let mut written = Vec::new();
    answer::write_rows(request_id, answered, ids(), &mut written);
    assert_eq!(written, response.encode_to_vec());
    response
}

/// A refusal has one of the codes that a refusal may have, and fits into a trailer.
fn check<T>(outcome: Result<T, RequestError>, undecodable: impl FnOnce() -> bool) -> Option<T> {
    let status = match outcome {
        Ok(value) => return Some(value),
        Err(error) => Status::from(error),
    };
    match status.code() {
        Code::Internal => assert!(undecodable(), "{status:?}"),
        code => assert!([Code::InvalidArgument, Code::ResourceExhausted].contains(&code), "{status:?}"),
    }
    let text = status.message();
    assert!(!text.is_empty() && !text.chars().any(char::is_control), "{text:?}");
    assert!(text.len() + status.details().len() < 6_000, "{status:?}");
    None
}
