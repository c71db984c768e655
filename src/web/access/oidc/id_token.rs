//! Whether an ID token is one for us, of now, and of the sign-in that this browser began.
//!
//! OpenID Connect Core 1.0, section 3.1.3.7. Pure: keys and time are handed in.

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::jwk::{Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation, decode, decode_header};
use serde_json::{Map, Value};

use super::refusal::{Refusal, Refused};
use super::signature::{self, ALGORITHMS};
use crate::domain::clock::Timestamp;

/// Clocks of two houses differ by so much and no harm done.
pub const CLOCK_LEEWAY_S: i64 = 60;
/// A token that was just fetched was made just now. Microsoft Entra ID dates its tokens back by five minutes.
const OLDEST_S: i64 = 600;
/// Of a subject, by the same document, section 2.
const MOST_SUBJECT: usize = 255;

/// What a token must say.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    pub issuer: &'a str,
    pub client_id: &'a str,
    pub nonce: &'a str,
    pub now: Timestamp,
}

/// Claims whose signature, issuer, audience, time and nonce are right.
#[derive(Clone, Debug)]
pub struct Claims {
    pub subject: String,
    pub all: Map<String, Value>,
}

/// Why a token is not believed.
#[derive(Debug)]
pub enum Doubt {
    /// The provider may have new keys: ask it once more.
    UnknownKey,
    Refused(Refused),
}

impl From<Refused> for Doubt {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

fn refused(why: Refusal, detail: impl Into<String>) -> Doubt {
    Doubt::Refused(Refused::new(why, detail))
}

/// Checks everything, the signature first.
pub fn verify(token: &str, keys: &JwkSet, expected: Expected<'_>) -> Result<Claims, Doubt> {
    signature::install();
    // `none`, and whatever else has no name here, ends here.
    let header = decode_header(token)
        .map_err(|error| refused(Refusal::BadSignature, format!("the token's head: {error}")))?;
    if !ALGORITHMS.contains(&header.alg) {
        let detail = format!("signed by {:?}, which is not taken", header.alg);
        return Err(refused(Refusal::BadSignature, detail));
    }
    let fitting: Vec<&Jwk> = keys.keys.iter().filter(|key| fits(key, &header)).collect();
    if fitting.is_empty() {
        return Err(Doubt::UnknownKey);
    }
    let mut validation = Validation::new(header.alg);
    validation.set_issuer(&[expected.issuer]);
    validation.set_audience(&[expected.client_id]);
    validation.set_required_spec_claims(&["iss", "aud", "sub", "exp"]);
    // Time is handed in, so it is looked at below.
    validation.validate_exp = false;
    validation.validate_nbf = false;
    let mut last = None;
    for key in fitting {
        let Ok(key) = DecodingKey::from_jwk(key) else {
            continue;
        };
        match decode::<Map<String, Value>>(token, &key, &validation) {
            Ok(read) => return Ok(look(read.claims, expected)?),
            // Without a key id several keys may fit.
            Err(error) if *error.kind() == ErrorKind::InvalidSignature => last = Some(error),
            Err(error) => return Err(of_library(&error)),
        }
    }
    let detail = last.map_or("no key of the provider can be used".to_owned(), |error| {
        error.to_string()
    });
    Err(refused(Refusal::BadSignature, detail))
}

/// A key that may have signed this: its id where one is named, its kind, and not one for encryption.
fn fits(key: &Jwk, header: &Header) -> bool {
    use jsonwebtoken::jwk::{AlgorithmParameters as Kind, EllipticCurve as Curve};
    let id = header.kid.is_none() || key.common.key_id == header.kid;
    let signs = matches!(
        key.common.public_key_use,
        None | Some(PublicKeyUse::Signature)
    );
    let kind = match (&key.algorithm, header.alg) {
        (Kind::RSA(_), alg) => matches!(
            alg,
            Algorithm::RS256
                | Algorithm::RS384
                | Algorithm::RS512
                | Algorithm::PS256
                | Algorithm::PS384
                | Algorithm::PS512
        ),
        (Kind::EllipticCurve(point), Algorithm::ES256) => point.curve == Curve::P256,
        (Kind::EllipticCurve(point), Algorithm::ES384) => point.curve == Curve::P384,
        (Kind::OctetKeyPair(point), Algorithm::EdDSA) => point.curve == Curve::Ed25519,
        _ => false,
    };
    id && signs && kind
}

fn of_library(error: &jsonwebtoken::errors::Error) -> Doubt {
    let why = match error.kind() {
        ErrorKind::InvalidIssuer => Refusal::WrongIssuer,
        ErrorKind::InvalidAudience => Refusal::WrongAudience,
        ErrorKind::MissingRequiredClaim(_)
        | ErrorKind::InvalidClaimFormat(_)
        | ErrorKind::InvalidSubject
        | ErrorKind::Json(_) => Refusal::MissingClaims,
        _ => Refusal::BadSignature,
    };
    refused(why, error.to_string())
}

fn look(claims: Map<String, Value>, expected: Expected<'_>) -> Result<Claims, Refused> {
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    // Seconds may have a fraction, RFC 7519.
    let seconds = |name: &str| claims.get(name).and_then(Value::as_f64).map(|s| s as i64);
    let missing =
        |name: &str| Refused::new(Refusal::MissingClaims, format!("the token has no {name}"));
    let subject = text("sub").filter(|sub| !sub.is_empty() && sub.len() <= MOST_SUBJECT);
    let subject = subject.ok_or_else(|| missing("sub"))?.to_owned();
    let wrong = |why: Refusal, detail: String| Refused::new(why, detail).of(&subject);
    // Our own id among several is not enough: the token must have been made for us.
    let several = claims.get("aud").and_then(Value::as_array);
    let several = several.is_some_and(|list| list.len() > 1);
    match text("azp") {
        Some(azp) if azp != expected.client_id => {
            return Err(wrong(
                Refusal::WrongAudience,
                "azp names another client".to_owned(),
            ));
        }
        None if several => {
            return Err(wrong(
                Refusal::WrongAudience,
                "several audiences and no azp".to_owned(),
            ));
        }
        _ => {}
    }
    let now = expected.now.ms().div_euclid(1000);
    let exp = seconds("exp").ok_or_else(|| missing("exp").of(&subject))?;
    let iat = seconds("iat").ok_or_else(|| missing("iat").of(&subject))?;
    if let Some(ahead) = [Some(iat), seconds("nbf")]
        .into_iter()
        .flatten()
        .map(|at| at.saturating_sub(now))
        .find(|ahead| *ahead > CLOCK_LEEWAY_S)
    {
        return Err(wrong(
            Refusal::Clocks,
            format!("valid in {ahead} s by this machine's clock"),
        ));
    }
    if exp.saturating_add(CLOCK_LEEWAY_S) <= now {
        let ago = now.saturating_sub(exp);
        return Err(wrong(
            Refusal::Expired,
            format!("expired {ago} s ago by this machine's clock"),
        ));
    }
    if now.saturating_sub(iat) > OLDEST_S {
        let ago = now.saturating_sub(iat);
        return Err(wrong(
            Refusal::Expired,
            format!("made {ago} s ago by this machine's clock"),
        ));
    }
    if text("nonce") != Some(expected.nonce) {
        let detail = match text("nonce") {
            None => "the token has no nonce",
            Some(_) => "the token's nonce is of another sign-in",
        };
        return Err(wrong(Refusal::WrongNonce, detail.to_owned()));
    }
    Ok(Claims {
        subject,
        all: claims,
    })
}
