//! What broke, and what the client gets for it.
//!
//! [`answer`] is the whole table, as one pure function, so that every data plane
//! gives the same answer to the same failure and each row can be tested. How an
//! answer is put on the wire is the data plane's business.
//!
//! | what broke | a gRPC client gets | another HTTP client gets |
//! |---|---|---|
//! | no backend, or each is full and no more calls may wait | trailers only, status 14 | 503 |
//! | a circuit limit is reached | trailers only, status 14 | 503 |
//! | connecting to the backend | trailers only, status 14 | 502 |
//! | the backend, before response headers | trailers only, status 14 | 502 |
//! | the backend, between two messages | trailers with status 14 | RST_STREAM(INTERNAL_ERROR) |
//! | the backend, inside a message | RST_STREAM(INTERNAL_ERROR) | RST_STREAM(INTERNAL_ERROR) |
//! | the backend reset the stream | RST_STREAM with its code | the same |
//! | every backend tried refused the stream | trailers only, status 14 | 503 |
//! | the deadline | status 4; inside a message RST_STREAM(CANCEL) | 504; RST_STREAM(CANCEL) |
//! | request headers over the limits | trailers only, status 8 | 431 |
//! | the proxy is its own backend | trailers only, status 13 | 508 |
//! | a malformed `grpc-timeout` | trailers only, status 13 | - |
//! | not gRPC, and only gRPC is served | - | 415 |

use std::fmt;

use h2_wire::grpc::Status;

use crate::circuit::Limit;

/// HTTP/2 error codes that the proxy gives or tells apart (RFC 9113, section 7).
pub mod code {
    /// Nothing is wrong.
    pub const NO_ERROR: u32 = 0;
    /// The peer broke something inside.
    pub const INTERNAL_ERROR: u32 = 2;
    /// The stream was not processed; it is safe to send it again.
    pub const REFUSED_STREAM: u32 = 7;
    /// The stream is no longer wanted.
    pub const CANCEL: u32 = 8;
    /// The peer asks for more work than it is worth.
    pub const ENHANCE_YOUR_CALM: u32 = 11;
}

/// What broke, with the side at fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No backend is available: all are marked down, or all were tried.
    NoBackend,
    /// The backend's connections are full and no more may be opened.
    Overload {
        /// The backend's name.
        backend: String,
    },
    /// A circuit limit is reached.
    CircuitOpen {
        /// The backend's name.
        backend: String,
        /// The limit.
        limit: Limit,
    },
    /// No connection to the backend could be made.
    Connect {
        /// The backend's name.
        backend: String,
        /// What went wrong, as a sentence.
        reason: String,
    },
    /// The connection broke while the call was on it.
    BackendBroke {
        /// The backend's name.
        backend: String,
    },
    /// The backend reset the stream.
    BackendReset {
        /// The backend's name.
        backend: String,
        /// The error code of its RST_STREAM.
        code: u32,
    },
    /// The call's deadline passed.
    Deadline,
    /// The request has more or larger headers than the proxy takes.
    HeadersTooLarge,
    /// The request has come through this proxy already: the proxy is one of its
    /// own backends, or a backend of one of them.
    Loop,
    /// `grpc-timeout` is malformed.
    MalformedTimeout,
    /// The request is not gRPC, and the proxy serves nothing else.
    NotGrpc,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoBackend => f.write_str("no backend is available"),
            Self::Overload { backend } => {
                write!(f, "all connections to backend {backend} are full")
            }
            Self::CircuitOpen { backend, limit } if limit.spares_others() => {
                write!(f, "backend {backend} takes no more calls: {limit}")
            }
            Self::CircuitOpen { limit, .. } => write!(f, "no more calls are taken: {limit}"),
            Self::Connect { backend, reason } => {
                write!(f, "connecting to backend {backend} failed: {reason}")
            }
            Self::BackendBroke { backend } => {
                write!(f, "the connection to backend {backend} broke during the call")
            }
            Self::BackendReset { backend, code } => {
                write!(f, "backend {backend} reset the stream with HTTP/2 error code {code}")
            }
            Self::Deadline => f.write_str("the call's deadline passed at the proxy"),
            Self::HeadersTooLarge => {
                f.write_str("the request's headers are more or larger than the proxy takes")
            }
            Self::Loop => f.write_str(
                "the call has come through this proxy already (proxy loop); \
                 its backends lead back to it",
            ),
            Self::MalformedTimeout => f.write_str("the grpc-timeout header is malformed"),
            Self::NotGrpc => f.write_str("only gRPC is served here"),
        }
    }
}

/// How far the response had come when it broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Nothing of it was sent.
    BeforeHeaders,
    /// Headers were sent, and nothing or whole messages after them.
    OnBoundary,
    /// Part of a message was sent.
    InsideMessage,
}

/// What the client gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A response that is one HEADERS frame: HTTP 200 with a gRPC status.
    TrailersOnly {
        /// The gRPC status.
        status: Status,
        /// The text of `grpc-message`, not yet escaped.
        message: String,
    },
    /// HEADERS with END_STREAM after what was sent already.
    Trailers {
        /// The gRPC status.
        status: Status,
        /// The text of `grpc-message`, not yet escaped.
        message: String,
    },
    /// A response without a body.
    Http {
        /// The HTTP status.
        status: u16,
    },
    /// RST_STREAM.
    Reset {
        /// Its error code.
        code: u32,
    },
}

/// What a client gets when something breaks. `is_grpc` says whether its request
/// was a gRPC call.
pub fn answer(failure: &Failure, is_grpc: bool, progress: Progress) -> Answer {
    if let Some(code) = reset_code(failure, is_grpc, progress) {
        return Answer::Reset { code };
    }
    let (status, http_status) = statuses(failure);
    let message = || failure.to_string();
    match (is_grpc, progress) {
        (true, Progress::BeforeHeaders) => Answer::TrailersOnly { status, message: message() },
        (true, _) => Answer::Trailers { status, message: message() },
        (false, _) => Answer::Http { status: http_status },
    }
}

/// The code to reset the stream with, where no status can be given.
fn reset_code(failure: &Failure, is_grpc: bool, progress: Progress) -> Option<u32> {
    let has_begun = progress != Progress::BeforeHeaders;
    match failure {
        // A refusal that reaches this point was repeated by every backend that
        // could be tried: for the client that is overload, and a status says so
        // better than a reset that its library may retry without a pause.
        Failure::BackendReset { code: code::REFUSED_STREAM, .. } if !has_begun => None,
        Failure::BackendReset { code, .. } => Some(*code),
        // Without a status in trailers, only a reset says that the end is not
        // the end; inside a message, trailers would make the client report a
        // truncated message and hide the reason.
        _ if has_begun && !(is_grpc && progress == Progress::OnBoundary) => match failure {
            Failure::Deadline => Some(code::CANCEL),
            _ => Some(code::INTERNAL_ERROR),
        },
        _ => None,
    }
}

/// The gRPC status and the HTTP status of a failure.
fn statuses(failure: &Failure) -> (Status, u16) {
    match failure {
        Failure::NoBackend
        | Failure::Overload { .. }
        | Failure::CircuitOpen { .. }
        | Failure::BackendReset { .. } => (Status::Unavailable, 503),
        Failure::Connect { .. } | Failure::BackendBroke { .. } => (Status::Unavailable, 502),
        Failure::Deadline => (Status::DeadlineExceeded, 504),
        Failure::HeadersTooLarge => (Status::ResourceExhausted, 431),
        // Not UNAVAILABLE, which clients try again.
        Failure::Loop => (Status::Internal, 508),
        Failure::MalformedTimeout => (Status::Internal, 400),
        Failure::NotGrpc => (Status::Internal, 415),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGUN: [Progress; 2] = [Progress::OnBoundary, Progress::InsideMessage];

    fn backend() -> String {
        "b".to_owned()
    }

    fn trailers_only(failure: &Failure) -> (Status, String) {
        match answer(failure, true, Progress::BeforeHeaders) {
            Answer::TrailersOnly { status, message } => (status, message),
            other => panic!("{failure:?} gave {other:?}"),
        }
    }

    #[test]
    fn no_backend_connect_failure_and_overload_are_unavailable_and_say_which() {
        let failures = [
            (Failure::NoBackend, "no backend is available", 503),
            (
                Failure::Overload { backend: backend() },
                "all connections to backend b are full",
                503,
            ),
            (
                Failure::CircuitOpen { backend: backend(), limit: Limit::BackendRequests },
                "backend b takes no more calls: it has all the calls it may have in flight \
                 (backend-max-requests)",
                503,
            ),
            (
                Failure::CircuitOpen { backend: backend(), limit: Limit::Requests },
                "no more calls are taken: the backends have all the calls they may have in \
                 flight (max-requests)",
                503,
            ),
            (
                Failure::Connect { backend: backend(), reason: "refused".to_owned() },
                "connecting to backend b failed: refused",
                502,
            ),
            (
                Failure::BackendBroke { backend: backend() },
                "the connection to backend b broke during the call",
                502,
            ),
        ];
        for (failure, message, http_status) in failures {
            assert_eq!(trailers_only(&failure), (Status::Unavailable, message.to_owned()));
            assert_eq!(
                answer(&failure, false, Progress::BeforeHeaders),
                Answer::Http { status: http_status }
            );
        }
    }

    #[test]
    fn a_deadline_is_status_4_unless_a_message_is_cut() {
        assert_eq!(trailers_only(&Failure::Deadline).0, Status::DeadlineExceeded);
        assert!(matches!(
            answer(&Failure::Deadline, true, Progress::OnBoundary),
            Answer::Trailers { status: Status::DeadlineExceeded, .. }
        ));
        assert_eq!(
            answer(&Failure::Deadline, true, Progress::InsideMessage),
            Answer::Reset { code: code::CANCEL }
        );
        assert_eq!(
            answer(&Failure::Deadline, false, Progress::BeforeHeaders),
            Answer::Http { status: 504 }
        );
        for progress in BEGUN {
            assert_eq!(
                answer(&Failure::Deadline, false, progress),
                Answer::Reset { code: code::CANCEL }
            );
        }
    }

    #[test]
    fn headers_over_the_limit_exhaust_a_resource() {
        assert_eq!(trailers_only(&Failure::HeadersTooLarge).0, Status::ResourceExhausted);
        assert_eq!(
            answer(&Failure::HeadersTooLarge, false, Progress::BeforeHeaders),
            Answer::Http { status: 431 }
        );
    }

    #[test]
    fn a_backend_that_dies_on_a_message_boundary_gives_a_status() {
        let failure = Failure::BackendBroke { backend: backend() };
        assert!(matches!(
            answer(&failure, true, Progress::OnBoundary),
            Answer::Trailers { status: Status::Unavailable, .. }
        ));
    }

    #[test]
    fn a_backend_that_dies_inside_a_message_gives_a_reset() {
        let failure = Failure::BackendBroke { backend: backend() };
        let reset = Answer::Reset { code: code::INTERNAL_ERROR };
        assert_eq!(answer(&failure, true, Progress::InsideMessage), reset);
        for progress in BEGUN {
            assert_eq!(answer(&failure, false, progress), reset);
        }
    }

    #[test]
    fn reset_codes_pass_but_for_an_early_refusal() {
        let reset = |code| Failure::BackendReset { backend: backend(), code };
        for progress in [Progress::BeforeHeaders, Progress::OnBoundary, Progress::InsideMessage] {
            for is_grpc in [true, false] {
                for code in [0, code::INTERNAL_ERROR, code::CANCEL, code::ENHANCE_YOUR_CALM, 99] {
                    assert_eq!(answer(&reset(code), is_grpc, progress), Answer::Reset { code });
                }
            }
        }
        assert_eq!(trailers_only(&reset(code::REFUSED_STREAM)).0, Status::Unavailable);
        assert_eq!(
            answer(&reset(code::REFUSED_STREAM), false, Progress::BeforeHeaders),
            Answer::Http { status: 503 }
        );
        for progress in BEGUN {
            assert_eq!(
                answer(&reset(code::REFUSED_STREAM), true, progress),
                Answer::Reset { code: code::REFUSED_STREAM }
            );
        }
    }

    #[test]
    fn requests_the_proxy_does_not_take_are_told_so() {
        assert_eq!(
            answer(&Failure::NotGrpc, false, Progress::BeforeHeaders),
            Answer::Http { status: 415 }
        );
        assert_eq!(trailers_only(&Failure::MalformedTimeout).0, Status::Internal);
        assert_eq!(trailers_only(&Failure::Loop).0, Status::Internal);
        assert_eq!(
            answer(&Failure::Loop, false, Progress::BeforeHeaders),
            Answer::Http { status: 508 }
        );
    }
}
