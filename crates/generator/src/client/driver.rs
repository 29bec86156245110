//! Calls made by a real client: a program of its own, which is told over its standard input
//! which calls to make and says on its standard output what came of each. The lines are those
//! of `scenarios/clients/README.md`.
//!
//! Each generator thread has one such process for all of its clients. What is left out: times
//! on the wire, which only the program could tell.

use std::{
    cell::RefCell, collections::BTreeSet, fs::File, io, path::PathBuf, process::Stdio, rc::Rc,
    sync::Arc,
};

use measure::calllog::FailureKind;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::Notify,
};

use super::{Backends, Call, CallShape, ConnectError, Connection, Ended, Sink};
use crate::names::NameServer;

/// The status of an answer that is not what was asked for.
const WRONG_ANSWER: i32 = -1;

/// How the program of a real client is started, and what it is told.
#[derive(Clone, Debug)]
pub struct DriverPlan {
    /// The client's name.
    pub name: String,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Where what it writes to standard error goes.
    pub log: PathBuf,
    /// The targets and policies of its clients, and the channel's settings.
    pub hello: serde_json::Value,
    /// The server of the backends' name, where clients resolve one.
    pub names: Option<Arc<NameServer>>,
}

/// A program that makes calls. It is killed when this is dropped, and with the lab.
pub struct Driver {
    _child: Child,
    names: Option<Arc<NameServer>>,
    shape: Arc<CallShape>,
    sink: Rc<dyn Sink>,
    /// Lines that it is still to be sent, and what wakes the task that sends them.
    unsent: RefCell<Vec<u8>>,
    wake: Notify,
    /// Calls without an answer, by client and slot.
    under_way: RefCell<BTreeSet<(u32, u32)>>,
}

/// One client of a program.
struct DrivenClient {
    driver: Rc<Driver>,
    number: u32,
}

impl Driver {
    /// Starts the program and waits until its clients are connected. Must run inside a
    /// `LocalSet`, on a thread that outlives the program.
    pub async fn start(
        plan: DriverPlan,
        shape: Arc<CallShape>,
        sink: Rc<dyn Sink>,
    ) -> Result<Rc<Self>, ConnectError> {
        let failed = |what: String| ConnectError::own(format!("client {}: {what}", plan.name));
        let (child, mut stdin, stdout) =
            spawn(&plan).map_err(|error| failed(format!("it can't be started: {error}")))?;
        let mut lines = BufReader::new(stdout).lines();
        let hello = format!("{}\n", plan.hello);
        let greeted = async {
            stdin.write_all(hello.as_bytes()).await?;
            lines.next_line().await
        };
        match greeted.await {
            Ok(Some(line)) if line == "ready" => {}
            Ok(Some(line)) => return Err(failed(format!("it said `{line}` in place of `ready`"))),
            Ok(None) | Err(_) => {
                let log = plan.log.display();
                return Err(failed(format!("it ended before it was ready; {log} may say why")));
            }
        }
        let driver = Rc::new(Self {
            _child: child,
            names: plan.names,
            shape,
            sink,
            unsent: RefCell::default(),
            wake: Notify::new(),
            under_way: RefCell::default(),
        });
        tokio::task::spawn_local(send(Rc::downgrade(&driver), stdin));
        tokio::task::spawn_local(listen(Rc::downgrade(&driver), lines));
        Ok(driver)
    }

    /// The client with this number.
    pub fn client(self: &Rc<Self>, number: u32) -> Box<dyn Connection> {
        Box::new(DrivenClient { driver: Rc::clone(self), number })
    }

    fn end(&self, client: u32, slot: u32, ended: Ended) {
        if self.under_way.borrow_mut().remove(&(client, slot)) {
            self.sink.ended(Call { connection: client, slot }, ended, None);
        }
    }

    /// It says nothing more: no call will have an answer.
    fn is_gone(&self) {
        let lost: Vec<(u32, u32)> = self.under_way.borrow().iter().copied().collect();
        for (client, slot) in lost {
            self.end(client, slot, Ended::Failed(FailureKind::ConnectionLost));
        }
    }
}

/// Starts the program as the lab starts all processes, so that it ends with the lab.
fn spawn(plan: &DriverPlan) -> io::Result<(Child, ChildStdin, ChildStdout)> {
    let mut child = Command::new(std::env::current_exe()?)
        .arg("guard")
        .arg(std::process::id().to_string())
        .arg("--")
        .args(&plan.command)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(File::create(&plan.log)?)
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    let pipe = || io::Error::other("it has no pipe");
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    Ok((child, stdin.ok_or_else(pipe)?, stdout.ok_or_else(pipe)?))
}

/// Sends the program its lines, as many at a time as there are.
async fn send(driver: std::rc::Weak<Driver>, mut pipe: ChildStdin) {
    while let Some(driver) = driver.upgrade() {
        let lines = driver.unsent.take();
        if lines.is_empty() {
            driver.wake.notified().await;
        } else if pipe.write_all(&lines).await.is_err() {
            // Whoever listens to it learns that it is gone.
            return;
        }
    }
}

/// Hears what came of the calls.
async fn listen(driver: std::rc::Weak<Driver>, mut lines: Lines<BufReader<ChildStdout>>) {
    while let Ok(Some(line)) = lines.next_line().await {
        let Some(driver) = driver.upgrade() else { return };
        if let Some((client, slot, ended)) = outcome(&line, &driver.shape.backends) {
            driver.end(client, slot, ended);
        }
    }
    if let Some(driver) = driver.upgrade() {
        driver.is_gone();
    }
}

/// What a line says of a call; `None` where it says nothing of one.
fn outcome(line: &str, backends: &Backends) -> Option<(u32, u32, Ended)> {
    let mut words = line.strip_prefix("done ")?.split(' ');
    let (client, slot) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let status: i32 = words.next()?.parse().ok()?;
    let backend = words.next()?;
    let (queued_ns, service_ns) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let ended = match (status, backends.index(backend.as_bytes())) {
        (0, Some(backend)) => Ended::Served { backend, queued_ns, service_ns },
        (0, None) => Ended::Failed(FailureKind::UnknownBackend),
        (WRONG_ANSWER, _) => Ended::Failed(FailureKind::WrongPayload),
        (status, _) => Ended::Failed(FailureKind::from_status(status)),
    };
    Some((client, slot, ended))
}

impl Connection for DrivenClient {
    fn start(&self, call: Call, sequence: u64) {
        let (request_bytes, response_bytes) = self.driver.shape.bytes(sequence);
        self.driver.under_way.borrow_mut().insert((self.number, call.slot));
        let line = format!(
            "call {} {} {sequence} {request_bytes} {response_bytes}\n",
            self.number, call.slot
        );
        self.driver.unsent.borrow_mut().extend(line.bytes());
        self.driver.wake.notify_one();
    }

    fn set_members(&self, members: &[usize]) {
        if let Some(names) = &self.driver.names {
            names.names().set(members);
        }
    }

    /// Its channels are its own to keep.
    fn release(&self) {}

    fn is_ready(&self) -> bool {
        true
    }

    fn make_ready(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_came_of_a_call() {
        let backends = Backends::Known(vec!["b0".into(), "b1".into()]);
        let of = |line: &str| outcome(line, &backends);
        let served = Ended::Served { backend: 1, queued_ns: 5, service_ns: 70 };
        assert_eq!(of("done 3 9 0 b1 5 70"), Some((3, 9, served)));
        let failed = |kind| Some((0, 0, Ended::Failed(kind)));
        assert_eq!(of("done 0 0 14 - 0 0"), failed(FailureKind::from_status(14)));
        assert_eq!(of("done 0 0 -1 b1 0 0"), failed(FailureKind::WrongPayload));
        assert_eq!(of("done 0 0 0 b7 0 0"), failed(FailureKind::UnknownBackend));
        for nothing in ["", "done", "done 0 0 0 b0 0", "ready", "done x 0 0 b0 0 0"] {
            assert_eq!(of(nothing), None, "{nothing}");
        }
    }
}
