//! What it takes to merge the calls of many agents: bytes on the way, memory, seconds.
//!
//! ```text
//! cargo run --release -p agents --example merge -- [CALLS [AGENTS]]
//! ```
//!
//! Makes the log of one agent with CALLS calls (1,000,000) of a trial of 60 s over 16
//! backends, and takes it through both ways: shipped call by call, and folded where it is.
//! What one agent's part takes, AGENTS (100) take so many times.

#![allow(clippy::unwrap_used, reason = "an example may panic")]

use std::time::Instant;

use agents::{calls, wire::Calls};
use measure::{
    calllog::{CallLog, Entry, OnWire, Outcome},
    fold::{Folded, Setting, Times, Window, fold},
    record::LoopMode,
};
use prost::Message as _;

const TRIAL_NS: u64 = 60_000_000_000;
const BACKENDS: u16 = 16;

/// Times that differ as those of real calls do. SplitMix64 (Steele and others, 2014).
fn chance(state: &mut u64, below: u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) % below
}

fn log_of(calls: u64) -> CallLog {
    let mut log = CallLog::with_capacity(calls as usize);
    let mut state = 1;
    for index in 0..calls {
        let due_ns = index * TRIAL_NS / calls;
        let ready_ns = due_ns;
        let sent_ns = ready_ns + chance(&mut state, 80_000);
        let service_ns = 500_000 + chance(&mut state, 4_000_000);
        let queued_ns = chance(&mut state, 300_000);
        let done_ns = sent_ns + queued_ns + service_ns + 120_000 + chance(&mut state, 60_000);
        let on_wire = OnWire::new(sent_ns + 9_000, done_ns - chance(&mut state, 20_000));
        let backend = chance(&mut state, BACKENDS.into()) as u16;
        let outcome = Outcome::served(backend, queued_ns, service_ns);
        log.push(Entry { due_ns, ready_ns, sent_ns, done_ns, on_wire, outcome });
    }
    log
}

/// Does something and says how long it took, a part of the whole in parts of one agent.
fn timed<T>(what: &str, agents: u64, work: impl FnOnce() -> T) -> T {
    let begin = Instant::now();
    let result = work();
    let one_s = begin.elapsed().as_secs_f64();
    println!("{what:<38} {one_s:>8.3} s   x {agents} = {:>9.1} s", one_s * agents as f64);
    result
}

fn main() {
    let mut numbers = std::env::args().skip(1).map(|word| word.parse::<u64>().unwrap());
    let (calls, agents) = (numbers.next().unwrap_or(1_000_000), numbers.next().unwrap_or(100));
    let log = log_of(calls);
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    println!("{agents} agents x {calls} calls");
    let pieces: Vec<Vec<u8>> = timed("an agent packs its log", 1, || {
        calls::pieces(0, &log).map(|piece| piece.encode_to_vec()).collect()
    });
    let bytes: u64 = pieces.iter().map(|piece| piece.len() as u64).sum();
    println!(
        "on the way {:.1} bytes a call: {:.0} MiB, x {agents} = {:.0} MiB",
        bytes as f64 / calls as f64,
        mib(bytes),
        mib(bytes * agents)
    );
    let shipped = timed("the coordinator unpacks it", agents, || {
        let mut back = CallLog::default();
        for piece in &pieces {
            calls::append(&mut back, &Calls::decode(piece.as_slice()).unwrap()).unwrap();
        }
        back
    });
    let memory = size_of::<Entry>() as u64 * calls;
    println!("and keeps {:.0} MiB, x {agents} = {:.0} MiB", mib(memory), mib(memory * agents));
    let ids: Vec<String> = (0..BACKENDS).map(|index| format!("b{index}")).collect();
    let window = Window { start_ns: 0, end_ns: TRIAL_NS };
    let setting = Setting {
        window,
        spent: window,
        backend_ids: &ids,
        balancers: &[],
        zones: &[],
        mode: LoopMode::Open,
        through_proxy: true,
        times: Times::Apart,
        by_backend: false,
    };
    let folded = timed("the coordinator folds it", agents, || fold([&shipped], &setting));
    drop(shipped);
    let here = timed("or: an agent folds its log", 1, || fold([&log], &setting));
    assert_eq!(here, folded);
    let part = serde_json::to_vec(&here).unwrap();
    println!(
        "on the way {:.2} MiB, x {agents} = {:.0} MiB",
        mib(part.len() as u64),
        mib(part.len() as u64 * agents)
    );
    let read = timed("the coordinator reads the fold", agents, || {
        serde_json::from_slice::<Folded>(&part).unwrap()
    });
    let mut sum = folded;
    timed("and adds it up", agents, || sum.merge(&read));
}
