//! What holds for one request: the model's rules, and what the request asks for on top, which may only be stricter.

use model::{Model, OnSuspicious, Policy, Suspicion};

use super::{Refused, RequestError, refusal::shown};
use crate::{
    inference::{InferParameter, ModelInferRequest, infer_parameter::ParameterChoice},
    v1::{self, PredictRequest},
};

/// The parameters of `ModelInferRequest`, and the fields of `PredictRequest`, that ask for stricter rules.
pub const POLICY: &str = "policy";
const SUSPICIOUS: &str = "suspicious";
const REJECT_NON_FINITE: &str = "reject_non_finite";

/// Bytes of a request id.
const MAX_REQUEST_ID: usize = 256;

/// The rules for one request.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// Rows, at most.
    pub max_rows: usize,
    /// What happens to values that could be repaired.
    pub policy: Policy,
    /// Whether a number that is NaN or infinite is refused.
    pub refuses_non_finite: bool,
    /// Which numbers are suspicious.
    pub suspicion: &'a Suspicion,
    /// What happens to them.
    pub on_suspicious: OnSuspicious,
}

impl<'a> Rules<'a> {
    /// The package's own.
    pub fn of(model: &'a Model) -> Self {
        let schema = model.schema();
        Self {
            max_rows: schema.limits().max_rows,
            policy: schema.policy(),
            refuses_non_finite: schema.refuses_non_finite(),
            suspicion: model.suspicion(),
            on_suspicious: model.suspicion().action(),
        }
    }

    /// With what the request asks for.
    ///
    /// # Errors
    /// All of it that is laxer than these: to go on without a word would be to answer another request.
    pub fn asked(self, asked: Asked) -> Result<Self, RequestError> {
        let mut refused = Refused::default();
        let rules = self.with(asked, &mut refused);
        refused.into_result().map(|()| rules)
    }

    /// As [`Rules::asked`], but what is laxer goes to `refused`, and these rules hold in its place.
    pub(super) fn with(mut self, asked: Asked, refused: &mut Refused) -> Self {
        let laxer = |field: &str, asked: &str, own: &str| {
            format!("{field} '{asked}' is laxer than '{own}', which is the model's: expected '{own}' or stricter")
        };
        if let Some(policy) = asked.policy {
            if laxity(policy) > laxity(self.policy) {
                refused.field(POLICY, laxer(POLICY, policy.as_str(), self.policy.as_str()));
            } else {
                self.policy = policy;
            }
        }
        if let Some(action) = asked.on_suspicious {
            if action < self.on_suspicious {
                refused.field(SUSPICIOUS, laxer(SUSPICIOUS, action.as_str(), self.on_suspicious.as_str()));
            } else {
                self.on_suspicious = action;
            }
        }
        match asked.refuses_non_finite {
            Some(false) if self.refuses_non_finite => {
                refused.field(REJECT_NON_FINITE, laxer(REJECT_NON_FINITE, "false", "true"));
            }
            asked => self.refuses_non_finite |= asked == Some(true),
        }
        self
    }

    pub(super) fn check_rows(&self, rows: usize) -> Result<(), RequestError> {
        if rows > self.max_rows {
            return Err(RequestError::TooManyRows { limit: self.max_rows, got: rows });
        }
        Ok(())
    }
}

fn laxity(policy: Policy) -> u8 {
    match policy {
        Policy::Strict => 0,
        Policy::Sanitize => 1,
        Policy::Autogluon => 2,
    }
}

/// What a request asks for; what it does not is absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    policy: Option<Policy>,
    on_suspicious: Option<OnSuspicious>,
    refuses_non_finite: Option<bool>,
}

impl Asked {
    /// By a request of rows.
    ///
    /// # Errors
    /// Something that we do not know: whoever asks for it counts on it.
    pub fn by_rows(request: &PredictRequest) -> Result<Self, RequestError> {
        let mut refused = Refused::default();
        let asked = Self::of_rows(request, &mut refused);
        refused.into_result().map(|()| asked)
    }

    /// By a request of tensors, in its parameters.
    ///
    /// # Errors
    /// As [`Asked::by_rows`].
    pub fn by_tensors(request: &ModelInferRequest) -> Result<Self, RequestError> {
        let mut refused = Refused::default();
        let asked = Self::of_tensors(request, &mut refused);
        refused.into_result().map(|()| asked)
    }

    pub(super) fn of_rows(request: &PredictRequest, refused: &mut Refused) -> Self {
        let mut unknown = |name: &str, number: i32| refused.field(name, format!("{name} {number} is not known"));
        let policy = match v1::Policy::try_from(request.policy) {
            Ok(v1::Policy::Unspecified) => None,
            Ok(v1::Policy::Strict) => Some(Policy::Strict),
            Ok(v1::Policy::Sanitize) => Some(Policy::Sanitize),
            Ok(v1::Policy::Autogluon) => Some(Policy::Autogluon),
            Err(_) => {
                unknown(POLICY, request.policy);
                None
            }
        };
        let on_suspicious = match v1::Suspicious::try_from(request.suspicious) {
            Ok(v1::Suspicious::Unspecified) => None,
            Ok(v1::Suspicious::Ignore) => Some(OnSuspicious::Ignore),
            Ok(v1::Suspicious::Flag) => Some(OnSuspicious::Flag),
            Ok(v1::Suspicious::Refuse) => Some(OnSuspicious::Refuse),
            Err(_) => {
                unknown(SUSPICIOUS, request.suspicious);
                None
            }
        };
        Self { policy, on_suspicious, refuses_non_finite: request.reject_non_finite }
    }

    pub(super) fn of_tensors(request: &ModelInferRequest, refused: &mut Refused) -> Self {
        let mut asked = Self::default();
        // The cheapest request has no parameters at all.
        if request.parameters.is_empty() {
            return asked;
        }
        let mut wrong = |name: &str, expected: &str, got: String| {
            let text = format!("parameter '{name}' must be {expected}, got {got}");
            refused.field(name, text);
        };
        if let Some(parameter) = request.parameters.get(POLICY) {
            match text(parameter) {
                Ok("strict") => asked.policy = Some(Policy::Strict),
                Ok("sanitize") => asked.policy = Some(Policy::Sanitize),
                Ok("autogluon") => asked.policy = Some(Policy::Autogluon),
                got => wrong(POLICY, "the text 'strict', 'sanitize' or 'autogluon'", words(got)),
            }
        }
        if let Some(parameter) = request.parameters.get(SUSPICIOUS) {
            match text(parameter) {
                Ok("ignore") => asked.on_suspicious = Some(OnSuspicious::Ignore),
                Ok("flag") => asked.on_suspicious = Some(OnSuspicious::Flag),
                Ok("refuse") => asked.on_suspicious = Some(OnSuspicious::Refuse),
                got => wrong(SUSPICIOUS, "the text 'ignore', 'flag' or 'refuse'", words(got)),
            }
        }
        if let Some(parameter) = request.parameters.get(REJECT_NON_FINITE) {
            match &parameter.parameter_choice {
                Some(ParameterChoice::BoolParam(refuses)) => asked.refuses_non_finite = Some(*refuses),
                _ => wrong(REJECT_NON_FINITE, "a boolean", words(text(parameter))),
            }
        }
        asked
    }
}

/// Whether a request asks for stricter rules by the parameter `name`.
pub(super) fn is_ours(name: &str) -> bool {
    [POLICY, SUSPICIOUS, REJECT_NON_FINITE].contains(&name)
}

fn text(parameter: &InferParameter) -> Result<&str, &'static str> {
    match &parameter.parameter_choice {
        Some(ParameterChoice::StringParam(text)) => Ok(text),
        Some(_) => Err("another kind of value"),
        None => Err("no value"),
    }
}

fn words(got: Result<&str, &'static str>) -> String {
    got.map_or_else(Into::into, |text| format!("'{}'", shown(text)))
}

/// The id that a client gives its request, which is echoed.
pub(super) fn check_id(id: &str, field: &str, refused: &mut Refused) {
    if id.len() > MAX_REQUEST_ID {
        let text = format!("request id too long: limit {MAX_REQUEST_ID} bytes, got {}", id.len());
        refused.field(field, text);
    }
}
