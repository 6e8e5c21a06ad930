//! The operator's view of plugins.

use std::sync::Arc;

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::auth::{Caller, Operator};
use super::extract::{Found, InPath, Json, NoParameters, Path, Query};
use super::openapi::Refused;
use super::problem::Problem;
use crate::control::Shared;
use crate::plugins::{PluginState, PluginView};

#[derive(Serialize, ToSchema)]
#[schema(as = PluginPage)]
pub(super) struct Page {
    items: Vec<PluginView>,
    /// Always `null`: all of them are on one page.
    #[schema(required)]
    next_cursor: Option<String>,
}

/// List plugins
///
/// All of them, on one page. For operators.
#[utoipa::path(
    get,
    path = "/api/v1/admin/plugins",
    operation_id = "list_plugins",
    tag = "Operation",
    responses((status = 200, body = Page, description = "All of them."), Refused<400>, Refused<403>, Refused<503>),
)]
pub(super) async fn list(
    State(shared): State<Arc<Shared>>,
    _: Operator,
    _: Query<NoParameters>,
) -> Json<Page> {
    Json(Page { items: plugins(&shared), next_cursor: None })
}

/// Read a plugin
///
/// By its name or by that of its file. For operators.
#[utoipa::path(
    get,
    path = "/api/v1/admin/plugins/{name}",
    operation_id = "get_plugin",
    tag = "Operation",
    params(KnownPlugin),
    responses((status = 200, body = PluginView, description = "The plugin."), Refused<400>, Refused<403>, Refused<503>),
)]
pub(super) async fn get(
    _: Operator,
    _: Query<NoParameters>,
    Path(KnownPlugin(plugin)): Path<KnownPlugin>,
) -> Json<PluginView> {
    Json(plugin)
}

/// A plugin as a path names it.
#[derive(utoipa::IntoParams)]
#[into_params(names("name"), parameter_in = Path)]
pub(super) struct KnownPlugin(
    /// The plugin's name, or that of its file.
    #[param(value_type = String)]
    PluginView,
);

impl InPath for KnownPlugin {
    async fn find(name: String, _: &Caller, shared: &Shared) -> Found<Self> {
        Ok(find(plugins(shared), &name).map(Self))
    }

    fn unknown() -> Problem {
        Problem::not_found("there is no plugin of this name, and no file either")
    }
}

fn plugins(shared: &Shared) -> Vec<PluginView> {
    shared.plugins.get().map(|directory| directory.plugins()).unwrap_or_default()
}

/// Several files may claim one name; the one that has it goes first.
fn find(plugins: Vec<PluginView>, name: &str) -> Option<PluginView> {
    let rank = |plugin: &PluginView| {
        let named = plugin.name.as_deref() == Some(name);
        match plugin.state {
            PluginState::Refused if named => Some(1),
            _ if named => Some(0),
            _ if plugin.file == name => Some(2),
            _ => None,
        }
    };
    let ranked = plugins.into_iter().filter_map(|plugin| Some((rank(&plugin)?, plugin)));
    ranked.min_by_key(|(rank, _)| *rank).map(|(_, plugin)| plugin)
}

#[cfg(test)]
mod tests {
    use chrono::Utc;

    use super::*;

    fn plugin(file: &str, name: Option<&str>, state: PluginState) -> PluginView {
        PluginView {
            file: file.to_owned(),
            name: name.map(str::to_owned),
            version: None,
            controller_type: None,
            digest: None,
            state,
            reason: None,
            since: Utc::now(),
            controllers: Vec::new(),
            endpoints: Vec::new(),
            secrets: Vec::new(),
            limits: Default::default(),
            replacement: None,
            draining: Vec::new(),
            configuration: None,
        }
    }

    #[test]
    fn a_name_leads_to_the_file_that_has_it() {
        let all = || {
            vec![
                plugin("a.wasm", Some("docker"), PluginState::Refused),
                plugin("b.wasm", Some("docker"), PluginState::Serving),
                plugin("c.wasm", None, PluginState::Refused),
            ]
        };
        let found = |name: &str| find(all(), name).map(|plugin| plugin.file);
        assert_eq!(found("docker").as_deref(), Some("b.wasm"));
        assert_eq!(found("a.wasm").as_deref(), Some("a.wasm"));
        assert_eq!(found("c.wasm").as_deref(), Some("c.wasm"));
        assert_eq!(found("c"), None);
    }
}
