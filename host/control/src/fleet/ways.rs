//! The ways to a session, also at a controller that offers no more than the core of the contract.

use std::time::Duration;

use streamspace_proto::controller::v1 as proto;
use streamspace_proto::controller::v1::access_point::Target;
use tonic::Code;

use super::call::{CallError, ControllerClient};

impl ControllerClient {
    /// Asks for the ways to a session. A controller without `GetSessionAccess` tells of one only, by the URL in the
    /// session's status: it is taken for that of the session's main service.
    pub(crate) async fn ways(
        &self,
        request: proto::GetSessionAccessRequest,
        main_service: Option<String>,
        timeout: Duration,
    ) -> Result<Vec<proto::AccessPoint>, CallError> {
        let proto::GetSessionAccessRequest { session_id, node_id, .. } = request.clone();
        let error = match self.access(request, timeout).await {
            Ok(answer) => return Ok(answer.points),
            Err(error) => error,
        };
        let (Code::Unimplemented, Some(service)) = (error.code, main_service) else { return Err(error) };
        let request = proto::GetSessionStatusRequest { session_id, node_id, handle: Vec::new() };
        let base_url = self.status(request, timeout).await?.url;
        if base_url.is_empty() {
            return Ok(Vec::new());
        }
        let target = Some(Target::Http(proto::HttpTarget { base_url, ..Default::default() }));
        Ok(vec![proto::AccessPoint { service, target, ..Default::default() }])
    }
}
