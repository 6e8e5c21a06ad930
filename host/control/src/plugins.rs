//! The plugins behind the controllers of this process, as operators see them. Control does not know what a plugin is:
//! whoever runs them says how they are.

use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

/// Knows all plugins.
pub trait PluginDirectory: Send + Sync {
    /// How each of them is now, ordered by file.
    fn plugins(&self) -> Vec<PluginView>;
}

/// How a plugin is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PluginState {
    /// It is being written, checked, compiled or tried.
    Loading,
    /// Controllers use it.
    Serving,
    /// It is in order, but nobody has said that it may have what it asks for.
    AwaitingGrant,
    /// It cannot be served.
    Refused,
    /// Controllers use it, but it keeps trapping or giving no answer; it is left alone for a while.
    Failing,
    /// It is in order and could be used, but no controller uses it.
    Unused,
    /// Its file was removed; the last calls are ending.
    Draining,
    /// Its file was removed; its controllers wait for it.
    Removed,
}

/// One plugin.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = Plugin)]
pub struct PluginView {
    /// Name of the file in the directory.
    pub file: String,
    /// The plugin's name; none where the file does not say it.
    #[schema(required)]
    pub name: Option<String>,
    /// The plugin's version.
    #[schema(required)]
    pub version: Option<String>,
    /// The type of controller that it makes.
    #[schema(required)]
    pub controller_type: Option<String>,
    /// SHA-256 of what serves, or of the file if nothing of it serves.
    #[schema(required)]
    pub digest: Option<String>,
    /// How it is.
    pub state: PluginState,
    /// Why it is so, where there is something to say.
    #[schema(required)]
    pub reason: Option<String>,
    /// Since when.
    pub since: DateTime<Utc>,
    /// The controllers that use it.
    pub controllers: Vec<PluginController>,
    /// What it wants to talk to.
    pub endpoints: Vec<AskedEndpoint>,
    /// Names of the secrets that it wants to see.
    pub secrets: Vec<String>,
    /// What it needs at least.
    pub limits: AskedLimits,
    /// What stands in the file now, if that is not what serves.
    #[schema(required)]
    pub replacement: Option<Replacement>,
    /// SHA-256 of earlier versions on which calls are still ending.
    pub draining: Vec<String>,
    /// Lines for the configuration that make a controller of it, if there is none.
    #[schema(required)]
    pub configuration: Option<String>,
}

/// A controller that uses a plugin.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct PluginController {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
}

/// An endpoint that a plugin asks for.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct AskedEndpoint {
    /// The name it uses for it.
    pub name: String,
    /// The capability: `docker`, `http`, `socket`.
    pub kind: String,
    /// What it is.
    pub description: String,
    /// Where it usually is.
    #[schema(required)]
    pub default: Option<String>,
}

/// Limits that a plugin asks for; none = the usual ones are enough.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
pub struct AskedLimits {
    /// Memory of one call, like `64 MiB`.
    #[schema(required)]
    pub memory: Option<String>,
    /// Processor time of one call, in milliseconds.
    #[schema(required)]
    pub cpu_ms: Option<u64>,
    /// Mutations at once.
    #[schema(required)]
    pub calls: Option<u32>,
}

/// A file that should have replaced a plugin and does not.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Replacement {
    /// SHA-256 of the file, if it could be read.
    #[schema(required)]
    pub digest: Option<String>,
    /// Loading, refused or awaiting its grant.
    pub state: PluginState,
    /// Why it does not serve.
    #[schema(required)]
    pub reason: Option<String>,
    /// Since when.
    pub since: DateTime<Utc>,
}
