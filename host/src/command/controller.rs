//! `streamspace controller …`.

mod check;
mod serve;
mod token;

use std::process::ExitCode;

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Remote;
use super::many::Many;
use super::time::{age, age_of, moment, moment_of};
use crate::client::{Client, ClientError};
use crate::executor::{on_all_processors, on_one_thread};
use crate::print::note;
use crate::table::{Cell, Table, Tone, fields};

#[derive(Debug, Subcommand)]
pub(crate) enum ControllerCommand {
    /// List controllers.
    #[command(
        visible_alias = "list",
        after_help = "\
Examples:
  streamspace controller ls
  streamspace controller ls --output json"
    )]
    Ls(LsArgs),

    /// Show one controller: what it can do, and how much it has left.
    #[command(after_help = "\
Examples:
  streamspace controller get docker-local")]
    Get(OneArgs),

    /// Give controllers no new sessions. Those that are there stay.
    #[command(after_help = "\
Examples:
  streamspace controller drain docker-local")]
    Drain(ManyArgs),

    /// Give controllers sessions again.
    #[command(after_help = "\
Examples:
  streamspace controller undrain docker-local")]
    Undrain(ManyArgs),

    /// Remove controllers that have no sessions, or by force.
    ///
    /// One of the server's own configuration comes back, as a new one, when the server starts again. What a controller that
    /// is removed by force has at its backend stays there: no other controller touches it.
    #[command(
        visible_alias = "delete",
        after_help = "\
Examples:
  streamspace controller rm old-host
  streamspace controller rm lost-host --force"
    )]
    Rm(RmArgs),

    /// Look after the join tokens that let controllers in which run elsewhere; for administrators.
    #[command(subcommand)]
    Token(token::JoinTokenCommand),

    /// Serve one plugin as a controller of its own.
    ///
    /// With --api it belongs to an API server: it serves, registers with a join token, and gives signs of life from then on.
    /// Only calls that an API server has signed are taken. Beyond the loopback interface they have to be encrypted (--tls-cert,
    /// --tls-key), unless --insecure is given.
    ///
    /// Without --api it asks nobody who they are: it is served on the loopback interface only, unless --insecure is given.
    ///
    /// Served are streamspace.controller.v1.ControllerService, grpc.health.v1 and server reflection. SIGTERM tells the API
    /// server, lets the calls under way end, and ends it.
    #[command(after_help = "\
Examples:
  streamspace controller serve --plugin docker.wasm --name lab --endpoint engine=unix:///var/run/docker.sock
  streamspace controller serve --plugin docker.wasm --name site-b --api https://desktops.example.org \\
    --join-token-file join.token --listen 0.0.0.0:50051 --advertise grpcs://site-b.example.org:50051 \\
    --tls-cert site-b.pem --tls-key site-b.key --label region=b")]
    Serve(Box<serve::ControllerServeArgs>),

    /// Run the conformance suite on a controller that serves, whatever it is written in.
    ///
    /// Only what it offers is checked; the rest is reported as not applicable, with the reason. Sessions have ids of their own,
    /// and everything that the checks make is removed. While the suite runs, let no server place sessions there: the last
    /// check calls under a higher epoch than any server's, and calls of servers are refused from then on until the controller
    /// is started again. The exit code is 0 when no check failed. docs/conformance.md says what each check means.
    #[command(after_help = "\
Examples:
  streamspace controller check grpc://127.0.0.1:50051 --image http.server
  streamspace controller check grpcs://site-b.example.org:50051 --ca site-ca.pem --image streamspace/sample:latest \\
    --id ctrl-50ee66fc6151 --signing-key /var/lib/streamspace/call-signing.key")]
    Check(Box<check::CheckArgs>),
}

#[derive(Debug, Args)]
pub(crate) struct LsArgs {
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Args)]
pub(crate) struct OneArgs {
    #[command(flatten)]
    remote: Remote,

    /// The controller's id or name, or the beginning of its id
    controller: String,
}

#[derive(Debug, Args)]
pub(crate) struct ManyArgs {
    #[command(flatten)]
    remote: Remote,

    /// The controllers' ids or names, or the beginnings of their ids
    #[arg(required = true, value_name = "CONTROLLER")]
    controllers: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct RmArgs {
    #[command(flatten)]
    controllers: ManyArgs,

    /// Forget their sessions, whatever the controllers have of them
    #[arg(long)]
    force: bool,
}

#[derive(Deserialize)]
struct Controller {
    id: String,
    #[serde(rename = "type")]
    kind: String,
    name: String,
    status: String,
    sessions: u32,
    last_heartbeat: Option<DateTime<Utc>>,
    #[serde(default)]
    endpoint: String,
    #[serde(default)]
    instances: Vec<Instance>,
    #[serde(default)]
    message: String,
    capabilities: Option<Capabilities>,
    #[serde(default)]
    labels: Map<String, Value>,
    draining: bool,
    created_at: DateTime<Utc>,
}

#[derive(Deserialize)]
struct Instance {
    instance: String,
    role: String,
    endpoint: String,
    status: String,
    last_heartbeat: DateTime<Utc>,
}

impl Instance {
    fn describe(&self) -> String {
        let Self { instance, role, endpoint, status, last_heartbeat } = self;
        let parts = [instance.as_str(), role, status, endpoint].into_iter().filter(|part| !part.is_empty());
        format!("{} (heard of {} ago)", parts.collect::<Vec<_>>().join(" "), age(*last_heartbeat))
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Capabilities {
    supports_hibernation: bool,
    supports_gpu: bool,
    supports_persistent_storage: bool,
    supports_networking: bool,
    supports_watch: bool,
    capacity: Capacity,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Capacity {
    max_sessions: u32,
    total_memory: String,
    available_memory: String,
    total_cpu: String,
    available_cpu: String,
}

impl Controller {
    fn status_cell(&self) -> Cell {
        let tone = match self.status.as_str() {
            "healthy" => Some(Tone::Good),
            "offline" | "unhealthy" => Some(Tone::Bad),
            _ => None,
        };
        Cell::toned(self.status.as_str(), tone)
    }

    fn load(&self) -> String {
        match self.capabilities.as_ref().map_or(0, |can| can.capacity.max_sessions) {
            0 => self.sessions.to_string(),
            most => format!("{} of {most}", self.sessions),
        }
    }

    fn labels(&self) -> String {
        let labels =
            self.labels.iter().map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()));
        labels.collect::<Vec<_>>().join(",")
    }

    fn describe(&self) -> String {
        let none = Capabilities::default();
        let can = self.capabilities.as_ref().unwrap_or(&none);
        let abilities: Vec<_> = [
            ("hibernation", can.supports_hibernation),
            ("gpu", can.supports_gpu),
            ("persistent_storage", can.supports_persistent_storage),
            ("networking", can.supports_networking),
            ("watch", can.supports_watch),
        ]
        .into_iter()
        .filter_map(|(name, can)| can.then_some(name))
        .collect();
        let left = |left: &str, of: &str| match (left, of) {
            ("", of) => of.to_owned(),
            (left, of) => format!("{left} of {of}"),
        };
        let capacity = &can.capacity;
        fields([
            ("ID", self.id.as_str().into()),
            ("TYPE", self.kind.as_str().into()),
            ("NAME", self.name.as_str().into()),
            ("STATUS", self.status_cell()),
            ("MESSAGE", self.message.as_str().into()),
            ("DRAINING", if self.draining { "yes" } else { "no" }.into()),
            ("SESSIONS", self.load().into()),
            ("MEMORY", left(&capacity.available_memory, &capacity.total_memory).into()),
            ("CPU", left(&capacity.available_cpu, &capacity.total_cpu).into()),
            ("CAN", abilities.join(",").into()),
            ("LABELS", self.labels().into()),
            ("ENDPOINT", self.endpoint.as_str().into()),
            (
                "PROCESSES",
                self.instances.iter().map(Instance::describe).collect::<Vec<_>>().join(", ").into(),
            ),
            ("LAST ANSWER", moment_of(self.last_heartbeat).into()),
            ("CREATED", moment(self.created_at).into()),
        ])
    }
}

/// Runs a command.
pub(crate) fn run(command: ControllerCommand) -> anyhow::Result<ExitCode> {
    match command {
        ControllerCommand::Ls(args) => on_one_thread(ls(args)),
        ControllerCommand::Get(args) => on_one_thread(get(args)),
        ControllerCommand::Drain(args) => on_one_thread(each(args, Change::Draining(true))),
        ControllerCommand::Undrain(args) => on_one_thread(each(args, Change::Draining(false))),
        ControllerCommand::Rm(args) => {
            on_one_thread(each(args.controllers, Change::Remove { force: args.force }))
        }
        ControllerCommand::Token(command) => on_one_thread(token::run(command)),
        ControllerCommand::Serve(args) => serve::run(*args),
        ControllerCommand::Check(args) => on_all_processors(check::run(*args)),
    }
}

async fn ls(args: LsArgs) -> anyhow::Result<ExitCode> {
    let client = args.remote.client()?;
    let answer = client.get(&["admin", "controllers"]).await?;
    args.remote.print(&answer, || {
        let mut table =
            Table::new(["ID", "TYPE", "NAME", "STATUS", "SESSIONS", "DRAINING", "ANSWERED", "LABELS"]);
        for controller in client.typed::<Vec<Controller>>(&answer)? {
            table.row([
                controller.id.as_str().into(),
                controller.kind.as_str().into(),
                controller.name.as_str().into(),
                controller.status_cell(),
                controller.load().into(),
                if controller.draining { "yes" } else { "no" }.into(),
                age_of(controller.last_heartbeat).into(),
                controller.labels().into(),
            ]);
            table.note(&controller.message, 4);
        }
        Ok(table.render())
    })
}

async fn get(args: OneArgs) -> anyhow::Result<ExitCode> {
    let client = args.remote.client()?;
    let id = resolve(&client, &args.controller).await?;
    let answer = client.get(&["admin", "controllers", &id]).await?;
    args.remote.print(&answer, || Ok(client.typed::<Controller>(&answer)?.describe()))
}

/// What is done to a controller.
#[derive(Clone, Copy)]
enum Change {
    Draining(bool),
    Remove { force: bool },
}

async fn each(args: ManyArgs, change: Change) -> anyhow::Result<ExitCode> {
    let client = args.remote.client()?;
    let mut many = Many::new(args.remote.output, "id");
    for given in &args.controllers {
        match one(&client, given, change).await {
            Ok((id, answer)) => many.done(&id, answer),
            Err(error) => many.failed(given, &error),
        }
    }
    many.finish()
}

async fn one(client: &Client, given: &str, change: Change) -> anyhow::Result<(String, Value)> {
    let id = resolve(client, given).await?;
    let path = ["admin", "controllers", &id];
    let answer = match change {
        Change::Draining(draining) => {
            client.call(Method::PATCH, &path).json(&json!({ "draining": draining })).send().await?.body
        }
        Change::Remove { force } => {
            let query = if force { vec![("force", "true".to_owned())] } else { Vec::new() };
            let removed = client.call(Method::DELETE, &path).query(&query).send().await?.body;
            let mut answer = json!({ "id": id, "deleted": true });
            if let Some(forgotten) = removed["forgotten"].as_u64() {
                answer["forgotten"] = forgotten.into();
                note(&format!("streamspace: {id}: {forgotten} sessions were forgotten"));
            }
            answer
        }
    };
    Ok((id, answer))
}

/// The id of the one controller that is meant.
pub(super) async fn resolve(client: &Client, given: &str) -> anyhow::Result<String> {
    let listed = client.get(&["admin", "controllers"]).await?;
    let controllers: Vec<Controller> = client.typed(&listed)?;
    let names: Vec<_> = controllers.iter().map(|one| (one.id.as_str(), one.name.as_str())).collect();
    Ok(the_one(&names, given)?.to_owned())
}

/// An id comes before a name, and both before the beginning of an id.
fn the_one<'a>(controllers: &[(&'a str, &str)], given: &str) -> anyhow::Result<&'a str> {
    let by_id = |id: &str, _: &str| id == given;
    let by_name = |_: &str, name: &str| name == given;
    let by_beginning = |id: &str, _: &str| !given.is_empty() && id.starts_with(given);
    for is_meant in [&by_id as &dyn Fn(&str, &str) -> bool, &by_name, &by_beginning] {
        let found: Vec<_> =
            controllers.iter().filter(|(id, name)| is_meant(id, name)).map(|(id, _)| *id).collect();
        match found.as_slice() {
            [] => {}
            [one] => return Ok(one),
            several => anyhow::bail!("`{given}` could be any of {}: give the id", several.join(", ")),
        }
    }
    let message = format!("there is no controller `{given}`: `streamspace controller ls` shows all");
    Err(ClientError::not_found(message).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_controller_is_meant_by_its_id_or_its_name() {
        let all = [("ctrl-a1", "lab"), ("ctrl-a2", "lab"), ("ctrl-b", "ctrl-a1"), ("ctrl-c", "site")];
        assert_eq!(the_one(&all, "ctrl-a1").unwrap(), "ctrl-a1");
        assert_eq!(the_one(&all, "site").unwrap(), "ctrl-c");
        assert_eq!(the_one(&all, "ctrl-b").unwrap(), "ctrl-b");
        for ambiguous in ["lab", "ctrl-a"] {
            let error = the_one(&all, ambiguous).unwrap_err().to_string();
            assert!(error.contains("ctrl-a1, ctrl-a2"), "{error}");
        }
        for unknown in ["", "nowhere"] {
            let error = the_one(&all, unknown).unwrap_err();
            assert_eq!(error.downcast::<ClientError>().unwrap().exit_code(), 3);
        }
    }
}
