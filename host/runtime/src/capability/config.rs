//! The controller's configuration.

use streamspace_bindings::imports::config::Host;

use crate::call::CallState;

impl Host for CallState {
    fn get(&mut self) -> String {
        self.context.config.clone()
    }

    fn controller_id(&mut self) -> String {
        self.context.controller_id.clone()
    }
}
