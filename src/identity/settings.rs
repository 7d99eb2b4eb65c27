//! What both processes let their operators configure about TLS and identity.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use super::{
    Access, Exposure,
    jwt::{JwtSettings, KeySource},
};
use crate::{
    edge::{Address, ClientAuthority, TlsFiles},
    settings::Problems,
};

/// As it was set: each by the name that it has here, with dashes.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs, reason = "described where they are flags")]
pub struct Raw {
    pub tls_cert: Option<PathBuf>,
    pub tls_key: Option<PathBuf>,
    pub tls_client_ca: Option<PathBuf>,
    pub tls_client_auth: Option<String>,
    pub tls_client_crl: Option<PathBuf>,
    pub tls_reload_interval: Option<String>,
    pub clients: Option<PathBuf>,
    pub jwt_issuer: Option<String>,
    pub jwt_audience: Option<String>,
    pub jwt_keys: Option<String>,
    pub jwt_keys_ca: Option<PathBuf>,
    pub jwt_keys_interval: Option<String>,
    pub jwt_roles_claim: Option<String>,
    pub reflection: Option<String>,
    pub control: Option<String>,
    pub health_open: Option<bool>,
}

/// What is configured, and can't contradict itself.
#[derive(Clone, Debug)]
pub struct Config {
    /// Absent: plaintext.
    pub tls: Option<TlsFiles>,
    /// Clients from a file.
    pub clients: Option<PathBuf>,
    /// Tokens of an issuer.
    pub jwt: Option<JwtSettings>,
    /// Between two looks at the files.
    pub reload: Duration,
    /// What is open to whom.
    pub access: Access,
}

impl Config {
    /// Whether callers are known at all.
    pub fn is_on(&self) -> bool {
        self.clients.is_some() || self.jwt.is_some()
    }

    /// What is allowed and probably not meant, for a process that listens at `listen`; each with its setting.
    pub fn warnings(&self, listen: &Address) -> Vec<String> {
        let mut warnings = Vec::new();
        let reachable = matches!(listen, Address::Tcp(address) if !address.ip().to_canonical().is_loopback());
        if self.is_on() && self.tls.is_none() && reachable {
            warnings.push(format!(
                "grpc-listen: tokens come to {listen} in plaintext, and whoever reads them can call with them; expected \
                 tls-cert, or a proxy in front that ends TLS"
            ));
        }
        if let Some(JwtSettings { keys: KeySource::Url { url, .. }, .. }) = &self.jwt
            && let Some(host) = plaintext_host(url)
        {
            warnings.push(format!(
                "jwt-keys: the keys of '{host}' come in plaintext, and whoever changes them on their way can sign tokens; \
                 expected https"
            ));
        }
        if self.tls.as_ref().is_some_and(|tls| tls.clients.is_some()) && !self.is_on() {
            warnings.push(
                "tls-client-ca: every certificate of this authority may predict and give feedback, as far as nothing says which \
                 client may do what; see clients"
                    .into(),
            );
        }
        warnings
    }
}

impl Raw {
    /// Notes every problem. `observe` is the setting, and its value, for methods that show the data of everybody.
    pub fn validate(self, p: &mut Problems, observe: (&'static str, Option<&str>)) -> Config {
        let given = |name: &'static str, is: bool| (name, is);
        let mut needs = |(name, is): (&str, bool), (other, there): (&str, bool)| {
            if is && !there {
                p.add(name, format_args!("expected {other}, too, got none"));
            }
        };
        let cert = given("tls-cert", self.tls_cert.is_some());
        let ca = given("tls-client-ca", self.tls_client_ca.is_some());
        needs(cert, given("tls-key", self.tls_key.is_some()));
        needs(given("tls-key", self.tls_key.is_some()), cert);
        needs(ca, cert);
        needs(given("tls-client-auth", self.tls_client_auth.is_some()), ca);
        needs(given("tls-client-crl", self.tls_client_crl.is_some()), ca);
        let issuer = given("jwt-issuer", self.jwt_issuer.is_some());
        let audience = given("jwt-audience", self.jwt_audience.is_some());
        let keys = given("jwt-keys", self.jwt_keys.is_some());
        for (one, other) in [(keys, issuer), (keys, audience), (issuer, keys), (audience, keys)] {
            // Without all three, a token for somebody else would do.
            needs(one, other);
        }
        needs(given("jwt-keys-interval", self.jwt_keys_interval.is_some()), keys);
        let encrypted = self.jwt_keys.as_ref().is_some_and(|keys| keys.starts_with("https://"));
        needs(given("jwt-keys-ca", self.jwt_keys_ca.is_some()), given("jwt-keys with https://", encrypted));
        needs(given("jwt-roles-claim", self.jwt_roles_claim.is_some()), keys);
        let required = match self.tls_client_auth.as_deref() {
            None | Some("required") => true,
            Some("optional") => false,
            Some(other) => {
                p.add("tls-client-auth", format_args!("expected required or optional, got {other:?}"));
                true
            }
        };
        let revoked = self.tls_client_crl;
        let clients =
            self.tls_client_ca.map(|certificates| ClientAuthority { certificates, revoked: revoked.clone(), required });
        let interval = p.duration("jwt-keys-interval", self.jwt_keys_interval.as_deref(), Duration::from_secs(300));
        let jwt = match (self.jwt_issuer, self.jwt_audience, self.jwt_keys) {
            (Some(issuer), Some(audience), Some(keys)) => {
                let url = keys.starts_with("http://") || keys.starts_with("https://");
                Some(JwtSettings {
                    issuer,
                    audience,
                    keys: if url {
                        KeySource::Url { url: keys, ca: self.jwt_keys_ca }
                    } else {
                        KeySource::File(keys.into())
                    },
                    interval: at_least(p, "jwt-keys-interval", interval),
                    roles_claim: self.jwt_roles_claim.unwrap_or_else(|| "roles".into()),
                })
            }
            _ => None,
        };
        let reload = p.duration("tls-reload-interval", self.tls_reload_interval.as_deref(), Duration::from_secs(10));
        // Where callers are known, it is their roles that decide, unless it is said that they must be here, too.
        let on = self.clients.is_some() || jwt.is_some();
        let default = if on { Exposure::Any } else { Exposure::Local };
        let access = Access {
            observe: (observe.0, exposure(p, observe.0, observe.1, default)),
            control: exposure(p, "control", self.control.as_deref(), default),
            reflection: exposure(p, "reflection", self.reflection.as_deref(), default),
            health_open: self.health_open.unwrap_or(true),
        };
        Config {
            tls: self.tls_cert.zip(self.tls_key).map(|(certificate, key)| TlsFiles { certificate, key, clients }),
            clients: self.clients,
            jwt,
            reload: at_least(p, "tls-reload-interval", reload),
            access,
        }
    }
}

/// The host of a URL that is neither HTTPS nor on this machine.
fn plaintext_host(url: &str) -> Option<String> {
    let url: http::Uri = url.parse().ok()?;
    let host = url.host().filter(|_| url.scheme_str() == Some("http"))?;
    let address: Option<IpAddr> = host.trim_start_matches('[').trim_end_matches(']').parse().ok();
    let local = host == "localhost" || address.is_some_and(|address| address.to_canonical().is_loopback());
    (!local).then(|| host.escape_debug().to_string())
}

/// More often would be a spin.
fn at_least(p: &mut Problems, name: &str, interval: Duration) -> Duration {
    const SHORTEST: Duration = Duration::from_millis(10);
    if interval < SHORTEST {
        p.add(name, format_args!("expected at least {SHORTEST:?}, got {interval:?}"));
    }
    interval
}

fn exposure(p: &mut Problems, name: &str, text: Option<&str>, default: Exposure) -> Exposure {
    match text {
        None => default,
        Some("off") => Exposure::Off,
        Some("local") => Exposure::Local,
        Some("any") => Exposure::Any,
        Some(other) => {
            p.add(name, format_args!("expected off, local or any, got {other:?}"));
            Exposure::Off
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(raw: Raw) -> Result<Config, String> {
        let mut problems = Problems::default();
        let config = raw.validate(&mut problems, ("tap", None));
        problems.into_result(config).map_err(|problems| problems.to_string())
    }

    #[test]
    fn what_belongs_together_must_be_there_together() {
        let path = || Some(PathBuf::from("x"));
        let wrong = [
            (Raw { tls_cert: path(), ..Raw::default() }, "tls-cert: expected tls-key"),
            (Raw { tls_key: path(), ..Raw::default() }, "tls-key: expected tls-cert"),
            (Raw { tls_client_ca: path(), ..Raw::default() }, "tls-client-ca: expected tls-cert"),
            (Raw { tls_client_crl: path(), ..Raw::default() }, "tls-client-crl: expected tls-client-ca"),
            (Raw { tls_client_auth: Some("no".into()), ..Raw::default() }, "expected required or optional, got \"no\""),
            (Raw { jwt_keys: Some("x".into()), ..Raw::default() }, "jwt-keys: expected jwt-audience"),
            (Raw { jwt_issuer: Some("x".into()), ..Raw::default() }, "jwt-issuer: expected jwt-keys"),
            (Raw { jwt_keys_ca: path(), ..Raw::default() }, "jwt-keys-ca: expected jwt-keys with https://"),
            (Raw { reflection: Some("yes".into()), ..Raw::default() }, "reflection: expected off, local or any"),
            (Raw { tls_reload_interval: Some("0s".into()), ..Raw::default() }, "tls-reload-interval: expected at"),
        ];
        for (raw, expected) in wrong {
            let text = config(raw).expect_err("wrong");
            assert!(text.contains(expected), "{expected}: {text}");
        }
    }

    #[test]
    fn with_identity_roles_decide_and_not_places() {
        let without = config(Raw::default()).expect("valid");
        assert_eq!((without.is_on(), without.access.observe), (false, ("tap", Exposure::Local)));
        let with = config(Raw { clients: Some("clients.toml".into()), ..Raw::default() }).expect("valid");
        assert_eq!((with.is_on(), with.access.control), (true, Exposure::Any));
    }

    #[test]
    fn what_is_probably_not_meant_is_said() {
        let path = || Some(PathBuf::from("x"));
        let anywhere: Address = "0.0.0.0:8001".parse().expect("an address");
        let warnings = |raw: Raw, listen: &Address| config(raw).expect("valid").warnings(listen);
        let clients = || Raw { clients: path(), ..Raw::default() };
        let jwt = |keys: &str| Raw {
            jwt_keys: Some(keys.into()),
            jwt_issuer: Some("x".into()),
            jwt_audience: Some("x".into()),
            tls_cert: path(),
            tls_key: path(),
            ..Raw::default()
        };
        assert!(warnings(Raw::default(), &anywhere).is_empty());
        let [plaintext] = &warnings(clients(), &anywhere)[..] else { panic!("one warning") };
        assert!(plaintext.starts_with("grpc-listen: tokens come to 0.0.0.0:8001 in plaintext"), "{plaintext}");
        for local in ["127.0.0.1:8001", "[::1]:8001", "[::ffff:127.0.0.1]:8001", "unix:/run/x"] {
            assert!(warnings(clients(), &local.parse().expect("an address")).is_empty(), "{local}");
        }
        let tls = || Raw { tls_cert: path(), tls_key: path(), ..Raw::default() };
        assert!(warnings(Raw { clients: path(), ..tls() }, &anywhere).is_empty());
        for url in
            ["https://issuer/keys", "http://localhost:1/keys", "http://127.0.0.1/keys", "http://[::1]/keys", "file"]
        {
            assert!(warnings(jwt(url), &anywhere).is_empty(), "{url}");
        }
        let [keys] = &warnings(jwt("http://issuer.example.org/keys?secret"), &anywhere)[..] else {
            panic!("one warning")
        };
        assert!(keys.starts_with("jwt-keys: the keys of 'issuer.example.org' come in plaintext"), "{keys}");
        let [authority] = &warnings(Raw { tls_client_ca: path(), ..tls() }, &anywhere)[..] else {
            panic!("one warning")
        };
        assert!(authority.starts_with("tls-client-ca: every certificate"), "{authority}");
        assert!(warnings(Raw { tls_client_ca: path(), clients: path(), ..tls() }, &anywhere).is_empty());
    }
}
