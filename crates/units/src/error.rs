/// Why a text is no number with a unit. The message quotes the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Below zero.
    #[error("`{0}` is negative; expected zero or more")]
    Negative(String),
    /// A plus before it.
    #[error("`{0}` begins with a sign; write it without")]
    Sign(String),
    /// A decimal or thousands comma.
    #[error(
        "`{0}` has a comma in its number; write decimals with a point, as in `1.5`, and thousands \
         without a separator"
    )]
    Comma(String),
    /// Digits in groups.
    #[error("`{0}` has an underscore in its number; write digits only")]
    Underscore(String),
    /// Scientific notation.
    #[error("`{0}` has an exponent; write the number out")]
    Exponent(String),
    /// A duration of which nothing says what its number counts.
    #[error("`{0}` has no unit; write \"5s\" for five seconds (units are ns, us, ms, s, m, h)")]
    NoUnit(String),
    /// The unit is none that is known.
    #[error("`{text}` has an unknown unit `{unit}`; known are {known}")]
    UnknownUnit {
        /// The whole text.
        text: String,
        /// What stood after the number.
        unit: String,
        /// Those that are.
        known: &'static str,
    },
    /// A rate by something else than seconds.
    #[error("`{text}` has an unknown unit `{unit}`; rates are calls per second, `/s`")]
    NotPerSecond {
        /// The whole text.
        text: String,
        /// What stood after the number.
        unit: String,
    },
    /// The part before the unit is no plain decimal number.
    #[error("`{0}` is no duration; write a number and a unit, as in `250us`, `1.5s` or `2m`")]
    NoDuration(String),
    /// Likewise.
    #[error("`{0}` is no size; write bytes, or a text such as `16KiB`")]
    NoSize(String),
    /// Likewise.
    #[error("`{0}` is no rate; write calls per second, as in `3000/s`")]
    NoRate(String),
    /// Likewise.
    #[error("`{0}` is no bit rate; write bits per second, as in `100mbit` or `1gbit`")]
    NoBitRate(String),
    /// Not from 0 to 100, or without its sign.
    #[error("`{0}` is no part of a whole; write 0% to 100%, as in `40%`")]
    NoPercentage(String),
    /// Finer than a nanosecond.
    #[error("`{0}` is finer than a nanosecond")]
    TooFine(String),
    /// Beyond 584 years.
    #[error("`{0}` is too long")]
    TooLong(String),
    /// Not so many bytes.
    #[error("`{0}` is no whole number of bytes")]
    PartOfByte(String),
    /// Not so many bits.
    #[error("`{0}` is no whole number of bits per second")]
    PartOfBit(String),
    /// Beyond 4 GiB, or 64 bits of bits per second.
    #[error("`{0}` is too large")]
    TooLarge(String),
    /// A duration that may not be zero.
    #[error("it must be longer than zero")]
    Zero,
}

impl From<Error> for String {
    fn from(error: Error) -> Self {
        error.to_string()
    }
}
