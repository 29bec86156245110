//! The token of a run: the coordinator's certificate and a secret.
//!
//! Whoever has it knows that it talks to the coordinator of its run, since nobody else
//! has the key of that certificate, and can show that it belongs to the run. It goes to
//! nodes in the environment or in a file, and never on a command line, which any user of
//! a machine can read.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use ring::{
    digest::{SHA256, digest},
    rand::{SecureRandom as _, SystemRandom},
};

/// Bytes of the secret.
const SECRET_BYTES: usize = 32;
/// Characters of the longest token that is looked at.
const CHARACTERS: usize = 8_192;

/// What an agent joins with.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    certificate: Vec<u8>,
    secret: [u8; SECRET_BYTES],
}

/// A text that is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("that is no token of a run; use the one that the coordinator gave to this run's engine")]
pub struct NoToken;

impl Token {
    /// A token with a secret of its own for a certificate in DER.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub(crate) fn make(certificate: Vec<u8>) -> Result<Self, ring::error::Unspecified> {
        let mut secret = [0; SECRET_BYTES];
        SystemRandom::new().fill(&mut secret)?;
        Ok(Self { certificate, secret })
    }

    /// The certificate as PEM.
    pub(crate) fn certificate_pem(&self) -> String {
        let text = base64::engine::general_purpose::STANDARD.encode(&self.certificate);
        // RFC 7468 has lines of 64 characters.
        let lines: Vec<&str> = (0..text.len())
            .step_by(64)
            .map(|start| &text[start..text.len().min(start + 64)])
            .collect();
        format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
    }

    /// What is shown to the coordinator: the value of `authorization`.
    pub(crate) fn credentials(&self) -> String {
        format!("Bearer {}", BASE64.encode(self.secret))
    }

    /// Whether somebody has shown this token's secret. Digests are compared, so that the
    /// time it takes says nothing about the secret.
    pub(crate) fn is_shown_by(&self, credentials: &[u8]) -> bool {
        let hash = |bytes: &[u8]| digest(&SHA256, bytes);
        hash(credentials).as_ref() == hash(self.credentials().as_bytes()).as_ref()
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", BASE64.encode(&self.certificate), BASE64.encode(self.secret))
    }
}

/// Without the secret, which belongs in no log.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

impl FromStr for Token {
    type Err = NoToken;

    fn from_str(text: &str) -> Result<Self, NoToken> {
        let text = text.trim();
        if text.len() > CHARACTERS {
            return Err(NoToken);
        }
        let (certificate, secret) = text.split_once('.').ok_or(NoToken)?;
        let bytes = |part: &str| BASE64.decode(part).map_err(|_| NoToken);
        let secret = bytes(secret)?.try_into().map_err(|_| NoToken)?;
        Ok(Self { certificate: bytes(certificate)?, secret })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_its_text_and_shows_itself() {
        let token = Token::make(vec![7; 400]).unwrap();
        let back: Token = format!("{token}\n").parse().unwrap();
        assert_eq!(back, token);
        assert!(token.is_shown_by(back.credentials().as_bytes()));
        let other = Token::make(vec![7; 400]).unwrap();
        assert!(!token.is_shown_by(other.credentials().as_bytes()));
        assert!(!token.is_shown_by(b"Bearer "));
        assert!(!format!("{token:?}").contains(&token.credentials()[7..]));
    }

    #[test]
    fn what_is_no_token_is_refused() {
        let long = "A".repeat(CHARACTERS + 1);
        for text in ["", ".", "AAAA", "AAAA.AAAA", "AAAA.!", "a b.c", &long] {
            assert_eq!(text.parse::<Token>(), Err(NoToken), "{text:.20}");
        }
    }
}
