//! Reaching for what was not given.

use std::fmt::Display;
use std::process::Command;
use std::{env, fs, thread};

use streamspace_sdk::host::docker::{self, ContainerSpec, Limits, RestartPolicy};
use streamspace_sdk::{Outcome, Result};

use crate::{ENGINE, good, refused};

pub(crate) fn other_endpoint() -> Result<Outcome> {
    docker::engine_inspect("other").map(|_| good())
}

pub(crate) fn other_secret() -> Result<Outcome> {
    docker::pull_start(ENGINE, "busybox", Some("registry")).map(|_| good())
}

pub(crate) fn foreign_container() -> Result<Outcome> {
    docker::container_remove(ENGINE, "web").map(|()| good())
}

pub(crate) fn foreign_volume() -> Result<Outcome> {
    docker::volume_remove(ENGINE, "database").map(|()| good())
}

pub(crate) fn path_as_name() -> Result<Outcome> {
    docker::container_start(ENGINE, "ss-/../../containers/web").map(|()| good())
}

pub(crate) fn path_as_image() -> Result<Outcome> {
    docker::image_inspect(ENGINE, "../containers/json").map(|_| good())
}

pub(crate) fn foreign_label() -> Result<Outcome> {
    let label = ("streamspace.controller".to_owned(), "somebody-else".to_owned());
    docker::volume_ensure(ENGINE, "ss-vol", &[label]).map(|_| good())
}

pub(crate) fn foreign_label_on_a_container() -> Result<Outcome> {
    let label = ("streamspace.controller".to_owned(), "somebody-else".to_owned());
    docker::container_create(ENGINE, &ContainerSpec { labels: vec![label], ..container() }).map(|_| good())
}

pub(crate) fn unknown_wish() -> Result<Outcome> {
    let wish = ("HostConfig.Privileged".to_owned(), "true".to_owned());
    docker::container_create(ENGINE, &ContainerSpec { ext: vec![wish], ..container() }).map(|_| good())
}

pub(crate) fn unknown_profile() -> Result<Outcome> {
    let profile = Some("privileged".to_owned());
    docker::container_create(ENGINE, &ContainerSpec { profile, ..container() }).map(|_| good())
}

/// The name is well formed; the container behind it belongs to another controller.
pub(crate) fn remove_what_is_not_ours() -> Result<Outcome> {
    docker::container_remove(ENGINE, "ss-of-somebody-else").map(|()| good())
}

pub(crate) fn ask_the_engine() -> Result<Outcome> {
    docker::engine_inspect(ENGINE).map(|_| good())
}

/// Everything by which a program could come to a file. An error says how each attempt ended.
pub(crate) fn files() -> Result<Outcome> {
    Err(refused(format!(
        "fs: {}",
        [
            attempt("read /etc/passwd", fs::read("/etc/passwd")),
            attempt("read a relative path", fs::read("Cargo.toml")),
            attempt("read above", fs::read("../../../../../../etc/passwd")),
            attempt("list /", fs::read_dir("/")),
            attempt("list here", fs::read_dir(".")),
            attempt("write /tmp", fs::write("/tmp/hostile", "x")),
            attempt("write here", fs::write("hostile", "x")),
            attempt("look at /", fs::metadata("/")),
            attempt("make a directory", fs::create_dir_all("/tmp/hostile")),
            attempt("remove /tmp", fs::remove_dir_all("/tmp")),
            attempt("open /dev/null", fs::File::open("/dev/null")),
        ]
        .join("; ")
    )))
}

pub(crate) fn environment() -> Result<Outcome> {
    let directory = env::current_dir().map(|path| path.display().to_string()).unwrap_or_default();
    Err(refused(format!(
        "env: {} variables, {} arguments, PATH {:?}, in {directory}",
        env::vars_os().count(),
        env::args_os().count(),
        env::var("PATH").ok()
    )))
}

pub(crate) fn processes() -> Result<Outcome> {
    Err(refused(format!(
        "process: {}; {}",
        attempt("run sh", Command::new("sh").arg("-c").arg("true").spawn()),
        attempt("start a thread", thread::Builder::new().spawn(|| ())),
    )))
}

fn attempt<T, E: Display>(what: &str, result: Result<T, E>) -> String {
    match result {
        Ok(_) => format!("{what}: POSSIBLE"),
        Err(error) => format!("{what}: {error}"),
    }
}

fn container() -> ContainerSpec {
    ContainerSpec {
        name: "ss-hostile".to_owned(),
        image: "busybox".to_owned(),
        command: None,
        env: Vec::new(),
        labels: Vec::new(),
        ports: Vec::new(),
        mounts: Vec::new(),
        tmpfs: Vec::new(),
        network: "ss-sessions".to_owned(),
        limits: Limits { memory_bytes: None, nano_cpus: None, pids: None, shm_bytes: None },
        gpus: 0,
        restart: RestartPolicy::No,
        init: false,
        user: None,
        stop_timeout_s: None,
        health_check: None,
        isolation: None,
        profile: None,
        ext: Vec::new(),
    }
}
