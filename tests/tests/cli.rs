//! The command line as a person and a script use it: a server of its own, and a real Docker engine.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use serde_json::{Value, json};
use streamspace_tests::docker::Engine;
use streamspace_tests::server::{Installation, Server};
use streamspace_tests::{provided, until};

/// What a command printed, and how it ended.
#[derive(Debug)]
struct Told {
    out: String,
    err: String,
    code: Option<i32>,
}

impl Told {
    fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { out: text(output.stdout), err: text(output.stderr), code: output.status.code() }
    }

    /// It did what it was told to.
    fn done(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.out
    }

    /// The same, as JSON and without a word beside it.
    fn json(self) -> Value {
        assert_eq!((self.code, self.err.as_str()), (Some(0), ""), "{self:?}");
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.out))
    }

    /// It ended with this code and said this.
    fn failed(self, code: i32, word: &str) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(self.err.contains(word), "{self:?}");
        assert!(!self.err.contains("panicked"), "{self:?}");
    }
}

/// The program without any settings of whoever runs the tests.
fn program() -> Option<Command> {
    let mut command = Command::new(provided("STREAMSPACE_TEST_BIN")?);
    for variable in ["TOKEN", "URL", "DATA", "CONFIG"] {
        command.env_remove(format!("STREAMSPACE_{variable}"));
    }
    Some(command)
}

fn alone(arguments: &[&str]) -> Option<Told> {
    Some(Told::of(program()?.args(arguments).output().unwrap()))
}

/// A server, and a person in front of it.
struct Stage {
    server: Server,
    _installation: Installation,
}

impl Stage {
    fn start(installation: Installation) -> Self {
        Self { server: installation.start(), _installation: installation }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = program().unwrap();
        command.args(arguments).env("STREAMSPACE_URL", self.server.url());
        command.env("STREAMSPACE_DATA", self.server.data());
        command
    }

    fn run(&self, arguments: &[&str]) -> Told {
        Told::of(self.command(arguments).output().unwrap())
    }

    /// As somebody else.
    fn run_as(&self, token: &str, arguments: &[&str]) -> Told {
        Told::of(self.command(arguments).env("STREAMSPACE_TOKEN", token).output().unwrap())
    }

    fn spawn(&self, arguments: &[&str]) -> Child {
        self.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }
}

/// The same with an engine behind it.
async fn with_docker() -> Option<(Stage, Engine, String)> {
    let image = provided("STREAMSPACE_TEST_IMAGE")?;
    let engine = Engine::connect().await?;
    let stage = Stage::start(Installation::with_docker()?);
    // Before that it takes nothing.
    until("a healthy controller", async || {
        let controllers = stage.server.api().get("/api/v1/admin/controllers").await.body;
        (controllers[0]["status"] == "healthy").then_some(())
    })
    .await;
    Some((stage, engine, image))
}

async fn end(stage: Stage, engine: &Engine) {
    let controllers = stage.server.api().get("/api/v1/admin/controllers").await.body;
    stage.server.kill();
    engine.clean(controllers[0]["id"].as_str().unwrap()).await;
}

fn id(session: &Value) -> &str {
    session["id"].as_str().unwrap()
}

fn write(dir: &Path, name: &str, text: &str) -> String {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_session_is_made_found_and_removed() {
    let Some((stage, engine, image)) = with_docker().await else { return };
    let dir = tempfile::tempdir().unwrap();
    let key = write(dir.path(), "key", "geheim\n");
    let request = json!({"spec": {"resources": {"memory": "64Mi"}, "env": [{"name": "A", "value": "file"}]}});
    let request = write(dir.path(), "request.json", &request.to_string());
    let secret = format!("KEY=@{key}");
    let made = stage
        .run(&[
            "session",
            "create",
            "--file",
            &request,
            "--image",
            &image,
            "--port",
            "web=3000",
            "--env",
            "A=option",
            "--secret-env",
            &secret,
            "--label",
            "team=blue",
            "--wait",
            "60s",
        ])
        .done();
    let line = |name: &str| {
        let line = made.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{made}"));
        line.split_whitespace().last().unwrap().to_owned()
    };
    let session = line("ID");
    assert_eq!(line("PHASE"), "Running", "{made}");
    assert_eq!(line("URL"), format!("{}/s/{session}/", stage.server.url()));

    let container = engine.inspect(&format!("ss-{session}")).await;
    let env = container.config.unwrap().env.unwrap();
    assert!(env.contains(&"A=option".to_owned()) && env.contains(&"KEY=geheim".to_owned()), "{env:?}");
    assert_eq!(container.host_config.unwrap().memory, Some(64 << 20));

    // The beginning of an id is enough.
    let beginning = &session[..8];
    let shown = stage.run(&["session", "get", beginning]).done();
    assert!(shown.contains(&session) && shown.contains("CONDITION") && !shown.contains("geheim"), "{shown}");
    let as_json = stage.run(&["session", "get", beginning, "-o", "json"]).json();
    assert_eq!((id(&as_json), &as_json["spec"]["labels"]["team"]), (session.as_str(), &json!("blue")));
    stage.run(&["session", "get", "ffffffff"]).failed(3, "no session whose id begins with `ffffffff`");

    // Made again with its key, it is the same one.
    let again = ["session", "create", "--image", &image, "--idempotency-key", "k1", "-o", "json"];
    let (first, second) = (stage.run(&again).json(), stage.run(&again).json());
    assert_eq!((id(&first), &first["phase"]), (id(&second), &json!("Running")));

    let listed = stage.run(&["session", "ls", "--phase", "Running", "-o", "json"]).json();
    assert_eq!(listed["items"].as_array().unwrap().len(), 2, "{listed}");
    let table = stage.run(&["session", "ls"]).done();
    assert_eq!(table.lines().count(), 3, "{table}");
    assert!(!table.contains('\x1b'), "colours belong to terminals: {table}");
    let ids = stage.run(&["session", "ls", "--all", "--quiet"]).done();
    assert_eq!(ids.lines().count(), 2, "{ids}");

    // What is not there does not keep the others from being removed.
    let unknown = "00000000-0000-7000-8000-000000000000";
    let removed = stage.run(&["session", "rm", unknown, &session, id(&first), "--wait=60s"]);
    assert_eq!(removed.out, format!("{session}\n{}\n", id(&first)), "{removed:?}");
    removed.failed(3, unknown);
    assert!(!engine.exists(&format!("ss-{session}")).await);
    stage.run(&["session", "get", &session]).failed(3, "no session");
    assert_eq!(stage.run(&["session", "ls", "-o", "json"]).json()["items"], json!([]));
    end(stage, &engine).await;
}

#[tokio::test]
async fn a_session_is_opened_read_stopped_and_woken() {
    let Some((stage, engine, image)) = with_docker().await else { return };
    let made = stage.run(&["session", "create", "--image", &image, "--web", "3000", "-o", "json"]).json();
    let session = id(&made);

    // The ticket becomes a cookie, and the session's own page answers. Whoever comes first installs the provider.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let url = stage.run(&["session", "open", session]).done();
    assert!(url.starts_with(&format!("{}/s/{session}/?", stage.server.url())), "{url}");
    let client =
        || reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let page = until("the session's page", async || {
        let url = stage.run(&["session", "open", session]).done();
        let entered = client().get(url.trim()).send().await.unwrap();
        let cookie = entered.headers().get("set-cookie")?.to_str().unwrap().split(';').next()?.to_owned();
        let page = client().get(format!("{}/s/{session}/", stage.server.url())).header("cookie", cookie);
        let page = page.send().await.unwrap();
        if page.status().is_success() { Some(page.text().await.unwrap()) } else { None }
    })
    .await;
    assert!(page.contains("session "), "{page}");

    // A desktop that speaks RFB is nothing for a browser alone.
    let desktop = stage.run(&["session", "create", "--image", &image, "--vnc", "5900", "-o", "json"]).json();
    let url = stage.run(&["session", "open", id(&desktop)]);
    let place = format!("{}/api/v1/sessions/{}/vnc?streamspace_ticket=", stage.server.url(), id(&desktop));
    assert!(url.out.starts_with(&place.replacen("http", "ws", 1)), "{url:?}");
    assert!(url.err.contains("noVNC"), "{url:?}");
    stage.run(&["session", "open", id(&desktop), "--browser"]).failed(1, "RFB");
    stage.run(&["session", "rm", id(&desktop), "--wait=60s"]).done();

    let logs = until("output", async || {
        let logs = stage.run(&["session", "logs", session]).done();
        logs.contains("tick").then_some(logs)
    })
    .await;
    let tail = stage.run(&["session", "logs", session, "--tail", "1", "-o", "json"]).json();
    assert!(logs.contains("tick 1\n") && tail["message"].is_string(), "{logs} {tail}");
    let mut following = stage.spawn(&["session", "logs", session, "--follow"]);
    let metrics = stage.run(&["session", "metrics", session, "-o", "json"]).json();
    assert!(metrics["usage"]["memory_bytes"].as_u64().unwrap() > 0, "{metrics}");
    assert!(stage.run(&["session", "metrics", session]).done().contains("memory_bytes"));

    let stopped = stage.run(&["session", "hibernate", session, "--wait=60s", "-o", "json"]).json();
    assert_eq!(stopped["items"][0]["phase"], "Hibernated", "{stopped}");
    // Nothing more will come.
    let followed = until("the end of the output", async || following.try_wait().unwrap()).await;
    assert!(followed.success());
    let mut seen = String::new();
    following.stdout.take().unwrap().read_to_string(&mut seen).unwrap();
    assert!(seen.contains("tick 1\n"), "{seen}");

    let woken = stage.run(&["session", "wake", session, "--wait=60s", "-o", "json"]).json();
    assert_eq!(woken["items"][0]["phase"], "Running", "{woken}");

    let events = stage.run(&["session", "events", session]).done();
    for kind in ["session.created", "session.placed", "session.wish_changed"] {
        assert!(events.contains(kind), "{events}");
    }
    let explained = stage.run(&["session", "explain", session]).done();
    assert!(explained.contains("chosen") && explained.contains("nothing"), "{explained}");
    let explained = stage.run(&["session", "explain", session, "-o", "json"]).json();
    assert_eq!(explained["session_id"], session);

    stage.run(&["session", "rm", session, "--wait=60s"]).done();
    assert!(!engine.exists(&format!("ss-{session}")).await);
    end(stage, &engine).await;
}

#[tokio::test]
async fn whoever_stops_waiting_changes_nothing() {
    let Some((stage, engine, _)) = with_docker().await else { return };
    // Nobody has this image: it is tried for long.
    let create = ["session", "create", "--image", "127.0.0.1:9/none:1"];
    let patient: Vec<_> = create.iter().chain(&["--wait", "1s"]).copied().collect();
    stage.run(&patient).failed(6, "it goes on");
    let silent: Vec<_> = create.iter().chain(&["--no-wait", "-o", "json"]).copied().collect();
    assert_eq!(stage.run(&silent).json()["phase"], "Pending");

    let waiting = stage.spawn(&create);
    let api = stage.server.api();
    until("the third session", async || (api.sessions().await.len() == 3).then_some(())).await;
    // It has to be past the creation: then it says how far the session is.
    let mut waiting = waiting;
    let mut stderr = waiting.stderr.take().unwrap();
    let mut first = [0; 1];
    stderr.read_exact(&mut first).unwrap();
    assert!(Command::new("kill").args(["-INT", &waiting.id().to_string()]).status().unwrap().success());
    let status = until("the end after SIGINT", async || waiting.try_wait().unwrap()).await;
    let mut said = String::new();
    stderr.read_to_string(&mut said).unwrap();
    assert_eq!(status.code(), Some(130), "{said}");
    assert!(said.contains("interrupted") && said.contains("stays as it is"), "{said}");
    assert_eq!(api.sessions().await.len(), 3);

    let ids = stage.run(&["session", "ls", "--quiet"]).done();
    let mut remove = vec!["session", "rm", "--wait=60s"];
    remove.extend(ids.lines());
    stage.run(&remove).done();
    end(stage, &engine).await;
}

#[tokio::test]
async fn templates_are_applied_and_controllers_drained() {
    let Some((stage, engine, image)) = with_docker().await else { return };
    let dir = tempfile::tempdir().unwrap();
    let template = json!({"name": "cli", "spec": {"base_image": image, "resources": {"memory": "64Mi"}}});
    let template = write(dir.path(), "cli.json", &template.to_string());
    let objects = write(
        dir.path(),
        "objects.yaml",
        "apiVersion: stream.space/v1alpha1\nkind: Template\nmetadata: {name: one}\nspec: {displayName: One, \
         baseImage: x, vnc: {enabled: true, port: 5900}}\n---\napiVersion: v1\nkind: Pod\nmetadata: {name: two}\n",
    );
    let result = |told: Told| {
        let told: Value = serde_json::from_str(&told.out).unwrap_or_else(|_| panic!("{told:?}"));
        let items = told["items"].as_array().unwrap().clone();
        items.iter().map(|item| item["result"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let applied = |files: &[&str]| {
        let arguments: Vec<_> = ["template", "apply", "-o", "json"].iter().chain(files).copied().collect();
        stage.run(&arguments)
    };
    assert_eq!(result(applied(&[&template])), ["created"]);
    assert_eq!(result(applied(&[&template])), ["unchanged"]);
    let mixed = applied(&[&template, &objects, "/nowhere.json"]);
    assert_eq!(mixed.code, Some(1), "{mixed:?}");
    assert_eq!(result(mixed), ["unchanged", "created", "refused", "refused"]);
    let table = stage.run(&["template", "apply", &objects]);
    assert!(table.out.contains("refused") && table.out.contains("kind"), "{table:?}");
    assert_eq!(stage.run(&["template", "ls", "-o", "json"]).json()["items"].as_array().unwrap().len(), 2);
    assert!(stage.run(&["template", "get", "cli"]).done().contains(&image));
    stage.run(&["template", "rm", "one"]).done();
    stage.run(&["template", "get", "one"]).failed(3, "no template");

    let controllers = stage.run(&["controller", "ls", "-o", "json"]).json();
    let name = controllers[0]["name"].as_str().unwrap();
    stage.run(&["controller", "drain", name]).done();
    assert_eq!(stage.run(&["controller", "get", name, "-o", "json"]).json()["draining"], true);
    let create = ["session", "create", "--template", "cli", "--wait", "1s"];
    stage.run(&create).failed(6, "phase Pending");
    stage.run(&["controller", "undrain", name]).done();
    let waiting = stage.run(&["session", "ls", "--quiet"]).done();
    stage.server.api().wait_for_phase(waiting.trim(), "Running").await;
    stage.run(&["controller", "rm", name]).failed(1, "1 sessions are placed on it");
    stage.run(&["controller", "get", "nowhere"]).failed(3, "nowhere");
    stage.run(&["session", "rm", waiting.trim(), "--wait=60s"]).done();
    end(stage, &engine).await;
}

#[tokio::test]
async fn users_call_with_tokens_of_their_own() {
    let Some(installation) = Installation::new() else { return };
    let stage = Stage::start(installation);
    assert!(stage.run(&["whoami"]).done().contains("admin"));
    stage.run(&["user", "create", "alice", "--email", "alice@example.org"]).done();
    stage.run(&["user", "create", "alice"]).failed(1, "there is a user with this id");
    let secret = stage.run(&["token", "create", "laptop", "--user", "alice", "--quiet"]).done();
    let secret = secret.trim();
    let me: Value = stage.run_as(secret, &["whoami", "-o", "json"]).json();
    assert_eq!((&me["user_id"], &me["role"]), (&json!("alice"), &json!("user")));
    stage.run_as(secret, &["user", "ls"]).failed(4, "Forbidden");
    stage.run_as(secret, &["controller", "ls"]).failed(4, "Forbidden");
    assert!(stage.run(&["user", "set", "alice", "--role", "operator"]).done().contains("operator"));

    let tokens = stage.run(&["token", "ls", "--user", "alice", "-o", "json"]).json();
    assert!(!tokens.to_string().contains(secret), "{tokens}");
    let token = id(&tokens["items"][0]);
    // Nobody learns of other people's tokens by revoking them.
    let administrators = stage.run(&["token", "ls", "-o", "json"]).json();
    stage.run_as(secret, &["token", "rm", id(&administrators["items"][0])]).failed(3, "no token");
    stage.run(&["token", "rm", token]).done();
    stage.run_as(secret, &["whoami"]).failed(4, "--token-file");
    stage.run(&["user", "rm", "alice"]).done();
    assert!(!stage.run(&["user", "ls"]).done().contains("alice"));
    stage.server.kill();
}

#[tokio::test]
async fn quotas_are_set_and_the_audit_log_says_by_whom() {
    let Some(installation) = Installation::new() else { return };
    let stage = Stage::start(
        installation.config("[audit]\nkeep = \"1h\"\n[quota]\nsessions = 3\nmemory = \"4Gi\"\n"),
    );
    let own = stage.run(&["quota", "get"]).done();
    assert!(own.contains("0 of 3") && own.contains("0 of 4Gi") && own.contains("0 of unlimited"), "{own}");
    stage.run(&["quota", "set", "alice", "--sessions", "5", "--cpu", "1500m"]).done();
    // What is not named stays as it is.
    let set = stage.run(&["quota", "set", "alice", "--memory", "unlimited", "-o", "json"]).json();
    assert_eq!(set["limits"], json!({"sessions": 5, "cpu": "1500m", "memory": null, "storage": null}));
    let set = stage.run(&["quota", "set", "alice", "--sessions", "default", "-o", "json"]).json();
    assert_eq!(set["limits"]["sessions"], 3);
    stage.run(&["quota", "set", "alice", "--cpu", "many"]).failed(1, "cpu");
    stage.run(&["quota", "set", "alice"]).failed(2, "--sessions");
    let listed = stage.run(&["quota", "ls"]).done();
    assert!(listed.lines().any(|line| line.starts_with("alice") && line.contains("0 of 1500m")), "{listed}");

    stage.run(&["user", "create", "alice"]).done();
    let secret = stage.run(&["token", "create", "laptop", "--user", "alice", "--quiet"]).done();
    let secret = secret.trim();
    assert!(stage.run_as(secret, &["quota", "get"]).done().contains("0 of 1500m"));
    stage.run_as(secret, &["quota", "ls"]).failed(4, "Forbidden");
    stage.run_as(secret, &["audit", "ls"]).failed(4, "Forbidden");
    stage.run_as(secret, &["token", "create", "second"]).done();
    stage.run(&["quota", "rm", "alice"]).done();
    stage.run(&["quota", "rm", "alice"]).failed(3, "nothing is set");

    let log = stage.run(&["audit", "ls"]).done();
    let line = log.lines().find(|line| line.contains(" alice ") && line.contains("token.create")).unwrap();
    assert!(line.contains("laptop") && line.contains("name=second"), "{log}");
    assert!(log.contains("system:configuration"), "{log}");
    let log = stage.run(&["audit", "ls", "--action", "quota.set", "--target", "alice", "-o", "json"]).json();
    assert_eq!(log["items"].as_array().unwrap().len(), 3, "{log}");
    assert_eq!(log["items"][2]["details"]["limits"], json!({"sessions": "5", "cpu": "1500m"}));
    let newest = stage.run(&["audit", "ls", "--limit", "1", "-o", "json"]).json();
    assert_eq!(newest["items"][0]["action"], "quota.remove");
    assert!(newest["items"].as_array().unwrap().len() == 1 && newest["next_cursor"].is_null());
    let later = stage.run(&["audit", "ls", "--since", "2999-01-01T00:00:00Z", "-o", "json"]).json();
    assert_eq!(later["items"], json!([]));
    stage.run(&["audit", "ls", "--since", "yesterday"]).failed(2, "--since");
    stage.server.kill();
}

#[test]
fn exit_codes_tell_errors_apart() {
    let Some(wrong) = alone(&["session", "frobnicate"]) else { return };
    wrong.failed(2, "frobnicate");
    let dir = tempfile::tempdir().unwrap();
    let token = write(dir.path(), "token", "ss_none");
    let nowhere = ["--url", "http://127.0.0.1:9", "--token-file", &token];
    let unreachable: Vec<_> = ["session", "ls"].iter().chain(&nowhere).copied().collect();
    alone(&unreachable).unwrap().failed(5, "streamspace serve");
    let elsewhere = ["session", "ls", "--url", "https://desktops.example.org"];
    alone(&elsewhere).unwrap().failed(4, "STREAMSPACE_TOKEN");
    alone(&["session", "ls", "--url", "desktops"]).unwrap().failed(1, "--url");
    alone(&["session", "create", "--image", "x", "--port", "3000"]).unwrap().failed(2, "web=3000");
    alone(&["session", "wake", "01980c5e", "--wait", "2m"]).unwrap().failed(2, "--wait=2m");
    let broken =
        program().unwrap().args(["session", "ls"]).env("STREAMSPACE_TOKEN", "a\nb").output().unwrap();
    Told::of(broken).failed(4, "STREAMSPACE_TOKEN is no token");
    let with_password = ["session", "ls", "--url", "https://me:geheim@desktops.example.org"];
    let refused = alone(&with_password).unwrap();
    assert!(!refused.err.contains("geheim"), "{refused:?}");
    refused.failed(1, "no password");
    let on_the_line = alone(&["session", "create", "--image", "x", "--secret-env", "KEY=x"]).unwrap();
    on_the_line.failed(2, "does not belong on the command line");

    if let Some(plugins) = provided("STREAMSPACE_TEST_PLUGINS") {
        let plugin = Path::new(&plugins).join("docker.wasm").to_str().unwrap().to_owned();
        let serve = ["controller", "serve", "--plugin", &plugin, "--name", "x", "--listen", "127.0.0.1:0"];
        let with_secret: Vec<_> = serve.iter().chain(&["--secret", "token=/etc/hostname"]).copied().collect();
        alone(&with_secret).unwrap().failed(1, "secrets.token");
    }

    let Some(installation) = Installation::new() else { return };
    let stage = Stage::start(installation);
    stage.run_as("ss_wrong", &["session", "ls"]).failed(4, "--token-file");
    stage.run(&["session", "get", "00000000-0000-7000-8000-000000000000"]).failed(3, "no session");
    // Nothing could ever take it.
    stage.run(&["session", "create", "--image", "x"]).failed(5, "");
    stage.run(&["session", "create", "--image", "x", "--memory", "much"]).failed(1, "spec.resources.memory");
    stage.server.kill();
}

#[test]
fn help_and_completion_are_there_for_every_shell() {
    for (shell, word) in [
        ("bash", "complete"),
        ("zsh", "#compdef"),
        ("fish", "complete"),
        ("elvish", "edit:"),
        ("powershell", "Register"),
    ] {
        let Some(told) = alone(&["completion", shell]) else { return };
        let script = told.done();
        assert!(script.contains(word) && script.contains("hibernate"), "{shell}: {script}");
    }
    let help = alone(&["--help"]).unwrap().done();
    assert!(help.contains("Exit codes:") && help.contains("130"), "{help}");
    assert!(alone(&["session", "create", "--help"]).unwrap().done().contains("Examples:"));
}

/// What a command says to nobody.
fn unread(command: &mut Command) -> Told {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    Told::of(child.wait_with_output().unwrap())
}

#[test]
fn a_reader_that_leaves_is_no_failure() {
    let Some(mut command) = program() else { return };
    unread(command.args(["completion", "bash"])).done();
    if let Some(plugins) = provided("STREAMSPACE_TEST_PLUGINS") {
        let plugin = Path::new(&plugins).join("docker.wasm");
        unread(program().unwrap().args(["plugin", "inspect"]).arg(&plugin)).done();
    }
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let told = program().unwrap().args(["completion", "bash"]).stdout(full).output().unwrap();
    Told::of(told).failed(1, "the output cannot be written");
}

#[test]
fn everything_is_done_although_nobody_reads() {
    let Some(installation) = Installation::new() else { return };
    let stage = Stage::start(installation);
    let make = |name: &str| {
        let made = stage.run(&["token", "create", name, "-o", "json"]).json();
        id(&made).to_owned()
    };
    let tokens: Vec<String> = ["a", "b", "c"].map(make).into();
    let mut all: Vec<&str> = tokens.iter().map(String::as_str).collect();
    all.insert(1, "tok-000000000000");
    let remove: Vec<_> = ["token", "rm"].iter().chain(&all).copied().collect();
    unread(&mut stage.command(&remove)).failed(3, "tok-000000000000");
    let left = stage.run(&["token", "ls"]).done();
    assert!(tokens.iter().all(|token| !left.contains(token)), "{left}");
    // What became of a session is told by the exit code.
    let create = ["template", "apply", "/nowhere.json"];
    unread(&mut stage.command(&create)).failed(1, "");
    stage.server.kill();
}

#[test]
fn a_database_is_brought_up_to_date_unless_it_is_in_use() {
    let Some(installation) = Installation::new() else { return };
    let data = installation.data().to_str().unwrap().to_owned();
    let migrate = ["migrate", "--data", &data];
    let told = alone(&migrate).unwrap().done();
    assert!(told.contains("new → version "), "{told}");
    assert!(alone(&migrate).unwrap().done().contains("is up to date"));
    // A configuration need not be a file, and what cannot be read is told as it is.
    let script = "exec \"$0\" migrate --data \"$1\" --config <(echo 'log = \"warn\"')";
    let mut piped = Command::new("bash");
    piped.args(["-c", script]).arg(program().unwrap().get_program()).arg(&data);
    Told::of(piped.output().unwrap()).done();
    let directory: Vec<_> = migrate.iter().chain(&["--config", "/"]).copied().collect();
    alone(&directory).unwrap().failed(1, "/ cannot be read: Is a directory");
    let server = installation.start();
    alone(&migrate).unwrap().failed(1, "in use");
    server.kill();
}

#[test]
fn a_new_plugin_is_written_where_it_is_wanted() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("cloud");
    let target = target.to_str().unwrap();
    let sdk = concat!(env!("CARGO_MANIFEST_DIR"), "/../sdk");
    let Some(told) = alone(&["plugin", "new", "my-cloud", "--dir", target, "--sdk", sdk]) else { return };
    told.done();
    assert!(Path::new(target).join("src/lib.rs").is_file());
    alone(&["plugin", "new", "my-cloud", "--dir", target]).unwrap().failed(1, "--dir");
    alone(&["plugin", "new", "x", "--dir", dir.path().join("y").to_str().unwrap()])
        .unwrap()
        .failed(1, "--sdk");
}
