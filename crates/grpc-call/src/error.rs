//! What can be wrong with an interface or a call, each told with the place where
//! it stands.

use std::{io, path::PathBuf};

/// Something that keeps calls from being made.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct Error {
    /// The setting at fault, as a path within the service's: `proto`,
    /// `call[2].metadata`.
    pub key: String,
    /// What is wrong with it.
    pub reason: Reason,
}

impl Error {
    pub(crate) fn new(key: impl Into<String>, reason: Reason) -> Self {
        Self { key: key.into(), reason }
    }
}

/// What is wrong.
#[derive(Debug, thiserror::Error)]
pub enum Reason {
    /// A file can't be read.
    #[error("cannot read {}: {error}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// The system's word.
        error: io::Error,
    },
    /// A proto file does not compile.
    #[error("{file}{}: {message}", position(*line, *column))]
    Compile {
        /// The file, as it is imported.
        file: String,
        /// The line, from one, where it is known.
        line: Option<usize>,
        /// The column, from one, where it is known.
        column: Option<usize>,
        /// The compiler's word.
        message: String,
    },
    /// A descriptor set is none.
    #[error("{} is no descriptor set ({message}); make one with `protoc --include_imports \
             --descriptor_set_out=FILE`", file.display())]
    DescriptorSet {
        /// The file.
        file: PathBuf,
        /// What the decoder says.
        message: String,
    },
    /// The service has no server reflection.
    #[error(
        "the service has no server reflection; turn it on (grpc.reflection.v1 or v1alpha), or \
             give the interface by `proto` or `descriptor_set`"
    )]
    NoReflection,
    /// The service can't be asked for its interface.
    #[error(
        "{message}; turn on server reflection (grpc.reflection.v1 or v1alpha), or give the \
             interface by `proto` or `descriptor_set`"
    )]
    Reflection {
        /// What came back.
        message: String,
    },
    /// A folder stands where a file has to.
    #[error("`{}` is a folder; name the proto file itself", file.display())]
    Folder {
        /// The folder.
        file: PathBuf,
    },
    /// There is no such method.
    #[error("no method is called `{method}`{}; {}", did_you_mean(nearest), known_methods(known))]
    UnknownMethod {
        /// What was asked for.
        method: String,
        /// The nearest name, if one is near.
        nearest: Option<String>,
        /// All there are.
        known: Vec<String>,
    },
    /// A request is not what its method takes.
    #[error("{place}the request of `{method}` is not right: {message}")]
    Request {
        /// File and line, with a colon and a space; empty for text in the scenario.
        place: String,
        /// The method.
        method: String,
        /// What is wrong, and where in the message.
        message: String,
    },
    /// A request is larger than a message may be.
    #[error("{place}the request of `{method}` has {bytes} bytes; at most {most} are taken")]
    TooLarge {
        /// File and line, with a colon and a space; empty for text in the scenario.
        place: String,
        /// The method.
        method: String,
        /// Its size.
        bytes: usize,
        /// The bound.
        most: usize,
    },
    /// A template can't be rendered.
    #[error("{place}the template can't be rendered: {message}")]
    Template {
        /// File and line, with a colon and a space; empty for text in the scenario.
        place: String,
        /// What the engine says.
        message: String,
    },
    /// The file with the columns of templates is not right.
    #[error("{}: {message}", file.display())]
    Data {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// Metadata that HTTP/2 or gRPC forbids.
    #[error("metadata `{name}`: {message}")]
    Metadata {
        /// Its name.
        name: String,
        /// What is wrong.
        message: String,
    },
    /// What is expected of a response can't be.
    #[error("{0}")]
    Expectation(String),
    /// A setting does not fit the kind of its method.
    #[error("`{method}` is {kind}: {message}")]
    Kind {
        /// The method.
        method: String,
        /// Its kind, in words.
        kind: &'static str,
        /// What does not fit.
        message: &'static str,
    },
}

fn position(line: Option<usize>, column: Option<usize>) -> String {
    match (line, column) {
        (Some(line), Some(column)) => format!(":{line}:{column}"),
        (Some(line), None) => format!(":{line}"),
        (None, _) => String::new(),
    }
}

/// The name among `known` that `name` may have been meant for.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    // A third of the letters may be wrong; two in short names.
    let most = (name.chars().count() / 3).max(2);
    known
        .into_iter()
        .map(|known| (strsim::damerau_levenshtein(name, known), known))
        .filter(|(distance, known)| *distance <= most && *distance < known.len())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known.to_owned())
}

/// `; did you mean ...?`, or nothing.
pub(crate) fn did_you_mean(nearest: &Option<String>) -> String {
    nearest.as_ref().map(|near| format!("; did you mean `{near}`?")).unwrap_or_default()
}

/// All methods there are, in words.
fn known_methods(known: &[String]) -> String {
    match known {
        [] => "the interface has no service".to_owned(),
        known => format!("known are {}", list(known)),
    }
}

/// Names in backticks, with commas.
pub(crate) fn list(names: &[String]) -> String {
    match names {
        [] => "none".to_owned(),
        names => names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "),
    }
}
