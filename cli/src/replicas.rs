//! The sidecars that are asked: by their addresses, or by a name that stands for all of them.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use anyhow::{Context as _, bail};
use shadow_sidecar::pooling::{Answer, Pool, Standing};
use tokio::{net::lookup_host, task::JoinSet, time::timeout};
use tonic::Request;
use understudy::v1::{GetReportRequest, Report, shadow_service_client::ShadowServiceClient};

use crate::{
    connect::{Service, Shown, failed},
    output::Paint,
    view,
    words::{count, cut, shown},
};

/// The sidecar's gRPC port, where a name comes without one.
const PORT: u16 = 8011;
/// What a name, and then each replica, may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Lines of replicas that are not in the report.
const MISSING: usize = 5;

/// Whom to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Asked {
    /// `HOST:PORT`, `http(s)://HOST:PORT` or `unix:PATH`.
    Address(String),
    /// All addresses of a name.
    Name { scheme: &'static str, host: String, port: u16 },
}

/// All replicas, and the connections to them.
#[derive(Debug)]
pub(crate) struct Replicas {
    asked: Vec<Asked>,
    candidate: String,
    shown: Shown,
    connections: BTreeMap<String, Service>,
}

/// One replica.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    address: String,
    /// The name that stands for it.
    name: Option<String>,
}

/// Whether these stand for more than one sidecar, or may.
pub(crate) fn are_several(addresses: &[String]) -> bool {
    addresses.len() > 1 || addresses.iter().any(|address| address.starts_with("dns:"))
}

/// `dns:NAME[:PORT]`, also with `//` or `///` before the name as gRPC writes it, and with `https://` for TLS.
fn parse(address: &str) -> anyhow::Result<Asked> {
    let Some(name) = address.strip_prefix("dns:") else { return Ok(Asked::Address(address.to_owned())) };
    let (scheme, name) = match (name.strip_prefix("https://"), name.strip_prefix("http://")) {
        (Some(name), _) => ("https", name),
        (None, Some(name)) => ("http", name),
        (None, None) => ("http", name.trim_start_matches('/')),
    };
    let (host, port) = match name.rsplit_once(':') {
        None => (name, PORT),
        Some((host, port)) => (host, port.parse().with_context(|| format!("{address}: no port: {port:?}"))?),
    };
    let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if host.is_empty() || !host.chars().all(known) {
        bail!("{address}: expected dns:NAME[:PORT] or dns:https://NAME[:PORT]");
    }
    Ok(Asked::Name { scheme, host: host.to_owned(), port })
}

impl Replicas {
    /// # Errors
    /// An address is none.
    pub(crate) fn new(addresses: &[String], candidate: &str, shown: &Shown) -> anyhow::Result<Self> {
        let asked = addresses.iter().map(|address| parse(address)).collect::<anyhow::Result<_>>()?;
        Ok(Self { asked, candidate: candidate.to_owned(), shown: shown.clone(), connections: BTreeMap::new() })
    }

    /// Asks all of them at the same time. Names are looked up anew: replicas come and go.
    pub(crate) async fn ask(&mut self) -> Vec<Answer> {
        let mut answers = Vec::new();
        let mut places: Vec<Place> = Vec::new();
        for asked in &self.asked {
            match resolve(asked).await {
                Ok(found) => {
                    let news: Vec<_> = found.into_iter().filter(|place| !places.contains(place)).collect();
                    places.extend(news);
                }
                Err((address, why)) => answers.push(Answer { address, report: Err(why) }),
            }
        }
        self.connections.retain(|address, _| places.iter().any(|place| place.address == *address));
        let mut asking = JoinSet::new();
        for (n, place) in places.iter().cloned().enumerate() {
            let (known, shown) = (self.connections.get(&place.address).cloned(), self.shown.clone());
            let candidate = self.candidate.clone();
            asking.spawn(async move { (n, get(known, &shown, &place, candidate).await) });
        }
        let mut told = asking.join_all().await;
        told.sort_by_key(|(n, _)| *n);
        for ((_, got), Place { address, .. }) in told.into_iter().zip(places) {
            let report = match got {
                Ok((connection, report)) => {
                    self.connections.insert(address.clone(), connection);
                    Ok(report)
                }
                Err(error) => {
                    self.connections.remove(&address);
                    // What lies between is the layers of the transport, which say nothing.
                    let (what, cause) = (error.to_string(), error.root_cause().to_string());
                    Err(if what == cause { what } else { format!("{what}: {cause}") })
                }
            };
            answers.push(Answer { address, report });
        }
        answers
    }
}

/// In a stable order, whichever way the name server turns them; or what was asked, and why nothing came of it.
async fn resolve(asked: &Asked) -> Result<Vec<Place>, (String, String)> {
    let (scheme, host, port) = match asked {
        Asked::Address(address) => return Ok(vec![Place { address: address.clone(), name: None }]),
        Asked::Name { scheme, host, port } => (*scheme, host, *port),
    };
    let failed = |why: String| (format!("dns:{host}:{port}"), why);
    let found = timeout(PATIENCE, lookup_host((host.as_str(), port))).await;
    let found = found.map_err(|_| failed(format!("no answer within {PATIENCE:?}")))?;
    let mut found: Vec<SocketAddr> = found.map_err(|error| failed(format!("no address: {error}")))?.collect();
    found.sort_unstable();
    found.dedup();
    if found.is_empty() {
        return Err(failed("it stands for no address".to_owned()));
    }
    let place = |at: SocketAddr| {
        let address = if scheme == "https" { format!("https://{at}") } else { at.to_string() };
        Place { address, name: Some(host.clone()) }
    };
    Ok(found.into_iter().map(place).collect())
}

async fn get(
    known: Option<Service>,
    shown: &Shown,
    place: &Place,
    candidate: String,
) -> anyhow::Result<(Service, Report)> {
    let asked = async {
        let connection = match known {
            Some(connection) => connection,
            None => shown.connect_as(&place.address, place.name.as_deref()).await?,
        };
        let request = Request::new(GetReportRequest { candidate, counters: true });
        let got = ShadowServiceClient::new(connection.clone()).get_report(request).await;
        Ok((connection, got.map_err(|status| failed(&status, 0))?.into_inner()))
    };
    timeout(2 * PATIENCE, asked).await.with_context(|| format!("no answer within {:?}", 2 * PATIENCE))?
}

/// Which replicas are in the report, and why others are not.
pub(crate) fn lines(pool: &Pool, paint: Paint) -> Vec<String> {
    let text = format!("{} of {} pooled", count(pool.pooled() as u64), count(pool.all() as u64));
    let complete = pool.missing().next().is_none();
    let mut lines = vec![view::named("Replicas", &if complete { text } else { paint.yellow(text) }, paint)];
    let missing: Vec<_> = pool.missing().collect();
    let shown = |(address, why): &(&str, &str)| cut(&shown(&format!("{address}: {why}")), view::WIDTH - 12);
    lines.extend(missing.iter().take(MISSING).map(|one| view::named("", &paint.yellow(shown(one)), paint)));
    if let Some(more @ 1..) = missing.len().checked_sub(MISSING) {
        lines.push(view::named("", &paint.yellow(format_args!("and {more} more")), paint));
    }
    lines
}

/// `{"pooled", "of", "replicas": [{"address", "standing", "why", "compared"}]}`
pub(crate) fn json(pool: &Pool) -> serde_json::Value {
    let replicas = pool.replicas.iter().map(|replica| {
        let (standing, why) = match &replica.standing {
            Standing::Pooled => ("pooled", None),
            Standing::Same(address) => ("same", Some(address)),
            Standing::Silent(why) => ("silent", Some(why)),
            Standing::Refused(why) => ("refused", Some(why)),
        };
        serde_json::json!({
            "address": replica.address, "standing": standing, "why": why, "compared": replica.compared,
        })
    });
    let replicas: Vec<_> = replicas.collect();
    serde_json::json!({"pooled": pool.pooled(), "of": pool.all(), "replicas": replicas})
}

/// "2 of 3 replicas are pooled: ADDRESS: why; ..."
pub(crate) fn incomplete(pool: &Pool) -> String {
    let missing: Vec<String> = pool.missing().map(|(address, why)| shown(&format!("{address}: {why}"))).collect();
    format!("{} of {} replicas are pooled: {}", pool.pooled(), pool.all(), missing.join("; "))
}

#[cfg(test)]
mod tests {
    use shadow_sidecar::pooling::Replica;

    use super::*;

    #[test]
    fn names_and_addresses_are_told_apart() {
        let name = |scheme, host: &str, port| Asked::Name { scheme, host: host.into(), port };
        for (text, expected) in [
            ("dns:shadow.ml.svc", name("http", "shadow.ml.svc", 8011)),
            ("dns:shadow:9000", name("http", "shadow", 9000)),
            ("dns:///shadow:9000", name("http", "shadow", 9000)),
            ("dns:https://shadow.ml.svc:443", name("https", "shadow.ml.svc", 443)),
            ("[::1]:8011", Asked::Address("[::1]:8011".into())),
            ("unix:/run/shadow.sock", Asked::Address("unix:/run/shadow.sock".into())),
        ] {
            assert_eq!(parse(text).unwrap(), expected, "{text}");
        }
        for text in ["dns:", "dns:a:b", "dns:a b", "dns:ftp://a", "dns:a:70000", "dns::8011"] {
            assert!(parse(text).is_err(), "{text}");
        }
        let several = |texts: &[&str]| are_several(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
        assert_eq!([several(&["a:1"]), several(&["a:1", "b:1"]), several(&["dns:a"])], [false, true, true]);
    }

    #[tokio::test]
    async fn a_name_stands_for_its_addresses() {
        let found = resolve(&parse("dns:localhost:1234").unwrap()).await.unwrap();
        assert!(
            found.contains(&Place { address: "127.0.0.1:1234".into(), name: Some("localhost".into()) }),
            "{found:?}"
        );
        let (address, why) = resolve(&parse("dns:nobody.invalid").unwrap()).await.unwrap_err();
        assert_eq!(address, "dns:nobody.invalid:8011");
        assert!(why.starts_with("no a"), "{why}");
    }

    #[test]
    fn who_is_missing_is_named() {
        let replica = |address: &str, standing| Replica { address: address.into(), standing, compared: 7 };
        let refused = || Standing::Refused("gate 0.98, not 0.99".into());
        let mut replicas = vec![
            replica("a:1", Standing::Pooled),
            replica("b:1", Standing::Silent("nobody\u{1b} listens".into())),
            replica("c:1", refused()),
            replica("d:1", Standing::Same("a:1".into())),
        ];
        let pool = Pool { report: None, replicas: replicas.clone() };
        let plain = Paint { colour: false };
        let expected = [
            "Replicas    1 of 3 pooled",
            "            b:1: nobody\u{fffd} listens",
            "            c:1: gate 0.98, not 0.99",
        ];
        assert_eq!(lines(&pool, plain), expected);
        assert_eq!(
            incomplete(&pool),
            "1 of 3 replicas are pooled: b:1: nobody\u{fffd} listens; c:1: gate 0.98, not 0.99"
        );
        let json = json(&pool);
        assert_eq!((&json["pooled"], &json["of"]), (&1.into(), &3.into()));
        assert_eq!(json["replicas"][2]["why"], "gate 0.98, not 0.99");
        assert_eq!(json["replicas"][3]["standing"], "same");
        replicas.extend((0..5).map(|n| replica(&format!("e{n}:1"), refused())));
        let lines = lines(&Pool { report: None, replicas }, plain);
        assert_eq!((lines.len(), lines.last().unwrap().trim()), (7, "and 2 more"));
    }
}
