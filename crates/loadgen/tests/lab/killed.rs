//! A backend that is a process of its own is ended with `kill -9` behind a proxy
//! that is one too: what the kernel makes of its sockets, no backend inside the
//! test's process can show.
//!
//! Nothing is measured by the clock. The backend is stopped first, so that calls
//! are surely in flight on it when it is killed, and calls are counted.

use echo_proto::v1::{EchoRequest, EchoResponse, echo_client::EchoClient};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use testkit::{lab::client, on_each_data_plane, process::Process, within};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming, transport::Channel};

const BACKENDS: usize = 3;
/// Unary calls that are in flight on the backend when it is killed.
const IN_FLIGHT: usize = 8;

fn start(arguments: &[String]) -> Process {
    Process::start(env!("CARGO_BIN_EXE_loadgen"), arguments)
}

fn start_backend(index: usize, listen: &str) -> Process {
    start(&["echo-backend".into(), format!("--listen={listen}"), format!("--id=b{index}")])
}

fn start_proxy(plane: &str, backends: &[Process]) -> Process {
    let mut arguments: Vec<String> =
        ["l7-proxy", "--listen=127.0.0.1:0", "--threads=1", "--policy=round_robin"]
            .map(str::to_owned)
            .into();
    arguments.push(format!("--data-plane={plane}"));
    arguments.extend(backends.iter().map(|backend| format!("--backend={}", backend.addr())));
    start(&arguments)
}

fn request(sequence: u64) -> EchoRequest {
    EchoRequest { sequence, payload: vec![1], response_bytes: 1, response_count: 1 }
}

/// A call that goes on for as long as the test wants.
struct Stream {
    backend: String,
    sender: mpsc::Sender<EchoRequest>,
    responses: Streaming<EchoResponse>,
}

impl Stream {
    async fn open(client: &mut EchoClient<Channel>) -> Self {
        let (sender, requests) = mpsc::channel(1);
        let opened = within("a stream to open", client.bidi(ReceiverStream::new(requests)));
        let mut stream =
            Self { backend: String::new(), sender, responses: opened.await.unwrap().into_inner() };
        stream.backend = stream.exchange().await.unwrap().backend;
        stream
    }

    async fn exchange(&mut self) -> Result<EchoResponse, Status> {
        // The call may have ended, which the response says.
        let _ = self.sender.send(request(0)).await;
        let response = within("a response", self.responses.message()).await?;
        response.ok_or_else(|| Status::unknown("the stream has ended"))
    }
}

/// So many calls, one after the other, of which none may fail: how many of them each
/// backend served.
async fn shares(client: &mut EchoClient<Channel>, calls: u64) -> [usize; BACKENDS] {
    let mut shares = [0; BACKENDS];
    for sequence in 0..calls {
        let served = within("a call", client.unary(request(sequence))).await.unwrap();
        let backend = served.into_inner().backend;
        shares[backend.strip_prefix('b').unwrap().parse::<usize>().unwrap()] += 1;
    }
    shares
}

#[test]
fn a_backend_ended_with_kill_9_costs_the_calls_it_has_and_no_other() {
    on_each_data_plane(async |plane| {
        let plane = format!("{plane:?}").to_lowercase();
        let mut backends: Vec<_> =
            (0..BACKENDS).map(|index| start_backend(index, "127.0.0.1:0")).collect();
        let proxy = start_proxy(&plane, &backends);
        let mut client = client(proxy.addr()).await;
        assert_eq!(shares(&mut client, 30).await, [10; BACKENDS]);
        let mut streams = Vec::new();
        for _ in 0..2 * BACKENDS {
            streams.push(Stream::open(&mut client).await);
        }

        let pid = Pid::from_raw(backends[0].pid().cast_signed());
        kill(pid, Signal::SIGSTOP).unwrap();
        let mut calls = JoinSet::new();
        for sequence in 0..(IN_FLIGHT * BACKENDS) as u64 {
            let mut client = client.clone();
            calls.spawn(async move { client.unary(request(sequence)).await });
        }
        // The others answer; what has no answer then waits for the one that stands.
        for _ in 0..IN_FLIGHT * (BACKENDS - 1) {
            let ended = within("a call of another backend", calls.join_next()).await;
            assert_ne!(ended.unwrap().unwrap().unwrap().into_inner().backend, "b0");
        }
        assert_eq!(calls.len(), IN_FLIGHT);

        let addr = backends[0].addr();
        kill(pid, Signal::SIGKILL).unwrap();
        while let Some(ended) = within("a call in flight to end", calls.join_next()).await {
            let status =
                ended.unwrap().expect_err("it may have been worked on, and is not sent again");
            assert_eq!(status.code(), Code::Unavailable, "{status}");
        }
        let mut lost = 0;
        for stream in &mut streams {
            let went_on = stream.exchange().await;
            if stream.backend == "b0" {
                assert_eq!(went_on.unwrap_err().code(), Code::Unavailable);
                lost += 1;
            } else {
                assert_eq!(went_on.unwrap().backend, stream.backend);
            }
        }
        assert_eq!(lost, 2);
        // Not one new call is lost, and those who are left share them.
        let [none, second, third] = shares(&mut client, 40).await;
        assert!(none == 0 && second >= 10 && third >= 10, "{second} and {third}");

        backends[0] = start_backend(0, &addr.to_string());
        within("it to serve again", async { while shares(&mut client, 1).await[0] == 0 {} }).await;
        assert_eq!(shares(&mut client, 30).await, [10; BACKENDS]);
    });
}
