//! The interface as servers tell it: in either version of reflection, and not at all.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{convert::Infallible, net::SocketAddr};

use grpc_call::{Interface, reflect};
use http::{Request, Response};
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tonic::{Status, body::Body, codegen::Service, transport::Channel};
use tonic_reflection::server::Builder;

fn builder() -> Builder<'static> {
    Builder::configure().register_encoded_file_descriptor_set(echo_proto::FILE_DESCRIPTOR_SET)
}

/// Serves one service, at the paths that begin with its name.
async fn serve<S>(name: &'static str, service: S) -> SocketAddr
where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let service = service.clone();
            let respond = service_fn(move |request: Request<Incoming>| {
                let mut service = service.clone();
                async move {
                    if request.uri().path().starts_with(name) {
                        service.call(request).await
                    } else {
                        Ok(Status::unimplemented("").into_http())
                    }
                }
            });
            let server = http2::Builder::new(TokioExecutor::new());
            tokio::spawn(server.serve_connection(TokioIo::new(socket), respond));
        }
    });
    address
}

async fn ask(address: SocketAddr) -> Result<Interface, String> {
    let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect_lazy();
    reflect(channel).await.map_err(|error| format!("{}: {error}", error.key))
}

#[tokio::test]
async fn both_versions_tell_the_interface() {
    let v1 = serve("/grpc.reflection.v1.", builder().build_v1().unwrap()).await;
    let v1alpha = serve("/grpc.reflection.v1alpha.", builder().build_v1alpha().unwrap()).await;
    for address in [v1, v1alpha] {
        let interface = ask(address).await.unwrap();
        let names: Vec<String> = interface.methods().iter().map(grpc_call::Method::name).collect();
        let echo = "layerlab.echo.v1.Echo";
        let expected = ["Unary", "ServerStream", "ClientStream", "Bidi"];
        assert_eq!(names, expected.map(|method| format!("{echo}/{method}")));
    }
}

#[tokio::test]
async fn a_server_without_reflection_is_told_with_what_to_do() {
    let other = builder().build_v1().unwrap();
    let error = ask(serve("/nothing", other).await).await.unwrap_err();
    assert!(
        error.starts_with("reflection: the service has no server reflection; turn it on"),
        "{error}"
    );
    assert!(error.contains("`proto` or `descriptor_set`"), "{error}");
    let empty = Builder::configure().build_v1().unwrap();
    let error = ask(serve("/grpc.reflection.v1.", empty).await).await.unwrap_err();
    assert!(error.contains("lists no service of its own"), "{error}");
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error = ask(closed).await.unwrap_err();
    assert!(error.contains("can't be asked"), "{error}");
}
