//! The calculator: what each way to balance would come to at the reader's own numbers, from
//! a grid of simulations that the page carries. It needs no network, and the page's script.

use analysis::decide::Decision;
use measure::{calculator::Calculator, format};

use super::{column, head_row, section};
use crate::{html::Html, page::compact_table};

const SCRIPT: &str = include_str!("calculator.js");
const STYLE: &str = include_str!("calculator.css");

const HOW_TO_ADD: &str = "What other rates, clients and backends would come to is simulated \
    on request: `cargo run -p loadgen -- decide --calculator RUN`, with the folder of a run \
    such as that of connection-sweep.";

/// A question: its name in the script, what it is called, and what it is at first.
struct Input {
    name: &'static str,
    label: &'static str,
    value: String,
}

/// Writes the section; where no grid was simulated, how to have it.
pub(super) fn write(html: &mut Html, decision: &Decision) {
    let Some(calculator) = &decision.calculator else {
        return html.fine_print(HOW_TO_ADD);
    };
    // A number that is none has no place in JSON, and the grid has no such number.
    let Ok(grid) = serde_json::to_string(calculator) else { return };
    html.style(STYLE);
    section(html, "calculator", "What if: other rates, clients and backends", |html| {
        html.paragraph(&introduction(calculator));
        html.raw("<noscript><p>The calculator needs the page's script.</p></noscript>\n");
        html.tag("form", &[("id", "what-if"), ("data-grid", &grid)], |html| {
            inputs(calculator).iter().for_each(|input| field(html, input));
        });
        html.tag("p", &[("id", "what-if-load"), ("role", "status")], |_| {});
        compact_table(html, "What each way to balance would come to", |html| {
            head_row(html, |html| {
                column(html, "Way to balance", "", "");
                column(html, "Busiest backend", "Its share, even is 1 / backends", "num");
                column(html, "Mean", "", "num");
                column(html, "p50", "", "num");
                column(html, "p99", "", "num");
                column(html, "Cores", "CPU of the proxies", "num");
                column(html, "Price", "", "num");
                column(html, "This answer is", "", "");
            });
            html.tag("tbody", &[("id", "what-if-answers")], |_| {});
        });
        html.fine_print(&how(calculator));
    });
    html.raw("<script>\n");
    html.raw(SCRIPT);
    html.raw("</script>\n");
}

fn introduction(calculator: &Calculator) -> String {
    format!(
        "Simulated, not measured: with the times of the run {}. Of each backend, {} calls are \
         worked on at once. Below each value is the range in which 95 % of such set-ups lie.",
        calculator.run, calculator.concurrency
    )
}

fn how(calculator: &Calculator) -> String {
    format!(
        "Times are those in queues and in service, which grow with the service time at the same \
         load, and what calls were measured to spend on their way, at the rate nearest to yours. \
         How far the way moves a p99 is not known: its median is added to the lower end, its mean \
         to the value and its p99 to the upper end. Of more than 1,024 clients that balance by \
         themselves, 1,024 are simulated. Between the points of the grid ({} simulations each) values are interpolated. CPU \
         is the proxy's as it was measured per call, between the message sizes that were \
         measured on a straight line. One balancer knows all calls; streams have no limit.",
        calculator.seeds
    )
}

/// What is asked, beginning with what was measured.
fn inputs(calculator: &Calculator) -> Vec<Input> {
    let first = calculator.measured.last();
    let connections = first.map_or(64, |one| one.connections);
    let backends = first.map_or(4, |one| one.backends);
    let load = first.map_or(0.5, |one| one.load);
    let service_s = calculator.service_ns / 1e9;
    let servers = f64::from(backends * calculator.concurrency);
    let bytes = calculator.choices.iter().flat_map(|choice| &choice.costs);
    let bytes = bytes.map(|cost| cost.bytes).min().unwrap_or(64);
    let input = |name, label, value| Input { name, label, value };
    vec![
        input("rate", "Calls a second", format::decimals(load * servers / service_s, 0)),
        input("clients", "Clients", connections.to_string()),
        input("each", "Connections of each", "1".to_owned()),
        input("backends", "Backends", backends.to_string()),
        input("service", "Service time, ms", format::decimals(calculator.service_ns / 1e6, 3)),
        input("bytes", "Bytes of a call, both ways", bytes.to_string()),
        input("price", "Price of a core, a month", "25".to_owned()),
    ]
}

fn field(html: &mut Html, input: &Input) {
    html.tag("label", &[], |html| {
        html.text(input.label);
        html.raw("<input type=\"number\" min=\"0\" step=\"any\" ");
        html.attribute("name", input.name);
        html.attribute("value", &input.value);
        html.raw(">");
    });
}
