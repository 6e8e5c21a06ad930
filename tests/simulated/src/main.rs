//! A simulated infrastructure: boxes and homes in memory, served over HTTP/1.1 on a unix socket (or a TCP port).
//!
//! It stands for the real machines behind a backend, so that the control plane can be judged with thousands of
//! sessions, with kills at every instant, and with misbehaviour on demand. It believes nobody: every change that
//! really took effect goes into an append-only log of effects, and that log decides whether something was made
//! twice or left behind.
//!
//! ```text
//! streamspace-simulated --socket PATH [--listen ADDR] [--effects FILE] [--state FILE] [--seed N] [--pages]
//! ```
//!
//! # What a client does (bodies are JSON; knobs apply here)
//!
//! | request | verb | answer |
//! |---|---|---|
//! | `GET /info?controller=C` | `info` | version, instance, number of boxes (all, and of C), capacity |
//! | `POST /boxes` `{name, labels, image, memory_bytes, cpu_millis, env, disks, home, services}` | `box.create` | 201, 202 while it takes time; 400 `invalid`; 409 `taken`, `no_home`, `no_image`, `too_large`; 429 `exhausted` |
//! | `GET /boxes?controller=C&after=NAME&limit=N` | `box.list` | `{boxes, next}`, by name |
//! | `GET /boxes/{name}` | `box.get` | the box; its page's port while it runs |
//! | `POST /boxes/{name}/start`, `/stop` | `box.start`, `box.stop` | 200, 202; 409 `busy` |
//! | `DELETE /boxes/{name}` | `box.delete` | 204 gone, 202 going, 404 |
//! | `GET /boxes/{name}/metrics` | `box.metrics` | counters; 409 `not_running` |
//! | `GET /boxes/{name}/logs?after=N&tail=N&limit=N&wait_ms=N` | `box.logs` | `{lines, next, ended}` |
//! | `PUT /homes/{name}` `{labels}` | `home.put` | 201 made, 200 there already; 409 `taken` |
//! | `GET /homes/{name}`, `DELETE /homes/{name}` | `home.get`, `home.delete` | 409 `in_use` while a box uses it |
//! | `GET /events?instance=I&after=N&controller=C&limit=N&wait_ms=N` | `events` | `{instance, events, next, lost}`; without `after`: where it stands now |
//!
//! A box is `creating`, `stopped`, `running`, `failed` or `deleting`. Labels are the client's; the log of effects
//! reads `streamspace.controller` and `streamspace.session_id`. The headers `x-operation-id`, `x-generation`,
//! `x-epoch` and `x-request-id` say on whose behalf a change is made. A refusal is `{error: {code, message}}`.
//!
//! # What a test does (never disturbed)
//!
//! | request | effect |
//! |---|---|
//! | `PUT /knobs`, `GET /knobs` | replaces or shows all knobs |
//! | `GET /effects?after=SEQ&limit=N` | the log of effects |
//! | `GET /truth/boxes?after=&limit=`, `GET /truth/homes` | what is there, whatever the knobs make of listings |
//! | `POST /boxes/{name}/by-hand` `{"do": "stop" \| "start" \| "remove" \| "crash"}` | somebody else acts |
//! | `POST /boxes/{name}/say` `{message, source}` | the box writes a line |
//! | `PUT /boxes/{name}/file` `{path, content}`, `GET …?path=P` | a program in the running box writes or reads in its home |
//! | `POST /foreign` `{name, labels, …}` | a running box that no client made |
//! | `POST /events/forget` | the buffer of events is lost |
//!
//! # Knobs
//!
//! ```json
//! {
//!   "seed": 7,
//!   "settings": {"create_ms": 0, "start_ms": 0, "stop_ms": 0, "delete_ms": 0, "max_boxes": null,
//!                "event_buffer": 4096, "pages": false, "unavailable": false,
//!                "images": [{"name": "bad/*", "is": "crashing"}],
//!                "largest_memory_bytes": 1099511627776, "largest_cpu_millis": 1024000},
//!   "rules": [{"verb": "box.*", "name": "ss-*", "skip": 0, "count": 1, "probability": 1.0, "later_pages": false,
//!              "fault": "lost_reply"}]
//! }
//! ```
//!
//! Settings with `_ms` turn a change into a job: it is accepted with 202 and takes effect later. An image is
//! `"missing"`, `"crashing"` or `{"talking": {"every_ms"}}`; any other is there and does nothing. A rule hits requests
//! whose verb and name match (`*` = anything): it lets `skip` of them pass, then hits `count` (none = all), each with
//! this probability. With `later_pages` it only sees listings that continue from a cursor. All rules that hit a
//! request apply together. Faults:
//!
//! | fault | what happens |
//! |---|---|
//! | `{"latency": {"before_ms", "after_ms"}}` | waits before the effect (which then happens even if the client is gone), or after it |
//! | `{"error": {"status", "retry_after_s", "message"}}` | answers so, without effect |
//! | `"lost_reply"` | takes effect, then the connection is cut without an answer |
//! | `"refused"` | the connection is cut before any effect |
//! | `"hang"`, `"hang_after"` | never answers, without effect or after it |
//! | `"half"` | a create or start gets stuck half way: the box is `failed`, the answer is 500 |
//! | `{"crash": {"after_ms"}}` | a box that is started crashes a little later |
//! | `{"slow_body": {"every_ms"}}` | the body comes in sixteen pieces |
//! | `"torn_body"` | the connection is cut in the middle of the body |
//! | `"garbage"` | 200 with something that is not JSON |
//! | `{"omit": P}`, `{"duplicate": P}` | a listing leaves out, or tells twice, each entry with this probability |
//! | `"drop"` | with verb `event`: a change is not told to anybody |
//!
//! # Files
//!
//! `--effects` gets one JSON object a line, written before the client is answered. `--state` keeps the boxes, the
//! homes and the effects over a kill (`SIGKILL` included, power loss not); lines of boxes' output and events are
//! forgotten, as a restarted infrastructure would.

mod api;
mod effect;
mod feed;
mod journal;
mod knobs;
mod object;
mod output;
mod page;
mod server;
mod service;
mod world;

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Parser;

use crate::journal::Journal;
use crate::knobs::Knobs;
use crate::service::Service;
use crate::world::World;

/// A simulated infrastructure
#[derive(Parser)]
struct Arguments {
    /// Unix socket to serve on; one that an earlier process left is replaced
    #[arg(long, value_name = "PATH", required_unless_present = "listen")]
    socket: Option<PathBuf>,
    /// Loopback address to serve on as well; port 0 = any, told on standard output
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// File that every effect is appended to, one JSON object a line
    #[arg(long, value_name = "FILE")]
    effects: Option<PathBuf>,
    /// File that keeps everything over a kill
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// Seed of everything that happens by chance
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Let every running box serve a page on a loopback port
    #[arg(long)]
    pages: bool,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the async runtime does not start")?
        .block_on(run(arguments))
}

async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let (journal, kept) = Journal::open(arguments.state.as_deref(), arguments.effects.as_deref())?;
    let mut knobs = Knobs::new(arguments.seed);
    knobs.settings.pages = arguments.pages;
    let service = Service::new(World::new(journal, kept, knobs));
    server::serve(api::router(service), arguments.socket.as_deref(), arguments.listen).await
}
