//! What one side of a connection did, as the other saw it.

/// Header fields in their order.
pub type Fields = Vec<(String, String)>;

/// The value of the first field of this name.
pub fn field<'a>(fields: &'a Fields, name: &str) -> Option<&'a str> {
    fields.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
}

/// What the other side did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are those of the frames, RFC 9113, section 6")]
pub enum Seen {
    /// A whole header block, continuations included.
    Headers {
        stream: u32,
        fields: Fields,
        ends: bool,
    },
    Data {
        stream: u32,
        payload: Vec<u8>,
        ends: bool,
    },
    Reset {
        stream: u32,
        code: u32,
    },
    Settings(Vec<(u16, u32)>),
    SettingsAck,
    Ping([u8; 8]),
    PingAck([u8; 8]),
    GoAway {
        last_stream: u32,
        code: u32,
    },
    WindowUpdate {
        stream: u32,
        increment: u32,
    },
    Other {
        kind: u8,
    },
    /// The connection ended: closed, or reset.
    Closed,
}

impl Seen {
    /// The stream it is about; `None` for the connection.
    pub fn stream(&self) -> Option<u32> {
        match self {
            Self::Headers { stream, .. }
            | Self::Data { stream, .. }
            | Self::Reset { stream, .. } => Some(*stream),
            Self::WindowUpdate { stream, .. } if *stream != 0 => Some(*stream),
            _ => None,
        }
    }
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With END_STREAM.
    Whole,
    /// With RST_STREAM of this code.
    Reset(u32),
    /// With the connection.
    Closed,
}

/// Everything one side sent on a stream.
#[derive(Clone, Debug, Default)]
pub struct Message {
    /// The header blocks: the head, and trailers if there are any.
    pub heads: Vec<Fields>,
    /// The payload of all DATA.
    pub body: Vec<u8>,
    /// How it ended.
    pub end: Option<End>,
}

impl Message {
    /// The value of a field of the first header block.
    pub fn head(&self, name: &str) -> Option<&str> {
        self.heads.first().and_then(|fields| field(fields, name))
    }

    /// The value of a field of the last header block, which in a response of
    /// gRPC carries the status.
    pub fn trailer(&self, name: &str) -> Option<&str> {
        self.heads.last().and_then(|fields| field(fields, name))
    }

    /// The value of `grpc-status`.
    pub fn grpc_status(&self) -> Option<&str> {
        self.trailer("grpc-status")
    }
}
