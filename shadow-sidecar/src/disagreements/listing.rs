//! Pages of disagreements. A token names the epoch and the last one told, so that nothing is told twice while new ones come
//! and kept ones go.

use prost::Message as _;
use understudy::v1;

use super::Kind;
use crate::{rehearsal::Rehearsal, report};

/// On a page, where the caller does not say.
const USUAL: usize = 100;
/// On a page.
const MOST: usize = 1_000;
/// Bytes of a page, about: clients take 4 MiB by default.
const MOST_BYTES: usize = 2 << 20;

/// A page of what is kept of the current epoch; empty before the first one.
///
/// # Errors
/// What is wrong with the request.
pub(crate) fn list(
    rehearsal: &Rehearsal,
    request: &v1::ListDisagreementsRequest,
) -> Result<v1::ListDisagreementsResponse, String> {
    let kind = match &*request.kind {
        "" => None,
        kind => Some(kind.parse::<Kind>()?),
    };
    let after = match &*request.page_token {
        "" => None,
        token => Some(parse(token).ok_or_else(|| format!("page_token: expected one that was told, got {token:?}"))?),
    };
    let size = match request.page_size as usize {
        0 => USUAL,
        size => size.min(MOST),
    };
    let Some(epoch) = rehearsal.epoch() else { return Ok(v1::ListDisagreementsResponse::default()) };
    if let Some((number, _)) = after.filter(|(number, _)| *number != epoch.number) {
        return Err(format!("page_token: it is of epoch {number}, now it is epoch {}", epoch.number));
    }
    let kept = epoch.disagreements.kept();
    let mut rest = kept
        .iter()
        .filter(|each| after.is_none_or(|(_, last)| each.number < last))
        .filter(|each| kind.is_none_or(|kind| each.kind == kind.as_str()))
        .peekable();
    let (mut page, mut bytes) = (Vec::new(), 0);
    while page.len() < size && bytes < MOST_BYTES {
        let Some(each) = rest.next() else { break };
        bytes += each.encoded_len();
        page.push(v1::Disagreement::clone(each));
    }
    let next = page.last().filter(|_| rest.peek().is_some());
    Ok(v1::ListDisagreementsResponse {
        next_page_token: next.map(|last| format!("{}.{}", epoch.number, last.number)).unwrap_or_default(),
        disagreements: page,
        epoch: Some(report::describe(rehearsal, &epoch)),
        seen: epoch.disagreements.counts(),
        inputs: epoch.disagreements.reader.policy().as_str().into(),
        kinds: epoch.disagreements.reader.kinds(),
    })
}

/// Epoch, and the number of the last one told.
fn parse(token: &str) -> Option<(u64, u64)> {
    let (epoch, number) = token.split_once('.')?;
    Some((epoch.parse().ok()?, number.parse().ok()?))
}
