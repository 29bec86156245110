//! What the heads of a connection's calls have in common.

use h2_wire::hpack::{BlockKey, Field};

use crate::client::{CallKind, Shape};

/// What the heads of a connection's calls have in common.
#[derive(Debug)]
pub(crate) struct Origin {
    scheme: &'static [u8],
    authority: String,
    /// The head of every call of the echo service, and its deadline as that has it.
    pub(super) echo: (BlockKey, &'static str),
    timeout: Option<String>,
}

impl Origin {
    pub(crate) fn new(shape: &Shape, authority: String, is_secure: bool) -> Self {
        let path = match shape {
            Shape::Service(_) => "",
            Shape::Echo(shape) => match shape.kind {
                CallKind::Unary => "/layerlab.echo.v1.Echo/Unary",
                CallKind::ServerStream => "/layerlab.echo.v1.Echo/ServerStream",
                CallKind::ClientStream => "/layerlab.echo.v1.Echo/ClientStream",
                CallKind::Bidi => "/layerlab.echo.v1.Echo/Bidi",
            },
        };
        let scheme: &[u8] = if is_secure { b"https" } else { b"http" };
        let timeout = match shape {
            Shape::Service(_) => None,
            Shape::Echo(shape) => shape.deadline.map(grpc_call::grpc_timeout),
        };
        Self { scheme, authority, echo: (BlockKey::unique(), path), timeout }
    }

    #[inline]
    pub(super) fn echo_fields(&self) -> impl Iterator<Item = Field<'_>> {
        let timeout = self.timeout.as_ref();
        let timeout = timeout.map(|text| Field::new(b"grpc-timeout", text.as_bytes()));
        self.fields(self.echo.1).into_iter().chain(timeout)
    }

    #[inline]
    pub(super) fn fields<'a>(&'a self, path: &'a str) -> [Field<'a>; 7] {
        [
            Field::new(b":method", b"POST"),
            Field::new(b":scheme", self.scheme),
            Field::new(b":path", path.as_bytes()),
            Field::new(b":authority", self.authority.as_bytes()),
            Field::new(b"te", b"trailers"),
            Field::new(b"content-type", b"application/grpc"),
            Field::new(b"user-agent", b"layerlab"),
        ]
    }
}
