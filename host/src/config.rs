//! The configuration: file, environment and command line, laid over each other.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::builder::{OsStringValueParser, TypedValueParser};
use figment::Figment;
use figment::providers::{Data, Env, Format as _, Serialized, Toml};
use serde::Deserialize;
use streamspace_control::{ControlConfig, GoDuration, Overcommit, PlacementStrategy, Quota};
use streamspace_runtime::{EndpointConfig, LimitOverrides, SecretSource};

use crate::cli::ServeArgs;

/// Keys that the environment can set, as `STREAMSPACE_<KEY>`.
const FROM_ENVIRONMENT: &[&str] = &[
    "listen",
    "database",
    "server_lease",
    "server_renewal",
    "plugins",
    "data",
    "log",
    "audit",
    "quota",
    "health",
    "remote",
    "drift_grace",
    "placement_limit",
    "placement",
    "controller",
];

/// What a lease may be: below, a busy machine loses its place for nothing; above, nobody would call it taking over.
const LEASES: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(60);
/// More often would be a load without any use.
const SHORTEST_RENEWAL: Duration = Duration::from_millis(100);

/// What a time that says how controllers do may be.
const HEALTH_TIMES: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(600);

/// Variables with our prefix that are read elsewhere, or by tests.
const OTHER_VARIABLES: &[&str] = &[
    "config",
    "url",
    "token",
    "join_token",
    "join_token_file",
    "cache",
    "wasi_sysroot_src",
    "plugin_digests",
    "kill_at",
    "failpoints_seen",
];

/// All settings.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Address and port to serve on.
    #[serde(default = "default_listen")]
    pub(crate) listen: SocketAddr,
    /// URL of the database; none = SQLite in the data directory.
    pub(crate) database: Option<String>,
    /// How long other servers over the same database wait for a sign of this one.
    #[serde(default)]
    server_lease: Option<GoDuration>,
    /// How often this server gives that sign.
    #[serde(default)]
    server_renewal: Option<GoDuration>,
    /// Directory with plugins.
    #[serde(default)]
    plugins: Option<PathBuf>,
    /// Directory for everything kept.
    #[serde(default = "default_data")]
    pub(crate) data: PathBuf,
    /// Filter of the log.
    #[serde(default = "default_log")]
    pub(crate) log: String,
    /// What is kept of who changed what.
    #[serde(default)]
    pub(crate) audit: AuditConfig,
    /// What the sessions of one user may take, unless something else is set for them; none = anything.
    #[serde(default)]
    pub(crate) quota: Quota,
    /// When a controller is taken to be well, unwell or away.
    #[serde(default)]
    pub(crate) health: HealthConfig,
    /// What controllers that run elsewhere may do.
    #[serde(default)]
    pub(crate) remote: RemoteConfig,
    /// How long an object of an unknown session is left alone before it is removed; none = for ever.
    #[serde(default)]
    pub(crate) drift_grace: Option<GoDuration>,
    /// How long a session waits for a controller that can take it.
    #[serde(default)]
    pub(crate) placement_limit: Option<GoDuration>,
    /// How a controller is chosen.
    #[serde(default)]
    pub(crate) placement: PlacementConfig,
    /// Controllers; none = those for the backends that are found.
    #[serde(default, rename = "controller")]
    pub(crate) controllers: Vec<ControllerConfig>,
}

/// How a server holds its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lease {
    /// Others take over so long after its last sign.
    pub(crate) lease: Duration,
    /// Between two signs.
    pub(crate) renewal: Duration,
}

/// What is kept of who changed what.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AuditConfig {
    /// How long; none = a year.
    pub(crate) keep: Option<GoDuration>,
}

/// When a controller is taken to be well, unwell or away. What is not set is as usual.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HealthConfig {
    /// Between two questions, and at most between two signs of life of a remote one.
    pub(crate) interval: Option<GoDuration>,
    /// How long an answer may take.
    pub(crate) timeout: Option<GoDuration>,
    /// So many questions without an answer in a row.
    pub(crate) offline_after: Option<u32>,
    /// How long another process of a remote one waits for a sign of life of the active one.
    pub(crate) lease: Option<GoDuration>,
}

/// How a controller is chosen.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PlacementConfig {
    /// Among several that can take a session.
    #[serde(default)]
    pub(crate) strategy: PlacementStrategy,
    /// How many times what controllers have is given away.
    #[serde(default)]
    pub(crate) overcommit: Overcommit,
}

/// What controllers that run elsewhere may do.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RemoteConfig {
    /// Be called unencrypted beyond this machine.
    pub(crate) allow_insecure_endpoints: bool,
}

/// One controller.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ControllerConfig {
    /// Unique among the controllers of one type.
    pub(crate) name: String,
    /// Name of the plugin.
    pub(crate) plugin: String,
    /// Labels for placement.
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
    /// Settings of the plugin.
    #[serde(default)]
    pub(crate) config: serde_json::Value,
    /// Limits instead of those that the plugin asks for.
    #[serde(default)]
    pub(crate) limits: LimitOverrides,
    /// Targets that the plugin may talk to.
    #[serde(default)]
    pub(crate) endpoints: BTreeMap<String, EndpointConfig>,
    /// Secrets that the plugin may see.
    #[serde(default)]
    pub(crate) secrets: BTreeMap<String, SecretSource>,
}

impl Config {
    /// Reads all layers.
    pub(crate) fn load(args: &ServeArgs) -> anyhow::Result<Self> {
        let mut figment = Figment::new();
        let file = args.config.as_deref().filter(|path| !path.as_os_str().is_empty());
        if let Some(path) = file {
            figment = figment.merge(read_file(path)?);
        }
        let from_environment = Env::prefixed("STREAMSPACE_").only(FROM_ENVIRONMENT).filter(|key| {
            // An empty variable is none.
            let name = format!("STREAMSPACE_{}", key.as_str().to_ascii_uppercase());
            std::env::var_os(name).is_some_and(|value| !value.is_empty())
        });
        let config: Self =
            figment.merge(from_environment).merge(Serialized::defaults(args)).extract().with_context(
                || match file {
                    Some(path) => format!("the configuration is not valid (its file is {})", path.display()),
                    None => "the configuration is not valid".to_owned(),
                },
            )?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> anyhow::Result<()> {
        let Lease { lease, renewal } = self.lease();
        if !LEASES.contains(&lease) {
            bail!("server_lease must be from {} s to {} s", LEASES.start().as_secs(), LEASES.end().as_secs());
        }
        if renewal < SHORTEST_RENEWAL || renewal * 3 > lease {
            bail!("server_renewal must be from 100ms to a third of server_lease");
        }
        let HealthConfig { interval, timeout, offline_after, lease } = &self.health;
        for (key, time) in [("interval", interval), ("timeout", timeout), ("lease", lease)] {
            if time.as_ref().is_some_and(|time| !HEALTH_TIMES.contains(&time.length())) {
                bail!("health.{key} must be from 100ms to 10m");
            }
        }
        if *offline_after == Some(0) {
            bail!("health.offline_after must be at least 1");
        }
        let mut names = std::collections::BTreeSet::new();
        for controller in &self.controllers {
            if controller.name.is_empty() {
                bail!("controller.name must not be empty");
            }
            if !names.insert((&controller.plugin, &controller.name)) {
                bail!(
                    "there are two controllers `{}` of the plugin `{}`",
                    controller.name,
                    controller.plugin
                );
            }
        }
        Ok(())
    }

    /// How this server holds its place among those over the same database.
    pub(crate) fn lease(&self) -> Lease {
        let default = ControlConfig::new(&self.data);
        let lease = self.server_lease.as_ref().map(GoDuration::length);
        // A lease that is set alone brings the other with it, in about the same proportion.
        let renewal = self.server_renewal.as_ref().map(GoDuration::length).or(lease.map(|lease| lease / 4));
        Lease {
            lease: lease.unwrap_or(default.server_lease),
            renewal: renewal.unwrap_or(default.server_renewal),
        }
    }

    /// Lays what is set about the health of controllers over what is usual.
    pub(crate) fn apply_health(&self, control: &mut ControlConfig) {
        let HealthConfig { interval, timeout, offline_after, lease } = &self.health;
        for (set, usual) in [
            (interval, &mut control.health_interval),
            (timeout, &mut control.probe_timeout),
            (lease, &mut control.instance_lease),
        ] {
            *usual = set.as_ref().map_or(*usual, GoDuration::length);
        }
        control.offline_after = offline_after.unwrap_or(control.offline_after);
    }

    /// The directory with plugins: as set, or beside the program, or in the data directory.
    pub(crate) fn plugin_dir(&self) -> PathBuf {
        self.plugins.clone().unwrap_or_else(|| {
            std::env::current_exe()
                .ok()
                .and_then(|program| Some(program.parent()?.join("plugins")))
                .filter(|beside| beside.is_dir())
                .unwrap_or_else(|| self.data.join("plugins"))
        })
    }
}

/// Reads a configuration file, or whatever else gives text.
pub(crate) fn read_file(path: &Path) -> anyhow::Result<Data<Toml>> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("the configuration file {} cannot be read", path.display()))?;
    Ok(Toml::string(&text))
}

/// For a path that a variable of the environment may give as empty, which means none.
pub(crate) fn path_or_nothing() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

/// Variables with our prefix that nothing reads: most likely typing mistakes.
pub(crate) fn unknown_variables() -> Vec<String> {
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    names.filter(|name| name.strip_prefix("STREAMSPACE_").is_some_and(|key| !is_known(key))).collect()
}

fn is_known(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    // Kubernetes tells containers in this way of a service that is called `streamspace`.
    let of_kubernetes = key == "port" || ["port_", "service_"].iter().any(|prefix| key.starts_with(prefix));
    FROM_ENVIRONMENT.contains(&key.as_str())
        || OTHER_VARIABLES.contains(&key.as_str())
        || key.starts_with("test_")
        || of_kubernetes
}

fn default_listen() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 8000))
}

fn default_log() -> String {
    "info".to_owned()
}

/// Where everything is kept unless somebody says otherwise.
pub(crate) fn default_data() -> PathBuf {
    let is_root = rustix::process::geteuid().is_root();
    data_dir(is_root, std::env::var_os("XDG_DATA_HOME"), std::env::var_os("HOME"))
}

fn data_dir(is_root: bool, xdg: Option<OsString>, home: Option<OsString>) -> PathBuf {
    // By the XDG specification a path that is not absolute counts as none.
    let place = |variable: Option<OsString>| variable.map(PathBuf::from).filter(|path| path.is_absolute());
    let of_user = place(xdg).or_else(|| place(home).map(|home| home.join(".local/share")));
    match of_user.filter(|_| !is_root) {
        Some(data) => data.join("streamspace"),
        None => PathBuf::from("/var/lib/streamspace"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(toml: &str) -> anyhow::Result<Config> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("streamspace.toml");
        std::fs::write(&file, toml).unwrap();
        Config::load(&ServeArgs {
            listen: None,
            database: None,
            plugins: None,
            data: None,
            config: Some(file),
            log: Some("debug".to_owned()),
        })
    }

    #[test]
    fn the_command_line_wins_over_the_file() {
        let config = load("listen = \"127.0.0.1:1\"\nlog = \"warn\"\n").unwrap();
        assert_eq!((config.listen.port(), config.log.as_str()), (1, "debug"));
    }

    #[test]
    fn limits_are_read() {
        let config = load("[audit]\nkeep = \"720h\"\n[quota]\nsessions = 3\nmemory = \"16Gi\"\n").unwrap();
        assert_eq!(config.audit.keep.unwrap().length().as_secs(), 720 * 3600);
        assert_eq!((config.quota.sessions, config.quota.cpu), (Some(3), None));
        assert_eq!(config.quota.memory.unwrap().bytes(), 16 << 30);
        let placement = load("[placement]\nstrategy = \"round-robin\"\n").unwrap().placement;
        assert_eq!(placement.strategy, PlacementStrategy::RoundRobin);
        let placement = load("[placement.overcommit]\ncpu = 2\nstorage = 1.5\n").unwrap().placement;
        let overcommit = placement.overcommit;
        let all = [overcommit.cpu, overcommit.memory, overcommit.storage].map(|factor| factor.times());
        assert_eq!(all, [2.0, 1.0, 1.5]);
        let nothing = load("").unwrap();
        assert_eq!(nothing.placement.strategy, PlacementStrategy::LeastLoaded);
        assert_eq!(nothing.placement.overcommit.cpu.times(), 4.0);
        assert!(nothing.audit.keep.is_none() && nothing.quota == Quota::default());
    }

    #[test]
    fn data_is_where_the_user_keeps_data() {
        let dir =
            |is_root: bool, xdg: &str, home: &str| data_dir(is_root, Some(xdg.into()), Some(home.into()));
        assert_eq!(dir(false, "/xdg", "/home/a"), Path::new("/xdg/streamspace"));
        for xdg in ["", "here"] {
            assert_eq!(dir(false, xdg, "/home/a"), Path::new("/home/a/.local/share/streamspace"));
        }
        for nothing in [dir(true, "/xdg", "/home/a"), dir(false, "", ""), data_dir(false, None, None)] {
            assert_eq!(nothing, Path::new("/var/lib/streamspace"));
        }
    }

    #[test]
    fn mistyped_variables_are_told_from_ours() {
        for key in ["LISTEN", "TOKEN", "TEST_BIN", "KILL_AT", "SERVICE_HOST", "PORT_8000_TCP"] {
            assert!(is_known(key), "{key}");
        }
        assert!(!is_known("LISTN") && !is_known("LISTEN_ADDRESS"));
    }

    #[test]
    fn a_controller_is_read_whole() {
        let config = load(
            r#"
            [[controller]]
            name = "docker-local"
            plugin = "docker"
            labels = { region = "lab" }
            config = { pids = 100 }
            limits = { memory = "32MiB", calls = 4 }
            [controller.endpoints.engine]
            docker = "unix:///var/run/docker.sock"
            [controller.endpoints.api]
            http = "https://pve:8006"
            tls = { sha256 = "AB:CD" }
            credential = { header = "Authorization", format = "PVEAPIToken={secret}", secret = { env = "PVE_TOKEN" } }
            allow = ["GET /api2/json/**"]
            [controller.secrets.token]
            file = "/etc/token"
            "#,
        )
        .unwrap();
        let controller = &config.controllers[0];
        let docker = EndpointConfig::Docker("unix:///var/run/docker.sock".to_owned());
        assert_eq!(controller.endpoints["engine"], docker);
        let EndpointConfig::Http(api) = &controller.endpoints["api"] else { panic!("{controller:?}") };
        assert_eq!(api.url, "https://pve:8006");
        assert_eq!(api.allow.as_deref(), Some(["GET /api2/json/**".to_owned()].as_slice()));
        let secret = api.credential.as_ref().and_then(|credential| credential.secret.as_ref());
        assert_eq!(secret, Some(&SecretSource::Env("PVE_TOKEN".to_owned())));
        assert_eq!(controller.config["pids"], 100);
        assert_eq!(controller.limits.memory.unwrap().bytes(), 32 << 20);
        assert_eq!(controller.secrets["token"], SecretSource::File("/etc/token".into()));
    }

    #[test]
    fn a_lease_brings_its_renewal() {
        let lease = |toml: &str| {
            let Lease { lease, renewal } = load(toml).unwrap().lease();
            (lease.as_millis(), renewal.as_millis())
        };
        assert_eq!(lease(""), (2500, 600));
        assert_eq!(lease("server_lease = \"8s\""), (8000, 2000));
        assert_eq!(lease("server_lease = \"8s\"\nserver_renewal = \"500ms\""), (8000, 500));
    }

    #[test]
    fn what_is_set_about_health_is_laid_over_what_is_usual() {
        let config = load("[health]\nlease = \"3s\"\noffline_after = 5\n").unwrap();
        let usual = ControlConfig::default();
        let mut control = usual.clone();
        config.apply_health(&mut control);
        assert_eq!((control.instance_lease.as_secs(), control.offline_after), (3, 5));
        assert_eq!(
            (control.health_interval, control.probe_timeout),
            (usual.health_interval, usual.probe_timeout)
        );
    }

    #[test]
    fn mistakes_are_named() {
        for (toml, word) in [
            ("server_lease = \"0.5s\"", "server_lease"),
            ("server_lease = \"soon\"", "server_lease"),
            ("server_renewal = \"2s\"", "server_renewal"),
            ("lisen = \"127.0.0.1:1\"", "lisen"),
            ("listen = \"nowhere\"", "listen"),
            ("audit = { keep = \"a year\" }", "audit.keep"),
            ("placement = { strategy = \"random\" }", "placement.strategy"),
            ("placement = { overcommit = { cpu = 0 } }", "placement.overcommit.cpu"),
            ("placement = { overcommit = { gpu = 2 } }", "gpu"),
            ("quota = { cpus = 4 }", "cpus"),
            ("quota = { memory = \"lots\" }", "quota.memory"),
            ("quota = { sessions = -1 }", "quota.sessions"),
            ("health = { lease = \"10ms\" }", "health.lease"),
            ("health = { interval = \"soon\" }", "health.interval"),
            ("health = { offline_after = 0 }", "health.offline_after"),
            ("health = { leese = \"3s\" }", "leese"),
            ("[[controller]]\nname = \"a\"", "plugin"),
            (
                "[[controller]]\nname = \"a\"\nplugin = \"b\"\n[[controller]]\nname = \"a\"\nplugin = \"b\"",
                "two",
            ),
            ("[[controller]]\nname = \"a\"\nplugin = \"b\"\nlimits = { memory = \"64MB\" }", "MB"),
            (
                "[[controller]]\nname = \"a\"\nplugin = \"b\"\n[controller.endpoints.x]\nhttp = \"https://x\"\ncookie = true",
                "unknown field: found `cookie`",
            ),
            (
                "[[controller]]\nname = \"a\"\nplugin = \"b\"\n[controller.endpoints.x]\ncookies = true",
                "`docker` or `http`",
            ),
        ] {
            let error = format!("{:#}", load(toml).unwrap_err());
            assert!(error.contains(word), "{toml}: {error}");
        }
    }
}
