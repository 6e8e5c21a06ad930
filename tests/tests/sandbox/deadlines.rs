//! The end of the time that a call has.

use std::time::Duration;

use tonic::Code;

use crate::engine::MadeUpEngine;
use crate::stage::{Controller, config, expect};

#[tokio::test]
async fn a_mutation_does_not_begin_without_time() {
    let engine = MadeUpEngine::start();
    let Some(controller) = Controller::with(config(&engine.target())).await else { return };
    let status = controller.create_within("ask-the-engine", Duration::from_millis(40)).await.unwrap_err();
    expect(&status, "hardly any time", Code::ResourceExhausted, "BUSY");
    assert_eq!(engine.requests(), [""; 0]);
    controller.create("ask-the-engine").await.unwrap();
}
