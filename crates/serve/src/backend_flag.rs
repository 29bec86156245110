//! A backend on a command line: `ADDR[,weight=N][,KEY=VALUE]`. Which keys there are is the
//! proxy's to say.

use std::{net::SocketAddr, num::NonZeroU32, str::FromStr};

/// What was written of a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendFlag {
    /// Where it listens.
    pub address: SocketAddr,
    options: Vec<(&'static str, String)>,
}

/// Why a text is no backend. The message quotes the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BackendFlagError {
    /// The part before the first comma is no address.
    #[error(
        "`{0}` is no address; write an IP address and a port, as in 127.0.0.1:5001 or [::1]:5001"
    )]
    Address(String),
    /// An option is none that is known, or has no value.
    #[error("`{option}` is no option of a backend; known are {}", known.join("=.., ") + "=.., each with a value")]
    Option {
        /// The option.
        option: String,
        /// The keys that are known.
        known: &'static [&'static str],
    },
    /// A number is no whole number from 1 up.
    #[error("`{0}` is no number; write a whole number from 1 up, as in weight=3")]
    Number(String),
}

impl BackendFlag {
    /// Reads a backend with these keys.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(text: &str, known: &'static [&'static str]) -> Result<Self, BackendFlagError> {
        let mut parts = text.split(',').map(str::trim);
        let address = parts.next().unwrap_or_default();
        let address = SocketAddr::from_str(address)
            .map_err(|_| BackendFlagError::Address(address.to_owned()))?;
        let option = |option: &str| {
            let pair = option.split_once('=').filter(|(_, value)| !value.is_empty());
            let found = pair.and_then(|(key, value)| {
                Some((*known.iter().find(|name| **name == key)?, value.to_owned()))
            });
            found.ok_or_else(|| BackendFlagError::Option { option: option.to_owned(), known })
        };
        Ok(Self { address, options: parts.map(option).collect::<Result<_, _>>()? })
    }

    /// The text of an option, where it is given; the last one, of several.
    pub fn text(&self, key: &str) -> Option<String> {
        let found = self.options.iter().rev().find(|(name, _)| *name == key);
        found.map(|(_, value)| value.clone())
    }

    /// The same as a number.
    ///
    /// # Errors
    /// When it is no whole number from 1 up.
    pub fn number(&self, key: &str) -> Result<Option<NonZeroU32>, BackendFlagError> {
        let number = |text: String| text.parse().map_err(|_| BackendFlagError::Number(text));
        self.text(key).map(number).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[&str] = &["weight", "name"];

    #[test]
    fn a_backend_is_an_address_and_options() {
        let flag = BackendFlag::parse("[::1]:5001, weight=3,name=big", KNOWN).unwrap();
        assert_eq!(flag.address.port(), 5001);
        assert_eq!(flag.number("weight"), Ok(NonZeroU32::new(3)));
        assert_eq!((flag.text("name").as_deref(), flag.text("zone")), (Some("big"), None));
    }

    #[test]
    fn a_wrong_one_is_quoted_with_what_was_expected() {
        for bad in ["", "5001", "localhost", "x,weight=1"] {
            let error = BackendFlag::parse(bad, KNOWN).unwrap_err();
            assert!(error.to_string().contains("127.0.0.1:5001"), "{error}");
        }
        for bad in ["weigth=2", "heavy", "name=", "group=a", ""] {
            let error = BackendFlag::parse(&format!("127.0.0.1:1,{bad}"), KNOWN).unwrap_err();
            let expected = format!(
                "`{bad}` is no option of a backend; known are weight=.., name=.., each with a value"
            );
            assert_eq!(error.to_string(), expected);
        }
        for bad in ["0", "-1", "1.5"] {
            let flag = BackendFlag::parse(&format!("127.0.0.1:1,weight={bad}"), KNOWN).unwrap();
            assert_eq!(flag.number("weight"), Err(BackendFlagError::Number(bad.to_owned())));
        }
    }
}
