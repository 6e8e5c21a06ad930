//! Files that are no plugins to be served, and grants that do not fit.

use std::collections::BTreeMap;

use serde_json::json;
use streamspace_runtime::{
    Backend, BackendConfig, BindError, CallError, EndpointConfig, LimitOverrides, LoadError, Plugin, Runtime,
    RuntimeConfig,
};
use tonic::Code;

use crate::stage::{Controller, NOWHERE, config, hostile, hostile_file, limits};

/// The section with the manifest.
const SECTION: &str = "streamspace:manifest";

/// The hostile plugin as a file, to be changed.
fn original() -> Option<Vec<u8>> {
    Some(std::fs::read(hostile_file()?).unwrap())
}

/// Puts one text in place of another of the same length, wherever it stands: in a component names are texts.
pub fn replaced(wasm: &[u8], old: &str, new: &str) -> Vec<u8> {
    assert_eq!(old.len(), new.len(), "offsets must not move");
    let mut changed = wasm.to_vec();
    let mut found = 0;
    for start in 0..=wasm.len() - old.len() {
        if wasm[start..].starts_with(old.as_bytes()) {
            changed[start..start + new.len()].copy_from_slice(new.as_bytes());
            found += 1;
        }
    }
    assert!(found > 0, "`{old}` is not in the file");
    changed
}

/// Puts another manifest in the place of the plugin's own, which has room enough.
fn with_manifest(wasm: &[u8], manifest: &str) -> Vec<u8> {
    let own = include_str!("../../hostile/plugin.toml");
    replaced(wasm, own, &format!("{manifest:<width$}", width = own.len()))
}

fn manifest(name: &str, rest: &str) -> String {
    format!("schema = 1\n[plugin]\nname = \"{name}\"\napi = \"streamspace:backend@1.0\"\n{rest}")
}

/// What the hostile plugin really needs.
const ENGINE: &str = "[[endpoint]]\nname = \"engine\"\nkind = \"docker\"\n";

/// A custom section: id 0, its size, its name and its content.
fn custom_section(name: &str, content: &[u8]) -> Vec<u8> {
    let mut body = size(name.len());
    body.extend_from_slice(name.as_bytes());
    body.extend_from_slice(content);
    let mut section = vec![0];
    section.extend(size(body.len()));
    section.extend(body);
    section
}

/// A number as LEB128.
fn size(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = (number & 0x7f) as u8;
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

async fn load(wasm: Vec<u8>) -> Result<Plugin, LoadError> {
    Runtime::new(RuntimeConfig::default()).unwrap().load(wasm).await
}

async fn refused(wasm: Vec<u8>) -> LoadError {
    match load(wasm).await {
        Ok(plugin) => panic!("`{}` was loaded", plugin.name()),
        Err(error) => error,
    }
}

#[tokio::test]
async fn what_is_no_component_is_refused() {
    for (bytes, what) in [
        (b"".to_vec(), "nothing"),
        (b"MZ".to_vec(), "a program of another kind"),
        (b"\0asm".to_vec(), "half a head"),
        (vec![0; 1 << 16], "zeros"),
    ] {
        let error = refused(bytes).await;
        assert!(matches!(error, LoadError::NotAComponent(_)), "{what}: {error:?}");
    }
}

#[tokio::test]
async fn a_core_module_is_refused_even_with_a_manifest() {
    let mut module = b"\0asm\x01\0\0\0".to_vec();
    assert!(matches!(refused(module.clone()).await, LoadError::NoManifest));
    module.extend(custom_section(SECTION, manifest("hostile", ENGINE).as_bytes()));
    let error = refused(module).await;
    assert!(matches!(error, LoadError::NotAComponent(_)), "{error:?}");
}

#[tokio::test]
async fn an_empty_component_with_a_manifest_does_not_fit_the_contract() {
    let mut component = b"\0asm\x0d\0\x01\0".to_vec();
    component.extend(custom_section(SECTION, manifest("hostile", ENGINE).as_bytes()));
    let error = refused(component).await;
    assert!(matches!(error, LoadError::Contract(_)), "{error:?}");
}

#[tokio::test]
async fn a_file_larger_than_any_plugin_is_not_even_read() {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len((64 << 20) + 1).unwrap();
    let runtime = Runtime::new(RuntimeConfig::default()).unwrap();
    assert!(matches!(runtime.load_file(file.path()).await, Err(LoadError::TooLarge { .. })));
    assert!(matches!(runtime.load_file(&file.path().join("x")).await, Err(LoadError::Read(_))));
}

#[tokio::test]
async fn machine_code_is_refused_even_if_this_host_has_made_it() {
    let Some(wasm) = original() else { return };
    let dir = tempfile::tempdir().unwrap();
    let cache_dir = Some(dir.path().join("cache"));
    let runtime = Runtime::new(RuntimeConfig { cache_dir, ..Default::default() }).unwrap();
    runtime.load(wasm).await.unwrap();
    let artefact = std::fs::read_dir(dir.path().join("cache")).unwrap().next().unwrap().unwrap().path();
    assert!(matches!(runtime.load_file(&artefact).await, Err(LoadError::Precompiled)));
}

#[tokio::test]
async fn a_component_without_exactly_one_manifest_is_refused() {
    let Some(wasm) = original() else { return };
    let none = replaced(&wasm, SECTION, "streamspace:manifesT");
    assert!(matches!(refused(none).await, LoadError::NoManifest));

    let mut two = wasm.clone();
    two.extend(custom_section(SECTION, manifest("hostile", ENGINE).as_bytes()));
    let error = refused(two).await;
    assert!(matches!(&error, LoadError::Manifest(why) if why.contains("more than one")), "{error:?}");

    let garbled = with_manifest(&wasm, "schema = 1\n[plugin\n");
    assert!(matches!(refused(garbled).await, LoadError::Manifest(_)));
    let later = manifest("hostile", ENGINE).replace("@1.0", "@2.0");
    assert!(matches!(refused(with_manifest(&wasm, &later)).await, LoadError::Api { .. }));
}

#[tokio::test]
async fn an_import_that_the_manifest_does_not_ask_for_is_refused() {
    let Some(wasm) = original() else { return };
    let http = ENGINE.replace("docker", "http") + "allow = [\"GET /\"]\n";
    for asked in [String::new(), http] {
        let error = refused(with_manifest(&wasm, &manifest("hostile", &asked))).await;
        assert!(
            matches!(&error, LoadError::UndeclaredImport { import, .. } if import.contains("docker")),
            "{asked}: {error:?}"
        );
    }
}

#[tokio::test]
async fn an_import_that_no_plugin_gets_is_refused() {
    let Some(wasm) = original() else { return };
    // What a plugin would import that uses `std::net`: it cannot even be loaded.
    let error = refused(replaced(&wasm, "wasi:cli/environment@", "wasi:sockets/network@")).await;
    assert!(
        matches!(&error, LoadError::ForbiddenImport(name) if name.starts_with("wasi:sockets/")),
        "{error:?}"
    );
    let error = refused(replaced(&wasm, "streamspace:backend/docker@", "streamspace:backend/rocket@")).await;
    assert!(matches!(error, LoadError::ForbiddenImport(_)), "{error:?}");
    // A part of the contract that is written down and not provided yet.
    let error = refused(replaced(&wasm, "streamspace:backend/docker@", "streamspace:backend/socket@")).await;
    assert!(matches!(error, LoadError::NotProvided(_)), "{error:?}");
}

#[tokio::test]
async fn an_export_that_is_missing_is_found_at_load() {
    let Some(wasm) = original() else { return };
    let error =
        refused(replaced(&wasm, "streamspace:backend/observe@", "streamspace:backend/obscure@")).await;
    assert!(matches!(error, LoadError::Contract(_)), "{error:?}");
}

#[tokio::test]
async fn a_damaged_component_is_refused_wherever_the_damage_is() {
    let Some(wasm) = original() else { return };
    for part in 1..8 {
        let end = wasm.len() * part / 8;
        assert!(load(wasm[..end].to_vec()).await.is_err(), "the first {end} bytes");
    }
}

#[tokio::test]
async fn a_plugin_that_calls_itself_otherwise_than_its_manifest_is_refused() {
    let Some(wasm) = original() else { return };
    let error = refused(with_manifest(&wasm, &manifest("docker", ENGINE))).await;
    assert!(
        matches!(&error, LoadError::NameMismatch { manifest, described } if manifest == "docker" && described == "hostile"),
        "{error:?}"
    );
}

async fn unbound(config: BackendConfig) -> Option<BindError> {
    match Backend::bind(hostile().await?, config).await {
        Ok(_) => panic!("it was bound"),
        Err(error) => Some(error),
    }
}

#[tokio::test]
async fn what_is_asked_for_and_what_is_granted_must_be_the_same() {
    let missing = BackendConfig { endpoints: BTreeMap::new(), ..config(NOWHERE) };
    let Some(error) = unbound(missing).await else { return };
    assert!(matches!(&error, BindError::EndpointNotGranted { name, .. } if name == "engine"), "{error:?}");

    let mut more = config(NOWHERE);
    more.endpoints.insert("motor".to_owned(), EndpointConfig::Docker(NOWHERE.to_owned()));
    let error = unbound(more).await.unwrap();
    assert!(matches!(&error, BindError::UnknownEndpoint { name, .. } if name == "motor"), "{error:?}");

    let mut secret = config(NOWHERE);
    secret.secrets.insert("registry".to_owned(), streamspace_runtime::SecretSource::Env("HOME".to_owned()));
    let error = unbound(secret).await.unwrap();
    assert!(matches!(&error, BindError::Secret { name, .. } if name == "registry"), "{error:?}");

    let error = unbound(config("tcp://192.0.2.1:2375")).await.unwrap();
    assert!(matches!(&error, BindError::Endpoint { name, .. } if name == "engine"), "{error:?}");
}

#[tokio::test]
async fn a_configuration_that_does_not_fit_the_schema_is_refused() {
    for (settings, path) in [
        (json!({"unheard-of": 1}), ""),
        (json!({"check": 1}), ".check"),
        (json!([]), ""),
        (json!("text"), ""),
    ] {
        let Some(error) = unbound(BackendConfig { config: settings.clone(), ..config(NOWHERE) }).await else {
            return;
        };
        assert!(matches!(&error, BindError::Config { path: at, .. } if at == path), "{settings}: {error:?}");
    }
}

#[tokio::test]
async fn a_refused_configuration_is_not_quoted() {
    for settings in
        [json!({"check": ["hunter2"]}), json!({"check": {"password": "hunter2"}}), json!("hunter2")]
    {
        let Some(error) = unbound(BackendConfig { config: settings, ..config(NOWHERE) }).await else {
            return;
        };
        let text = format!("{error} {error:?}");
        assert!(matches!(error, BindError::Config { .. }) && !text.contains("hunter2"), "{text}");
    }
}

#[tokio::test]
async fn a_plugin_that_fails_at_its_configuration_is_not_bound() {
    // A trial has five seconds, however busy the machine is with the other tests.
    let limits = limits(400);
    let validating =
        |word: &str| BackendConfig { config: json!({"validate": word}), limits, ..config(NOWHERE) };
    let Some(error) = unbound(validating("panic")).await else { return };
    assert!(
        matches!(&error, BindError::Call(CallError::Trapped(why)) if why.contains("all is lost")),
        "{error:?}"
    );
    let error = unbound(validating("loop")).await.unwrap();
    assert!(matches!(error, BindError::Call(CallError::CpuBudget(_))), "{error:?}");
    let error = unbound(validating("grow")).await.unwrap();
    assert!(matches!(error, BindError::Call(CallError::MemoryLimit(_))), "{error:?}");
    // While it looks at its configuration it has nothing at hand, not even what is granted.
    let error = unbound(validating("ask-the-engine")).await.unwrap();
    assert!(
        matches!(&error, BindError::Config { message, .. } if message.contains("no docker endpoint `engine`")),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_plugin_that_asks_for_more_than_it_is_granted_is_not_bound() {
    let Some(wasm) = original() else { return };
    for (asked, limit) in
        [("memory = \"1GiB\"", "memory"), ("cpu_ms = 86400000", "cpu_ms"), ("calls = 1000000", "calls")]
    {
        let greedy = manifest("hostile", &format!("{ENGINE}[limits]\n{asked}\n"));
        let plugin = load(with_manifest(&wasm, &greedy)).await.unwrap();
        let granted = BackendConfig { limits: LimitOverrides::default(), ..config(NOWHERE) };
        let Err(error) = Backend::bind(plugin, granted).await else { panic!("{asked}: it was bound") };
        assert!(matches!(&error, BindError::Limit { name, .. } if *name == limit), "{asked}: {error:?}");
    }
}

#[tokio::test]
async fn an_operators_limit_larger_than_any_is_cut_down() {
    let memory = Some("1024GiB".parse().unwrap());
    let granted = BackendConfig { limits: LimitOverrides { memory, ..limits(10_000) }, ..config(NOWHERE) };
    let Some(controller) = Controller::with(granted).await else { return };
    let message = controller.refuses("grow", Code::ResourceExhausted, "PLUGIN_MEMORY_LIMIT").await;
    assert!(message.contains("256 MiB"), "{message}");
}
