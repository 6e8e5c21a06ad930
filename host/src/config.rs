//! The configuration: file, environment and command line, laid over each other.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use figment::Figment;
use figment::providers::{Env, Format as _, Serialized, Toml};
use serde::Deserialize;
use streamspace_runtime::{EndpointConfig, LimitOverrides, SecretSource};

use crate::cli::ServeArgs;

/// Keys that the environment can set, as `STREAMSPACE_<KEY>`.
const FROM_ENVIRONMENT: &[&str] = &["listen", "database", "plugins", "data", "log", "controller"];

/// All settings.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Address and port to serve on.
    #[serde(default = "default_listen")]
    pub(crate) listen: SocketAddr,
    /// URL of the database; none = SQLite in the data directory.
    pub(crate) database: Option<String>,
    /// Directory with plugins.
    #[serde(default)]
    plugins: Option<PathBuf>,
    /// Directory for everything kept.
    #[serde(default = "default_data")]
    pub(crate) data: PathBuf,
    /// Filter of the log.
    #[serde(default = "default_log")]
    pub(crate) log: String,
    /// Controllers; none = those for the backends that are found.
    #[serde(default, rename = "controller")]
    pub(crate) controllers: Vec<ControllerConfig>,
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
        if let Some(path) = &args.config {
            if !path.is_file() {
                bail!("the configuration file {} does not exist", path.display());
            }
            figment = figment.merge(Toml::file_exact(path));
        }
        let config: Self = figment
            .merge(Env::prefixed("STREAMSPACE_").only(FROM_ENVIRONMENT))
            .merge(Serialized::defaults(args))
            .extract()
            .context("the configuration is not valid")?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> anyhow::Result<()> {
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

fn default_listen() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 8000))
}

fn default_log() -> String {
    "info".to_owned()
}

/// Where everything is kept unless somebody says otherwise.
pub(crate) fn default_data() -> PathBuf {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    match home {
        Some(home) if home != Path::new("/root") => std::env::var_os("XDG_DATA_HOME")
            .map_or_else(|| home.join(".local/share"), PathBuf::from)
            .join("streamspace"),
        _ => PathBuf::from("/var/lib/streamspace"),
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
            [controller.secrets.token]
            file = "/etc/token"
            "#,
        )
        .unwrap();
        let controller = &config.controllers[0];
        assert_eq!(controller.endpoints["engine"].docker, "unix:///var/run/docker.sock");
        assert_eq!(controller.config["pids"], 100);
        assert_eq!(controller.limits.memory.unwrap().bytes(), 32 << 20);
        assert_eq!(controller.secrets["token"], SecretSource::File("/etc/token".into()));
    }

    #[test]
    fn mistakes_are_named() {
        for (toml, word) in [
            ("lisen = \"127.0.0.1:1\"", "lisen"),
            ("listen = \"nowhere\"", "listen"),
            ("[[controller]]\nname = \"a\"", "plugin"),
            (
                "[[controller]]\nname = \"a\"\nplugin = \"b\"\n[[controller]]\nname = \"a\"\nplugin = \"b\"",
                "two",
            ),
            ("[[controller]]\nname = \"a\"\nplugin = \"b\"\nlimits = { memory = \"64MB\" }", "MB"),
        ] {
            let error = format!("{:#}", load(toml).unwrap_err());
            assert!(error.contains(word), "{toml}: {error}");
        }
    }
}
