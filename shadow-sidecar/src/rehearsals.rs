//! All candidates that rehearse, on one stream of exchanges. Each has a queue, bounds, an epoch and a verdict of its own, so
//! that one that hangs holds up nobody.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::future::join_all;
use understudy::v1::Exchange;

use crate::{
    exchange::{Decoded, Offered, Response},
    intake::IntakeState,
    outlets::Outlets,
    rehearsal::{Primary, Rehearsal},
    state::{self, Saved},
    tally::DropReason,
};

/// Characters of its instance by which a sidecar knows itself in a chain.
const HOP: usize = 16;
/// Sidecars of a chain that are kept: with more in a circle it is not noticed.
const HOPS: usize = 8;

/// The rehearsals of one sidecar: at least one.
#[derive(Debug)]
pub struct Rehearsals {
    /// Another one after each start.
    instance: String,
    all: Vec<Arc<Rehearsal>>,
    intake: Arc<Mutex<IntakeState>>,
    primary: Mutex<Option<Arc<Primary>>>,
    /// The version by which the primary has named itself last in an answer; empty before the first that does.
    answered: Mutex<String>,
    outlets: Arc<Outlets>,
}

impl Rehearsals {
    /// Of these; each was made with this `intake`.
    pub fn new(all: Vec<Arc<Rehearsal>>, intake: Arc<Mutex<IntakeState>>) -> Self {
        let instance = format!("{:032x}", fastrand::u128(..));
        Self { instance, all, intake, primary: Mutex::default(), answered: Mutex::default(), outlets: Arc::default() }
    }

    /// What tells this process from its replicas, and from itself before a restart.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// What the requests that come from an exchange carry as [`understudy::VIA`] when it has come with `chain`: this process is the
    /// last. None where it is in the chain already: it would go round for ever.
    pub fn via(&self, chain: &str) -> Option<String> {
        let own = self.instance.get(..HOP).unwrap_or(&self.instance);
        let hops: Vec<&str> = chain.split(',').map(str::trim).filter(|hop| !hop.is_empty()).collect();
        let last = &hops[hops.len().saturating_sub(HOPS - 1)..];
        (!hops.contains(&own)).then(|| [last, &[own]].concat().join(","))
    }

    /// The same, with copies of all exchanges to `outlets`.
    #[must_use]
    pub fn copying(self, outlets: Outlets) -> Self {
        Self { outlets: Arc::new(outlets), ..self }
    }

    /// Where copies go.
    pub fn outlets(&self) -> &Arc<Outlets> {
        &self.outlets
    }

    /// In the order of the configuration.
    pub fn all(&self) -> &[Arc<Rehearsal>] {
        &self.all
    }

    /// The one of this name; the only one when the name is empty.
    ///
    /// # Errors
    /// What names there are.
    pub fn named(&self, name: &str) -> Result<&Arc<Rehearsal>, String> {
        let names = || self.all.iter().map(|it| it.name()).collect::<Vec<_>>();
        match (name, self.all.as_slice()) {
            ("", [only]) => Ok(only),
            ("", _) => Err(format!("several candidates rehearse: expected one of {:?}", names())),
            (name, all) => all
                .iter()
                .find(|rehearsal| rehearsal.name() == name)
                .ok_or_else(|| format!("no candidate {name:?} rehearses, expected one of {:?}", names())),
        }
    }

    /// The state of the intake.
    pub fn intake(&self) -> MutexGuard<'_, IntakeState> {
        self.intake.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who answers the clients, if that is known.
    pub fn primary(&self) -> Option<Arc<Primary>> {
        self.primary.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The primary is this one from now on. Never waits: a candidate that must first be asked for its version keeps what is
    /// offered in the meantime, within its bounds.
    pub fn follow(&self, primary: &Primary) {
        let primary = {
            let mut current = self.primary.lock().unwrap_or_else(PoisonError::into_inner);
            match &*current {
                Some(known) if **known == *primary => known.clone(),
                _ => current.insert(Arc::new(primary.clone())).clone(),
            }
        };
        self.outlets.follow(&primary);
        for rehearsal in &self.all {
            rehearsal.follow(&primary);
        }
    }

    /// The primary has answered as this version, which is not the one that is known. The first that is named is the one that has
    /// answered all the time; another one is for [`Self::follow`].
    pub fn answered(&self, version: &str) {
        version.clone_into(&mut self.answered.lock().unwrap_or_else(PoisonError::into_inner));
        let named = {
            let mut current = self.primary.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(unnamed) = current.as_ref().filter(|known| known.version.is_empty()) else { return };
            let named = Primary { version: version.to_owned(), ..Primary::clone(unnamed) };
            current.insert(Arc::new(named)).clone()
        };
        self.outlets.follow(&named);
        for rehearsal in &self.all {
            rehearsal.name_primary(&named);
        }
    }

    /// The version of a primary whose metadata does not say it: the one that has answered last; empty when none has said it.
    pub fn answered_version(&self) -> String {
        self.answered.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A candidate's server may have said that its version is another one now.
    pub fn refresh(&self) {
        if let Some(primary) = self.primary() {
            for rehearsal in &self.all {
                rehearsal.follow(&primary);
            }
        }
    }

    /// What is to be offered of an exchange that the intake had to decode. Where it will wait for many others it is decoded again when
    /// it is its turn: one row of 14 features takes about 2.6 kB of memory, and decoded 11.7.
    pub(crate) fn decoded(&self, exchange: Exchange, decoded: Decoded, again: Option<Response>) -> Arc<Offered> {
        let behind = self.all.iter().any(|rehearsal| rehearsal.is_behind());
        Offered::with(exchange, (!behind).then_some(decoded), again)
    }

    /// Takes one exchange. Never waits.
    pub fn offer(&self, exchange: Exchange) {
        self.offer_shared(&Offered::new(exchange));
    }

    /// The same, for an exchange that is decoded already.
    pub fn offer_shared(&self, offered: &Arc<Offered>) {
        self.outlets.offer(offered);
        for rehearsal in &self.all {
            rehearsal.offer(offered);
        }
    }

    /// Exchanges that were lost on the way here.
    pub fn lost(&self, reason: DropReason, exchanges: u64, rows: u64) {
        self.outlets.lost(reason, exchanges, rows);
        for rehearsal in &self.all {
            rehearsal.lost(reason, exchanges, rows);
        }
    }

    /// What an earlier process has counted; of candidates that are not there any more it is forgotten.
    pub fn resume(&self, saved: Vec<Saved>) {
        for saved in saved {
            // A server's name may not be known before its primary's is.
            let named = self.all.iter().find(|it| it.name() == saved.name);
            match (named, self.all.as_slice()) {
                (Some(rehearsal), _) => rehearsal.resume(saved),
                (None, [only]) if only.name().is_empty() => only.resume(saved),
                (None, _) => tracing::warn!(candidate = saved.name, "what was counted for it before is forgotten"),
            }
        }
    }

    /// What a later process is to go on with. Takes milliseconds where there are many examples.
    pub fn save(&self) -> Vec<Saved> {
        let bytes = state::examples(self.all.len());
        self.all.iter().flat_map(|rehearsal| rehearsal.save(bytes)).collect()
    }

    /// Waits until nothing is in flight, at most `limit`.
    pub async fn finish(&self, limit: Duration) {
        join_all(self.all.iter().map(|rehearsal| rehearsal.finish(limit))).await;
    }
}
