//! The operator's view of plugins.

use std::sync::Arc;

use axum::Extension;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse as _, Json, Response};
use serde_json::json;

use super::auth::Caller;
use super::problem::Problem;
use super::query::Parameters;
use crate::control::Shared;
use crate::plugins::{PluginState, PluginView};

/// `GET /api/v1/admin/plugins`: all of them, on one page.
pub(super) async fn list(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<Response, Problem> {
    caller.require_operator()?;
    let (mut parts, _) = request.into_parts();
    Parameters::read(&mut parts, &[]).await?.finish()?;
    Ok(Json(json!({ "items": plugins(&shared), "next_cursor": null })).into_response())
}

/// `GET /api/v1/admin/plugins/{name}`: one, by its name or by that of its file.
pub(super) async fn get(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    caller.require_operator()?;
    let (mut parts, _) = request.into_parts();
    Parameters::read(&mut parts, &[]).await?.finish()?;
    let unknown = || Problem::not_found("there is no plugin of this name, and no file either");
    let Path(name) = path.map_err(|_| unknown())?;
    let plugin = find(plugins(&shared), &name).ok_or_else(unknown)?;
    Ok(Json(plugin).into_response())
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
