//! What a session is to be made of: a file, and options laid over it.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::{Map, Value, json};

use crate::command::file;

#[derive(Debug, Default, Args)]
pub(super) struct RequestArgs {
    /// Template to make it from
    #[arg(short, long, value_name = "NAME")]
    template: Option<String>,

    /// Image to make it from
    #[arg(short, long)]
    image: Option<String>,

    /// For whom; operators can make sessions for others
    #[arg(short, long)]
    user: Option<String>,

    /// Memory, like 2Gi
    #[arg(short, long, value_name = "QUANTITY")]
    memory: Option<String>,

    /// Processors, like 1.5 or 500m
    #[arg(short, long, value_name = "QUANTITY")]
    cpu: Option<String>,

    /// A port it listens on: name=3000, or name=5000/udp
    #[arg(short, long = "port", value_name = "NAME=PORT", value_parser = port)]
    ports: Vec<Port>,

    /// Port of its web application
    #[arg(long, value_name = "PORT")]
    web: Option<u16>,

    /// Port of its desktop (VNC)
    #[arg(long, value_name = "PORT")]
    vnc: Option<u16>,

    /// A variable of its environment
    #[arg(short, long = "env", value_name = "NAME=VALUE", value_parser = pair)]
    env: Vec<(String, String)>,

    /// A variable that nobody is shown again: NAME=@FILE reads its value from a file, NAME from the variable of that
    /// name here
    #[arg(long = "secret-env", value_name = "NAME[=@FILE]", value_parser = secret)]
    secrets: Vec<Secret>,

    /// Mount the user's home
    #[arg(long)]
    home: bool,

    /// Hibernate it when nobody has used it for so long, like 30m
    #[arg(long, value_name = "DURATION")]
    idle_timeout: Option<String>,

    /// Terminate it so long after it began, like 8h; the home is kept
    #[arg(long, value_name = "DURATION")]
    max_duration: Option<String>,

    /// A label of the session
    #[arg(short, long = "label", value_name = "KEY=VALUE", value_parser = pair)]
    labels: Vec<(String, String)>,

    /// Id of the controller to run on
    #[arg(long, value_name = "ID")]
    controller: Option<String>,

    /// Type of controller to run on
    #[arg(long = "type", value_name = "TYPE", conflicts_with = "controller")]
    kind: Option<String>,

    /// A label that the controller must have
    #[arg(long = "controller-label", value_name = "KEY=VALUE", value_parser = pair)]
    controller_labels: Vec<(String, String)>,

    /// What the controller must be able to do: hibernation, gpu, persistent_storage or networking
    #[arg(long, value_name = "CAPABILITY", value_delimiter = ',')]
    require: Vec<String>,

    /// File with the request, JSON or YAML, as the API takes it; - is standard input
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Port {
    name: String,
    number: u16,
    protocol: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Secret {
    name: String,
    /// None = from the variable of the same name.
    file: Option<PathBuf>,
}

fn port(text: &str) -> Result<Port, String> {
    let wanted = "must be like web=3000 or game=5000/udp";
    let (name, port) = text.split_once('=').ok_or(wanted)?;
    let (number, protocol) = match port.split_once('/') {
        Some((number, protocol)) => (number, Some(protocol)),
        None => (port, None),
    };
    let number =
        number.parse().ok().filter(|&number| number > 0).ok_or("the port must be from 1 to 65535")?;
    if name.is_empty() || protocol.is_some_and(str::is_empty) {
        return Err(wanted.to_owned());
    }
    Ok(Port { name: name.to_owned(), number, protocol: protocol.map(str::to_owned) })
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("must be like NAME=VALUE".to_owned()),
    }
}

fn secret(text: &str) -> Result<Secret, String> {
    let (name, file) = match text.split_once('=') {
        None => (text, None),
        Some((name, file)) => match file.strip_prefix('@') {
            Some(file) if !file.is_empty() => (name, Some(PathBuf::from(file))),
            // The list of processes shows command lines to everybody.
            _ => {
                return Err(
                    "a secret does not belong on the command line: give NAME=@FILE or NAME".to_owned()
                );
            }
        },
    };
    if name.is_empty() {
        return Err("must be like NAME=@FILE or NAME".to_owned());
    }
    Ok(Secret { name: name.to_owned(), file })
}

impl Secret {
    fn read(&self) -> anyhow::Result<String> {
        match &self.file {
            Some(path) => {
                let text = file::read(path).with_context(|| format!("--secret-env {}", self.name))?;
                // Editors end a file with a line break that nobody means.
                Ok(text.strip_suffix('\n').map(str::to_owned).unwrap_or(text))
            }
            None => std::env::var(&self.name).with_context(|| {
                format!("--secret-env {}: the variable is not set here; NAME=@FILE reads a file", self.name)
            }),
        }
    }
}

impl RequestArgs {
    /// The body of the request.
    pub(super) fn body(&self) -> anyhow::Result<Value> {
        let mut body = match &self.file {
            Some(path) => request_of(path)?,
            None => Map::new(),
        };
        // The API takes short names too, but no field twice.
        for (short, name) in [("user", "user_id"), ("template", "template_id")] {
            if let Some(value) = body.remove(short) {
                body.entry(name).or_insert(value);
            }
        }
        let given = [
            ("user_id", &self.user),
            ("template_id", &self.template),
            ("controller_id", &self.controller),
            ("controller_type", &self.kind),
        ];
        for (name, value) in given {
            set(&mut body, name, value.as_deref());
        }
        if !self.require.is_empty() {
            body.insert("require".to_owned(), json!(self.require));
        }
        lay_over(&mut body, "controller_labels", &self.controller_labels)?;

        let spec = object(&mut body, "spec")?;
        set(spec, "base_image", self.image.as_deref());
        set(spec, "idle_timeout", self.idle_timeout.as_deref());
        set(spec, "max_session_duration", self.max_duration.as_deref());
        if self.home {
            spec.insert("persistent_home".to_owned(), true.into());
        }
        if self.memory.is_some() || self.cpu.is_some() {
            let resources = object(spec, "resources")?;
            set(resources, "memory", self.memory.as_deref());
            set(resources, "cpu", self.cpu.as_deref());
        }
        for (name, port) in [("webapp", self.web), ("vnc", self.vnc)] {
            if let Some(port) = port {
                let service = object(spec, name)?;
                service.insert("enabled".to_owned(), true.into());
                service.insert("port".to_owned(), port.into());
            }
        }
        lay_over(spec, "labels", &self.labels)?;
        for Port { name, number, protocol } in &self.ports {
            let mut port = json!({ "name": name, "container_port": number });
            if let Some(protocol) = protocol {
                port["protocol"] = protocol.to_uppercase().into();
            }
            put(spec, "ports", name, port)?;
        }
        for (name, value) in &self.env {
            put(spec, "env", name, json!({ "name": name, "value": value }))?;
        }
        for secret in &self.secrets {
            let value = secret.read()?;
            put(spec, "env", &secret.name, json!({ "name": secret.name, "value": value, "secret": true }))?;
        }
        if spec.is_empty() {
            body.remove("spec");
            if !body.contains_key("template_id") {
                bail!("nothing says what to run: give --template, --image or --file");
            }
        }
        Ok(Value::Object(body))
    }
}

/// A whole request.
fn request_of(path: &Path) -> anyhow::Result<Map<String, Value>> {
    match file::parse(&file::read(path)?).with_context(|| format!("--file {}", path.display()))? {
        Value::Object(body) => Ok(body),
        _ => bail!("--file {}: must hold one object, with the fields of the API", path.display()),
    }
}

fn set(object: &mut Map<String, Value>, name: &str, value: Option<&str>) {
    if let Some(value) = value {
        object.insert(name.to_owned(), value.into());
    }
}

/// The object in a field, made if it is not there.
fn object<'a>(parent: &'a mut Map<String, Value>, name: &str) -> anyhow::Result<&'a mut Map<String, Value>> {
    let field = parent.entry(name).or_insert(Value::Null);
    if field.is_null() {
        *field = json!({});
    }
    field.as_object_mut().with_context(|| format!("--file: {name} must be an object"))
}

/// Pairs into the object in a field.
fn lay_over(parent: &mut Map<String, Value>, name: &str, pairs: &[(String, String)]) -> anyhow::Result<()> {
    if !pairs.is_empty() {
        let fields = pairs.iter().map(|(key, value)| (key.clone(), value.as_str().into()));
        object(parent, name)?.extend(fields);
    }
    Ok(())
}

/// An item into the list in a field, instead of the one of that name.
fn put(parent: &mut Map<String, Value>, list: &str, name: &str, item: Value) -> anyhow::Result<()> {
    let field = parent.entry(list).or_insert(Value::Null);
    if field.is_null() {
        *field = json!([]);
    }
    let items = field.as_array_mut().with_context(|| format!("--file: spec.{list} must be a list"))?;
    items.retain(|item| item["name"] != name);
    items.push(item);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_have_a_name_and_a_number() {
        let web = Port { name: "web".into(), number: 3000, protocol: None };
        assert_eq!(port("web=3000"), Ok(web.clone()));
        assert_eq!(port("web=3000/udp"), Ok(Port { protocol: Some("udp".into()), ..web }));
        for bad in ["", "3000", "=3000", "web=", "web=0", "web=65536", "web=-1", "web=x", "web=1/"] {
            assert!(port(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_value_may_hold_anything() {
        assert_eq!(pair("A=b=c d"), Ok(("A".into(), "b=c d".into())));
        assert_eq!(pair("A="), Ok(("A".into(), "".into())));
        assert!(pair("A").is_err() && pair("=x").is_err());
    }

    #[test]
    fn a_secret_never_stands_on_the_command_line() {
        assert_eq!(secret("A=@x/y"), Ok(Secret { name: "A".into(), file: Some("x/y".into()) }));
        assert_eq!(secret("A"), Ok(Secret { name: "A".into(), file: None }));
        for bad in ["A=geheim", "A=", "A=@", "", "=@x"] {
            let error = secret(bad).unwrap_err();
            assert!(!error.contains("geheim"), "{error}");
        }
    }

    #[test]
    fn options_are_laid_over_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let (request, key) = (dir.path().join("request.yaml"), dir.path().join("key"));
        std::fs::write(
            &request,
            "user: alice\nspec:\n  base_image: old:1\n  resources: {memory: 1Gi, cpu: 1}\n  env:\n  \
             - {name: A, value: one}\n  - {name: B, value: two}\n  labels: {x: y}\n",
        )
        .unwrap();
        std::fs::write(&key, "geheim\n").unwrap();
        let args = RequestArgs {
            image: Some("new:2".into()),
            memory: Some("2Gi".into()),
            ports: vec![port("web=3000").unwrap()],
            web: Some(3000),
            env: vec![("B".into(), "three".into())],
            secrets: vec![Secret { name: "KEY".into(), file: Some(key) }],
            home: true,
            idle_timeout: Some("30m".into()),
            max_duration: Some("8h".into()),
            labels: vec![("a".into(), "b".into())],
            controller_labels: vec![("region".into(), "lab".into())],
            require: vec!["gpu".into()],
            file: Some(request),
            ..RequestArgs::default()
        };
        assert_eq!(
            args.body().unwrap(),
            json!({
                "user_id": "alice",
                "controller_labels": {"region": "lab"},
                "require": ["gpu"],
                "spec": {
                    "base_image": "new:2",
                    "resources": {"memory": "2Gi", "cpu": 1},
                    "persistent_home": true,
                    "idle_timeout": "30m",
                    "max_session_duration": "8h",
                    "webapp": {"enabled": true, "port": 3000},
                    "labels": {"x": "y", "a": "b"},
                    "ports": [{"name": "web", "container_port": 3000}],
                    "env": [
                        {"name": "A", "value": "one"},
                        {"name": "B", "value": "three"},
                        {"name": "KEY", "value": "geheim", "secret": true},
                    ],
                },
            })
        );
    }

    #[test]
    fn a_template_is_enough_and_nothing_is_not() {
        let args = RequestArgs { template: Some("desktop".into()), ..RequestArgs::default() };
        assert_eq!(args.body().unwrap(), json!({"template_id": "desktop"}));
        let error = RequestArgs::default().body().unwrap_err();
        assert!(error.to_string().contains("--template"), "{error}");
    }
}
