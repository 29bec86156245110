//! No circle of modules: what a module uses does not use it in turn, directly or by way of
//! others. A list and its entries, which are a module and those below it, may.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

type Module = Vec<String>;

/// The modules of a crate with their sources, without tests and comments.
fn modules(root: &Path, at: &[String], into: &mut BTreeMap<Module, String>) {
    for entry in fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let mut module = at.to_vec();
        if !matches!(&*stem, "lib" | "main" | "mod") {
            module.push(stem.clone());
        }
        if path.is_dir() {
            modules(&path, &module, into);
        } else if stem != "tests" && path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
            let lines = code.lines().map(|line| line.split("//").next().unwrap_or_default());
            into.insert(module, lines.collect::<Vec<_>>().join("\n"));
        }
    }
}

/// The paths of one crate that a source names: those of `use` with their braces resolved,
/// and those in the code.
fn paths(text: &str, into: &mut Vec<Vec<String>>) {
    for start in ["crate::", "super::"] {
        for (at, _) in text.match_indices(start) {
            if !text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':') {
                tree(&text[at..], &[], into);
            }
        }
    }
}

/// Reads a path or a tree of paths, and returns what is left of the text.
fn tree<'t>(mut text: &'t str, before: &[String], into: &mut Vec<Vec<String>>) -> &'t str {
    let mut path = before.to_vec();
    loop {
        text = text.trim_start();
        if let Some(mut inner) = text.strip_prefix('{') {
            loop {
                inner = tree(inner, &path, into).trim_start();
                inner = match inner.strip_prefix(',') {
                    Some(rest) if !rest.trim_start().starts_with('}') => rest,
                    rest => return rest.unwrap_or(inner).trim_start().trim_start_matches('}'),
                };
            }
        }
        let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
        path.push(text[..end].to_owned());
        text = &text[end..];
        match text.strip_prefix("::") {
            Some(rest) if end > 0 => text = rest,
            _ => break,
        }
    }
    into.push(path);
    let end = text.find([',', '}', ';', '\n']).unwrap_or(text.len());
    &text[end..]
}

/// Which module a path of another leads to.
fn target(path: &[String], from: &Module, known: &BTreeMap<Module, String>) -> Module {
    let ups = path.iter().take_while(|part| *part == "super").count();
    let mut module = match path[0].as_str() {
        "crate" => Vec::new(),
        _ => from[..from.len().saturating_sub(ups)].to_vec(),
    };
    for part in &path[ups.max(1)..] {
        module.push(part.clone());
        if !known.contains_key(&module) {
            module.pop();
            break;
        }
    }
    module
}

/// What is used by which among the modules right below a folder.
fn siblings(folder: &[String], uses: &[(Module, Module)]) -> BTreeMap<String, BTreeSet<String>> {
    let mut graph: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (from, to) in uses {
        let depth = folder.len();
        if from.starts_with(folder)
            && to.starts_with(folder)
            && let (Some(from), Some(to)) = (from.get(depth), to.get(depth))
            && from != to
        {
            graph.entry(from.clone()).or_default().insert(to.clone());
        }
    }
    graph
}

/// Whether a module reaches itself.
fn is_in_circle(start: &str, graph: &BTreeMap<String, BTreeSet<String>>) -> bool {
    let (mut seen, mut open) = (BTreeSet::new(), vec![start]);
    while let Some(at) = open.pop() {
        for next in graph.get(at).into_iter().flatten() {
            if next == start {
                return true;
            }
            if seen.insert(next) {
                open.push(next);
            }
        }
    }
    false
}

/// The folders of a crate in which modules make a circle.
fn circles(root: &Path) -> Vec<String> {
    let mut known = BTreeMap::from([(Vec::new(), String::new())]);
    modules(&root.join("src"), &[], &mut known);
    let mut uses = Vec::new();
    for (module, text) in &known {
        let mut found = Vec::new();
        paths(text, &mut found);
        uses.extend(found.iter().map(|path| (module.clone(), target(path, module, &known))));
    }
    let folders: BTreeSet<&[String]> =
        known.keys().flat_map(|module| (0..module.len()).map(|depth| &module[..depth])).collect();
    let turns = |folder: &&[String]| {
        let graph = siblings(folder, &uses);
        graph.keys().any(|module| is_in_circle(module, &graph))
    };
    folders.into_iter().filter(turns).map(|folder| folder.join("/")).collect()
}

#[test]
fn modules_make_no_circle() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    for entry in fs::read_dir(crates).unwrap() {
        let path = entry.unwrap().path();
        if !path.is_dir() {
            continue;
        }
        let name = path.file_name().unwrap().to_str().unwrap();
        assert_eq!(circles(&path), [""; 0], "{name}: in which folders modules make a circle");
    }
}
