//! `AdminService`.

use std::sync::Arc;

use streamspace_proto::api::v1 as proto;
use tonic::{Request, Response};

use super::call::{Reply, fault, opened_for_operators};
use crate::control::Shared;
use crate::rest::controllers::{self, AnyController, ControllerPatch};
use crate::rest::extract::find;

/// The service.
pub(super) struct Admin(pub(super) Arc<Shared>);

#[tonic::async_trait]
impl proto::admin_service_server::AdminService for Admin {
    async fn list_controllers(
        &self,
        request: Request<proto::ListControllersRequest>,
    ) -> Reply<proto::ListControllersResponse> {
        opened_for_operators(request)?;
        let found = controllers::all(&self.0).await?;
        let items = found.iter().map(|one| self.0.contract.message(&one.view()));
        let items = items.collect::<Result<_, _>>()?;
        Ok(Response::new(proto::ListControllersResponse { items }))
    }

    async fn get_controller(
        &self,
        request: Request<proto::GetControllerRequest>,
    ) -> Reply<proto::Controller> {
        let (caller, request) = opened_for_operators(request)?;
        let AnyController(id) = find(request.id, &caller, &self.0).await?;
        let found = controllers::one(&self.0, &id).await?;
        Ok(Response::new(self.0.contract.message(&found.view())?))
    }

    async fn patch_controller(
        &self,
        request: Request<proto::PatchControllerRequest>,
    ) -> Reply<proto::Controller> {
        let (caller, request) = opened_for_operators(request)?;
        let AnyController(id) = find(request.id, &caller, &self.0).await?;
        let mut patch = ControllerPatch { draining: request.draining, ..Default::default() };
        patch.labels.extend(request.labels.into_iter().map(|(key, value)| (key, Some(value))));
        for (index, key) in request.remove_labels.into_iter().enumerate() {
            if patch.labels.insert(key, None).is_some() {
                let place = format!("remove_labels[{index}]");
                return Err(fault(&place, "is set or taken away in the same request").into());
            }
        }
        let found = controllers::change(&self.0, &caller, &id, patch).await?;
        Ok(Response::new(self.0.contract.message(&found.view())?))
    }

    async fn delete_controller(
        &self,
        request: Request<proto::DeleteControllerRequest>,
    ) -> Reply<proto::DeleteControllerResponse> {
        let (caller, request) = opened_for_operators(request)?;
        let AnyController(id) = find(request.id, &caller, &self.0).await?;
        let forgotten = controllers::remove(&self.0, &caller, &id, request.force).await?;
        let forgotten = u32::try_from(forgotten).unwrap_or(u32::MAX);
        Ok(Response::new(proto::DeleteControllerResponse { forgotten }))
    }
}
