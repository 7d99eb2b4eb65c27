//! An issuer of tokens (JWT). Also a module of the tests in `src/identity`; so it depends on nothing here.

use std::fmt::Write as _;

use base64::{Engine as _, engine::general_purpose};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair},
};
use serde_json::{Value, json};

/// What [`Issuer::claims`] holds.
pub const ISSUER: &str = "https://issuer.test";
/// What [`Issuer::claims`] holds.
pub const AUDIENCE: &str = "understudy";

#[derive(Debug)]
enum Pair {
    P256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

/// One key of an issuer.
#[derive(Debug)]
pub struct Issuer {
    id: String,
    pair: Pair,
}

fn encoded(bytes: impl AsRef<[u8]>) -> String {
    general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}

impl Issuer {
    /// With a new P-256 key of this `kid`.
    pub fn p256(id: &str) -> Self {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let key = EcdsaKeyPair::generate_pkcs8(algorithm, &random).expect("a key");
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, key.as_ref(), &random).expect("a key");
        Self { id: id.into(), pair: Pair::P256(pair) }
    }

    /// With a new Ed25519 key of this `kid`.
    pub fn ed25519(id: &str) -> Self {
        let key = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("a key");
        Self { id: id.into(), pair: Pair::Ed25519(Ed25519KeyPair::from_pkcs8(key.as_ref()).expect("a key")) }
    }

    fn public(&self) -> &[u8] {
        match &self.pair {
            Pair::P256(pair) => pair.public_key().as_ref(),
            Pair::Ed25519(pair) => pair.public_key().as_ref(),
        }
    }

    /// Its public key as a JWK.
    pub fn jwk(&self) -> Value {
        match &self.pair {
            Pair::P256(_) => {
                let (x, y) = self.public()[1..].split_at(32);
                json!({"kty": "EC", "crv": "P-256", "kid": self.id, "use": "sig", "x": encoded(x), "y": encoded(y)})
            }
            Pair::Ed25519(_) => {
                json!({"kty": "OKP", "crv": "Ed25519", "kid": self.id, "alg": "EdDSA", "x": encoded(self.public())})
            }
        }
    }

    /// A JWK set of these keys.
    pub fn jwks(keys: &[&Self]) -> String {
        json!({"keys": keys.iter().map(|key| key.jwk()).collect::<Vec<_>>()}).to_string()
    }

    /// Its public key as PEM.
    pub fn pem(&self) -> String {
        // SubjectPublicKeyInfo up to the key itself.
        let head: &[u8] = match &self.pair {
            Pair::P256(_) => {
                b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00"
            }
            Pair::Ed25519(_) => b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00",
        };
        let body = general_purpose::STANDARD.encode([head, self.public()].concat());
        let lines: Vec<_> = body.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
    }

    /// `iss`, `aud`, `sub`, `exp` in an hour, and `roles`.
    pub fn claims(name: &str, roles: &[&str]) -> Value {
        json!({"iss": ISSUER, "aud": [AUDIENCE, "others"], "sub": name, "exp": now() + 3600, "roles": roles})
    }

    /// Signed.
    pub fn token(&self, claims: &Value) -> String {
        let algorithm = match self.pair {
            Pair::P256(_) => "ES256",
            Pair::Ed25519(_) => "EdDSA",
        };
        self.token_of(&json!({"alg": algorithm, "kid": self.id, "typ": "JWT"}), claims)
    }

    /// Signed, whatever the header says.
    pub fn token_of(&self, header: &Value, claims: &Value) -> String {
        let text = unsigned(header, claims);
        let signature = match &self.pair {
            Pair::P256(pair) => {
                pair.sign(&SystemRandom::new(), text.as_bytes()).expect("a signature").as_ref().to_vec()
            }
            Pair::Ed25519(pair) => pair.sign(text.as_bytes()).as_ref().to_vec(),
        };
        format!("{text}.{}", encoded(signature))
    }

    /// Signed with HMAC, with the public key as the secret: what a verifier would take that lets the token choose.
    pub fn confused(&self, claims: &Value) -> String {
        let text = unsigned(&json!({"alg": "HS256", "kid": self.id}), claims);
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, self.public());
        format!("{text}.{}", encoded(ring::hmac::sign(&key, text.as_bytes())))
    }
}

/// Header and claims of a token.
pub fn unsigned(header: &Value, claims: &Value) -> String {
    format!("{}.{}", encoded(header.to_string()), encoded(claims.to_string()))
}

/// Seconds since 1970.
pub fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs() as i64)
}

/// What stands for `token` in a file of clients.
pub fn sha256(token: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, token.as_bytes());
    let mut text = String::new();
    for byte in digest.as_ref() {
        write!(text, "{byte:02x}").expect("memory");
    }
    text
}
