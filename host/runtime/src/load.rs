//! From a file to a plugin that is known to work.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use streamspace_bindings::BackendPre;
use streamspace_bindings::exports::streamspace::backend::plugin::Info;
use tokio::io::AsyncReadExt as _;
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::call::{self, CallState, Context};
use crate::engine::Runtime;
use crate::error::{BindError, CallError, LoadError};
use crate::instances::Instances;
use crate::limits::{Limits, MemoryBudget};
use crate::manifest::{EndpointKind, Manifest};
use crate::schema::Schema;
use crate::turns::Turns;

/// Largest plugin file that is looked at, in bytes. Components in interpreted languages have up to 20 MB.
const MAX_FILE: u64 = 64 << 20;

/// Time for compiling a plugin. The largest that are known take some ten seconds.
const COMPILE_TIME: Duration = Duration::from_secs(300);

/// Time for a call that only tries a new plugin, or a new configuration.
const TRIAL_TIMEOUT: Duration = Duration::from_secs(5);

/// Interfaces of WASI 0.2 that the host provides: what a standard library cannot do without. The file system is one
/// without a single directory; of the network there is nothing.
const WASI: &[&str] = &["wasi:cli/", "wasi:clocks/", "wasi:filesystem/", "wasi:io/", "wasi:random/"];

/// SHA-256 of a plugin file.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of a file's content.
    pub fn of(wasm: &[u8]) -> Self {
        Self(Sha256::digest(wasm).into())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A plugin that was checked, compiled and tried, but is bound to no backend yet. Cheap to clone.
#[derive(Clone)]
pub struct Plugin {
    pub(crate) inner: Arc<PluginInner>,
}

pub(crate) struct PluginInner {
    pub(crate) engine: Engine,
    pub(crate) pre: BackendPre<CallState>,
    pub(crate) digest: Digest,
    pub(crate) manifest: Manifest,
    pub(crate) imports: Vec<String>,
    pub(crate) info: Info,
    pub(crate) schema: Schema,
    pub(crate) instances: Arc<Instances>,
}

impl Plugin {
    /// SHA-256 of its file.
    pub fn digest(&self) -> Digest {
        self.inner.digest
    }

    /// What it asks for.
    pub fn manifest(&self) -> &Manifest {
        &self.inner.manifest
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.inner.info.name
    }

    /// Its version.
    pub fn version(&self) -> &str {
        &self.inner.info.version
    }

    /// JSON Schema of its configuration.
    pub fn config_schema(&self) -> &str {
        &self.inner.info.config_schema
    }

    /// The interfaces that it imports: its true wish list.
    pub fn imports(&self) -> &[String] {
        &self.inner.imports
    }

    /// The type of controller it makes.
    pub fn backend_type(&self) -> &str {
        &self.inner.info.backend_type
    }

    /// For whoever wants to know whether it is still in use, without keeping it in use.
    pub fn downgrade(&self) -> WeakPlugin {
        WeakPlugin { inner: Arc::downgrade(&self.inner), digest: self.inner.digest }
    }

    pub(crate) async fn check_against_schema(&self, settings: &Value) -> Result<(), BindError> {
        self.inner.schema.check(settings).await
    }

    /// Asks the plugin what it thinks of a configuration.
    pub(crate) async fn validate_config(&self, limits: Limits, settings: String) -> Result<(), BindError> {
        let inner = &self.inner;
        let context = Arc::new(Context::without_capabilities(self.name().to_owned(), limits));
        let _instance = inner.instances.for_trial().await;
        call::run(&inner.engine, &inner.pre, context, Default::default(), TRIAL_TIMEOUT, |instance, store| {
            Box::pin(async move {
                instance.streamspace_backend_plugin().call_validate_config(store, &settings).await
            })
        })
        .await
        .map_err(|error| match error {
            CallError::Backend(error) => BindError::Config {
                path: error.field.map(|field| format!(".{field}")).unwrap_or_default(),
                message: error.message,
            },
            other => BindError::Call(other),
        })
    }
}

/// A plugin that may be gone already.
#[derive(Clone)]
pub struct WeakPlugin {
    inner: Weak<PluginInner>,
    digest: Digest,
}

impl WeakPlugin {
    /// Whether a controller or a call still uses it.
    pub fn is_in_use(&self) -> bool {
        self.inner.strong_count() > 0
    }

    /// SHA-256 of its file.
    pub fn digest(&self) -> Digest {
        self.digest
    }
}

/// A component that was not tried yet.
struct Compiled {
    digest: Digest,
    manifest: Manifest,
    component: Component,
    /// Whether it was compiled just now.
    is_new: bool,
}

impl Runtime {
    /// Loads a plugin from a file.
    pub async fn load_file(&self, path: &Path) -> Result<Plugin, LoadError> {
        self.load(read_file(path).await?).await
    }

    /// Checks, compiles and tries a plugin.
    pub async fn load(&self, wasm: Vec<u8>) -> Result<Plugin, LoadError> {
        let runtime = self.clone();
        let compiling = tokio::task::spawn_blocking(move || runtime.compile(&wasm));
        let Compiled { digest, manifest, component, is_new } = tokio::time::timeout(COMPILE_TIME, compiling)
            .await
            .map_err(|_| LoadError::Slow(COMPILE_TIME))?
            .map_err(|error| LoadError::Contract(format!("the compiler panicked: {error}")))??;

        check_imports(&component, &self.inner.engine, &manifest)?;
        let contract = |error: wasmtime::Error| LoadError::Contract(format!("{error:#}"));
        let pre = self.inner.linker.instantiate_pre(&component).map_err(contract)?;
        let pre = BackendPre::new(pre).map_err(contract)?;

        // Only a real instance shows whether the types of the exports fit.
        let trial = self.inner.instances.for_trial().await;
        let info = probe(&self.inner.engine, &pre, &manifest).await?;
        drop(trial);
        if info.name != manifest.plugin.name {
            return Err(LoadError::NameMismatch { manifest: manifest.plugin.name, described: info.name });
        }
        let schema = Schema::compile(&info.config_schema)
            .await
            .map_err(|reason| LoadError::Contract(format!("its config-schema {reason}")))?;
        if is_new {
            self.keep(digest, component.clone()).await;
        }
        tracing::info!(plugin = info.name, version = info.version, %digest, "plugin loaded");
        let engine = self.inner.engine.clone();
        let instances = Arc::clone(&self.inner.instances);
        let types = component.component_type();
        let imports = types.imports(&engine).map(|(import, _)| import.to_owned()).collect();
        let inner = PluginInner { engine, pre, digest, manifest, imports, info, schema, instances };
        Ok(Plugin { inner: Arc::new(inner) })
    }

    /// Keeps a compiled plugin that has shown that it is one.
    async fn keep(&self, digest: Digest, component: Component) {
        let inner = Arc::clone(&self.inner);
        let kept = tokio::task::spawn_blocking(move || {
            if let Some(cache) = &inner.cache {
                cache.store(digest, &component);
            }
        });
        if let Err(panic) = kept.await {
            tracing::warn!("a compiled plugin could not be kept: {panic}");
        }
    }

    fn compile(&self, wasm: &[u8]) -> Result<Compiled, LoadError> {
        if Engine::detect_precompiled(wasm).is_some() {
            return Err(LoadError::Precompiled);
        }
        let manifest = Manifest::of_component(wasm)?;
        let digest = Digest::of(wasm);
        let engine = &self.inner.engine;
        if let Some(component) = self.inner.cache.as_ref().and_then(|cache| cache.load(engine, digest)) {
            return Ok(Compiled { digest, manifest, component, is_new: false });
        }
        let component = Component::from_binary(engine, wasm)
            .map_err(|error| LoadError::NotAComponent(format!("{error:#}")))?;
        Ok(Compiled { digest, manifest, component, is_new: true })
    }
}

/// Reads a file that should be a plugin, unless it is larger than any.
pub async fn read_file(path: &Path) -> Result<Vec<u8>, LoadError> {
    let file = tokio::fs::File::open(path).await?;
    let size = file.metadata().await?.len();
    if size > MAX_FILE {
        return Err(LoadError::TooLarge { size, limit: MAX_FILE });
    }
    let mut content = Vec::with_capacity(size as usize);
    // It may be growing.
    file.take(MAX_FILE + 1).read_to_end(&mut content).await?;
    match content.len() as u64 {
        size if size > MAX_FILE => Err(LoadError::TooLarge { size, limit: MAX_FILE }),
        _ => Ok(content),
    }
}

/// The imports of a component are its true wish list (unused ones vanish when it is built), so they must fit what
/// its manifest says in the open.
fn check_imports(component: &Component, engine: &Engine, manifest: &Manifest) -> Result<(), LoadError> {
    for (import, _) in component.component_type().imports(engine) {
        if WASI.iter().any(|prefix| import.starts_with(prefix)) {
            continue;
        }
        let interface = import
            .strip_prefix("streamspace:backend/")
            .and_then(|rest| rest.split('@').next())
            .ok_or_else(|| LoadError::ForbiddenImport(import.to_owned()))?;
        match interface {
            "types" | "config" | "state" | "log" => {}
            "secret" if manifest.secrets.is_empty() => {
                return Err(LoadError::UndeclaredImport { import: import.to_owned(), kind: "secret" });
            }
            "secret" => {}
            "docker" if !manifest.asks_for(EndpointKind::Docker) => {
                return Err(LoadError::UndeclaredImport {
                    import: import.to_owned(),
                    kind: "endpoint of kind docker",
                });
            }
            "docker" => {}
            "http" if !manifest.asks_for(EndpointKind::Http) => {
                return Err(LoadError::UndeclaredImport {
                    import: import.to_owned(),
                    kind: "endpoint of kind http",
                });
            }
            "http" => {}
            "socket" => return Err(LoadError::NotProvided(import.to_owned())),
            _ => return Err(LoadError::ForbiddenImport(import.to_owned())),
        }
    }
    Ok(())
}

/// Asks a new plugin who it is, with nothing at hand.
async fn probe(engine: &Engine, pre: &BackendPre<CallState>, manifest: &Manifest) -> Result<Info, LoadError> {
    // What it will get is not decided yet; what it asks for is enough to say who it is.
    let limits = Limits { memory: Limits::MAX_MEMORY, ..Limits::default() };
    let context = Context::without_capabilities(manifest.plugin.name.clone(), limits);
    call::run(engine, pre, Arc::new(context), Default::default(), TRIAL_TIMEOUT, |backend, store| {
        Box::pin(async move { Ok(Ok(backend.streamspace_backend_plugin().call_describe(store).await?)) })
    })
    .await
    .map_err(LoadError::Probe)
}

impl Context {
    /// For calls that may not use any capability.
    pub(crate) fn without_capabilities(plugin: String, limits: Limits) -> Self {
        Self {
            plugin,
            controller_id: String::new(),
            config: "{}".to_owned(),
            limits,
            secrets: BTreeMap::new(),
            docker: BTreeMap::new(),
            http: BTreeMap::new(),
            state: Arc::default(),
            turns: Turns::default(),
            memory: Arc::new(MemoryBudget::of_controller(limits)),
            fence: Default::default(),
        }
    }
}
