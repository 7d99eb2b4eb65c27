//! Public keys that tokens are signed with, as PEM or as a JWK set, and ring behind the crate that reads tokens. Only asymmetric
//! algorithms, and of each key only those of its own type: a token can't choose to be checked in another way.

use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind,
    crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils},
    errors::{Error, ErrorKind},
    jwk::{AlgorithmParameters, EllipticCurve, JwkSet, KeyAlgorithm, PublicKeyUse},
    signature::{self, Verifier},
};
use ring::signature as ring;

/// Keys of one issuer; a set that is larger is not one.
const MAX_KEYS: usize = 100;

/// A public key.
#[derive(Clone, Debug)]
pub(super) struct Key {
    /// Absent: for tokens with any `kid`.
    pub(super) id: Option<String>,
    pub(super) public: DecodingKey,
    /// Of this key's type.
    pub(super) algorithms: Vec<Algorithm>,
}

/// Reads PEM (`BEGIN PUBLIC KEY`, one or several) or a JWK set (JSON).
///
/// # Errors
/// It is neither, or there is no key in it that can verify a signature.
pub(super) fn parse(content: &[u8]) -> Result<Vec<Key>, String> {
    let text = std::str::from_utf8(content).map_err(|error| error.to_string())?;
    let keys = if text.trim_start().starts_with('{') { jwks(text)? } else { pem(text)? };
    if keys.is_empty() {
        return Err("expected public keys of RSA, P-256, P-384 or Ed25519, got none".into());
    }
    if keys.len() > MAX_KEYS {
        return Err(format!("expected at most {MAX_KEYS} keys, got {}", keys.len()));
    }
    Ok(keys)
}

fn pem(text: &str) -> Result<Vec<Key>, String> {
    const END: &str = "-----END PUBLIC KEY-----";
    let mut keys = Vec::new();
    let mut rest = text;
    while let Some((block, after)) = rest.split_once(END) {
        rest = after;
        let block = format!("{}{END}\n", block.trim_start());
        let block = block.as_bytes();
        let key = DecodingKey::from_rsa_pem(block)
            .or_else(|_| DecodingKey::from_ec_pem(block))
            .or_else(|_| DecodingKey::from_ed_pem(block))
            .map_err(|error| format!("public key {}: {error}", keys.len()))?;
        let algorithms = algorithms(&key);
        if algorithms.is_empty() {
            return Err(format!("public key {}: expected the curve P-256 or P-384", keys.len()));
        }
        keys.push(Key { id: None, public: key, algorithms });
    }
    Ok(keys)
}

/// What a set holds for other purposes is left out.
fn jwks(text: &str) -> Result<Vec<Key>, String> {
    let set: JwkSet = serde_json::from_str(text).map_err(|error| format!("no JWK set: {error}"))?;
    let mut keys = Vec::new();
    for jwk in &set.keys {
        let common = &jwk.common;
        let signs = matches!(common.public_key_use, None | Some(PublicKeyUse::Signature));
        let known = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => true,
            AlgorithmParameters::EllipticCurve(ec) => matches!(ec.curve, EllipticCurve::P256 | EllipticCurve::P384),
            AlgorithmParameters::OctetKeyPair(okp) => okp.curve == EllipticCurve::Ed25519,
            _ => false,
        };
        if !signs || !known {
            continue;
        }
        let key = DecodingKey::from_jwk(jwk).map_err(|error| format!("key {}: {error}", keys.len()))?;
        let mut algorithms = algorithms(&key);
        if let Some(only) = common.key_algorithm {
            algorithms.retain(|algorithm| is(only, *algorithm));
        }
        if !algorithms.is_empty() {
            keys.push(Key { id: common.key_id.clone(), public: key, algorithms });
        }
    }
    Ok(keys)
}

fn is(key: KeyAlgorithm, algorithm: Algorithm) -> bool {
    // Both are named as RFC 7518 names them.
    key.to_string() == format!("{algorithm:?}")
}

/// What a key of this type may verify.
fn algorithms(key: &DecodingKey) -> Vec<Algorithm> {
    use Algorithm::{ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};
    match (key.family(), key.try_get_as_bytes().map_or(0, <[u8]>::len)) {
        (AlgorithmFamily::Rsa, _) => vec![RS256, RS384, RS512, PS256, PS384, PS512],
        // A point, not compressed.
        (AlgorithmFamily::Ec, 65) => vec![ES256],
        (AlgorithmFamily::Ec, 97) => vec![ES384],
        (AlgorithmFamily::Ed, 32) => vec![EdDSA],
        _ => Vec::new(),
    }
}

/// ring, for verification only.
static RING: CryptoProvider = CryptoProvider {
    signer_factory: |_, _| -> Result<Box<dyn JwtSigner>, Error> { Err(ErrorKind::UnsupportedAlgorithm.into()) },
    verifier_factory: |algorithm, key| {
        if key.family() == AlgorithmFamily::Hmac {
            return Err(ErrorKind::InvalidAlgorithm.into());
        }
        Ok(Box::new(Ring { algorithm: *algorithm, key: key.clone() }))
    },
    // Asked for by what makes keys into JWKs, which nobody here does.
    key_utils: KeyUtils::new_unimplemented(),
};

/// Makes ring what the crate verifies with, in the whole process.
pub(super) fn use_ring() {
    if RING.install_default().is_err() {
        tracing::trace!("there is a library that verifies tokens already: ours");
    }
}

struct Ring {
    algorithm: Algorithm,
    key: DecodingKey,
}

impl JwtVerifier for Ring {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

impl Verifier<Vec<u8>> for Ring {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        let rsa = |parameters: &'static ring::RsaParameters| match self.key.kind() {
            DecodingKeyKind::RsaModulusExponent { n, e } => {
                ring::RsaPublicKeyComponents { n, e }.verify(parameters, message, signature)
            }
            DecodingKeyKind::SecretOrDer(der) => {
                ring::UnparsedPublicKey::new(parameters, der).verify(message, signature)
            }
        };
        let point = |algorithm: &'static dyn ring::VerificationAlgorithm| match self.key.kind() {
            DecodingKeyKind::SecretOrDer(point) => {
                ring::UnparsedPublicKey::new(algorithm, point).verify(message, signature)
            }
            DecodingKeyKind::RsaModulusExponent { .. } => Err(::ring::error::Unspecified),
        };
        let verified = match self.algorithm {
            Algorithm::RS256 => rsa(&ring::RSA_PKCS1_2048_8192_SHA256),
            Algorithm::RS384 => rsa(&ring::RSA_PKCS1_2048_8192_SHA384),
            Algorithm::RS512 => rsa(&ring::RSA_PKCS1_2048_8192_SHA512),
            Algorithm::PS256 => rsa(&ring::RSA_PSS_2048_8192_SHA256),
            Algorithm::PS384 => rsa(&ring::RSA_PSS_2048_8192_SHA384),
            Algorithm::PS512 => rsa(&ring::RSA_PSS_2048_8192_SHA512),
            Algorithm::ES256 => point(&ring::ECDSA_P256_SHA256_FIXED),
            Algorithm::ES384 => point(&ring::ECDSA_P384_SHA384_FIXED),
            Algorithm::EdDSA => point(&ring::ED25519),
            // HMAC and whatever may be added.
            _ => Err(::ring::error::Unspecified),
        };
        verified.map_err(|_| signature::Error::new())
    }
}
