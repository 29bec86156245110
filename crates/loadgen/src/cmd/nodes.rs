//! `--on`: flags of a run on several nodes.

use std::time::Duration;

use scenario::{Library, Setting};

use crate::{exit::Failure, run::nodes::Wanted};

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "On several nodes")]
pub(super) struct NodesArgs {
    /// Run on several nodes, on each of which an engine starts an agent: local, slurm,
    /// kubernetes, ssh, or another of scenarios/engines.
    #[arg(long, value_name = "ENGINE")]
    on: Option<String>,

    /// How many nodes; as many as hosts where those are named.
    #[arg(long, value_name = "N", requires = "on",
          value_parser = clap::value_parser!(u32).range(1..=agents::NODES as i64))]
    nodes: Option<u32>,

    /// The hosts that are the nodes, with commas, for engines that take some.
    #[arg(long = "hosts", value_name = "HOST,...", value_delimiter = ',', requires = "on")]
    node_hosts: Vec<String>,

    /// Where agents find this process, which listens there: HOST:PORT, with port 0 for any
    /// [default: this machine's host name; 127.0.0.1 for local].
    #[arg(long, value_name = "HOST:PORT", requires = "on")]
    coordinator: Option<String>,

    /// How long to wait until an agent runs on every node.
    #[arg(long, value_name = "TIME", default_value = "60s", requires = "on",
          value_parser = units::duration::parse)]
    join_timeout: Duration,

    /// Most calls of a trial whose log is shipped to the coordinator, which takes 64 bytes
    /// for each. Of more, nodes fold their own, and the figures add up exactly all the same.
    #[arg(long, value_name = "N", default_value = "8000000", requires = "on",
          value_parser = clap::value_parser!(u64).range(1..))]
    ship_calls: u64,

    /// An option of the engine, as its engine.toml lists them. May be given again.
    #[arg(long = "engine-set", value_name = "KEY=VALUE", requires = "on")]
    options: Vec<String>,
}

impl NodesArgs {
    /// What is wanted, for a scenario that is made so.
    pub(super) fn wanted(
        &self,
        library: &Library,
        short: bool,
        settings: &[Setting],
    ) -> Result<Option<Wanted>, Failure> {
        let Some(name) = &self.on else { return Ok(None) };
        let mut engine = library.engine(name).map_err(Failure::bad_input)?;
        for text in &self.options {
            let Some((key, value)) = text.split_once('=') else {
                let wrong = format!("--engine-set {text}: expected KEY=VALUE");
                return Err(Failure::bad_input(wrong));
            };
            engine.set(key, value).map_err(Failure::bad_input)?;
        }
        let nodes = match (self.nodes, self.node_hosts.len()) {
            (Some(nodes), 0) if !engine.needs_hosts() => nodes as usize,
            (None, hosts) if hosts > 0 && hosts <= agents::NODES => hosts,
            (Some(nodes), hosts) if hosts == nodes as usize => hosts,
            (None, 0) if !engine.needs_hosts() => {
                return Err(Failure::bad_input(format!(
                    "--on {name}: how many nodes? add --nodes N"
                )));
            }
            _ => {
                return Err(Failure::bad_input(format!(
                    "--on {name}: name a host for each node by --hosts a,b,c, and leave --nodes \
                     out"
                )));
            }
        };
        if !self.node_hosts.is_empty() && !engine.needs_hosts() {
            return Err(Failure::bad_input(format!(
                "--hosts: {name} chooses hosts by itself; take it out"
            )));
        }
        Ok(Some(Wanted {
            engine,
            nodes,
            hosts: self.node_hosts.clone(),
            coordinator: self.coordinator.as_deref().map(host_and_port).transpose()?,
            join_timeout: self.join_timeout,
            ship_calls: self.ship_calls,
            short,
            settings: settings.to_vec(),
        }))
    }

    /// The flags as they were written.
    pub(super) fn words(&self) -> Vec<String> {
        let Some(on) = &self.on else { return Vec::new() };
        let nodes = self.nodes.map(|nodes| format!("--nodes {nodes}"));
        let hosts =
            (!self.node_hosts.is_empty()).then(|| format!("--hosts {}", self.node_hosts.join(",")));
        let options = self.options.iter().map(|option| format!("--engine-set {option}"));
        [format!("--on {on}")].into_iter().chain(nodes).chain(hosts).chain(options).collect()
    }
}

/// A host with a port. An IPv6 address is in brackets.
fn host_and_port(text: &str) -> Result<(String, u16), Failure> {
    let wrong = || {
        Failure::bad_input(format!("--coordinator {text}: expected HOST:PORT, as in 10.0.0.1:7077"))
    };
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if host.is_empty() {
        return Err(wrong());
    }
    Ok((host.to_owned(), port.parse().map_err(|_| wrong())?))
}
