//! Load for measuring L4 balancers, where h2load has no word for it: short
//! connections, idle ones, and backends that echo bytes.
//!
//! It measures nothing of the proxy itself; `scripts/bench/l4.sh` does, around
//! it. Every command prints one line of JSON.
#![allow(clippy::print_stdout, reason = "its output is its purpose")]

use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[derive(Parser)]
enum Command {
    /// Echoes bytes on every connection until it is killed.
    Echo { addresses: Vec<SocketAddr> },
    /// Opens, makes one call of 32 bytes, closes; again and again.
    Churn {
        address: SocketAddr,
        /// Connections to make.
        #[arg(long, default_value = "20000")]
        connections: u64,
        /// How many are under way at once.
        #[arg(long, default_value = "16")]
        at_once: usize,
    },
    /// Opens connections, makes one call on each, and holds them until
    /// standard input ends.
    Idle {
        address: SocketAddr,
        #[arg(long, default_value = "10000")]
        connections: usize,
    },
    /// Sends and reads back as fast as it goes.
    Bulk {
        address: SocketAddr,
        /// MiB each way, over all connections.
        #[arg(long, default_value = "1024")]
        mib: u64,
        #[arg(long, default_value = "4")]
        connections: u64,
    },
}

fn main() -> ExitCode {
    let command = Command::parse();
    let _ = serve::limits::raise_open_files();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = runtime.and_then(|runtime| {
        runtime.block_on(async {
            match command {
                Command::Echo { addresses } => echo(addresses).await,
                Command::Churn { address, connections, at_once } => {
                    churn(address, connections, at_once).await
                }
                Command::Idle { address, connections } => idle(address, connections).await,
                Command::Bulk { address, mib, connections } => {
                    bulk(address, mib, connections).await
                }
            }
        })
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn echo(addresses: Vec<SocketAddr>) -> io::Result<()> {
    for address in addresses {
        let listener = TcpListener::from_std(serve::bind(address, serve::BindOptions::default())?)?;
        tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    continue;
                };
                tokio::spawn(echo_one(stream));
            }
        });
    }
    println!("{{\"ready\": true}}");
    std::future::pending().await
}

async fn echo_one(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    // Small at first: ten thousand idle connections hold one each.
    let mut buffer = vec![0; 256];
    loop {
        let length = stream.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..length]).await?;
        if length == buffer.len() && length < 256 << 10 {
            buffer.resize(length * 4, 0);
        }
    }
}

async fn call(address: SocketAddr) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    stream.write_all(&[7; 32]).await?;
    stream.read_exact(&mut [0; 32]).await?;
    Ok(stream)
}

async fn churn(address: SocketAddr, connections: u64, at_once: usize) -> io::Result<()> {
    let left = Arc::new(AtomicU64::new(connections));
    let begun = Instant::now();
    let workers: Vec<_> = (0..at_once)
        .map(|_| {
            let left = Arc::clone(&left);
            tokio::spawn(async move {
                let mut times_us = Vec::new();
                let mut failed = 0_u64;
                let take = |left: u64| left.checked_sub(1);
                while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
                    let opened = Instant::now();
                    match call(address).await {
                        Ok(_) => times_us.push(opened.elapsed().as_micros()),
                        Err(_) => failed += 1,
                    }
                }
                (times_us, failed)
            })
        })
        .collect();
    let (mut times_us, mut failed) = (Vec::new(), 0);
    for worker in workers {
        let (times, failures) = worker.await.map_err(io::Error::other)?;
        times_us.extend(times);
        failed += failures;
    }
    let seconds = begun.elapsed().as_secs_f64();
    times_us.sort_unstable();
    let quantile = |q: f64| times_us.get((times_us.len() as f64 * q) as usize).copied();
    println!(
        "{{\"connections\": {}, \"failed\": {failed}, \"seconds\": {seconds:.4}, \
         \"p50_us\": {}, \"p99_us\": {}}}",
        times_us.len(),
        quantile(0.5).unwrap_or(0),
        quantile(0.99).unwrap_or(0),
    );
    Ok(())
}

async fn idle(address: SocketAddr, connections: usize) -> io::Result<()> {
    let mut held = Vec::with_capacity(connections);
    while held.len() < connections {
        held.push(call(address).await?);
    }
    println!("{{\"open\": {}}}", held.len());
    let mut byte = [0];
    while tokio::io::AsyncReadExt::read(&mut stdin()?, &mut byte).await? > 0 {}
    Ok(())
}

/// Standard input, when it is a pipe.
fn stdin() -> io::Result<tokio::net::unix::pipe::Receiver> {
    use std::os::fd::AsFd;
    let descriptor = io::stdin().as_fd().try_clone_to_owned()?;
    tokio::net::unix::pipe::Receiver::from_owned_fd(descriptor)
}

async fn bulk(address: SocketAddr, mib: u64, connections: u64) -> io::Result<()> {
    let begun = Instant::now();
    let each = mib / connections;
    let workers: Vec<_> = (0..connections)
        .map(|_| {
            tokio::spawn(async move {
                let stream = TcpStream::connect(address).await?;
                let (mut read, mut write) = stream.into_split();
                let writer = tokio::spawn(async move {
                    let chunk = vec![0x5a_u8; 1 << 20];
                    for _ in 0..each {
                        write.write_all(&chunk).await?;
                    }
                    write.shutdown().await
                });
                let mut buffer = vec![0; 1 << 20];
                let mut bytes = 0;
                loop {
                    match read.read(&mut buffer).await? {
                        0 => break,
                        length => bytes += length as u64,
                    }
                }
                writer.await.map_err(io::Error::other)??;
                io::Result::Ok(bytes)
            })
        })
        .collect();
    let mut bytes = 0;
    for worker in workers {
        bytes += worker.await.map_err(io::Error::other)??;
    }
    println!("{{\"bytes\": {bytes}, \"seconds\": {:.4}}}", begun.elapsed().as_secs_f64());
    Ok(())
}
