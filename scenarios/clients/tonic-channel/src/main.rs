//! The calls of a scenario by tonic's channel. What it reads and writes is in ../../README.md.
//!
//! A channel of tonic's is one connection to a name, to the first of its addresses that takes
//! one. It is made anew with the next call after it was lost, and the name resolved again for
//! that, with no pause and no interval. It has no policy over the addresses of a name: `round_robin`
//! is refused, and what a service builds of several channels is its own.

mod names;

use std::{env, error::Error, net::SocketAddr, process::ExitCode, time::Duration};

use http::{Uri, uri::PathAndQuery};
use hyper_util::client::legacy::connect::HttpConnector;
use names::Names;
use serde::Deserialize;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, stdin, stdout},
    sync::mpsc,
    task::LocalSet,
};
use tonic::{
    Code, Request,
    client::Grpc,
    transport::{Channel, Endpoint},
};

const METHOD: &str = "/layerlab.echo.v1.Echo/Unary";
const MAX_MESSAGE_BYTES: usize = 16 << 20;
const READY_TIMEOUT: Duration = Duration::from_secs(20);
const WRONG_ANSWER: i32 = -1;

#[derive(Deserialize)]
struct Hello {
    clients: Vec<Described>,
    settings: Settings,
}

#[derive(Deserialize)]
struct Described {
    target: String,
    policy: String,
}

#[derive(Deserialize)]
struct Settings {
    channels: usize,
    max_connections: u32,
}

/// As in proto/echo.proto.
#[derive(Clone, PartialEq, prost::Message)]
struct EchoRequest {
    #[prost(uint64, tag = "1")]
    sequence: u64,
    #[prost(bytes = "vec", tag = "2")]
    payload: Vec<u8>,
    #[prost(uint32, tag = "3")]
    response_bytes: u32,
}

/// As in proto/echo.proto.
#[derive(Clone, PartialEq, prost::Message)]
struct EchoResponse {
    #[prost(uint64, tag = "1")]
    sequence: u64,
    #[prost(bytes = "vec", tag = "2")]
    payload: Vec<u8>,
    #[prost(string, tag = "3")]
    backend: String,
    #[prost(uint64, tag = "4")]
    queued_ns: u64,
    #[prost(uint64, tag = "5")]
    service_ns: u64,
}

/// A client with its channels, which it uses in turn.
struct Client {
    channels: Vec<Channel>,
    turn: usize,
}

impl Client {
    async fn connect(one: &Described, channels: usize) -> Result<Self, Box<dyn Error>> {
        if one.policy != "pick_first" {
            return Err(format!("tonic has no {} over a name", one.policy).into());
        }
        let mut made = Vec::new();
        for _ in 0..channels {
            made.push(channel(&one.target).await?);
        }
        Ok(Self { channels: made, turn: 0 })
    }

    fn next(&mut self) -> Channel {
        let channel = self.channels[self.turn].clone();
        self.turn = (self.turn + 1) % self.channels.len();
        channel
    }
}

/// A channel to a target in gRPC's notation: `ipv4:ADDRESS`, or `dns://SERVER/NAME:PORT`.
async fn channel(target: &str) -> Result<Channel, Box<dyn Error>> {
    let unknown = || format!("a target of an unknown kind: {target}");
    let (authority, server) = if let Some(address) = target.strip_prefix("ipv4:") {
        (address, None)
    } else {
        let (server, name) = target
            .strip_prefix("dns://")
            .and_then(|rest| rest.split_once('/'))
            .ok_or_else(unknown)?;
        (name, Some(server.parse::<SocketAddr>()?))
    };
    let endpoint = Endpoint::from(format!("http://{authority}").parse::<Uri>()?)
        .connect_timeout(READY_TIMEOUT);
    Ok(match server {
        None => endpoint.connect().await?,
        Some(server) => {
            let mut connector = HttpConnector::new_with_resolver(Names(server));
            // As tonic sets its own.
            connector.set_nodelay(true);
            endpoint.connect_with_connector(connector).await?
        }
    })
}

/// Makes a call, and says what came of it.
async fn call(channel: Channel, [sequence, request_bytes, response_bytes]: [u64; 3]) -> String {
    let request = EchoRequest {
        sequence,
        payload: vec![0; request_bytes as usize],
        response_bytes: response_bytes as u32,
    };
    let mut client = Grpc::new(channel)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let codec = tonic_prost::ProstCodec::<EchoRequest, EchoResponse>::default();
    let answer = match client.ready().await {
        Ok(()) => {
            client.unary(Request::new(request), PathAndQuery::from_static(METHOD), codec).await
        }
        // A channel that can't connect says so here.
        Err(error) => Err(tonic::Status::from_error(error.into())),
    };
    match answer {
        Ok(answer) => {
            let answer = answer.into_inner();
            let is_right =
                answer.sequence == sequence && answer.payload.len() as u64 == response_bytes;
            let status = if is_right { Code::Ok as i32 } else { WRONG_ANSWER };
            let backend = if answer.backend.is_empty() { "-" } else { &answer.backend };
            format!("{status} {backend} {} {}", answer.queued_ns, answer.service_ns)
        }
        Err(status) => format!("{} - 0 0", status.code() as i32),
    }
}

async fn run() -> Result<(), Box<dyn Error>> {
    let mut lines = BufReader::new(stdin()).lines();
    let first = lines.next_line().await?.ok_or("nothing was asked for")?;
    let hello: Hello = serde_json::from_str(&first)?;
    if hello.settings.max_connections > 1 {
        return Err("tonic has one connection to an address (no gRFC A105)".into());
    }
    let mut clients = Vec::new();
    for one in &hello.clients {
        clients.push(Client::connect(one, hello.settings.channels).await?);
    }
    let (said, mut to_say) = mpsc::unbounded_channel::<String>();
    said.send("ready\n".to_owned())?;
    tokio::task::spawn_local(async move {
        let mut out = stdout();
        while let Some(mut text) = to_say.recv().await {
            while let Ok(more) = to_say.try_recv() {
                text.push_str(&more);
            }
            if out.write_all(text.as_bytes()).await.is_err() || out.flush().await.is_err() {
                return;
            }
        }
    });
    while let Some(line) = lines.next_line().await? {
        let numbers: Vec<u64> =
            line.split(' ').skip(1).map(str::parse).collect::<Result<_, _>>()?;
        let &[number, slot, sequence, request_bytes, response_bytes] = &numbers[..] else {
            return Err(format!("no call: {line}").into());
        };
        let client = clients.get_mut(number as usize).ok_or("no such client")?;
        let (channel, said) = (client.next(), said.clone());
        tokio::task::spawn_local(async move {
            let came = call(channel, [sequence, request_bytes, response_bytes]).await;
            // Who no longer listens wants to know no more.
            let _ = said.send(format!("done {number} {slot} {came}\n"));
        });
    }
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    if env::args().nth(1).as_deref() == Some("--version") {
        println!("{}", env!("TONIC_VERSION"));
        return ExitCode::SUCCESS;
    }
    match LocalSet::new().run_until(run()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
