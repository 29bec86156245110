//! `loadgen init --target HOST:PORT`: asks a service for its interface and writes a
//! scenario that calls one of its methods.

use std::{
    fs::File,
    io::{ErrorKind, Write as _},
    path::PathBuf,
    time::Duration,
};

use generator::client::{self, describe};
use grpc_call::{Interface, Kind, Method};

use super::target::TlsArgs;
use crate::{
    exit::{self, Failure},
    external::{Target, TlsOptions},
    lab,
    service::what_it_speaks_instead,
    ui::print,
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The service, or a balancer before it; it has to have server reflection.
    #[arg(long, value_name = "[https://]HOST:PORT")]
    target: Target,
    #[command(flatten)]
    tls: TlsArgs,
    /// The method to call [default: the first that is unary].
    #[arg(long, value_name = "METHOD")]
    method: Option<String>,
    /// The file to write; it must not be there [default: METHOD.toml].
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub(super) fn main(args: &Args) -> Result<u8, Failure> {
    let interface = ask(&args.target, &args.tls.options())?;
    let methods = interface.methods();
    let method = match &args.method {
        Some(name) => interface
            .method(name)
            .map_err(|reason| Failure::bad_input(format!("--method {name}: {reason}")))?,
        None => {
            let unary = methods.iter().find(|method| method.kind() == Kind::Unary);
            let first = unary.or(methods.first()).cloned();
            first.ok_or_else(|| Failure::bad_input("the service has no method to call"))?
        }
    };
    let file = args.out.clone().unwrap_or_else(|| file_name(&method));
    let target = &args.target;
    write_new(&file, &scenario(&method))?;
    let mut text = format!("{target} has\n");
    for other in &methods {
        let (name, kind) = (other.name(), other.kind().name());
        text.push_str(&format!("  {name} ({kind}): {}\n", other.request_name()));
    }
    print(&format!(
        "{text}\nwrote {} for {}; look at its request, then\n  loadgen --scenario {} --target \
         {target}{}\n",
        file.display(),
        method.name(),
        file.display(),
        if target.tls { " and the same flags for TLS, if any" } else { "" },
    ))?;
    Ok(exit::FINE)
}

fn ask(target: &Target, tls: &TlsOptions) -> Result<Interface, Failure> {
    let authority = &target.authority;
    let trust = target.trust(tls)?;
    let failed = |message: String| Failure::lab(format!("--target {target}: {message}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| failed(format!("no runtime to ask from: {error}")))?;
    runtime.block_on(async {
        let endpoint = client::endpoint(authority, authority, trust.as_ref())
            .map_err(|error| failed(describe(&error)))?;
        let endpoint = endpoint.connect_timeout(CONNECT_TIMEOUT).timeout(CONNECT_TIMEOUT);
        let instead = || {
            let addresses = lab::resolve(authority).unwrap_or_default();
            what_it_speaks_instead(&addresses, authority, target.tls)
        };
        let channel = client::connect_channel(&endpoint, trust.as_ref()).await;
        let channel =
            channel.map_err(|error| failed(instead().unwrap_or_else(|| describe(&error))))?;
        let asked = grpc_call::reflect(channel).await;
        asked.map_err(|error| failed(instead().unwrap_or_else(|| error.to_string())))
    })
}

/// The method's own name, in lower case.
fn file_name(method: &Method) -> PathBuf {
    let name = method.name();
    let own = name.rsplit('/').next().unwrap_or("service");
    PathBuf::from(format!("{}.toml", own.to_ascii_lowercase()))
}

fn write_new(file: &PathBuf, text: &str) -> Result<(), Failure> {
    let created = File::create_new(file).and_then(|mut file| file.write_all(text.as_bytes()));
    created.map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => Failure::bad_input(format!(
            "{} is there already; name another file with --out",
            file.display()
        )),
        _ => Failure::writing(file.display().to_string(), &error),
    })
}

/// A scenario that calls the method, with what a reader may want to change: the text of the file.
fn scenario(method: &Method) -> String {
    let (name, kind) = (method.name(), method.kind());
    let (request, response) = (method.request_name(), method.response_name());
    let stream = match kind {
        Kind::Unary => "",
        Kind::ServerStream => STREAM_OF_RESPONSES,
        Kind::ClientStream => STREAM_OF_REQUESTS,
        Kind::Bidi => STREAM_OF_BOTH,
    };
    let body = format!("{:#}", method.example());
    format!(
        r#"# Written by `loadgen init`; docs/your-service.md explains every part.
question = "How does {name} behave under load?"

[service]
# The service is asked for its interface; or: proto = ["service.proto"]
reflection = true
# Where an answer says which replica it comes from. Without it, how calls spread
# over replicas is not known.
# identity = {{ header = "x-served-by" }}

[[service.call]]
# {kind}: {request} -> {response}
method = "{name}"
# Templates differ from call to call: {{{{ seq() }}}}, {{{{ uuid() }}}}, {{{{ int(1, 9) }}}},
# {{{{ choice(["a", "b"]) }}}}.
request = '''
{body}
'''
# A token stays out of records when it comes from the environment:
# metadata = {{ authorization = "Bearer {{{{ env('TOKEN') }}}}" }}
# deadline = "1s"
# What a successful call has to come back with:
# expect = {{ status = "OK", fields = {{ "$.field" = "value" }} }}
{stream}
[load]
# Calls on a schedule that does not wait for answers, as many users make them.
loop = "open"
connections = 4
rate = "50/s"
duration = "10s"

[run]
repeats = 3

[short]
duration = "2s"
repeats = 1

[expect]
claims = ["target.error_rate == 0%"]
"#,
        kind = kind.name(),
    )
}

const STREAM_OF_REQUESTS: &str = "\
# Requests of a call, and the pause between them:
messages = 3
pause = \"10ms\"
";
const STREAM_OF_RESPONSES: &str = "\
# Responses after which the client ends the call; without it the server does:
# responses = 3
";
const STREAM_OF_BOTH: &str = "\
# Requests of a call, and the pause between them:
messages = 3
pause = \"10ms\"
# Responses after which the client ends the call; without it the server does:
# responses = 3
";
