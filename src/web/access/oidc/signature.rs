//! Signatures of ID tokens, checked by ring, which is in the tree for TLS anyway.
//!
//! `jsonwebtoken` brings the formats and takes the arithmetic from outside. Only signatures by a key pair are here: with
//! a shared secret, whoever knows the client's secret could make tokens.

use std::sync::Once;

use jsonwebtoken::crypto::{CryptoProvider, JwkUtils, JwtVerifier};
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind};
use ring::signature::{self, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm};
use signature_trait::Verifier;

use ::signature as signature_trait;

/// What is taken; `none` and shared secrets are not.
pub const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: |_, _| Err(ErrorKind::InvalidAlgorithm.into()),
    verifier_factory: |algorithm, key| {
        Ok(Box::new(ByRing {
            algorithm: *algorithm,
            how: how(*algorithm)?,
            key: key.clone(),
        }))
    },
    jwk_utils: JwkUtils::new_unimplemented(),
};

/// To be called before the first token is read.
pub fn install() {
    static ONCE: Once = Once::new();
    // Nobody else in this program brings one.
    ONCE.call_once(|| {
        let _ = PROVIDER.install_default();
    });
}

#[derive(Clone, Copy)]
enum How {
    Rsa(&'static signature::RsaParameters),
    Point(&'static dyn VerificationAlgorithm),
}

fn how(algorithm: Algorithm) -> Result<How, Error> {
    Ok(match algorithm {
        Algorithm::RS256 => How::Rsa(&signature::RSA_PKCS1_2048_8192_SHA256),
        Algorithm::RS384 => How::Rsa(&signature::RSA_PKCS1_2048_8192_SHA384),
        Algorithm::RS512 => How::Rsa(&signature::RSA_PKCS1_2048_8192_SHA512),
        Algorithm::PS256 => How::Rsa(&signature::RSA_PSS_2048_8192_SHA256),
        Algorithm::PS384 => How::Rsa(&signature::RSA_PSS_2048_8192_SHA384),
        Algorithm::PS512 => How::Rsa(&signature::RSA_PSS_2048_8192_SHA512),
        Algorithm::ES256 => How::Point(&signature::ECDSA_P256_SHA256_FIXED),
        Algorithm::ES384 => How::Point(&signature::ECDSA_P384_SHA384_FIXED),
        Algorithm::EdDSA => How::Point(&signature::ED25519),
        Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => {
            return Err(ErrorKind::InvalidAlgorithm.into());
        }
    })
}

struct ByRing {
    algorithm: Algorithm,
    how: How,
    key: DecodingKey,
}

impl Verifier<Vec<u8>> for ByRing {
    fn verify(&self, message: &[u8], signed: &Vec<u8>) -> Result<(), signature_trait::Error> {
        // Whose keys these are, and of which kind, `id_token` has looked at; ring refuses what does not fit.
        let checked = match (self.how, self.key.kind()) {
            (How::Rsa(how), DecodingKeyKind::RsaModulusExponent { n, e }) => {
                RsaPublicKeyComponents { n, e }.verify(how, message, signed)
            }
            (How::Point(how), DecodingKeyKind::SecretOrDer(point)) => {
                UnparsedPublicKey::new(how, point).verify(message, signed)
            }
            (How::Rsa(_) | How::Point(_), _) => Err(ring::error::Unspecified),
        };
        checked.map_err(|_| signature_trait::Error::new())
    }
}

impl JwtVerifier for ByRing {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}
