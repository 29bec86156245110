//! Flags for a call on a service of the user's own, and the scenario that a quick try
//! runs without one.

use std::path::{Path, PathBuf};

use scenario::{Library, ScenarioSource, Setting};

use crate::exit::Failure;

/// What a quick try runs: a gentle load.
const QUICK: &str = include_str!("quick.toml");

/// Each is the same as a key of `[service]` in a scenario.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "A service of your own (see docs/your-service.md)")]
pub(super) struct ServiceArgs {
    /// A method to call, in place of the scenario's calls: shop.v1.Orders/Place.
    #[arg(long, value_name = "METHOD")]
    pub(super) method: Option<String>,

    /// Its request as JSON, which may be a template; @FILE takes it from a file.
    #[arg(long, value_name = "JSON|@FILE", requires = "method")]
    data: Option<String>,

    /// Metadata of the call; may be given again. Records keep the name only.
    #[arg(long, value_name = "NAME:VALUE", requires = "method")]
    metadata: Vec<String>,

    /// A proto file that describes the service; may be given again.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["descriptor_set", "reflection"])]
    proto: Vec<PathBuf>,

    /// A folder in which imports of proto files are looked for; may be given again.
    #[arg(long, value_name = "FOLDER", requires = "proto")]
    proto_path: Vec<PathBuf>,

    /// The interface as `protoc --descriptor_set_out` wrote it.
    #[arg(long, value_name = "FILE", conflicts_with = "reflection")]
    descriptor_set: Option<PathBuf>,

    /// Ask the service for its interface.
    #[arg(long)]
    reflection: bool,
}

impl ServiceArgs {
    /// The scenario of a quick try.
    pub(super) fn quick(library: &Library) -> Result<ScenarioSource, Failure> {
        ScenarioSource::parse("quick", "", QUICK, library.peer_names()).map_err(Failure::bad_input)
    }

    /// What the flags set in the scenario.
    pub(super) fn settings(&self) -> Result<Vec<Setting>, Failure> {
        let mut settings = Vec::new();
        if !self.proto.is_empty() {
            let files = absolute("--proto", &self.proto)?;
            settings.push(Setting::list("service.proto", &files, origin("--proto", &self.proto)));
        }
        if !self.proto_path.is_empty() {
            let folders = absolute("--proto-path", &self.proto_path)?;
            let origin = origin("--proto-path", &self.proto_path);
            settings.push(Setting::list("service.include", &folders, origin));
        }
        if let Some(file) = &self.descriptor_set {
            let files = std::slice::from_ref(file);
            let path = absolute("--descriptor-set", files)?.remove(0);
            let origin = origin("--descriptor-set", files);
            settings.push(Setting::text("service.descriptor_set", path, origin));
        }
        if self.reflection {
            settings.push(Setting::new("service.reflection", "true", "--reflection"));
        }
        settings.extend(self.call()?);
        Ok(settings)
    }

    fn call(&self) -> Result<Option<Setting>, Failure> {
        let Some(method) = &self.method else { return Ok(None) };
        let mut call = vec![("method", text(method))];
        match self.data.as_deref().map(|data| (data, data.strip_prefix('@'))) {
            Some((_, Some(file))) => {
                let path = absolute("--data", &[PathBuf::from(file)])?.remove(0);
                call.push(("request_file", text(&path)));
            }
            Some((json, None)) => call.push(("request", text(json))),
            None => {}
        }
        let mut metadata = toml::Table::new();
        for pair in &self.metadata {
            let Some((name, value)) = pair.split_once(':') else {
                return Err(Failure::bad_input(format!(
                    "--metadata {pair}: expected NAME:VALUE, as in --metadata x-tenant:blue"
                )));
            };
            metadata.insert(name.trim().to_owned(), text(value.trim()));
        }
        call.push(("metadata", metadata.into()));
        let call: toml::Table =
            call.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        // Without values: it stands in the record.
        let names = self.metadata.iter().filter_map(|pair| pair.split_once(':'));
        let names = names.map(|(name, _)| format!(" --metadata {}", name.trim()));
        let origin = format!("--method {method}{}", names.collect::<String>());
        Ok(Some(Setting::value("service.call", vec![call].into(), origin)))
    }
}

fn text(text: &str) -> toml::Value {
    toml::Value::String(text.to_owned())
}

fn origin(flag: &str, paths: &[PathBuf]) -> String {
    let each = paths.iter().map(|path| format!("{flag} {}", path.display()));
    each.collect::<Vec<_>>().join(" ")
}

/// Paths of flags are the working folder's, and those of scenarios their file's.
fn absolute(flag: &str, paths: &[PathBuf]) -> Result<Vec<String>, Failure> {
    let absolute = |path: &PathBuf| {
        let whole = std::path::absolute(Path::new(path));
        let whole = whole.map_err(|error| Failure::bad_input(format!("{flag}: {error}")))?;
        let text = whole.to_str().map(str::to_owned);
        text.ok_or_else(|| {
            Failure::bad_input(format!("{flag} {}: a path that is no UTF-8", path.display()))
        })
    };
    paths.iter().map(absolute).collect()
}
