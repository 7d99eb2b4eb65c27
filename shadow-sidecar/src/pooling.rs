//! Many replicas, one verdict. Each sends its [`counters`]; they are added up, and bounds and verdict are computed once, from
//! the sums, as if one sidecar had seen every exchange.
//!
//! What may be added up: counters of one pair of versions, under one comparator, with the same gates, of epochs that were begun
//! by hand equally often. Of replicas that differ in any of that the largest group is pooled, and of the others it is said in
//! what they differ: which group is the largest does not depend on how often the models agree. Numbers of epochs are each
//! process's own, so they may differ.
//!
//! An exchange must not be counted twice. A sidecar that answers at two addresses is recognised by its instance, two sidecars
//! on one tap by the instance of their server, as far as they know it now: not where a server was followed earlier, and not of
//! a mirror, which may or may not send each request to one sidecar only.
//!
//! The evidence of a pool is that of its own looks ([`Memory`]). The largest evidence of a single replica says nothing about the
//! pool, and the verdict of any of several replicas would be wrong as many times as often.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use understudy::v1;

use crate::{
    compare::Task,
    rehearsal::Rehearsal,
    rehearsals::Rehearsals,
    report::{self, About},
    state::{Saved, seal, unseal},
    tally::{Evidence, Tally},
    verdict::Gates,
};

mod differences;
mod intake;

use differences::differences;

/// What [`v1::Counters::tally`] begins with. Another version is another format.
const FORMAT: &[u8] = b"understudy rehearsal counters 1\n";
/// Counts beyond this are not exact in a double any more, and thousands of them must add up.
const MOST: u64 = 1 << 53;

/// What is sent to be pooled.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Sent {
    epoch: Saved,
    gates: Gates,
}

/// What the epoch of `rehearsal`, which is one of `rehearsals`, has counted. None before it has begun.
pub fn counters(rehearsals: &Rehearsals, rehearsal: &Rehearsal) -> Option<v1::Counters> {
    let sent = Sent { epoch: rehearsal.counted()?, gates: rehearsal.gates };
    let tally = seal(FORMAT, &sent).inspect_err(|error| tracing::error!(%error, "counters can't be sent")).ok()?;
    let primary_instance_id = rehearsals.intake().primary_instance.clone();
    Some(v1::Counters { instance_id: rehearsals.instance().to_owned(), primary_instance_id, tally })
}

/// What one replica has answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Where it was asked.
    pub address: String,
    /// Its report with counters, or why there is none.
    pub report: Result<v1::Report, String>,
}

/// What became of a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Its counters are in the report.
    Pooled,
    /// It is a replica that is in the report already, at another address.
    Same(String),
    /// It did not answer: why.
    Silent(String),
    /// Its counters must not be added to the others': why.
    Refused(String),
}

/// One replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replica {
    /// Where it was asked.
    pub address: String,
    /// What became of it.
    pub standing: Standing,
    /// Exchanges that it has compared, pooled or not.
    pub compared: u64,
}

/// The report of all replicas that can be pooled.
#[derive(Clone, Debug)]
pub struct Pool {
    /// None when there is none that can be.
    pub report: Option<v1::Report>,
    /// In the order of the answers.
    pub replicas: Vec<Replica>,
}

impl Pool {
    /// Replicas that are in the report.
    pub fn pooled(&self) -> usize {
        self.replicas.iter().filter(|replica| replica.standing == Standing::Pooled).count()
    }

    /// Replicas that there are.
    pub fn all(&self) -> usize {
        self.replicas.iter().filter(|replica| !matches!(replica.standing, Standing::Same(_))).count()
    }

    /// Those that are not in the report, and why.
    pub fn missing(&self) -> impl Iterator<Item = (&str, &str)> {
        self.replicas.iter().filter_map(|Replica { address, standing, .. }| match standing {
            Standing::Silent(why) | Standing::Refused(why) => Some((address.as_str(), why.as_str())),
            Standing::Pooled | Standing::Same(_) => None,
        })
    }
}

/// The evidence of earlier looks at the same pool. It counts as long as nothing is missing of what was pooled then: the sum is
/// one stream of exchanges, in which those of a new replica come last. When a replica has gone, or has lost some of its
/// counts, the evidence begins anew, because the largest of several pools' would promote too often.
#[derive(Clone, Debug, Default)]
pub struct Memory(Option<(BTreeMap<u64, u64>, Evidence)>);

/// A replica's answer, read.
struct Counted<'a> {
    /// In the order of the answers.
    index: usize,
    report: &'a v1::Report,
    instance: &'a str,
    primary_instance: &'a str,
    epoch: Saved,
    gates: Gates,
}

/// Adds up what can be added up. Of several looks at the same replicas `memory` is the same.
pub fn pool(answers: &[Answer], memory: &mut Memory) -> Pool {
    let mut replicas = Vec::with_capacity(answers.len());
    let mut groups: Vec<Vec<Counted<'_>>> = Vec::new();
    for (index, Answer { address, report }) in answers.iter().enumerate() {
        let read = report.as_ref().map_err(|why| Standing::Silent(why.clone())).and_then(|report| read(index, report));
        let standing = match read {
            Err(standing) => standing,
            Ok(counted) => {
                let group = groups.iter_mut().find(|group| differences(&counted, &group[0]).is_empty());
                match group {
                    Some(group) => join(group, counted, answers),
                    None => {
                        groups.push(vec![counted]);
                        Standing::Pooled
                    }
                }
            }
        };
        let compared = report.as_ref().ok().and_then(|report| Some(report.exchanges.as_ref()?.compared));
        replicas.push(Replica { address: address.clone(), standing, compared: compared.unwrap_or(0) });
    }
    let observations = |group: &[Counted<'_>]| -> u64 { group.iter().map(|one| one.epoch.tally.observations()).sum() };
    // The first of equals: max_by_key takes the last.
    groups.reverse();
    let largest = groups.iter().enumerate().max_by_key(|(_, group)| (group.len(), observations(group)));
    let Some((chosen, _)) = largest else {
        memory.0 = None;
        return Pool { report: None, replicas };
    };
    let chosen = groups.swap_remove(chosen);
    for other in groups.iter().flatten() {
        replicas[other.index].standing = Standing::Refused(differences(other, &chosen[0]).join("; "));
    }
    let mut report = add_up(&chosen, answers, memory);
    let mut pool = Pool { report: None, replicas };
    if pool.missing().next().is_some() {
        let (pooled, all) = (pool.pooled(), pool.all());
        let reason = format!("{pooled} of {all} replicas are pooled: what the others have seen is not in it");
        report.reasons.insert(report.reasons.len().min(1), reason);
    }
    pool.report = Some(report);
    pool
}

fn read(index: usize, report: &v1::Report) -> Result<Counted<'_>, Standing> {
    let refused = |why: String| Standing::Refused(why);
    let Some(counters) = &report.counters else {
        let error = report.intake.as_ref().map(|intake| intake.last_error.as_str()).unwrap_or_default();
        let why = match (&report.agreement, error) {
            (Some(_), _) => "it sends no counters: a sidecar of an earlier version".to_owned(),
            (None, "") => "it has no epoch yet".to_owned(),
            (None, error) => format!("it has no epoch yet: {error}"),
        };
        return Err(refused(why));
    };
    let Sent { epoch, gates } =
        unseal(FORMAT, &counters.tally).map_err(|error| refused(format!("what it has counted {error}")))?;
    let sound = epoch.tally.holds() && epoch.tally.rows().offered().max(epoch.tally.exchanges().offered()) <= MOST;
    if !sound || !gates.problems().is_empty() {
        return Err(refused("what it has counted does not add up".to_owned()));
    }
    let (instance, primary_instance) = (&counters.instance_id, &counters.primary_instance_id);
    Ok(Counted { index, report, instance, primary_instance, epoch, gates })
}

/// Adds a replica to those that it can be pooled with, unless it would count something twice.
fn join<'a>(group: &mut Vec<Counted<'a>>, counted: Counted<'a>, answers: &[Answer]) -> Standing {
    let taps = |one: &Counted<'_>| {
        let intake = one.report.intake.as_ref();
        !one.primary_instance.is_empty() && intake.is_some_and(|intake| intake.kind == "tap")
    };
    for one in group.iter() {
        let address = &answers[one.index].address;
        if counted.instance == one.instance {
            return Standing::Same(address.clone());
        }
        if counted.epoch.started_unix_nanos == one.epoch.started_unix_nanos {
            return Standing::Refused(format!(
                "it goes on with the same counts as {address}: both began with one state file"
            ));
        }
        if taps(&counted) && taps(one) && counted.primary_instance == one.primary_instance {
            return Standing::Refused(format!(
                "it follows the tap of the same server as {address}: exchanges would be counted twice"
            ));
        }
    }
    group.push(counted);
    Standing::Pooled
}

/// The report of a group, which has one replica at least.
fn add_up(group: &[Counted<'_>], answers: &[Answer], memory: &mut Memory) -> v1::Report {
    let first = &group[0];
    let mut tally = first.epoch.tally.clone();
    let mut epoch = first.report.epoch.clone().unwrap_or_default();
    let mut per_second = None;
    for (n, one) in group.iter().enumerate() {
        // What could not be merged is in another group.
        let merged = n == 0 || tally.merge(&one.epoch.tally);
        debug_assert!(merged, "{:?}", answers[one.index].address);
        epoch.number = epoch.number.max(one.epoch.number);
        epoch.started_unix_nanos = epoch.started_unix_nanos.min(one.epoch.started_unix_nanos);
        if let Some(pace) = one.report.per_second {
            per_second = Some(per_second.unwrap_or(0.0) + pace);
        }
    }
    remember(memory, group, &mut tally);
    let via = |latency: fn(&v1::Report) -> &Option<v1::Latency>| {
        let mut all = group.iter().filter_map(|one| Some(latency(one.report).as_ref()?.observed_via.as_str()));
        let one = all.next().unwrap_or_default();
        if all.all(|other| other == one) { one } else { "several ways" }.to_owned()
    };
    let about = About {
        task: task(epoch.task()),
        epoch,
        per_second,
        observed_via: [via(|report| &report.primary_latency), via(|report| &report.candidate_latency)],
    };
    let intakes = group.iter().map(|one| (answers[one.index].address.as_str(), one.report.intake.as_ref()));
    v1::Report { intake: Some(intake::pooled(intakes)), ..report::of(&tally, &first.gates, about) }
}

/// Looks at the evidence, after what was seen before.
fn remember(memory: &mut Memory, group: &[Counted<'_>], tally: &mut Tally) {
    let gates = &group[0].gates;
    let now: BTreeMap<u64, u64> =
        group.iter().map(|one| (one.epoch.started_unix_nanos, one.epoch.tally.exchanges().compared())).collect();
    if let Some((before, evidence)) = &memory.0
        && before.iter().all(|(started, compared)| now.get(started).is_some_and(|now| now >= compared))
    {
        tally.after(*evidence);
    }
    memory.0 = Some((now, tally.evidence(gates)));
}

fn task(task: v1::Task) -> Task {
    match task {
        v1::Task::Multiclass => Task::Multiclass,
        v1::Task::Regression => Task::Regression,
        v1::Task::Quantile => Task::Quantile,
        v1::Task::Tensor => Task::Tensor,
        v1::Task::Binary | v1::Task::Unspecified => Task::Binary,
    }
}

#[cfg(test)]
mod tests;
