//! `loadgen agent --join HOST:PORT`: does one node's part of a run.

use std::{
    env, fs, io,
    net::{IpAddr, SocketAddr, ToSocketAddrs as _, UdpSocket},
    path::PathBuf,
    sync::Arc,
    thread,
    time::Duration,
};

use agents::{
    PROTOCOL,
    agent::{JoinError, Link, Signals},
    token::Token,
    wire::Hello,
};
use generator::clock::monotonic_ns;

use crate::{
    exit::{self, Failure},
    interrupt,
    lab::environment,
    peers::loadgen_program,
    root::Root,
    run::nodes::{Agent, TOKEN_VARIABLE},
};

/// How often it is looked whether the coordinator is lost.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// How long this process may take to end in order when it is.
const END_WITHIN: Duration = Duration::from_millis(300);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where the coordinator of the run is.
    #[arg(long, value_name = "HOST:PORT")]
    join: String,

    /// A file with the run's token [default: the variable LAYERLAB_TOKEN].
    #[arg(long, value_name = "FILE", conflicts_with = "token_stdin")]
    token_file: Option<PathBuf>,

    /// Read the run's token from the first line of standard input.
    #[arg(long)]
    token_stdin: bool,

    /// This node's place among the nodes, from 0 on.
    #[arg(long, value_name = "N", conflicts_with = "rank_from")]
    rank: Option<u32>,

    /// The variable that says this node's place among the nodes.
    #[arg(long, value_name = "NAME")]
    rank_from: Option<String>,

    /// Where other nodes reach this one [default: the address by which it reaches the
    /// coordinator].
    #[arg(long, value_name = "ADDRESS")]
    address: Option<IpAddr>,

    /// How long to try while no coordinator answers.
    #[arg(long, value_name = "TIME", default_value = "60s",
          value_parser = units::duration::parse)]
    join_timeout: Duration,
}

pub(super) fn main(args: &Args) -> Result<u8, Failure> {
    interrupt::listen()
        .map_err(|error| Failure::lab(format!("cannot wait for signals: {error}")))?;
    let token = token(args)?;
    let address = match args.address {
        Some(address) => address,
        None => own_address(&args.join).map_err(|error| {
            Failure::bad_input(format!(
                "--join {}: {error}; expected HOST:PORT that can be reached, or name this node's \
                 address by --address",
                args.join
            ))
        })?,
    };
    let hello = hello(args, address)?;
    let link = Link::join(&args.join, &token, hello, args.join_timeout, monotonic_ns);
    let link = link.map_err(|error| match error {
        JoinError::Address { .. } | JoinError::Refused { .. } => Failure::bad_input(error),
        JoinError::Thread(_) | JoinError::Unreachable { .. } => Failure::lab(error),
    })?;
    end_with_coordinator(Arc::clone(link.signals()));
    let ended = Agent::new(link, address, &Root::find()).work();
    if ended.is_lost {
        return Err(Failure::lab("the coordinator is lost; all that ran here has ended"));
    }
    Ok(if interrupt::interrupted() { exit::INTERRUPTED } else { exit::FINE })
}

/// Ends this process soon after its coordinator is lost, whatever it is at: the kernel then
/// ends its children.
fn end_with_coordinator(signals: Arc<Signals>) {
    thread::spawn(move || {
        while !signals.is_lost() {
            thread::sleep(POLL_INTERVAL);
        }
        thread::sleep(END_WITHIN);
        std::process::exit(exit::LAB_FAILED.into());
    });
}

fn token(args: &Args) -> Result<Token, Failure> {
    let (text, from) = match &args.token_file {
        Some(path) => {
            let from = format!("--token-file {}", path.display());
            (fs::read_to_string(path).map_err(|error| error.to_string()), from)
        }
        None if args.token_stdin => {
            let mut line = String::new();
            let read = io::stdin().read_line(&mut line);
            (read.map(|_| line).map_err(|error| error.to_string()), "--token-stdin".to_owned())
        }
        None => {
            let set = env::var(TOKEN_VARIABLE).map_err(|_| "it is not set".to_owned());
            (set, TOKEN_VARIABLE.to_owned())
        }
    };
    let token = text.and_then(|text| text.parse::<Token>().map_err(|error| error.to_string()));
    token.map_err(|error| Failure::bad_input(format!("{from}: {error}")))
}

/// The address of this machine that packets to the coordinator have; none is sent.
fn own_address(join: &str) -> io::Result<IpAddr> {
    let coordinator: SocketAddr = join
        .to_socket_addrs()?
        .next()
        .ok_or_else(|| io::Error::other("it stands for no address"))?;
    let any: IpAddr = match coordinator {
        SocketAddr::V4(_) => [0; 4].into(),
        SocketAddr::V6(_) => [0_u16; 8].into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(coordinator)?;
    Ok(socket.local_addr()?.ip())
}

fn hello(args: &Args, address: IpAddr) -> Result<Hello, Failure> {
    let rank = match &args.rank_from {
        None => args.rank,
        Some(name) => {
            let value = env::var(name).unwrap_or_default();
            let number = value.parse().map_err(|_| {
                Failure::bad_input(format!(
                    "--rank-from {name}: expected the variable to be a number, found `{value}`"
                ))
            })?;
            Some(number)
        }
    };
    let program = loadgen_program().map_err(Failure::lab)?;
    let cannot_read = |error| Failure::lab(format!("{}: {error}", program.display()));
    let environment = environment::describe(Default::default());
    let machine = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    Ok(Hello {
        protocol: PROTOCOL,
        build: agents::build_of(&program).map_err(cannot_read)?,
        // Without the kernel's word each node is taken for a machine of its own.
        machine: if machine.is_empty() { host.clone() } else { machine.trim().to_owned() },
        host,
        address: address.to_string(),
        rank,
        environment_json: serde_json::to_string(&environment).map_err(Failure::lab)?,
    })
}
