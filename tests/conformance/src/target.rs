//! What is judged.

use std::sync::Arc;

use streamspace_proto::controller::v1::SessionSpec;
use streamspace_shell::Transport;

use crate::fixture::Fixture;
use crate::process::Process;
use crate::recorded::RecordedHandle;

/// A controller under test, and all that is at hand beside it.
#[derive(Clone)]
pub struct Target {
    /// The way to it.
    pub transport: Transport,
    /// What a session on it looks like.
    pub recipe: Recipe,
    /// A look at the backend past the controller.
    pub fixture: Option<Arc<dyn Fixture>>,
    /// The process around it, where it is this one.
    pub process: Option<Arc<dyn Process>>,
}

/// A spec with settings for the type of backend.
#[derive(Clone, Debug, Default)]
pub struct Variation {
    /// The spec.
    pub spec: SessionSpec,
    /// JSON object for this type of controller only; empty = none.
    pub controller_config: String,
}

/// What sessions are made of on a type of backend.
#[derive(Clone, Debug, Default)]
pub struct Recipe {
    /// A session that runs until it is stopped, as small as possible, with at least one way in.
    pub running: Variation,
    /// One whose main process ends with an error at once.
    pub failing: Option<Variation>,
    /// An image that the backend can look for and will not find.
    pub missing_image: Option<String>,
    /// An image that can be none.
    pub malformed_image: Option<String>,
    /// Whether a running session writes a line to its log every few seconds.
    pub talks: bool,
    /// Handles that other versions of the plugin gave.
    pub handles: Vec<RecordedHandle>,
}
