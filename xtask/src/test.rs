//! `cargo xtask test`: every check there is, one after the other, with all failures reported at the end.

use crate::cargo::{WASM, cargo};
use crate::crash;
use crate::desktop;
use crate::dist::{Profile, knowing};
use crate::docker_engine::{self, Engine, Ready};
use crate::images::{self, TEST};
use crate::paths::Paths;
use crate::plugins::{self, HOSTILE_PACKAGE, HTTP_PROBE_PACKAGE, Plugin, SIMULATED_PACKAGE};
use crate::postgres::{self, Postgres};
use crate::python;
use crate::registry::{self, Registry};
use crate::{command, progress, signals};
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The label of everything that a controller makes in an engine.
const CONTROLLER_LABEL: &str = "streamspace.controller";
/// Plugins that only tests load.
const TEST_PLUGINS: [&str; 2] = [HOSTILE_PACKAGE, HTTP_PROBE_PACKAGE];
/// How long the server is killed again and again: enough to come to every point, and to die at most of them. `cargo xtask
/// crash` does it for longer, and can demand so many kills at each.
const KILLING_MINUTES: &str = "4";
/// How long it may take until everything is as it is wished, on a machine with a slow disk and more to do.
const SETTLING_SECONDS: &str = "120";
/// How several servers are disturbed, for about a minute and a half; `cargo xtask crash --servers 3` does it for longer.
const SEVERAL_SERVERS: [&str; 8] =
    ["--servers", "3", "--sessions", "60", "--minutes", "1", "--settle", SETTLING_SECONDS];
/// What the programs under test are compiled with.
pub const FEATURES: [&str; 2] = ["--features", "streamspace/failpoints"];

/// Format check, lints, unit tests and end-to-end tests
///
/// The end-to-end tests run sessions on a Docker engine: the one that answers or, as root on Debian or
/// Ubuntu, one that is installed and started for them. The tests of the API server run on SQLite, and again on a
/// PostgreSQL server of their own. Tests whose backend cannot be had are left out, and the summary says so.
#[derive(clap::Args)]
pub struct Arguments {
    /// Fail when a backend cannot be had, instead of leaving its tests out
    #[arg(long)]
    all_backends: bool,
    /// Do not install anything on this system
    #[arg(long)]
    no_install: bool,
    /// Run only tests with this in their name; leaves out the format check and the lints
    filter: Option<String>,
}

/// What became of a step.
enum Outcome {
    Passed,
    Failed(anyhow::Error),
    LeftOut(String),
}

/// The steps so far.
#[derive(Default)]
struct Report {
    rows: Vec<(String, Outcome, Duration)>,
}

impl Report {
    /// Runs a step unless the user wants to stop. A failed one does not keep the next from running.
    fn step<T>(&mut self, name: &str, work: impl FnOnce() -> Result<T>) -> Option<T> {
        self.attempt(name, true, work)
    }

    /// Gets something that only some tests need. Where it cannot be had they are left out, unless it is
    /// required.
    fn provide<T>(&mut self, what: &str, required: bool, work: impl FnOnce() -> Result<T>) -> Option<T> {
        self.attempt(&format!("provide {what}"), required, work)
    }

    fn attempt<T>(&mut self, name: &str, required: bool, work: impl FnOnce() -> Result<T>) -> Option<T> {
        if signals::check().is_err() {
            return None;
        }
        progress(name);
        let started = Instant::now();
        let (value, outcome) = match work() {
            Ok(value) => (Some(value), Outcome::Passed),
            Err(error) if required => {
                eprintln!("error: {name}: {error:#}");
                (None, Outcome::Failed(error))
            }
            Err(error) => {
                eprintln!("warning: {name}: {error:#}");
                (None, Outcome::LeftOut(format!("{error:#}; the tests that need it were left out")))
            }
        };
        self.rows.push((name.to_owned(), outcome, started.elapsed()));
        value
    }

    fn left_out(&mut self, name: &str, why: String) {
        self.rows.push((name.to_owned(), Outcome::LeftOut(why), Duration::ZERO));
    }

    fn failed(&self) -> bool {
        self.rows.iter().any(|(_, outcome, _)| matches!(outcome, Outcome::Failed(_)))
    }

    fn print(&self) {
        progress("summary");
        for (name, outcome, took) in &self.rows {
            let took = took.as_secs_f64();
            match outcome {
                Outcome::Passed => println!("    passed    {took:7.1} s  {name}"),
                Outcome::Failed(error) => {
                    let text = format!("{error:#}").replace('\n', "\n        ");
                    println!("    FAILED    {took:7.1} s  {name}: {text}");
                }
                Outcome::LeftOut(why) => println!("    left out             {name}: {why}"),
            }
        }
    }
}

pub fn test(paths: &Paths, arguments: &Arguments) -> Result<ExitCode> {
    let mut run = Run::begin(paths)?;
    let mut report = Report::default();
    if arguments.filter.is_none() {
        report.step("format", || command::run(cargo(paths).args(["fmt", "--all", "--check"])));
    }
    let hostile = paths.testbed().join("plugins/hostile.wasm");
    let http_probe = paths.testbed().join("plugins/http-probe.wasm");
    let simulated = paths.testbed().join("plugins/simulated.wasm");
    let built = report.step("build the plugins", || {
        let plugins = plugins::build(paths, &paths.cache.join("plugins"))?;
        plugins::build_one(paths, HOSTILE_PACKAGE, &hostile)?;
        plugins::build_one(paths, HTTP_PROBE_PACKAGE, &http_probe)?;
        plugins::build_one(paths, SIMULATED_PACKAGE, &simulated)?;
        Ok(plugins)
    });
    // Lints and unit tests need no built component, only the same variable in their environment so that
    // nothing is compiled twice.
    let plugins = built.as_deref().unwrap_or_default();
    if arguments.filter.is_none() {
        lint(paths, plugins, &mut report)?;
    }
    unit_tests(paths, arguments, &mut report)?;

    let (backends, server) = match &built {
        Some(plugins) => {
            let server = report.step("build the tests", || build_tests(paths, plugins));
            let backends =
                server.is_some().then(|| Backends::provide(paths, arguments, &mut run, &mut report));
            (backends, server)
        }
        None => (None, None),
    };
    if let (Some(()), Some(backends)) = (server, &backends) {
        let prepared = || {
            let mut test = cargo(paths);
            test.args(["test", "--no-fail-fast"]).args(FEATURES);
            knowing(&mut test, plugins)
                .env("STREAMSPACE_TEST_BIN", paths.target.join("debug/streamspace"))
                .env("STREAMSPACE_TEST_PLUGINS", paths.cache.join("plugins"))
                .env("STREAMSPACE_TEST_HOSTILE", &hostile)
                .env("STREAMSPACE_TEST_HTTP_PROBE", &http_probe)
                .env("STREAMSPACE_TEST_SIMULATED", paths.target.join("debug/streamspace-simulated"))
                .env("STREAMSPACE_TEST_SIMULATED_PLUGIN", &simulated)
                .env("STREAMSPACE_TEST_RUN", &run.id);
            backends.describe(&mut test);
            test
        };
        report.step("tests", || command::run(prepared().args(&arguments.filter)));
        match &backends.postgres {
            Some(_) => {
                report.step("tests of the API server on PostgreSQL", || {
                    let mut test = prepared();
                    // By name and not by package: so they are what the step before compiled.
                    for target in test_targets(&paths.root.join("host/control/tests"))? {
                        test.args(["--test", &target]);
                    }
                    command::run(test.args(&arguments.filter).env("STREAMSPACE_TEST_DATABASE", "postgres"))
                });
            }
            None => report.left_out("tests of the API server on PostgreSQL", "there is none".to_owned()),
        }
        if arguments.filter.is_none() {
            let kills = |driver: &mut Command| {
                command::run(driver.args(["--minutes", KILLING_MINUTES, "--settle", SETTLING_SECONDS]))
            };
            report.step("kills under load", || kills(&mut crash::driver(paths, Profile::Dev)));
            if let Some(postgres) = &backends.postgres {
                report.step("kills under load on PostgreSQL", || {
                    kills(crash::on_postgres(&mut crash::driver(paths, Profile::Dev), postgres))
                });
                report.step("several servers over one PostgreSQL", || {
                    let mut driver = crash::driver(paths, Profile::Dev);
                    command::run(crash::on_postgres(&mut driver, postgres).args(SEVERAL_SERVERS))
                });
            }
        }
    } else if signals::check().is_ok() {
        report.left_out("tests", "what they test could not be built".to_owned());
    }

    let interrupted = signals::exit_code();
    let cleaned = backends.map_or(Ok(()), |backends| {
        progress("cleaning up");
        backends.clean_up(&run)
    });
    if let Err(error) = &cleaned {
        eprintln!("warning: {error:#}");
    }
    run.end(cleaned.is_ok())?;
    report.print();
    Ok(match interrupted {
        Some(code) => {
            println!("    interrupted");
            code
        }
        None if report.failed() => ExitCode::FAILURE,
        None => ExitCode::SUCCESS,
    })
}

/// The packages that are built for WebAssembly.
fn wasm_packages(paths: &Paths) -> Result<Vec<String>> {
    let plugins = plugins::names(paths)?.into_iter().map(|name| plugins::package(&name));
    let of_tests = TEST_PLUGINS.map(str::to_owned);
    let others = [SIMULATED_PACKAGE, "streamspace-sdk"].map(str::to_owned);
    Ok(plugins.chain(of_tests).chain(others).collect())
}

fn lint(paths: &Paths, plugins: &[Plugin], report: &mut Report) -> Result<()> {
    let packages = wasm_packages(paths)?;
    report.step("lints", || {
        let mut clippy = cargo(paths);
        clippy.args(["clippy", "--workspace", "--all-targets"]).args(FEATURES);
        for package in &packages {
            clippy.args(["--exclude", package]);
        }
        command::run(knowing(&mut clippy, plugins).args(["--", "-D", "warnings"]))
    });
    report.step("lints of the plugins", || {
        let mut clippy = cargo(paths);
        clippy.args(["clippy", "--all-targets", "--target", WASM]);
        for package in &packages {
            clippy.args(["-p", package]);
        }
        command::run(clippy.args(["--", "-D", "warnings"]))
    });
    Ok(())
}

/// The logic of plugins is tested natively: quick, and with a test harness.
fn unit_tests(paths: &Paths, arguments: &Arguments, report: &mut Report) -> Result<()> {
    let packages = wasm_packages(paths)?;
    report.step("unit tests of the SDK and the plugins", || {
        let mut test = cargo(paths);
        test.args(["test", "--lib", "--no-fail-fast"]);
        for package in packages.iter().filter(|&package| !TEST_PLUGINS.contains(&package.as_str())) {
            test.args(["-p", package]);
        }
        command::run(test.args(&arguments.filter))
    });
    Ok(())
}

/// The names of the test programs that a folder has.
fn test_targets(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs")
            && let Some(name) = path.file_stem().and_then(|name| name.to_str())
            // On PostgreSQL wherever the others are.
            && name != "postgres"
        {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// Builds exactly what `cargo test` will use, and the server as the tests start it.
fn build_tests(paths: &Paths, plugins: &[Plugin]) -> Result<()> {
    let mut build = cargo(paths);
    build.args(["build", "--all-targets"]).args(FEATURES);
    command::run(knowing(&mut build, plugins))
}

/// One run of the tests: it has the test bed to itself, and a name that its objects carry.
struct Run {
    id: String,
    /// Earlier runs of which objects may be left in an engine.
    abandoned: Vec<String>,
    lock: File,
}

impl Run {
    fn begin(paths: &Paths) -> Result<Self> {
        fs::create_dir_all(paths.testbed())?;
        let file = paths.testbed().join("run");
        let mut lock = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&file)
            .with_context(|| format!("cannot open {}", file.display()))?;
        if lock.try_lock().is_err() {
            bail!(
                "another `cargo xtask test` is running with this cache; STREAMSPACE_CACHE can name another"
            );
        }
        let mut before = String::new();
        lock.read_to_string(&mut before)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let mut run = Self {
            id: format!("ss-test-{:x}-{now:x}", std::process::id()),
            abandoned: before.lines().filter(|id| id.starts_with("ss-test-")).map(str::to_owned).collect(),
            lock,
        };
        run.note(true)?;
        Ok(run)
    }

    /// Writes down whose objects are still to be removed: whoever runs next knows them then.
    fn note(&mut self, with_own: bool) -> Result<()> {
        let own = with_own.then_some(&self.id);
        let text: String = self.abandoned.iter().chain(own).map(|id| format!("{id}\n")).collect();
        self.lock.set_len(0)?;
        self.lock.rewind()?;
        Ok(self.lock.write_all(text.as_bytes())?)
    }

    /// Removes what earlier runs left. What cannot be removed now is for the next run.
    fn clear(&mut self, remove: impl Fn(&str) -> Result<()>) -> Result<()> {
        let mut left = Ok(());
        self.abandoned.retain(|id| match remove(id) {
            Ok(()) => false,
            Err(error) => {
                left = Err(error);
                true
            }
        });
        self.note(true).and(left)
    }

    /// Comes to its end; everything that it made is removed, or is for the next run.
    fn end(mut self, is_clean: bool) -> Result<()> {
        self.note(!is_clean)
    }
}

/// What the tests run sessions on.
#[derive(Default)]
struct Backends {
    docker: Option<Docker>,
    postgres: Option<Postgres>,
    /// A client of controllers that is not ours.
    python: Option<PathBuf>,
}

struct Docker {
    ready: Ready,
    has_image: bool,
    has_desktop: bool,
    registry: Option<Registry>,
}

impl Docker {
    fn provide(paths: &Paths, arguments: &Arguments, run: &mut Run, report: &mut Report) -> Option<Self> {
        let required = arguments.all_backends;
        let ready = report
            .provide("a Docker engine", required, || docker_engine::ensure(paths, !arguments.no_install))?;
        let engine = &ready.engine;
        if let Err(error) = run.clear(|id| remove_objects(engine, id)) {
            eprintln!("warning: leftovers of an earlier run: {error:#}");
        }
        let image =
            report.provide("an image for Docker", required, || images::ensure(engine, &paths.cache, &TEST));
        let registry = image.and_then(|()| {
            report.provide("a registry to pull from", required, || registry::start(paths, engine))
        });
        let desktop = image.and_then(|()| {
            report.provide("a desktop image for Docker", required, || {
                desktop::ensure(paths, engine, !arguments.no_install)
            })
        });
        Some(Self { has_image: image.is_some(), has_desktop: desktop.is_some(), registry, ready })
    }
}

impl Backends {
    fn provide(paths: &Paths, arguments: &Arguments, run: &mut Run, report: &mut Report) -> Self {
        let docker = Docker::provide(paths, arguments, run, report);
        let python = report.provide("a Python client", arguments.all_backends, || python::ensure(paths));
        let postgres = report
            .provide("PostgreSQL", arguments.all_backends, || postgres::start(paths, !arguments.no_install));
        Self { docker, postgres, python }
    }

    /// Tells the tests what there is; they leave out what has no variable.
    fn describe(&self, test: &mut Command) {
        if let Some(python) = &self.python {
            test.env("STREAMSPACE_TEST_PYTHON", python);
        }
        if let Some(go) = command::find("go") {
            test.env("STREAMSPACE_TEST_GO", go);
        }
        if let Some(postgres) = &self.postgres {
            test.env("STREAMSPACE_TEST_POSTGRES", &postgres.url);
            test.env("STREAMSPACE_TEST_POSTGRES_PROGRAMS", &postgres.programs);
        }
        let Some(docker) = self.docker.as_ref().filter(|docker| docker.has_image) else { return };
        test.env("STREAMSPACE_TEST_DOCKER", &docker.ready.engine.socket);
        test.env("STREAMSPACE_TEST_IMAGE", TEST.name);
        if docker.has_desktop {
            test.env("STREAMSPACE_TEST_DESKTOP_IMAGE", desktop::NAME);
        }
        if let Some(registry) = &docker.registry {
            test.env("STREAMSPACE_TEST_REGISTRY_IMAGE", &registry.image);
        }
    }

    /// Leaves the machine as it was found, but for images worth keeping.
    fn clean_up(self, run: &Run) -> Result<()> {
        let Some(docker) = self.docker else { return Ok(()) };
        drop(docker.registry);
        let engine = &docker.ready.engine;
        let cleaned = remove_objects(engine, &run.id).and_then(|()| remove_pulled_images(engine));
        let stopped = docker.ready.stop_if_started();
        cleaned.and(stopped)
    }
}

/// Removes what the controllers of one run made. Only theirs: the engine may serve real sessions too.
fn remove_objects(engine: &Engine, run: &str) -> Result<()> {
    let filters = || json!({ "label": [CONTROLLER_LABEL] });
    let mut removed = 0;
    let containers = engine.list("containers/json", filters())?;
    for container in of_run(&containers, run) {
        let id = container["Id"].as_str().context("a container without id")?;
        engine.remove(&format!("containers/{id}?force=1"))?;
        removed += 1;
    }
    let volumes = engine.list("volumes", filters())?;
    for volume in of_run(&volumes["Volumes"], run) {
        let name = volume["Name"].as_str().context("a volume without name")?;
        engine.remove(&format!("volumes/{name}"))?;
        removed += 1;
    }
    let networks = engine.list("networks", filters())?;
    for network in of_run(&networks, run) {
        let id = network["Id"].as_str().context("a network without id")?;
        engine.remove(&format!("networks/{id}"))?;
        removed += 1;
    }
    if removed > 0 {
        println!("    removed {removed} objects that tests left behind in the Docker engine");
    }
    Ok(())
}

fn of_run<'a>(list: &'a Value, run: &'a str) -> impl Iterator<Item = &'a Value> {
    list.as_array().into_iter().flatten().filter(move |object| {
        object["Labels"][CONTROLLER_LABEL].as_str().is_some_and(|id| id.starts_with(run))
    })
}

fn remove_pulled_images(engine: &Engine) -> Result<()> {
    for image in engine.image_tags()?.iter().filter(|image| registry::is_ours(image)) {
        engine.remove(&format!("images/{image}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::anyhow;

    #[test]
    fn only_objects_of_the_run_are_removed() {
        let list = json!([
            { "Id": "mine", "Labels": { CONTROLLER_LABEL: "ss-test-1-a-docker" } },
            { "Id": "another run", "Labels": { CONTROLLER_LABEL: "ss-test-2-a" } },
            { "Id": "real", "Labels": { CONTROLLER_LABEL: "docker-local" } },
            { "Id": "no labels", "Labels": null },
        ]);
        let ids: Vec<_> = of_run(&list, "ss-test-1-a").map(|object| object["Id"].as_str().unwrap()).collect();
        assert_eq!(ids, ["mine"]);
    }

    #[test]
    fn a_failed_step_does_not_stop_the_next() {
        let mut report = Report::default();
        assert!(report.step("one", || Err::<(), _>(anyhow!("no"))).is_none());
        assert_eq!(report.step("two", || Ok(2)), Some(2));
        report.left_out("three", "why".to_owned());
        assert!(report.failed());
        assert_eq!(report.rows.len(), 3);
    }

    #[test]
    fn a_run_has_the_test_bed_to_itself_and_knows_an_abandoned_one() {
        let folder = tempfile::tempdir().unwrap();
        let paths =
            Paths { root: folder.path().into(), cache: folder.path().into(), target: folder.path().into() };
        let first = Run::begin(&paths).unwrap();
        let id = first.id.clone();
        assert!(Run::begin(&paths).is_err());
        drop(first);
        let second = Run::begin(&paths).unwrap();
        assert_eq!(second.abandoned, [id]);
        second.end(true).unwrap();

        fs::write(paths.testbed().join("run"), "ss-test-1-a\nss-test-1-b\n").unwrap();
        // One that reaches no engine leaves the list as it is.
        Run::begin(&paths).unwrap().end(true).unwrap();
        let mut some = Run::begin(&paths).unwrap();
        assert_eq!(some.abandoned, ["ss-test-1-a", "ss-test-1-b"]);
        let remove = |id: &str| if id == "ss-test-1-a" { Ok(()) } else { Err(anyhow!("in use")) };
        assert!(some.clear(remove).is_err());
        let id = some.id.clone();
        some.end(false).unwrap();
        let mut last = Run::begin(&paths).unwrap();
        assert_eq!(last.abandoned, ["ss-test-1-b".to_owned(), id]);
        last.clear(|_| Ok(())).unwrap();
        last.end(true).unwrap();
        assert!(Run::begin(&paths).unwrap().abandoned.is_empty());
    }
}
