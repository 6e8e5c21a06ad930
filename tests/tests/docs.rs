//! The documentation says what the program does: keys, routes and kinds of errors are read from the sources, and
//! examples from the pages.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// All pages, by their path in the repository.
fn pages() -> BTreeMap<String, String> {
    let files = fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().file_name());
    let names = files.map(|name| format!("docs/{}", name.into_string().unwrap()));
    let names = names.filter(|name| name.ends_with(".md")).chain(["README.md".to_owned()]);
    names.map(|name| (name.clone(), read(&name))).collect()
}

/// All Rust sources below a folder.
fn sources(folder: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(fs::read_to_string(path).unwrap());
            }
        }
    }
    found
}

/// A fenced block: its language, its first line's number, its text.
struct Block {
    language: String,
    line: usize,
    text: String,
}

/// A page in two: its fenced blocks, and everything else.
fn split(page: &str) -> (Vec<Block>, String) {
    let (mut blocks, mut prose) = (Vec::new(), String::new());
    let mut open: Option<Block> = None;
    for (number, line) in page.lines().enumerate() {
        match (line.trim_start().strip_prefix("```"), open.take()) {
            (Some(language), None) => {
                open = Some(Block { language: language.to_owned(), line: number + 2, text: String::new() });
            }
            (Some(_), Some(block)) => blocks.push(block),
            (None, Some(mut block)) => {
                block.text.push_str(line);
                block.text.push('\n');
                open = Some(block);
            }
            (None, None) => {
                prose.push_str(line);
                prose.push('\n');
            }
        }
    }
    assert!(open.is_none(), "a block has no end");
    (blocks, prose)
}

/// What stands in backticks.
fn spans(prose: &str) -> Vec<&str> {
    prose.split('`').skip(1).step_by(2).collect()
}

/// The keys that a struct or an enum of the sources gives to serde: fields, or variants in lower case.
fn keys(source: &str, item: &str) -> Vec<String> {
    let body = source.split_once(&format!("{item} {{\n")).unwrap_or_else(|| panic!("no `{item}`")).1;
    let body = body.split_once("\n}").unwrap().0;
    let (mut found, mut renamed) = (Vec::new(), None);
    for line in body.lines().map(str::trim) {
        if line.starts_with("#[serde(") {
            renamed = line.split_once("rename = \"").and_then(|(_, rest)| rest.split('"').next());
        }
        if line.starts_with("//") || line.starts_with('#') || line.is_empty() {
            continue;
        }
        let name = line.trim_start_matches("pub(crate) ").trim_start_matches("pub ");
        let name = name.split([':', '(', ',']).next().unwrap().to_lowercase();
        found.push(renamed.take().map_or(name, str::to_owned));
    }
    assert!(!found.is_empty(), "`{item}` has no keys");
    found
}

/// The first cell of every row between two marks of a page.
fn listed(page: &str, mark: &str) -> BTreeSet<String> {
    let (_, rest) = page.split_once(&format!("<!-- {mark} -->")).expect("the mark at the beginning");
    let (table, _) = rest.split_once(&format!("<!-- end of {mark} -->")).expect("the mark at the end");
    let cells = table.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    cells.map(str::to_owned).collect()
}

/// Every key of the configuration, as the page has it.
fn configuration_keys() -> BTreeSet<String> {
    let config = read("host/src/config.rs");
    let grants = read("host/runtime/src/grants.rs");
    let limits = read("host/runtime/src/limits.rs");
    let quota = read("host/control/src/domain/quota.rs");
    let mut all: BTreeSet<_> = keys(&config, "struct Config").into_iter().collect();
    for (table, inner) in [
        ("audit", keys(&config, "struct AuditConfig")),
        ("health", keys(&config, "struct HealthConfig")),
        ("placement", keys(&config, "struct PlacementConfig")),
        ("remote", keys(&config, "struct RemoteConfig")),
        ("quota", keys(&quota, "pub struct Quota")),
    ] {
        all.remove(table);
        all.extend(inner.into_iter().map(|inner| format!("{table}.{inner}")));
    }
    for key in keys(&config, "struct ControllerConfig") {
        let (inner, between) = match key.as_str() {
            "limits" => (keys(&limits, "struct LimitOverrides"), "."),
            "endpoints" => (keys(&grants, "struct EndpointKeys"), ".<name>."),
            "secrets" => (keys(&grants, "enum SecretSource"), ".<name>."),
            _ => {
                all.insert(format!("controller.{key}"));
                continue;
            }
        };
        all.extend(inner.into_iter().map(|inner| format!("controller.{key}{between}{inner}")));
    }
    all
}

#[test]
fn every_key_of_the_configuration_is_documented_and_no_other() {
    let page = read("docs/operators.md");
    assert_eq!(listed(&page, "configuration keys"), configuration_keys());

    let config = read("host/src/config.rs");
    let list = config.split_once("FROM_ENVIRONMENT: &[&str] =").unwrap().1.split_once("];").unwrap().0;
    let names: Vec<&str> = list.split('"').skip(1).step_by(2).collect();
    assert!(names.len() > 3, "{names:?}");
    for name in names {
        let variable = format!("`STREAMSPACE_{}`", name.to_uppercase());
        assert!(page.contains(&variable), "{variable}");
    }

    let page = read("docs/http-endpoints.md");
    let source = read("host/runtime/src/http_config.rs");
    for key in keys(&source, "struct TlsConfig") {
        assert!(page.contains(&format!("`tls.{key}`")), "tls.{key}");
    }
    for key in keys(&source, "struct CredentialConfig").iter().chain(&keys(&source, "struct BasicConfig")) {
        assert!(page.contains(key), "credential: {key}");
    }
}

#[test]
fn every_key_of_a_manifest_is_documented_and_no_other() {
    let source = read("host/runtime/src/manifest.rs");
    let mut all = BTreeSet::new();
    for key in keys(&source, "struct Manifest") {
        let inner = match key.as_str() {
            "plugin" => keys(&source, "struct Identity"),
            "endpoint" => keys(&source, "struct EndpointRequest"),
            "secret" => keys(&source, "struct SecretRequest"),
            "limits" => keys(&read("host/runtime/src/limits.rs"), "struct LimitOverrides"),
            _ => {
                all.insert(key);
                continue;
            }
        };
        all.extend(inner.into_iter().map(|inner| format!("{key}.{inner}")));
    }
    assert_eq!(listed(&read("docs/plugins.md"), "manifest keys"), all);
}

#[test]
fn every_route_is_documented_and_no_other() {
    let sources = sources("host/control/src");
    // What is described is what is served; beside it are the ways to applications, which are not ours to describe.
    let described = sources.iter().flat_map(|source| source.split("#[utoipa::path(").skip(1));
    let described = described.filter_map(|rest| rest.split_once("path = \"")?.1.split('"').next());
    let beside = sources.iter().flat_map(|source| source.split(".route(").skip(1));
    let beside = beside.filter_map(|rest| rest.trim_start().strip_prefix('"')?.split('"').next());
    let beside: BTreeSet<&str> = beside.collect();
    assert!(beside.iter().all(|path| path.starts_with("/s/")), "served and not described: {beside:?}");
    let routes: BTreeSet<&str> = described.chain(beside).collect();
    assert!(routes.len() > 30, "{routes:?}");

    let page = read("docs/api.md");
    let (_, prose) = split(&page);
    let words: BTreeSet<&str> = spans(&prose)
        .into_iter()
        .flat_map(str::split_whitespace)
        .map(|word| word.split('?').next().unwrap())
        .collect();
    let missing: Vec<_> = routes.difference(&words).collect();
    assert!(missing.is_empty(), "not in docs/api.md: {missing:?}");
    let unknown: Vec<_> = words
        .iter()
        .filter(|word| word.starts_with("/api/") && *word != &"/api/v1" && !routes.contains(*word))
        .collect();
    assert!(unknown.is_empty(), "docs/api.md has routes that are not served: {unknown:?}");
}

#[test]
fn every_kind_of_problem_is_documented_and_no_other() {
    let mut kinds = BTreeSet::new();
    for source in sources("host/control/src") {
        for call in ["conflict(", "unavailable(", "not_now(", "Self::new(StatusCode::", "Self::new(status,"] {
            for rest in source.split(call).skip(1) {
                // After a status the kind is the next argument.
                let rest = if call.ends_with("::") { rest.split_once(',').unwrap().1 } else { rest };
                let kind = rest.trim_start().strip_prefix('"').and_then(|rest| rest.split('"').next());
                let is_kind = |kind: &&str| kind.chars().all(|c| c.is_ascii_lowercase() || c == '-');
                kinds.extend(kind.filter(is_kind).map(str::to_owned));
            }
        }
    }
    assert!(kinds.len() > 20, "{kinds:?}");
    let page = read("docs/api.md");
    let table = page.split_once("<!-- kinds of problems -->").unwrap().1;
    let table = table.split_once("<!-- end of kinds of problems -->").unwrap().0;
    let rows = table.lines().filter(|line| line.starts_with("| ")).skip(1);
    let documented: BTreeSet<String> = rows
        .flat_map(|row| {
            spans(row.split('|').nth(2).unwrap()).into_iter().map(str::to_owned).collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(documented, kinds);
}

#[test]
fn every_reason_is_documented() {
    let page = read("docs/operators.md");
    let (_, prose) = split(&page);
    let documented: BTreeSet<&str> = spans(&prose).into_iter().collect();
    let is_reason = |word: &&str| {
        // The states of a condition are none.
        !["True", "False"].contains(word)
            && word.len() > 2
            && word.starts_with(|c: char| c.is_ascii_uppercase())
            && word.chars().all(|c| c.is_ascii_alphabetic() || c == '_')
    };
    let mut reasons = BTreeSet::new();
    for file in [
        "host/call-auth/src/refusal.rs",
        "host/control/src/domain/condition.rs",
        "host/control/src/domain/policy.rs",
        "host/control/src/fleet/call.rs",
        "host/control/src/fleet/reply.rs",
        "host/control/src/observe/drift.rs",
        "host/control/src/observe/health.rs",
        "host/control/src/observe/mod.rs",
        "host/control/src/reconcile/outcome.rs",
        "host/control/src/rest/adopt.rs",
        "host/control/src/store/sql/create.rs",
        "host/control/src/store/transition.rs",
        "host/runtime/src/error.rs",
        "host/shell/src/service.rs",
        "host/shell/src/slot.rs",
        "plugins/docker/src/create.rs",
        "plugins/docker/src/observed.rs",
    ] {
        let source = read(file);
        let program = source.split("#[cfg(test)]").next().unwrap();
        let code = program.lines().filter(|line| !line.trim_start().starts_with("//"));
        let words = code.flat_map(|line| line.split('"').skip(1).step_by(2)).filter(is_reason);
        reasons.extend(words.map(str::to_owned));
    }
    assert!(reasons.len() > 40, "{reasons:?}");
    let missing: Vec<_> = reasons.iter().filter(|reason| !documented.contains(reason.as_str())).collect();
    assert!(missing.is_empty(), "not in docs/operators.md: {missing:?}");
}

#[test]
fn examples_can_be_read() {
    let known = configuration_keys();
    let (mut toml, mut json) = (0, 0);
    for (name, page) in pages() {
        for Block { language, line, text } in split(&page).0 {
            match language.as_str() {
                "toml" => {
                    let table: toml::Table =
                        text.parse().unwrap_or_else(|error| panic!("{name}:{line}: {error}"));
                    if table.contains_key("controller") && !name.ends_with("http-endpoints.md") {
                        for key in used_keys(&table) {
                            assert!(known.contains(&key), "{name}:{line}: {key} is no key");
                        }
                    }
                    toml += 1;
                }
                "json" => {
                    let read: Result<serde_json::Value, _> = serde_json::from_str(&text);
                    read.unwrap_or_else(|error| panic!("{name}:{line}: {error}"));
                    json += 1;
                }
                _ => {}
            }
        }
    }
    assert!(toml > 5 && json > 5, "{toml} blocks of TOML and {json} of JSON");
}

/// The keys of a configuration, as the page on it has them.
fn used_keys(table: &toml::Table) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    for (key, value) in table {
        match value.as_table() {
            Some(inner) => used.extend(inner.keys().map(|inner| format!("{key}.{inner}"))),
            None => drop(used.insert(key.clone())),
        }
    }
    for controller in table["controller"].as_array().expect("[[controller]]") {
        for (key, value) in controller.as_table().unwrap() {
            let inner = match (key.as_str(), value.as_table()) {
                ("limits", Some(inner)) => inner.keys().map(|inner| format!(".{inner}")).collect(),
                ("endpoints" | "secrets", Some(inner)) => inner
                    .values()
                    .flat_map(|named| named.as_table().unwrap().keys())
                    .map(|inner| format!(".<name>.{inner}"))
                    .collect(),
                _ => vec![String::new()],
            };
            used.extend(inner.into_iter().map(|inner| format!("controller.{key}{inner}")));
        }
    }
    used
}

#[test]
fn every_link_within_the_repository_leads_somewhere() {
    let mut links = 0;
    for (name, page) in pages() {
        let folder = root().join(&name).parent().unwrap().to_owned();
        for link in split(&page).1.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
            if link.contains("://") {
                continue;
            }
            links += 1;
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if path.is_empty() { root().join(&name) } else { folder.join(path) };
            assert!(target.exists(), "{name}: {link} leads nowhere");
            if !anchor.is_empty() {
                let target = fs::read_to_string(&target).unwrap();
                assert!(anchors(&target).contains(anchor), "{name}: {link} has no such heading");
            }
        }
    }
    assert!(links > 20, "{links}");
}

/// The headings of a page, as links name them.
fn anchors(page: &str) -> BTreeSet<String> {
    let (_, prose) = split(page);
    let headings = prose.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|heading| {
            let text = heading.trim_start_matches('#').trim().to_lowercase();
            let kept = text.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        })
        .collect()
}

#[test]
fn every_method_of_grpc_clients_is_documented_and_no_other() {
    let mut declared: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for entry in fs::read_dir(root().join("proto/streamspace/api/v1")).unwrap() {
        let proto = fs::read_to_string(entry.unwrap().path()).unwrap();
        for service in proto.split("\nservice ").skip(1) {
            let (name, rest) = service.split_once(" {").unwrap();
            let methods = rest.split("\n}").next().unwrap().split("\n  rpc ").skip(1);
            let methods = methods.map(|method| method.split('(').next().unwrap().to_owned());
            declared.insert(name.to_owned(), methods.collect());
        }
    }
    assert_eq!(declared.len(), 4);
    let page = read("docs/grpc.md");
    let rows = page.lines().filter(|line| line.starts_with("| `") && line.contains("Service`"));
    let documented = rows.map(|row| {
        let cell = |number| spans(row.split('|').nth(number).unwrap()).into_iter().map(str::to_owned);
        (cell(1).next().unwrap(), cell(2).collect())
    });
    assert_eq!(documented.collect::<BTreeMap<_, _>>(), declared);
}
