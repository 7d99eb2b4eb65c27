//! Examples of what the two models differ on, for people.

use understudy::v1::{
    Disagreement, ListDisagreementsRequest, ListDisagreementsResponse, shadow_service_client::ShadowServiceClient,
};

use crate::{
    connect::{Service, failed},
    output::Paint,
    view::{WIDTH, named},
    words::{count, cut, score, shown, wrap},
};

/// Columns before the inputs.
const INDENT: usize = 4;
/// Columns of an id.
const ID: usize = 36;
/// Pages that are asked for, at most.
const PAGES: usize = 1_000;

/// The newest ones, at most `most`.
///
/// # Errors
/// The sidecar keeps none, or does not answer.
pub(crate) async fn fetch(
    client: &mut ShadowServiceClient<Service>,
    candidate: &str,
    most: u32,
) -> anyhow::Result<ListDisagreementsResponse> {
    let mut all = ListDisagreementsResponse::default();
    for _ in 0..PAGES {
        let page_size = most - all.disagreements.len() as u32;
        let page_token = std::mem::take(&mut all.next_page_token);
        let request =
            ListDisagreementsRequest { page_size, candidate: candidate.into(), page_token, ..Default::default() };
        let mut page = client.list_disagreements(request).await.map_err(|status| failed(&status, 0))?.into_inner();
        all.disagreements.append(&mut page.disagreements);
        all = ListDisagreementsResponse { disagreements: all.disagreements, ..page };
        if all.next_page_token.is_empty() || all.disagreements.len() >= most as usize {
            break;
        }
    }
    Ok(all)
}

/// Two lines for each, or more where it has many inputs.
pub(crate) fn lines(all: &ListDisagreementsResponse, paint: Paint) -> Vec<String> {
    let seen: u64 = all.seen.values().sum();
    let kinds: Vec<String> = all.seen.iter().map(|(kind, n)| format!("{} {}", count(*n), shown(kind))).collect();
    let head = match (seen, all.disagreements.len()) {
        (0, _) => "none in this epoch".to_owned(),
        (_, told) => format!("{told} of {} in this epoch, the newest first: {}", count(seen), kinds.join(", ")),
    };
    let mut lines = vec![String::new(), named("Differences", &head, paint)];
    for one in &all.disagreements {
        lines.push(paint.bold(cut(&format!("  {}", line(one)), WIDTH)));
        let features: Vec<String> =
            one.features.iter().map(|(name, value)| format!("{} {}", shown(name), shown(value))).collect();
        let inputs = wrap(&features.join(", "), WIDTH - INDENT);
        lines.extend(inputs.iter().filter(|line| !line.is_empty()).map(|line| paint.dim(format!("    {line}"))));
    }
    lines
}

fn line(one: &Disagreement) -> String {
    let mut parts = vec![shown(&one.difference)];
    if let (Some(primary), Some(candidate)) = (one.primary_score, one.candidate_score) {
        let largest = primary.abs().max(candidate.abs());
        parts.push(format!("score {} -> {}", score(primary, largest), score(candidate, largest)));
    }
    if !matches!(one.kind.as_str(), "flip" | "status") {
        parts.insert(0, shown(&one.kind));
    }
    parts.extend(one.row.filter(|row| *row > 0).map(|row| format!("row {row}")));
    let id = |name: &str, id: &str| (!id.is_empty()).then(|| format!("{name} {}", cut(&shown(id), ID)));
    parts.extend(id("id", &one.join_id));
    parts.extend(one.traceparent.split('-').nth(1).and_then(|trace| id("trace", trace)));
    parts.join("   ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_a_line_and_its_inputs() {
        let flip = Disagreement {
            kind: "flip".into(),
            difference: "<=50K -> >50K".into(),
            row: Some(3),
            primary_score: Some(0.25),
            candidate_score: Some(0.75),
            join_id: "a\u{1b}[2J".into(),
            traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into(),
            features: [("age".to_owned(), "[37, 41)".to_owned()), ("sex".to_owned(), "Male".to_owned())].into(),
            ..Disagreement::default()
        };
        let late =
            Disagreement { kind: "status".into(), difference: "DEADLINE_EXCEEDED".into(), ..Disagreement::default() };
        let seen = [("flip".to_owned(), 1_234), ("status".to_owned(), 1)].into();
        let all = ListDisagreementsResponse { disagreements: vec![flip, late], seen, ..Default::default() };
        let expected = [
            "",
            "Differences 2 of 1,235 in this epoch, the newest first: 1,234 flip, 1 status",
            "  <=50K -> >50K   score 0.2500 -> 0.7500   row 3   id a\u{fffd}[2J   trace 0af7651916cd43dd8448eb211c80319c",
            "    age [37, 41), sex Male",
            "  DEADLINE_EXCEEDED",
        ];
        assert_eq!(lines(&all, Paint { colour: false }), expected);
        let none = lines(&ListDisagreementsResponse::default(), Paint { colour: false });
        assert_eq!(none, ["", "Differences none in this epoch"]);
    }
}
