//! JSON Web Tokens: who signed them, for whom, until when, and whom they name.

use std::{
    fmt,
    path::PathBuf,
    sync::{Arc, mpsc},
    time::Duration,
};

use arc_swap::ArcSwap;
use jsonwebtoken::{TokenData, Validation, decode, decode_header, errors::ErrorKind};
use serde_json::{Map, Value};
use tonic::Status;

use super::{
    Caller, Role, Roles,
    keys::{self, Key},
    unauthenticated,
};

/// Clocks may differ by so much.
pub(super) const LEEWAY: Duration = Duration::from_secs(30);
/// What the subject of a token begins with as a caller's name: an issuer's names are no names of the file of clients.
const SUBJECT: &str = "sub:";
/// Bytes of the name of a caller.
const MAX_NAME: usize = 256;
/// Keys that a token without `kid` is tried with: each costs a signature check.
const MAX_TRIES: usize = 4;

/// Which tokens are good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwtSettings {
    /// `iss`.
    pub issuer: String,
    /// Among `aud`.
    pub audience: String,
    /// Public keys.
    pub keys: KeySource,
    /// Between two looks at a URL.
    pub interval: Duration,
    /// Which claim holds the roles: an array of texts, or one text with spaces between them.
    pub roles_claim: String,
}

/// Where public keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// PEM or a JWK set.
    File(PathBuf),
    /// A JWK set over HTTP.
    Url {
        /// `http(s)://HOST:PORT/PATH`.
        url: String,
        /// Who vouches for its server, PEM; absent: the authorities of the system.
        ca: Option<PathBuf>,
    },
}

/// A key and what a token that it signed must hold.
struct Trusted {
    key: Key,
    validation: Validation,
}

/// Verifies tokens of one issuer.
pub(super) struct Jwt {
    settings: JwtSettings,
    /// Absent until they were read for the first time.
    keys: ArcSwap<Option<Vec<Trusted>>>,
    /// Asks for the keys to be read again; nobody to ask where they come from a file.
    refresh: Option<mpsc::SyncSender<()>>,
}

impl fmt::Debug for Jwt {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Jwt").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Jwt {
    pub(super) fn new(settings: JwtSettings, refresh: Option<mpsc::SyncSender<()>>) -> Self {
        keys::use_ring();
        Self { settings, keys: ArcSwap::from_pointee(None), refresh }
    }

    /// Uses the keys in `content` from now on.
    ///
    /// # Errors
    /// There are none; those before stay in use.
    pub(super) fn set_keys(&self, content: &[u8]) -> Result<(), String> {
        let trusted = keys::parse(content)?.into_iter().map(|key| self.trust(key)).collect();
        self.keys.store(Arc::new(Some(trusted)));
        Ok(())
    }

    fn trust(&self, key: Key) -> Trusted {
        let mut validation = Validation::new(key.algorithms[0]);
        validation.algorithms.clone_from(&key.algorithms);
        validation.leeway = LEEWAY.as_secs();
        validation.validate_nbf = true;
        validation.set_issuer(&[&self.settings.issuer]);
        validation.set_audience(&[&self.settings.audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        Trusted { key, validation }
    }

    /// Whom `token` names, and the second since 1970 from which on it does no more.
    ///
    /// # Errors
    /// UNAUTHENTICATED, saying no more of the token than what is wrong with it; UNAVAILABLE before there are keys.
    pub(super) fn verify(&self, token: &str) -> Result<(Caller, u64), Status> {
        let keys = self.keys.load();
        let Some(keys) = &**keys else {
            return Err(Status::unavailable("the keys that tokens are signed with are not known yet"));
        };
        let invalid = || unauthenticated("the token is not valid");
        // Also refuses `alg: none`, which is no algorithm here.
        let header = decode_header(token).map_err(|_| invalid())?;
        // RFC 7515, 4.1.11: what must be understood and is not makes a token invalid. We understand no extension.
        if header.crit.is_some() {
            return Err(invalid());
        }
        let of_id = |trusted: &&Trusted| match (&header.kid, &trusted.key.id) {
            (Some(asked), Some(id)) => asked == id,
            _ => true,
        };
        let mut named = keys.iter().filter(of_id).peekable();
        if named.peek().is_none() {
            // That it is full means that somebody has asked already.
            if self.refresh.as_ref().is_some_and(|refresh| refresh.try_send(()).is_ok()) {
                tracing::debug!("a token is signed with an unknown key: the keys are fetched again");
            }
            return Err(unauthenticated("the token is signed with a key that is not known"));
        }
        let mut refused = invalid();
        let fitting = named.filter(|trusted| trusted.validation.algorithms.contains(&header.alg));
        for Trusted { key, validation } in fitting.take(MAX_TRIES) {
            match decode::<Map<String, Value>>(token, &key.public, validation) {
                Ok(TokenData { claims, .. }) => return self.caller(&claims).ok_or_else(invalid),
                Err(error) => match error.kind() {
                    // Perhaps another key.
                    ErrorKind::InvalidSignature => {}
                    ErrorKind::ExpiredSignature => refused = unauthenticated("the token has expired"),
                    ErrorKind::ImmatureSignature => refused = unauthenticated("the token is not valid yet"),
                    ErrorKind::InvalidIssuer => refused = unauthenticated("the token is of another issuer"),
                    ErrorKind::InvalidAudience => refused = unauthenticated("the token is for another audience"),
                    _ => refused = invalid(),
                },
            }
        }
        Err(refused)
    }

    /// Of claims that hold.
    fn caller(&self, claims: &Map<String, Value>) -> Option<(Caller, u64)> {
        let name = claims.get("sub")?.as_str().filter(|name| !name.is_empty() && name.len() <= MAX_NAME)?;
        let expires = claims.get("exp")?.as_f64()?;
        let roles = match claims.get(&self.settings.roles_claim) {
            Some(Value::Array(roles)) => Roles::of(roles.iter().filter_map(Value::as_str).filter_map(Role::parse)),
            Some(Value::String(roles)) => Roles::of(roles.split_ascii_whitespace().filter_map(Role::parse)),
            _ => Roles::default(),
        };
        let name = format!("{SUBJECT}{name}");
        Some((Caller { name: Some(name.into()), roles }, (expires as u64).saturating_add(LEEWAY.as_secs())))
    }
}
