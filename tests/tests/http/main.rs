//! The `http` capability, judged by the servers: a plugin that requests what a test tells it, and servers that note
//! every byte of a request.
//!
//! How quick anything is, is no question here: time limits are judged with a slack of three times their length.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod connections;
mod credentials;
mod policy;
mod requests;
mod server;
mod stage;
mod tls;
