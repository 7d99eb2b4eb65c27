//! Who calls, and what they may: certificates and tokens become a [`Caller`] with [`Roles`], and the [table of
//! methods](methods) says which role a method takes. Decided on headers alone, before a byte of the body is read: a denial
//! tells nothing about models.
//!
//! * [`settings`] — what is configured, the same for both processes
//! * [`methods`] — the one table: method, role
//! * `clients` — clients from a file: hashed tokens, names in certificates
//! * [`jwt`], `keys`, `fetch` — tokens of an issuer, its public keys, and where they come from
//! * [`certificate`] — the name in a client's certificate
//! * `cache` — tokens that were verified
//! * [`credentials`] — the other side: what our own clients show; [`dialer`], [`client_tls`]: and how they connect
//!
//! Without identity configured everybody may read and write, and what shows everybody's data or changes what is served is
//! for callers on this machine, as far as [`Access`] does not say otherwise. With it, nobody may do anything without a role.

use std::{
    fmt,
    sync::{Arc, mpsc},
};

use arc_swap::ArcSwap;
use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use metrics::Recorder;
use rustls::crypto::CryptoProvider;
use tonic::Status;

use crate::{
    edge::{Client, Peer, Tls},
    identity::{
        cache::Cache,
        clients::{Clients, Digest},
        fetch::Origin,
        jwt::{Jwt, KeySource},
        methods::Need,
        settings::Config,
    },
    reload::{Reloading, Source},
};

mod cache;
pub mod certificate;
pub mod client_tls;
mod clients;
pub mod credentials;
pub mod dialer;
mod fetch;
pub mod jwt;
mod keys;
pub mod methods;
pub mod settings;

/// The one cryptographic library.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// What a caller may do. None includes another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Health, metadata, predictions.
    Reader = 1,
    /// Feedback.
    Writer = 2,
    /// The tap and reports: data of everybody.
    Observer = 4,
    /// Which models are served, and when an epoch begins.
    Admin = 8,
}

impl Role {
    /// `reader`, `writer`, `observer`, `admin`.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Reader, Self::Writer, Self::Observer, Self::Admin].into_iter().find(|role| role.name() == name)
    }

    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reader => "reader",
            Self::Writer => "writer",
            Self::Observer => "observer",
            Self::Admin => "admin",
        }
    }
}

/// A set of roles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Roles(u8);

impl Roles {
    /// All of `roles`.
    pub fn of(roles: impl IntoIterator<Item = Role>) -> Self {
        roles.into_iter().fold(Self::default(), Self::with)
    }

    /// And `role`.
    #[must_use]
    pub fn with(self, role: Role) -> Self {
        Self(self.0 | role as u8)
    }

    /// Whether it holds `role`.
    pub fn has(self, role: Role) -> bool {
        self.0 & role as u8 != 0
    }
}

/// Who calls. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Unique with its kind: `client:` and a name of the clients file, `sub:` and the subject of a token, or the
    /// [name](certificate::name) in a certificate that the file does not have. Absent where nobody is known.
    pub name: Option<Arc<str>>,
    /// What it may do.
    pub roles: Roles,
}

impl Caller {
    /// Whom the limits of a client hold for.
    pub fn client(&self, peer: &Peer) -> Client {
        self.name.clone().map_or_else(|| Client::from(peer), Client::Named)
    }
}

/// Who may call what is not for everybody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Exposure {
    /// Nobody: it answers UNIMPLEMENTED, as if it were not there.
    Off,
    /// Callers on this machine: the Unix socket and loopback.
    #[default]
    Local,
    /// Whoever reaches the port; with identity, whoever has the role.
    Any,
}

/// What is open to whom, whoever they are.
#[derive(Clone, Copy, Debug)]
pub struct Access {
    /// Methods that take [`Role::Observer`], and the setting that says so.
    pub observe: (&'static str, Exposure),
    /// Methods that take [`Role::Admin`].
    pub control: Exposure,
    /// Reflection.
    pub reflection: Exposure,
    /// Whether health answers callers without a token. It tells whether a name is served, which a probe must know and which
    /// carries no token: neither the kubelet's nor a load balancer's.
    pub health_open: bool,
}

/// What is known of callers.
struct Known {
    clients: ArcSwap<Clients>,
    jwt: Option<Jwt>,
    cache: Cache,
}

impl Known {
    fn set_clients(&self, content: &[u8]) -> Result<(), String> {
        self.clients.store(Arc::new(Clients::parse(content)?));
        self.cache.clear();
        Ok(())
    }

    fn set_keys(&self, content: &[u8]) -> Result<(), String> {
        if let Some(jwt) = &self.jwt {
            jwt.set_keys(content)?;
        }
        self.cache.clear();
        Ok(())
    }

    fn authenticate(&self, headers: &HeaderMap, peer: &Peer) -> Result<Caller, Status> {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        match (values.next(), values.next(), peer.certificate()) {
            (None, _, None) => Err(unauthenticated("no token and no client certificate")),
            // Of an authority that is trusted, but nobody has said what it may.
            (None, _, Some(name)) => Ok(self
                .clients
                .load()
                .by_certificate(name)
                .cloned()
                .unwrap_or_else(|| Caller { name: Some(name.clone()), roles: Roles::default() })),
            (Some(value), None, _) => self.by_token(value),
            (Some(_), Some(_), _) => Err(unauthenticated("more than one authorization header")),
        }
    }

    fn by_token(&self, value: &HeaderValue) -> Result<Caller, Status> {
        let token = value.to_str().ok().and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim_ascii()).filter(|token| !token.is_empty())
        });
        let token = token.ok_or_else(|| unauthenticated("expected 'authorization: Bearer TOKEN'"))?;
        let mut digest = Digest::default();
        digest.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, token.as_bytes()).as_ref());
        let seen = self.cache.generation();
        if let Some(caller) = self.cache.get(&digest) {
            return Ok(caller);
        }
        let known = self.clients.load().by_token(&digest).cloned();
        let (caller, until) = match (known, &self.jwt) {
            (Some(caller), _) => (caller, u64::MAX),
            (None, Some(jwt)) => jwt.verify(token)?,
            (None, None) => return Err(unauthenticated("the token is not known")),
        };
        self.cache.put(digest, caller.clone(), until, seen);
        Ok(caller)
    }
}

fn unauthenticated(text: &str) -> Status {
    Status::unauthenticated(format!("unauthenticated: {text}"))
}

/// Decides on every call. Shared by all workers.
pub struct Identity {
    access: Access,
    /// Absent without identity.
    known: Option<Arc<Known>>,
    /// Ends with it.
    _reloading: Option<Reloading>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Identity").field("access", &self.access).finish_non_exhaustive()
    }
}

impl Identity {
    /// Reads what is configured, and from then on whenever it changes; with the certificates for the listener.
    ///
    /// # Errors
    /// A file can't be read or used; the text names the setting.
    pub fn start(config: &Config, recorder: &dyn Recorder) -> Result<(Self, Option<Arc<Tls>>), String> {
        let system = |error: std::io::Error| format!("can't start a thread: {error}");
        let mut sources = Vec::new();
        let tls = match &config.tls {
            None => None,
            Some(files) => {
                let (tls, source) = Tls::load(files)?;
                sources.push(source);
                Some(tls)
            }
        };
        let known = config.is_on().then(|| {
            let (send, asked) = mpsc::sync_channel(1);
            let jwt = config.jwt.clone().map(|settings| {
                let by_url = matches!(settings.keys, KeySource::Url { .. });
                Jwt::new(settings, by_url.then_some(send))
            });
            (Arc::new(Known { clients: ArcSwap::default(), jwt, cache: Cache::default() }), asked)
        });
        let known = match known {
            None => None,
            Some((known, asked)) => {
                if let Some(path) = &config.clients {
                    let target = known.clone();
                    let apply = move |contents: &[Vec<u8>]| target.set_clients(&contents[0]);
                    sources.push(Source::load("clients", vec![path.clone()], apply)?);
                }
                match config.jwt.as_ref().map(|jwt| (&jwt.keys, jwt.interval)) {
                    None => {}
                    Some((KeySource::File(path), _)) => {
                        let target = known.clone();
                        let apply = move |contents: &[Vec<u8>]| target.set_keys(&contents[0]);
                        sources.push(Source::load("jwt-keys", vec![path.clone()], apply)?);
                    }
                    Some((KeySource::Url { url, ca }, interval)) => {
                        let from = Origin::new(url, ca.as_deref()).map_err(|error| format!("jwt-keys-ca: {error}"))?;
                        fetch::start(from, interval, &known, asked, recorder).map_err(system)?;
                    }
                }
                Some(known)
            }
        };
        let reloading = (!sources.is_empty()).then(|| Reloading::start(sources, config.reload, recorder));
        let reloading = reloading.transpose().map_err(system)?;
        Ok((Self { access: config.access, known, _reloading: reloading }, tls))
    }

    /// Who calls `path`, if they may.
    ///
    /// # Errors
    /// UNIMPLEMENTED for what is off or was never there, UNAUTHENTICATED for whom we don't know, PERMISSION_DENIED for whom
    /// we do.
    pub fn admit(&self, path: &str, headers: &HeaderMap, peer: &Peer) -> Result<Caller, Status> {
        let need = methods::need(path).ok_or_else(|| Status::unimplemented("unknown method"))?;
        let (setting, exposure) = self.exposure(need);
        match exposure {
            Exposure::Any => {}
            Exposure::Local if peer.is_local() => {}
            Exposure::Local if need != Need::Reflection => {
                return Err(Status::permission_denied(format!(
                    "this method answers on the Unix socket and on loopback only; see the setting '{setting}'"
                )));
            }
            Exposure::Off | Exposure::Local => {
                return Err(Status::unimplemented(format!("this method is not served; see the setting '{setting}'")));
            }
        }
        let role = match need {
            Need::Role(role) => role,
            Need::Reflection | Need::Health => Role::Reader,
        };
        let known = match &self.known {
            Some(known) if need != Need::Health || !self.access.health_open => known,
            // A certificate or a token that nobody asked for is still a name, and what is counted is counted by it.
            known => {
                let shown = known.as_ref().filter(|_| headers.contains_key(AUTHORIZATION));
                let caller = shown.and_then(|known| known.authenticate(headers, peer).ok());
                let name = caller.map_or_else(|| peer.certificate().cloned(), |caller| caller.name);
                return Ok(Caller { name, roles: Roles::of([role]) });
            }
        };
        let caller = known.authenticate(headers, peer)?;
        if caller.roles.has(role) {
            return Ok(caller);
        }
        Err(Status::permission_denied(format!("this method takes the role '{}', which the caller lacks", role.name())))
    }

    /// Whether the mark of a rehearsal counts in a call of `caller`: who may watch everybody's exchanges may say of its own that
    /// they are none. Anybody else could hide from a rehearsal whatever it likes.
    pub fn believes(&self, caller: &Caller, peer: &Peer) -> bool {
        match (&self.known, self.access.observe.1) {
            (Some(_), _) => caller.roles.has(Role::Observer),
            (None, Exposure::Any) => true,
            (None, Exposure::Local | Exposure::Off) => peer.is_local(),
        }
    }

    /// The token that a caller shows, unverified, where anybody is known by one.
    pub fn token<'a>(&self, headers: &'a HeaderMap) -> Option<&'a [u8]> {
        self.known.as_ref().and_then(|_| headers.get(AUTHORIZATION)).map(HeaderValue::as_bytes)
    }

    /// Whether nobody may do what `role` may.
    pub fn is_off(&self, role: Role) -> bool {
        self.exposure(Need::Role(role)).1 == Exposure::Off
    }

    /// Where `need` is met at all, and the setting that says so.
    fn exposure(&self, need: Need) -> (&'static str, Exposure) {
        match need {
            Need::Role(Role::Observer) => self.access.observe,
            Need::Role(Role::Admin) => ("control", self.access.control),
            Need::Reflection => ("reflection", self.access.reflection),
            Need::Health | Need::Role(Role::Reader | Role::Writer) => ("", Exposure::Any),
        }
    }
}

#[cfg(test)]
mod tests;
