//! Clients that are known from a file: what they are called, what they may, and how they are recognised. Tokens are kept as
//! SHA-256 digests (`printf %s TOKEN | sha256sum`), so that whoever reads the file can't call with it.
//!
//! ```toml
//! [[client]]
//! name = "scoring"
//! roles = ["reader", "writer"]
//! token-sha256 = ["2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"]
//! certificate = ["spiffe://example.org/scoring"]
//! ```
//!
//! What has `://` in it is a URI among a certificate's alternative names and nothing else. Anything else is a DNS name among
//! them or, of a certificate without alternative names, the common name.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use serde::Deserialize;
use subtle::{ConditionallySelectable as _, ConstantTimeEq as _};

use super::{
    Caller, Role, Roles,
    certificate::{CN, DNS, URI},
};

/// What the name of a client of the file begins with as a caller's: whoever chooses the subject of a token must not be able to
/// choose whose quota it spends.
const CLIENT: &str = "client:";

/// A SHA-256 digest.
pub(super) type Digest = [u8; 32];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    client: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Entry {
    name: String,
    roles: Vec<String>,
    #[serde(default)]
    token_sha256: Vec<String>,
    #[serde(default)]
    certificate: Vec<String>,
}

/// The clients of one file.
#[derive(Debug, Default)]
pub(super) struct Clients {
    /// Digest and caller of each token.
    tokens: Vec<(Digest, Caller)>,
    /// By the name in the certificate.
    certificates: HashMap<String, Caller>,
}

impl Clients {
    /// # Errors
    /// It is no such file; all that is wrong with it, and no more of its contents than names.
    pub(super) fn parse(content: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(content).map_err(|error| error.to_string())?;
        let file: File = toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(0, |span| text[..span.start.min(text.len())].lines().count().max(1));
            // The error's own text shows the line, and with it what may be a token.
            format!("line {line}: {}", without_quotes(error.message()))
        })?;
        let mut clients = Self::default();
        let mut problems = Vec::new();
        let mut names = HashSet::new();
        let mut digests = HashSet::new();
        for Entry { name, roles, token_sha256, certificate } in file.client {
            let shown = name.escape_debug().to_string();
            if name.is_empty() || !names.insert(name.clone()) {
                problems.push(format!("client '{shown}': expected a name of its own"));
            }
            let mut granted = Roles::default();
            for role in roles {
                match Role::parse(&role) {
                    Some(role) => granted = granted.with(role),
                    None => problems.push(format!(
                        "client '{shown}': expected the roles reader, writer, observer or admin, got '{}'",
                        role.escape_debug()
                    )),
                }
            }
            let caller = Caller { name: Some(Arc::from(format!("{CLIENT}{name}"))), roles: granted };
            if token_sha256.is_empty() && certificate.is_empty() {
                problems.push(format!("client '{shown}': expected token-sha256 or certificate, got neither"));
            }
            for (at, digest) in token_sha256.iter().enumerate() {
                match hex(digest) {
                    Some(digest) if digests.insert(digest) => clients.tokens.push((digest, caller.clone())),
                    Some(_) => problems.push(format!("client '{shown}': token-sha256[{at}] is there already")),
                    None => {
                        problems.push(format!("client '{shown}': token-sha256[{at}]: expected 64 hexadecimal digits"));
                    }
                }
            }
            for certificate in certificate {
                let taken = format!("client '{shown}': certificate '{}' is there already", certificate.escape_debug());
                let names = if certificate.contains("://") {
                    vec![format!("{URI}{certificate}")]
                } else {
                    vec![format!("{DNS}{}", certificate.to_ascii_lowercase()), format!("{CN}{certificate}")]
                };
                let inserted =
                    names.into_iter().map(|name| clients.certificates.insert(name, caller.clone()).is_some());
                // All of them, so that another client can't have half a name.
                if inserted.fold(false, |taken, before| taken | before) {
                    problems.push(taken);
                }
            }
        }
        if problems.is_empty() { Ok(clients) } else { Err(problems.join("; ")) }
    }

    /// Whose token this is, by its digest. Takes the same time whichever it is, and whether it is one.
    pub(super) fn by_token(&self, digest: &Digest) -> Option<&Caller> {
        let mut found = u64::MAX;
        for (at, (known, _)) in (0_u64..).zip(&self.tokens) {
            found.conditional_assign(&at, known.ct_eq(digest));
        }
        self.tokens.get(usize::try_from(found).ok()?).map(|(_, caller)| caller)
    }

    /// Whose certificate this is, by its [name](super::certificate::name).
    pub(super) fn by_certificate(&self, name: &str) -> Option<&Caller> {
        self.certificates.get(name)
    }
}

/// `text` without what stands in double quotes.
fn without_quotes(text: &str) -> String {
    let mut out = String::new();
    for (at, part) in text.split('"').enumerate() {
        out.push_str(if at % 2 == 0 { part } else { "\"...\"" });
    }
    out
}

fn hex(text: &str) -> Option<Digest> {
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut digest = Digest::default();
    for (at, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";
    const B: &str = "bbb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";

    #[test]
    fn clients_are_found_by_token_and_by_certificate() {
        let text = format!(
            "[[client]]\nname = 'a'\nroles = ['reader']\ntoken-sha256 = ['{A}']\n\
             [[client]]\nname = 'b'\nroles = ['admin', 'observer']\ntoken-sha256 = ['{B}']\ncertificate = ['spiffe://b']"
        );
        let clients = Clients::parse(text.as_bytes()).expect("clients");
        let a = clients.by_token(&hex(A).expect("a digest")).expect("known");
        assert_eq!((a.name.as_deref(), a.roles), (Some("client:a"), Roles::default().with(Role::Reader)));
        let b = clients.by_token(&hex(B).expect("a digest")).expect("known");
        assert_eq!(Some(b), clients.by_certificate("URI:spiffe://b"));
        assert!(b.roles.has(Role::Admin) && b.roles.has(Role::Observer) && !b.roles.has(Role::Reader));
        assert_eq!(clients.by_token(&Digest::default()), None);
        assert_eq!(Clients::default().by_token(&Digest::default()), None);
        for other in ["URI:spiffe://a", "CN:spiffe://b", "DNS:spiffe://b", "spiffe://b"] {
            assert_eq!(clients.by_certificate(other), None, "{other}");
        }
        let text = "[[client]]\nname = 'c'\nroles = []\ncertificate = ['C.example.org']";
        let clients = Clients::parse(text.as_bytes()).expect("clients");
        for name in ["DNS:c.example.org", "CN:C.example.org"] {
            assert!(clients.by_certificate(name).is_some(), "{name}");
        }
        assert_eq!(clients.by_certificate("URI:C.example.org"), None);
    }

    #[test]
    fn everything_that_is_wrong_is_told_without_its_secrets() {
        let text = "[[client]]\nname = 'a'\nroles = ['reader', 'root']\ntoken-sha256 = ['canary']\n\
                    [[client]]\nname = 'a'\nroles = []";
        let error = Clients::parse(text.as_bytes()).expect_err("four problems");
        for part in ["'root'", "token-sha256[0]", "a name of its own", "got neither"] {
            assert!(error.contains(part), "{part}: {error}");
        }
        assert!(!error.contains("canary"), "{error}");
        for wrong in ["tokens = ['canary']", "[[client]]\nname = 'a'\nroles = []\ntoken-sha256 = 'canary'", "canary"] {
            let error = Clients::parse(wrong.as_bytes()).expect_err("wrong");
            assert!(error.starts_with("line ") && !error.contains("canary"), "{error}");
        }
    }
}
