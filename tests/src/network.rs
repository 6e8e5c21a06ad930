//! Two machines of a test's own, as network namespaces: one for an API server, one for a controller, with a link between them
//! that can be cut, or be open in one direction only.
//!
//! ```text
//! the test ── 198.18.x.y ── api ── 198.19.0.1 ══ 198.19.0.2 ── far
//! ```
//!
//! The test reaches only the API server. Whatever an earlier run left (it was killed) is removed first.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// Start of the names of namespaces; the process that made them follows.
const PREFIX: &str = "ss-test-net-";
/// Where `ip netns` keeps namespaces.
const NAMESPACES: &str = "/run/netns";
/// The interface at both ends of the link.
const LINK: &str = "between";
/// The interface by which the test reaches the API server.
const CONTROL: &str = "control";

/// One of the machines: processes are started on it.
#[derive(Clone, Debug)]
pub struct Machine {
    namespace: String,
    address: Ipv4Addr,
}

impl Machine {
    /// Its address on the link.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// A program to be run on it. Its process is the program's own, to be stopped and killed.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={NAMESPACES}/{}", self.namespace)).arg(program);
        command
    }

    fn ip(&self, arguments: &[&str]) {
        run(Command::new("ip").args(["-n", &self.namespace]).args(arguments));
    }
}

/// Both machines. They end with this value, with all that runs on them.
pub struct Network {
    api: Machine,
    far: Machine,
    /// Where the test reaches the API server.
    control: Ipv4Addr,
}

impl Network {
    /// Makes them; none where that is not possible, and a line says why.
    pub fn new() -> Option<Self> {
        // A process belongs to whom it runs as.
        if fs::metadata("/proc/self").unwrap().uid() != 0 {
            println!("skipped: only root can make network namespaces");
            return None;
        }
        for program in ["ip", "nsenter", "iptables"] {
            if Command::new(program).arg("--version").output().is_err() {
                println!("skipped: there is no {program} for network namespaces of the test's own");
                return None;
            }
        }
        remove_abandoned();
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let (process, number) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let name = format!("{PREFIX}{process}-{number}");
        // The range for measurements between networks: nobody is there. A part of it for each process and each network.
        let subnet = u8::try_from(number % 64).unwrap() * 4;
        let control = |host: u8| Ipv4Addr::new(198, 18, process.to_le_bytes()[0], subnet + host);
        let machine = |side: &str, host| Machine {
            namespace: format!("{name}-{side}"),
            address: Ipv4Addr::new(198, 19, 0, host),
        };
        let network = Self { api: machine("api", 1), far: machine("far", 2), control: control(2) };
        // A container may be root and still not be allowed to.
        if let Err(reason) = attempt(Command::new("ip").args(["netns", "add", &network.api.namespace])) {
            println!("skipped: network namespaces cannot be made: {reason}");
            return None;
        }
        lay(&network, &format!("sst{process}-{number}"), control(1));
        Some(network)
    }

    /// Where the API server belongs.
    pub fn api(&self) -> &Machine {
        &self.api
    }

    /// Where the controller belongs.
    pub fn far(&self) -> &Machine {
        &self.far
    }

    /// The address by which the test reaches the API server.
    pub fn control(&self) -> Ipv4Addr {
        self.control
    }

    /// Cuts the link: what is sent is lost, and nobody is told.
    pub fn cut(&self) {
        self.far.ip(&["link", "set", LINK, "down"]);
    }

    /// Joins it again.
    pub fn join(&self) {
        self.far.ip(&["link", "set", LINK, "up"]);
    }

    /// From now on nobody gets a connection to the far machine, which itself reaches everybody: as behind NAT.
    pub fn only_outbound(&self) {
        let rule = ["-A", "INPUT", "-i", LINK, "-p", "tcp", "--syn", "-j", "DROP"];
        run(self.far.command("iptables").args(rule));
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        remove(&self.api.namespace);
        remove(&self.far.namespace);
    }
}

/// Makes the other namespace and what is between them; the interfaces go with the namespaces.
fn lay(network: &Network, own_end: &str, own_address: Ipv4Addr) {
    let Network { api, far, control } = network;
    let (api, far) = (&api.namespace, &far.namespace);
    for line in [
        format!("netns add {far}"),
        format!("link add {own_end} type veth peer name {CONTROL} netns {api}"),
        format!("-n {api} link add {LINK} type veth peer name {LINK} netns {far}"),
        format!("addr add {own_address}/30 dev {own_end}"),
        format!("-n {api} addr add {control}/30 dev {CONTROL}"),
        format!("-n {api} addr add {}/30 dev {LINK}", network.api.address),
        format!("-n {far} addr add {}/30 dev {LINK}", network.far.address),
        format!("link set {own_end} up"),
        format!("-n {api} link set {CONTROL} up"),
        format!("-n {api} link set {LINK} up"),
        format!("-n {far} link set {LINK} up"),
        format!("-n {api} link set lo up"),
        format!("-n {far} link set lo up"),
    ] {
        run(Command::new("ip").args(line.split(' ')));
    }
}

/// Removes a namespace and all that still runs in it.
fn remove(namespace: &str) {
    let inside = Command::new("ip").args(["netns", "pids", namespace]).output();
    let inside =
        inside.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    for pid in inside.split_whitespace() {
        // It may have ended by itself.
        let _ = Command::new("kill").args(["-KILL", pid]).output();
    }
    let _ = Command::new("ip").args(["netns", "delete", namespace]).output();
}

/// Removes namespaces whose process is gone.
fn remove_abandoned() {
    let Ok(entries) = fs::read_dir(NAMESPACES) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            remove(&name);
        }
    }
}

fn attempt(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| error.to_string())?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}

fn run(command: &mut Command) {
    attempt(command).unwrap_or_else(|reason| panic!("{reason}"));
}
