//! The interface as the service itself tells it: gRPC server reflection.
//!
//! Versions v1 and v1alpha differ in their path alone, so one set of messages
//! serves both. Each question is a call of its own: behind a balancer of calls the
//! answers may come from different replicas, and a stream that one of them keeps
//! open would have to be drained by it.

use std::collections::{BTreeMap, VecDeque};

use prost::Message as _;
use prost_types::FileDescriptorProto;
use tonic::{
    Code, Request, Status, client::Grpc, codegen::http::uri::PathAndQuery, transport::Channel,
};
use tonic_prost::ProstCodec;
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, ServerReflectionResponse,
    server_reflection_request::MessageRequest as Question,
    server_reflection_response::MessageResponse as Answer,
};

use crate::{
    error::{Error, Reason},
    interface::Interface,
};

const PATHS: [&str; 2] = [
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];
/// Services about the server rather than the user's.
const OWN_SERVICES: [&str; 2] = ["grpc.reflection.", "grpc.health."];
/// Files taken of one service: far more than there are, and a bound.
const MOST_FILES: usize = 4_096;

/// Asks the service behind `channel` for its interface.
///
/// # Errors
/// When it has no reflection, or can't be asked; with what to do.
pub async fn reflect(channel: Channel) -> Result<Interface, Error> {
    let found = ask_all(channel).await;
    found.map_err(|reason| Error::new("reflection", reason))
}

async fn ask_all(channel: Channel) -> Result<Interface, Reason> {
    let failed = |message: String| Reason::Reflection { message };
    let mut asked = Asking { grpc: Grpc::new(channel), path: PATHS[0] };
    let services = match asked.services().await {
        Err(status) if status.code() == Code::Unimplemented => {
            asked.path = PATHS[1];
            asked.services().await
        }
        other => other,
    };
    let services = services.map_err(|status| match status.code() {
        Code::Unimplemented => Reason::NoReflection,
        _ => failed(format!("the service can't be asked for its interface: {}", in_words(&status))),
    })?;
    let mut files = BTreeMap::new();
    let own = |name: &String| !OWN_SERVICES.iter().any(|own| name.starts_with(own));
    let mut open: VecDeque<Question> =
        services.into_iter().filter(own).map(Question::FileContainingSymbol).collect();
    if open.is_empty() {
        return Err(failed("the service lists no service of its own".to_owned()));
    }
    while let Some(question) = open.pop_front() {
        if matches!(&question, Question::FileByFilename(name) if files.contains_key(name)) {
            continue;
        }
        let name = format!("{question:?}");
        let found = asked.files(question).await.map_err(|status| {
            failed(format!("the service does not tell {name}: {}", in_words(&status)))
        })?;
        for file in found {
            let names = file.dependency.iter().cloned();
            open.extend(names.map(Question::FileByFilename));
            files.insert(file.name().to_owned(), file);
        }
        if files.len() > MOST_FILES {
            return Err(failed(format!("the service has more than {MOST_FILES} files")));
        }
    }
    Interface::from_files(files.into_values().collect())
}

struct Asking {
    grpc: Grpc<Channel>,
    path: &'static str,
}

impl Asking {
    async fn ask(&mut self, question: Question) -> Result<Answer, Status> {
        let ready = self.grpc.ready().await;
        ready.map_err(|error| Status::unavailable(chain(&error)))?;
        let request =
            ServerReflectionRequest { host: String::new(), message_request: Some(question) };
        let codec: ProstCodec<ServerReflectionRequest, ServerReflectionResponse> =
            ProstCodec::default();
        let request = Request::new(tokio_stream::once(request));
        let path = PathAndQuery::from_static(self.path);
        let mut answers = self.grpc.streaming(request, path, codec).await?.into_inner();
        let answer = answers.message().await?.and_then(|answer| answer.message_response);
        match answer {
            Some(Answer::ErrorResponse(error)) => {
                Err(Status::new(Code::from(error.error_code), error.error_message))
            }
            Some(answer) => Ok(answer),
            None => Err(Status::internal("the answer is empty")),
        }
    }

    async fn services(&mut self) -> Result<Vec<String>, Status> {
        match self.ask(Question::ListServices(String::new())).await? {
            Answer::ListServicesResponse(list) => {
                Ok(list.service.into_iter().map(|service| service.name).collect())
            }
            _ => Err(Status::internal("the answer is not the one to the question")),
        }
    }

    async fn files(&mut self, question: Question) -> Result<Vec<FileDescriptorProto>, Status> {
        match self.ask(question).await? {
            Answer::FileDescriptorResponse(found) => found
                .file_descriptor_proto
                .iter()
                .map(|bytes| FileDescriptorProto::decode(bytes.as_slice()))
                .collect::<Result<_, _>>()
                .map_err(|error| Status::internal(error.to_string())),
            _ => Err(Status::internal("the answer is not the one to the question")),
        }
    }
}

fn in_words(status: &Status) -> String {
    match status.message() {
        "" => format!("{:?}", status.code()),
        message => format!("{:?}: {message}", status.code()),
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text
}
