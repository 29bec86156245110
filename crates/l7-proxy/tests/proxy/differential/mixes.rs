//! Calls drawn by chance, many on one connection, woven into each other.

use proptest::prelude::*;
use testkit::{
    replay::Step,
    script::{Act, Plan},
    wire,
};

use super::{
    Case,
    bytes::{body, head, message, open, trailers, trailers_only},
    check,
};

/// One call of a mix.
#[derive(Clone, Debug)]
struct Drawn {
    request_bytes: Vec<usize>,
    response_bytes: Vec<usize>,
    metadata: Vec<(String, String)>,
    status: u8,
    ending: Ending,
    /// Attempts that are refused before.
    refusals: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// Head, messages, trailers.
    Trailers,
    /// One HEADERS frame.
    TrailersOnly,
    /// Everything the request had comes back.
    Echo,
    /// RST_STREAM in place of a response.
    Reset,
}

fn drawn() -> impl Strategy<Value = Drawn> {
    let size = prop_oneof![Just(0), 1_usize..100, 100_usize..20_000];
    let sizes = || proptest::collection::vec(size.clone(), 0..4);
    let name = prop_oneof![Just("x-a"), Just("x-b"), Just("x-c-bin")].prop_map(str::to_owned);
    let metadata = proptest::collection::vec((name, "[A-Za-z0-9+/]{0,40}"), 0..6);
    let ending = prop_oneof![
        4 => Just(Ending::Trailers),
        2 => Just(Ending::TrailersOnly),
        3 => Just(Ending::Echo),
        1 => Just(Ending::Reset),
    ];
    (sizes(), sizes(), metadata, 0_u8..17, ending, prop_oneof![5 => Just(0_usize), 1 => 1_usize..3])
        .prop_map(|(request_bytes, response_bytes, metadata, status, ending, refusals)| Drawn {
            request_bytes,
            response_bytes,
            metadata,
            status,
            ending,
            refusals,
        })
}

impl Drawn {
    /// The frames of the request, to be woven into those of others.
    fn frames(&self, stream: u32, name: &str) -> Vec<Vec<u8>> {
        let more: Vec<_> =
            self.metadata.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let mut frames = vec![open(stream, name, &more)];
        frames.extend(self.request_bytes.iter().map(|bytes| body(stream, &message(*bytes), false)));
        frames.push(wire::data(stream, &[], true));
        frames
    }

    fn plans(&self) -> Vec<Plan> {
        let refused = vec![Act::AwaitEnd, Act::Reset(wire::code::REFUSED_STREAM)];
        let more: Vec<_> =
            self.metadata.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let status = self.status.to_string();
        let mut plan = vec![];
        if self.ending == Ending::TrailersOnly {
            plan.extend([Act::AwaitEnd, trailers_only(&status, &more)]);
        } else if self.ending == Ending::Echo {
            plan.extend([head(&more), Act::Echo, trailers(&status, &more)]);
        } else {
            plan.push(Act::AwaitEnd);
            if self.ending == Ending::Reset {
                // Behind a head, how much of the response is seen is a matter of time.
                return vec![vec![Act::AwaitEnd, Act::Reset(wire::code::INTERNAL_ERROR)]];
            }
            plan.push(head(&more));
            plan.extend(self.response_bytes.iter().map(|bytes| Act::Data(message(*bytes))));
            plan.push(trailers(&status, &more));
        }
        let mut plans = vec![refused; self.refusals()];
        plans.push(plan);
        plans
    }

    /// Only what fits the replay buffer with ease can be refused and go on.
    fn refusals(&self) -> usize {
        let fits = self.request_bytes.iter().sum::<usize>() < 32 << 10;
        if fits && self.ending != Ending::Reset { self.refusals } else { 0 }
    }

    fn end(&self) -> String {
        match self.ending {
            Ending::Reset => "reset 2".to_owned(),
            _ => format!("grpc {}", self.status),
        }
    }
}

fn case(calls: &[Drawn], order: &[usize], cut_bytes: usize) -> Case {
    let mut case = Case::new(format!("{calls:?}"));
    case.recording.cut_bytes = cut_bytes;
    let streams: Vec<_> = (0..calls.len()).map(|index| 2 * index as u32 + 1).collect();
    let names: Vec<_> = (0..calls.len()).map(|index| format!("{index:02}")).collect();
    let mut left: Vec<_> = calls
        .iter()
        .zip(streams.iter().zip(&names))
        .map(|(call, (stream, name))| call.frames(*stream, name).into_iter())
        .collect();
    // Streams open in the order of their identifiers (RFC 9113, section 5.1.1).
    let opened: Vec<_> = left.iter_mut().filter_map(Iterator::next).flatten().collect();
    let mut bytes = opened;
    for index in
        order.iter().chain(&(0..calls.len()).cycle().take(calls.len() * 6).collect::<Vec<_>>())
    {
        let index = index % calls.len();
        bytes.extend(left[index].next().unwrap_or_default());
    }
    case = case.send(bytes);
    for ((call, name), stream) in calls.iter().zip(&names).zip(&streams) {
        for plan in call.plans() {
            case = case.plan(name, plan);
        }
        case = case.step(Step::AwaitEnd(*stream));
    }
    let client: Vec<_> = calls
        .iter()
        .zip(&streams)
        .map(|(call, stream)| format!("{stream} {}", call.end()))
        .collect();
    let backend: Vec<_> = calls
        .iter()
        .zip(&names)
        .flat_map(|(call, name)| vec![format!("{name} whole"); 1 + call.refusals()])
        .collect();
    case.ends(&client.join(", "), &backend.join(", "))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 64, ..ProptestConfig::default() })]

    #[test]
    fn mixes_of_calls_come_out_the_same(
        calls in proptest::collection::vec(drawn(), 1..9),
        order in proptest::collection::vec(any::<usize>(), 0..40),
        cut_bytes in prop_oneof![Just(0_usize), 1_usize..3_000],
    ) {
        if let Err(difference) = check(&case(&calls, &order, cut_bytes)) {
            prop_assert!(false, "{}", difference);
        }
    }
}
