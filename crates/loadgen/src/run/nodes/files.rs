//! The files that a scenario names, on their way to the nodes.
//!
//! Paths from the scenario's folder mean the same on a node: its files are put into a tree
//! like the one they were read from, so that nothing in the scenario is rewritten. A path
//! from the root is the node's own, as on a shared file system, and servers of the user's
//! own run in the folder that they would run in here, where a node has it.

use std::{
    fs,
    path::{Component, Path, PathBuf},
};

use agents::wire;
use scenario::{Scenario, ScenarioSource, Servers};

use crate::exit::Failure;

/// Bytes that all of them may have together, in one message with whatever else there is.
const MOST_BYTES: usize = agents::MESSAGE_BYTES - (8 << 20);

/// The folder that paths in a scenario are from.
///
/// # Errors
/// When this process has no working folder.
pub(super) fn folder_of(source: &ScenarioSource) -> Result<PathBuf, Failure> {
    let folder = Path::new(source.file()).parent().unwrap_or(Path::new(""));
    // An empty path is that of no folder.
    std::path::absolute(Path::new(".").join(folder)).map(|path| plain(&path)).map_err(Failure::lab)
}

/// Reads the files that a scenario names by paths from its folder.
///
/// # Errors
/// When one can't be read, or they are too large to be sent.
pub(super) fn read(scenario: &Scenario, folder: &Path) -> Result<Vec<wire::File>, Failure> {
    let mut files = Vec::new();
    for name in scenario.files().iter().filter(|name| name.is_relative()) {
        let content = fs::read(folder.join(name)).map_err(|error| {
            Failure::bad_input(format!("cannot read {}: {error}", name.display()))
        })?;
        let path = plain(&folder.join(name)).to_string_lossy().into_owned();
        files.push(wire::File { path, content });
    }
    let bytes: usize = files.iter().map(|file| file.content.len()).sum();
    if bytes > MOST_BYTES {
        let mib = |bytes: usize| bytes.div_ceil(1 << 20);
        return Err(Failure::bad_input(format!(
            "scenario {} reads {} MiB from its files, and nodes are sent {} at most; put the \
             files at the same place on all nodes and name them by paths from the root",
            scenario.name,
            mib(bytes),
            mib(MOST_BYTES)
        )));
    }
    Ok(files)
}

/// Where a path from the root is in a tree that is like the whole.
pub(super) fn within(tree: &Path, path: &Path) -> PathBuf {
    tree.join(plain(path).strip_prefix("/").unwrap_or(Path::new("")))
}

/// Has the user's own servers run where they would on the coordinator's machine, in a folder
/// below `folder`, in place of where that is in `tree`; unless the node has no such folder.
pub(super) fn run_in(scenario: &mut Scenario, folder: &Path, tree: &Path) {
    let points = scenario.sweep.iter_mut().flat_map(|sweep| &mut sweep.points);
    points.for_each(|point| run_in(&mut point.scenario, folder, tree));
    let Servers::Started(command) = &mut scenario.servers else { return };
    let Ok(rest) = command.folder.strip_prefix(within(tree, folder)) else { return };
    // A folder that the scenario names has no other: what is missing is told by its name.
    if folder.is_dir() || !rest.as_os_str().is_empty() {
        command.folder = folder.join(rest);
    }
}

/// A path from the root without `.` and `..`, as its text reads.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                plain.pop();
            }
            Component::CurDir => {}
            part => plain.push(part),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_at_the_same_place_in_a_tree() {
        let tree = Path::new("/tree");
        for (path, expected) in [
            ("/home/me/own.toml", "/tree/home/me/own.toml"),
            ("/home/me/../you/./a.csv", "/tree/home/you/a.csv"),
            ("/../../etc/passwd", "/tree/etc/passwd"),
            ("/", "/tree"),
        ] {
            assert_eq!(within(tree, Path::new(path)), Path::new(expected));
        }
    }

    fn scenario(folder: &Path, text: &str) -> Scenario {
        let text = format!(
            "question = \"Own?\"\n{text}\n[load]\nloop = \"open\"\nconnections = 1\n\
             rate = \"10/s\"\nduration = \"1s\"\nrequest_bytes = \"file:../sizes\"\n\
             [run]\npeers = [\"direct\"]\n"
        );
        let file = folder.join("own.toml").display().to_string();
        let source = ScenarioSource::parse("own", &file, &text, &["direct".to_owned()]).unwrap();
        source.resolve(false, &[]).unwrap()
    }

    #[test]
    fn files_that_a_scenario_names_are_read_into_a_tree_of_the_same_shape() {
        let tree = tempfile::tempdir().unwrap();
        let folder = tree.path().join("a/b");
        fs::create_dir_all(&folder).unwrap();
        fs::write(tree.path().join("a/sizes"), "7\n").unwrap();
        let scenario = scenario(&folder, "");
        let files = read(&scenario, &folder).unwrap();
        let sizes = tree.path().join("a/sizes").display().to_string();
        let expected = [wire::File { path: sizes, content: b"7\n".to_vec() }];
        assert_eq!(files, expected);
    }

    #[test]
    fn own_servers_run_where_the_scenario_is_or_where_its_files_are() {
        let tree = tempfile::tempdir().unwrap();
        let here = tempfile::tempdir().unwrap();
        let sent = within(tree.path(), here.path());
        fs::create_dir_all(&sent).unwrap();
        fs::write(sent.parent().unwrap().join("sizes"), "7\n").unwrap();
        let folder_of = |text: &str, folder: &Path| {
            let mut scenario = scenario(&sent, &format!("[backends]\n{text}"));
            run_in(&mut scenario, folder, tree.path());
            scenario.servers.command().unwrap().folder.clone()
        };
        let command = "command = [\"s\", \"{port}\"]";
        assert_eq!(folder_of(command, here.path()), here.path());
        let below = format!("{command}\nfolder = \"bin\"");
        assert_eq!(folder_of(&below, here.path()), here.path().join("bin"));
        let elsewhere = format!("{command}\nfolder = \"/opt\"");
        assert_eq!(folder_of(&elsewhere, here.path()), Path::new("/opt"));
        // A node without the folder.
        let gone = here.path().to_owned();
        drop(here);
        assert_eq!(folder_of(command, &gone), sent);
    }
}
