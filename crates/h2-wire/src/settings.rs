//! The peer's settings, checked and in force (RFC 9113, section 6.5).

use crate::{
    error::{Error, Reason},
    flow::{DEFAULT_WINDOW, LARGEST_WINDOW},
    frame::{DEFAULT_MAX_FRAME_SIZE, LARGEST_MAX_FRAME_SIZE, SettingsIter, setting},
};

/// What the peer allows and expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerSettings {
    /// Bound of the dynamic table that our encoder may use, in bytes.
    pub header_table_bytes: u32,
    /// Streams we may have open at once; `None` without a bound.
    pub max_concurrent_streams: Option<u32>,
    /// The send window every new stream starts with, in bytes.
    pub initial_window_bytes: u32,
    /// Largest payload of a frame, in bytes.
    pub max_frame_bytes: u32,
}

impl Default for PeerSettings {
    fn default() -> Self {
        Self {
            header_table_bytes: 4_096,
            max_concurrent_streams: None,
            initial_window_bytes: DEFAULT_WINDOW,
            max_frame_bytes: DEFAULT_MAX_FRAME_SIZE,
        }
    }
}

impl PeerSettings {
    /// Puts the values of a SETTINGS frame in force, in their order. `from_client` says who sent
    /// them: a server must not enable push.
    ///
    /// # Errors
    /// A connection error for a value out of its range.
    pub fn apply(&mut self, values: SettingsIter<'_>, from_client: bool) -> Result<(), Error> {
        for (identifier, value) in values {
            match identifier {
                setting::HEADER_TABLE_SIZE => self.header_table_bytes = value,
                setting::ENABLE_PUSH if value > 1 || (value == 1 && !from_client) => {
                    return Err(protocol("SETTINGS_ENABLE_PUSH out of range"));
                }
                setting::MAX_CONCURRENT_STREAMS => self.max_concurrent_streams = Some(value),
                setting::INITIAL_WINDOW_SIZE => {
                    if value > LARGEST_WINDOW {
                        let what = "SETTINGS_INITIAL_WINDOW_SIZE out of range";
                        return Err(Error::connection(Reason::FLOW_CONTROL_ERROR, what));
                    }
                    self.initial_window_bytes = value;
                }
                setting::MAX_FRAME_SIZE => {
                    if !(DEFAULT_MAX_FRAME_SIZE..=LARGEST_MAX_FRAME_SIZE).contains(&value) {
                        return Err(protocol("SETTINGS_MAX_FRAME_SIZE out of range"));
                    }
                    self.max_frame_bytes = value;
                }
                // Unknown settings are ignored (section 6.5.2). The header list size is advice to
                // a sender, and a proxy that trimmed lists would change the call.
                _ => {}
            }
        }
        Ok(())
    }
}

const fn protocol(what: &'static str) -> Error {
    Error::connection(Reason::PROTOCOL_ERROR, what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Frame, parse, settings};

    fn apply(values: &[(u16, u32)], from_client: bool) -> Result<PeerSettings, Error> {
        let mut bytes = Vec::new();
        settings(&mut bytes, values);
        let Ok(Some((Frame::Settings { values, .. }, _))) = parse(&bytes, 16_384) else {
            panic!("not SETTINGS");
        };
        let mut found = PeerSettings::default();
        found.apply(values, from_client).map(|()| found)
    }

    #[test]
    fn values_are_put_in_force_and_the_last_one_counts() {
        let found = apply(&[(3, 7), (4, 1), (5, 20_000), (1, 0), (99, 5), (4, 2)], true);
        let expected = PeerSettings {
            header_table_bytes: 0,
            max_concurrent_streams: Some(7),
            initial_window_bytes: 2,
            max_frame_bytes: 20_000,
        };
        assert_eq!(found, Ok(expected));
    }

    #[test]
    fn values_out_of_range_have_the_code_of_the_rfc() {
        for (values, reason) in [
            ([(4, 1 << 31)], Reason::FLOW_CONTROL_ERROR),
            ([(5, 16_383)], Reason::PROTOCOL_ERROR),
            ([(5, 1 << 24)], Reason::PROTOCOL_ERROR),
            ([(2, 2)], Reason::PROTOCOL_ERROR),
        ] {
            assert_eq!(apply(&values, true).expect_err("refused").reason(), reason, "{values:?}");
        }
        assert!(apply(&[(2, 1)], true).is_ok());
        assert!(apply(&[(2, 1)], false).is_err(), "a server can't ask for push");
    }
}
