//! The intakes of several replicas as one.

use understudy::v1;

/// Of replicas by their addresses. Connected when all of them are; the error is the first one's that has one.
pub(super) fn pooled<'a>(all: impl Iterator<Item = (&'a str, Option<&'a v1::Intake>)>) -> v1::Intake {
    let mut sum = v1::Intake { connected: true, ..v1::Intake::default() };
    for (n, (address, intake)) in all.enumerate() {
        let Some(intake) = intake else {
            sum.connected = false;
            continue;
        };
        let v1::Intake { connected, last_error, kind, unmatched, .. } = intake;
        sum.connected &= connected;
        if sum.last_error.is_empty() && !last_error.is_empty() {
            sum.last_error = format!("{address}: {last_error}");
        }
        if n == 0 {
            sum.kind.clone_from(kind);
        } else if sum.kind != *kind {
            "several".clone_into(&mut sum.kind);
        }
        let counts = [
            (&mut sum.subscriptions, intake.subscriptions),
            (&mut sum.sampled_out, intake.sampled_out),
            (&mut sum.requests, intake.requests),
            (&mut sum.denied, intake.denied),
            (&mut sum.looped, intake.looped),
            (&mut sum.matched, intake.matched),
            (&mut sum.waiting_mirror, intake.waiting_mirror),
            (&mut sum.waiting_tap, intake.waiting_tap),
            (&mut sum.executed, intake.executed),
            (&mut sum.repeated, intake.repeated),
        ];
        for (sum, count) in counts {
            *sum = sum.saturating_add(count);
        }
        for one in unmatched {
            match sum.unmatched.iter_mut().find(|known| known.side == one.side && known.reason == one.reason) {
                Some(known) => known.count = known.count.saturating_add(one.count),
                None => sum.unmatched.push(one.clone()),
            }
        }
    }
    sum
}
