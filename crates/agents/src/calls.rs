//! Call logs in pieces that fit a message, and back: exactly, entry for entry.
//!
//! A call takes 64 bytes in memory and some 20 to 25 in a message: times are differences,
//! which are short, and protobuf writes short numbers in few bytes.

use measure::calllog::{CallLog, Entry, FailureKind, OnWire, Outcome};

use crate::wire::Calls;

/// Calls of a piece, at most: with each number at its longest they are less than a
/// message may have.
const CALLS_A_PIECE: usize = 16_384;

const SERVED: u32 = 0;
const UNFINISHED: u32 = 1;
const NOT_SENT: u32 = 2;
/// Failures from here on: statuses by their codes, then the others.
const FAILED: u32 = 3;
/// What failed without a status, in the order of their numbers.
const WITHOUT_STATUS: [FailureKind; 5] = [
    FailureKind::WrongPayload,
    FailureKind::UnknownBackend,
    FailureKind::ConnectionLost,
    FailureKind::NoPort,
    FailureKind::NoDescriptor,
];
/// Codes of gRPC's statuses, of which the first is none.
const STATUSES: u32 = 17;

/// What another sends as calls that are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadCalls {
    /// The lists are of different lengths, or too long.
    #[error("a piece of a call log whose lists don't fit each other")]
    Lengths,
    /// A call had an outcome that there is not.
    #[error("a piece of a call log with an unknown outcome")]
    Outcome,
}

/// A log in pieces, in order; none of a log without calls.
pub fn pieces(number: u32, log: &CallLog) -> impl Iterator<Item = Calls> {
    log.entries().chunks(CALLS_A_PIECE).map(move |entries| piece(number, entries))
}

fn piece(log: u32, entries: &[Entry]) -> Calls {
    let mut calls = Calls { log, ..Calls::default() };
    let mut before_ns = 0;
    for entry in entries {
        // Wrapping, so that whatever stands in an entry comes back.
        calls.due.push(entry.due_ns.wrapping_sub(before_ns).cast_signed());
        before_ns = entry.due_ns;
        calls.waited.push(entry.ready_ns.wrapping_sub(entry.due_ns));
        calls.late.push(entry.sent_ns.wrapping_sub(entry.ready_ns));
        calls.took.push(entry.done_ns.wrapping_sub(entry.sent_ns));
        let on_wire = entry.on_wire.map_or((0, 0), |seen| {
            (seen.written_ns().wrapping_sub(entry.sent_ns), seen.took_ns().wrapping_add(1))
        });
        calls.written.push(on_wire.0);
        calls.arrived.push(on_wire.1);
        calls.outcome.push(number(entry.outcome));
        if let Outcome::Served { backend, queued, service } = entry.outcome {
            calls.backend.push(backend.into());
            calls.queued.push(queued.get());
            calls.service.push(service.get());
        }
    }
    calls
}

fn number(outcome: Outcome) -> u32 {
    match outcome {
        Outcome::Served { .. } => SERVED,
        Outcome::Unfinished => UNFINISHED,
        Outcome::NotSent => NOT_SENT,
        Outcome::Failed(FailureKind::Status(code)) => FAILED + u32::from(code),
        Outcome::Failed(kind) => {
            let at = WITHOUT_STATUS.iter().position(|known| *known == kind).unwrap_or(0);
            FAILED + STATUSES + u32::try_from(at).unwrap_or(0)
        }
    }
}

fn failure(number: u32) -> Option<FailureKind> {
    let code = number.checked_sub(FAILED)?;
    match code.checked_sub(STATUSES) {
        None if code > 0 => Some(FailureKind::Status(u8::try_from(code).ok()?)),
        None => None,
        Some(at) => WITHOUT_STATUS.get(usize::try_from(at).ok()?).copied(),
    }
}

/// Adds a piece to the log that it is of.
///
/// # Errors
/// When it is none. The log then has a part of it.
pub fn append(log: &mut CallLog, calls: &Calls) -> Result<(), BadCalls> {
    let count = calls.due.len();
    let alike = [
        calls.waited.len(),
        calls.late.len(),
        calls.took.len(),
        calls.written.len(),
        calls.arrived.len(),
        calls.outcome.len(),
    ];
    let served = calls.backend.len();
    if count > CALLS_A_PIECE
        || alike.iter().any(|&length| length != count)
        || [calls.queued.len(), calls.service.len()].iter().any(|&length| length != served)
    {
        return Err(BadCalls::Lengths);
    }
    let mut at_backends = calls.backend.iter().zip(&calls.queued).zip(&calls.service);
    let mut due_ns = 0_u64;
    for index in 0..count {
        due_ns = due_ns.wrapping_add_signed(calls.due[index]);
        let ready_ns = due_ns.wrapping_add(calls.waited[index]);
        let sent_ns = ready_ns.wrapping_add(calls.late[index]);
        let done_ns = sent_ns.wrapping_add(calls.took[index]);
        let written_ns = sent_ns.wrapping_add(calls.written[index]);
        let took_ns = calls.arrived[index].checked_sub(1);
        let on_wire =
            took_ns.and_then(|took_ns| OnWire::new(written_ns, written_ns.wrapping_add(took_ns)));
        let outcome = match calls.outcome[index] {
            SERVED => {
                let ((&backend, &queued), &service) =
                    at_backends.next().ok_or(BadCalls::Lengths)?;
                let backend = u16::try_from(backend).map_err(|_| BadCalls::Outcome)?;
                Outcome::served(backend, queued, service)
            }
            UNFINISHED => Outcome::Unfinished,
            NOT_SENT => Outcome::NotSent,
            other => Outcome::Failed(failure(other).ok_or(BadCalls::Outcome)?),
        };
        log.push(Entry { due_ns, ready_ns, sent_ns, done_ns, on_wire, outcome });
    }
    if at_backends.next().is_some() { Err(BadCalls::Lengths) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;
    use crate::MESSAGE_BYTES;

    fn entries() -> impl Strategy<Value = Vec<Entry>> {
        let outcome = prop_oneof![
            (any::<u16>(), any::<u64>(), any::<u64>())
                .prop_map(|(backend, queued, service)| Outcome::served(backend, queued, service)),
            (1_i32..17).prop_map(|code| Outcome::Failed(FailureKind::from_status(code))),
            prop::sample::select(WITHOUT_STATUS.to_vec()).prop_map(Outcome::Failed),
            Just(Outcome::Unfinished),
            Just(Outcome::NotSent),
        ];
        let one = (any::<[u64; 4]>(), any::<Option<[u64; 2]>>(), outcome).prop_map(
            |([due_ns, ready_ns, sent_ns, done_ns], on_wire, outcome)| Entry {
                due_ns,
                ready_ns,
                sent_ns,
                done_ns,
                on_wire: on_wire.and_then(|[written, arrived]| OnWire::new(written, arrived)),
                outcome,
            },
        );
        prop::collection::vec(one, 0..40)
    }

    proptest! {
        #[test]
        fn every_entry_comes_back_as_it_was(entries in entries()) {
            let mut log = CallLog::default();
            entries.iter().for_each(|&entry| log.push(entry));
            let mut back = CallLog::default();
            for piece in pieces(3, &log) {
                let sent = piece.encode_to_vec();
                append(&mut back, &Calls::decode(sent.as_slice()).unwrap()).unwrap();
            }
            prop_assert_eq!(back.entries(), log.entries());
        }

        #[test]
        fn what_is_no_piece_is_an_error_and_no_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            if let Ok(calls) = Calls::decode(bytes.as_slice()) {
                let fits = calls.waited.len() == calls.due.len();
                prop_assert!(append(&mut CallLog::default(), &calls).is_err() || fits);
            }
        }
    }

    #[test]
    fn a_long_log_is_cut_and_the_longest_piece_fits_a_message() {
        let mut log = CallLog::default();
        for index in 0..=CALLS_A_PIECE as u64 {
            let far = if index % 2 == 0 { u64::MAX } else { 0 };
            let outcome = Outcome::served(u16::MAX, u64::MAX, u64::MAX);
            let (ready_ns, sent_ns, done_ns) = (far / 2, far, far / 3);
            let on_wire = OnWire::new(0, u64::MAX - 1);
            log.push(Entry { due_ns: far, ready_ns, sent_ns, done_ns, on_wire, outcome });
        }
        let pieces: Vec<Calls> = pieces(0, &log).collect();
        assert_eq!(pieces.len(), 2);
        assert!(pieces[0].encoded_len() < MESSAGE_BYTES, "{}", pieces[0].encoded_len());
    }

    #[test]
    fn pieces_that_don_t_fit_are_refused() {
        let mut log = CallLog::default();
        let times = Entry {
            due_ns: 5,
            ready_ns: 6,
            sent_ns: 7,
            done_ns: 8,
            on_wire: None,
            outcome: Outcome::served(1, 2, 3),
        };
        log.push(times);
        let good = piece(0, log.entries());
        let refused = |change: &dyn Fn(&mut Calls)| {
            let mut bad = good.clone();
            change(&mut bad);
            append(&mut CallLog::default(), &bad).unwrap_err()
        };
        assert_eq!(refused(&|calls| calls.waited.clear()), BadCalls::Lengths);
        assert_eq!(refused(&|calls| calls.backend.clear()), BadCalls::Lengths);
        assert_eq!(refused(&|calls| calls.outcome[0] = UNFINISHED), BadCalls::Lengths);
        assert_eq!(refused(&|calls| calls.backend[0] = 1 << 16), BadCalls::Outcome);
        for outcome in [FAILED, FAILED + STATUSES + 5, u32::MAX] {
            assert_eq!(refused(&|calls| calls.outcome[0] = outcome), BadCalls::Outcome);
        }
        let long = CALLS_A_PIECE + 1;
        assert_eq!(refused(&|calls| calls.due = vec![0; long]), BadCalls::Lengths);
    }
}
