//! The interface of a service: its methods and their messages, from proto files,
//! a descriptor set, or the service itself ([`crate::reflect`]).

use std::{
    fs,
    path::{Path, PathBuf},
};

use miette::Diagnostic as _;
use prost_reflect::{DescriptorPool, MessageDescriptor, MethodDescriptor};
use prost_types::{FileDescriptorProto, FileDescriptorSet};

use crate::error::{Error, Reason, nearest};

/// The methods of one or more services.
#[derive(Clone, Debug)]
pub struct Interface {
    pool: DescriptorPool,
}

/// How many messages a method takes and gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One request, one response.
    Unary,
    /// One request, many responses.
    ServerStream,
    /// Many requests, one response.
    ClientStream,
    /// Many of both.
    Bidi,
}

impl Kind {
    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unary => "unary",
            Self::ServerStream => "server streaming",
            Self::ClientStream => "client streaming",
            Self::Bidi => "bidirectional streaming",
        }
    }

    /// Whether a call has more than one request.
    pub(crate) fn streams_requests(self) -> bool {
        matches!(self, Self::ClientStream | Self::Bidi)
    }

    /// Whether a call has more than one response.
    pub fn streams_responses(self) -> bool {
        matches!(self, Self::ServerStream | Self::Bidi)
    }
}

/// A method of the interface.
#[derive(Clone, Debug)]
pub struct Method(MethodDescriptor);

impl Method {
    /// As `shop.v1.Orders/Place`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.0.parent_service().full_name(), self.0.name())
    }

    /// The path of its calls in HTTP/2.
    pub fn path(&self) -> String {
        format!("/{}", self.name())
    }

    /// How many messages go which way.
    pub fn kind(&self) -> Kind {
        match (self.0.is_client_streaming(), self.0.is_server_streaming()) {
            (false, false) => Kind::Unary,
            (false, true) => Kind::ServerStream,
            (true, false) => Kind::ClientStream,
            (true, true) => Kind::Bidi,
        }
    }

    /// The name of the message it takes.
    pub fn request_name(&self) -> String {
        self.0.input().full_name().to_owned()
    }

    /// The name of the message it gives.
    pub fn response_name(&self) -> String {
        self.0.output().full_name().to_owned()
    }

    pub(crate) fn request(&self) -> MessageDescriptor {
        self.0.input()
    }

    pub(crate) fn response(&self) -> MessageDescriptor {
        self.0.output()
    }
}

impl Interface {
    /// Compiles proto files. Imports are looked for in `includes`, or beside each
    /// file where there are none.
    ///
    /// # Errors
    /// With file, line and column of what does not compile.
    pub fn from_protos(files: &[PathBuf], includes: &[PathBuf]) -> Result<Self, Error> {
        let failed = |error: protox::Error| Error::new("proto", compile_reason(&error));
        let beside = || files.iter().map(|file| file.parent().unwrap_or(Path::new("")).to_owned());
        let beside: Vec<PathBuf> =
            if includes.is_empty() { beside().collect() } else { Vec::new() };
        // The empty path is the working folder, which protox takes by its name only.
        let paths = includes.iter().chain(&beside).map(|path| match path.as_os_str().is_empty() {
            true => Path::new("."),
            false => path.as_path(),
        });
        let mut compiler = protox::Compiler::new(paths).map_err(failed)?;
        compiler.include_imports(true);
        for file in files {
            if let Err(error) = fs::metadata(file)
                && !includes.iter().any(|include| include.join(file).is_file())
            {
                return Err(Error::new("proto", Reason::Read { file: file.clone(), error }));
            }
            if file.is_dir() {
                return Err(Error::new("proto", Reason::Folder { file: file.clone() }));
            }
            compiler.open_file(file).map_err(failed)?;
        }
        Ok(Self { pool: compiler.descriptor_pool() })
    }

    /// Reads a file that `protoc --descriptor_set_out` wrote.
    ///
    /// # Errors
    /// When it can't be read or is no descriptor set.
    pub fn from_descriptor_set(file: &Path) -> Result<Self, Error> {
        let failed = |reason| Error::new("descriptor_set", reason);
        let bytes = fs::read(file)
            .map_err(|error| failed(Reason::Read { file: file.to_owned(), error }))?;
        let pool = DescriptorPool::decode(bytes.as_slice()).map_err(|error| {
            failed(Reason::DescriptorSet { file: file.to_owned(), message: error.to_string() })
        })?;
        Ok(Self { pool })
    }

    /// As a descriptor set, for another machine.
    pub fn encode(&self) -> Vec<u8> {
        self.pool.encode_to_vec()
    }

    /// Puts an interface back that was encoded; `None` where that is none.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        DescriptorPool::decode(bytes).ok().map(|pool| Self { pool })
    }

    /// From files that a server described itself by, in any order.
    pub(crate) fn from_files(file: Vec<FileDescriptorProto>) -> Result<Self, Reason> {
        let mut pool = DescriptorPool::new();
        pool.add_file_descriptor_set(FileDescriptorSet { file }).map_err(|error| {
            let message = format!("what the server says of its interface is not whole: {error}");
            Reason::Reflection { message }
        })?;
        Ok(Self { pool })
    }

    /// All methods, in the order of their files.
    pub fn methods(&self) -> Vec<Method> {
        self.pool
            .services()
            .flat_map(|service| service.methods().collect::<Vec<_>>())
            .map(Method)
            .collect()
    }

    /// The method called `name`: `shop.v1.Orders/Place`, with a dot in place of the
    /// slash, or any end of that which fits one method only.
    ///
    /// # Errors
    /// With the nearest name and all that there are.
    pub fn method(&self, name: &str) -> Result<Method, Reason> {
        let wanted = name.trim_start_matches('/').replace('/', ".");
        let dotted = |method: &Method| method.name().replace('/', ".");
        let methods = self.methods();
        let exact = methods.iter().find(|method| dotted(method) == wanted);
        let suffix = format!(".{wanted}");
        let mut ending = methods.iter().filter(|method| dotted(method).ends_with(&suffix));
        let only = ending.next().filter(|_| ending.next().is_none());
        exact.or(only).cloned().ok_or_else(|| {
            let known: Vec<String> = methods.iter().map(Method::name).collect();
            Reason::UnknownMethod {
                method: name.to_owned(),
                nearest: nearest(name, known.iter().map(String::as_str)),
                known,
            }
        })
    }
}

fn compile_reason(error: &protox::Error) -> Reason {
    let label = error.labels().and_then(|mut labels| labels.next());
    let position = label.and_then(|label| {
        let contents = error.source_code()?.read_span(label.inner(), 0, 0).ok()?;
        Some((contents.line() + 1, contents.column() + 1))
    });
    Reason::Compile {
        file: error.file().unwrap_or("proto").to_owned(),
        line: position.map(|(line, _)| line),
        column: position.map(|(_, column)| column),
        message: error.to_string(),
    }
}
