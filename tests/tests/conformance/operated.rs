//! Backends of a test's own, which the suite may restart.

use std::sync::Mutex;

use async_trait::async_trait;
use streamspace_conformance::Operator;
use streamspace_tests::own_engine::OwnEngine;
use streamspace_tests::simulated::Simulated;
use tokio::runtime::Handle;
use tokio::task::block_in_place;

/// A Docker engine of the test's own: asked to stop, and started again.
pub struct OperatedEngine(pub Mutex<OwnEngine>);

#[async_trait]
impl Operator for OperatedEngine {
    async fn restart(&self) -> Result<(), String> {
        let mut engine = self.0.lock().unwrap();
        // Nothing else runs beside a restart, and so this thread may wait for it.
        block_in_place(|| {
            Handle::current().block_on(async {
                engine.stop().await;
                engine.resume().await;
            });
        });
        Ok(())
    }
}

/// A simulated infrastructure: killed, and started again with its journal.
pub struct OperatedSimulated(pub tokio::sync::Mutex<Simulated>);

#[async_trait]
impl Operator for OperatedSimulated {
    async fn restart(&self) -> Result<(), String> {
        self.0.lock().await.kill_and_restart();
        Ok(())
    }
}
