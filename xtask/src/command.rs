//! External programs. A failure says what was run and how it ended.

use crate::excerpt::Excerpt;
use crate::signals::{self, Forwarding};
use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, IsTerminal, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Runs a program whose output the user sees. Where nobody watches a terminal, the error repeats what of the output
/// explains the failure.
pub fn run(command: &mut Command) -> Result<()> {
    run_for(command, None)
}

/// Like [`run`], but the program is killed when it takes longer.
pub fn run_within(command: &mut Command, limit: Duration) -> Result<()> {
    run_for(command, Some(limit))
}

fn run_for(command: &mut Command, limit: Option<Duration>) -> Result<()> {
    if !std::io::stderr().is_terminal() {
        return run_logged(command, limit);
    }
    signals::check()?;
    let mut child = start(command)?;
    let forwarding = Forwarding::to(&child);
    let status = wait(command, &mut child, limit)?;
    drop(forwarding);
    conclude(command, status, "")
}

fn run_logged(command: &mut Command, limit: Option<Duration>) -> Result<()> {
    signals::check()?;
    let mut child = start(command.stdout(Stdio::piped()).stderr(Stdio::piped()))?;
    let forwarding = Forwarding::to(&child);
    let excerpt = Arc::new(Mutex::new(Excerpt::default()));
    let stdout = child.stdout.take().map(|from| pass_on(from, std::io::stdout(), Arc::clone(&excerpt)));
    let stderr = child.stderr.take().map(|from| pass_on(from, std::io::stderr(), Arc::clone(&excerpt)));
    let status = wait(command, &mut child, limit)?;
    for thread in [stdout, stderr].into_iter().flatten() {
        // A reader that failed has lost lines of the log, not the program's result.
        let _ = thread.join();
    }
    drop(forwarding);
    let text = excerpt.lock().unwrap_or_else(PoisonError::into_inner).text();
    conclude(command, status, &text)
}

/// Passes lines on as they come, and shows them to the excerpt.
fn pass_on(
    from: impl Read + Send + 'static,
    mut to: impl Write + Send + 'static,
    excerpt: Arc<Mutex<Excerpt>>,
) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let mut lines = BufReader::new(from);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            // Whoever closed our output still wants the exit code.
            let _ = to.write_all(&line);
            let text = String::from_utf8_lossy(&line);
            excerpt.lock().unwrap_or_else(PoisonError::into_inner).add(text.trim_end());
            line.clear();
        }
        let _ = to.flush();
    })
}

/// Like [`output`], as text and without the space around it.
pub fn text(command: &mut Command) -> Result<String> {
    Ok(String::from_utf8_lossy(&output(command)?).trim().to_owned())
}

/// Runs a program silently and returns what it wrote to its standard output.
pub fn output(command: &mut Command) -> Result<Vec<u8>> {
    signals::check()?;
    let mut child = start(command.stdout(Stdio::piped()).stderr(Stdio::piped()))?;
    let forwarding = Forwarding::to(&child);
    let stdout = child.stdout.take().map(collect);
    let stderr = child.stderr.take().map(collect);
    let status = child.wait()?;
    drop(forwarding);
    let joined = |reader: Option<std::thread::JoinHandle<Vec<u8>>>| {
        reader.and_then(|thread| thread.join().ok()).unwrap_or_default()
    };
    let (stdout, stderr) = (joined(stdout), joined(stderr));
    // Some programs complain on their standard output.
    let complaint = if stderr.is_empty() { &stdout } else { &stderr };
    conclude(command, status, &tail(&String::from_utf8_lossy(complaint), 15))?;
    Ok(stdout)
}

/// Waits for the end; one that takes too long is brought about.
fn wait(command: &Command, child: &mut Child, limit: Option<Duration>) -> Result<ExitStatus> {
    let Some(limit) = limit else { return Ok(child.wait()?) };
    if let Some(status) = wait_within(child, limit)? {
        return Ok(status);
    }
    // The whole group: a helper of its own could hold the pipes open.
    if let Some(group) = pid_of(child) {
        let _ = kill_process_group(group, Signal::KILL);
    }
    child.wait()?;
    bail!("`{}` took longer than {} s", show(command), limit.as_secs())
}

fn start(command: &mut Command) -> Result<Child> {
    command.stdin(Stdio::null()).process_group(0);
    command.spawn().with_context(|| format!("cannot start `{}`", show(command)))
}

fn collect(mut from: impl Read + Send + 'static) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // What was read before an error is still worth showing.
        let _ = from.read_to_end(&mut bytes);
        bytes
    })
}

fn conclude(command: &Command, status: ExitStatus, complaint: &str) -> Result<()> {
    signals::check()?;
    if status.success() {
        return Ok(());
    }
    let separator = if complaint.is_empty() { "" } else { ":\n" };
    bail!("`{}` failed ({status}){separator}{complaint}", show(command))
}

/// Waits for a child, but not for ever.
pub fn wait_within(child: &mut Child, limit: Duration) -> Result<Option<ExitStatus>> {
    let end = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= end {
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Asks a daemon to end and waits; kills it when it does not.
pub fn stop(child: &mut Child, patience: Duration) -> Result<()> {
    if let (None, Some(pid)) = (child.try_wait()?, pid_of(child)) {
        kill_process(pid, Signal::TERM)?;
        if wait_within(child, patience)?.is_none() {
            child.kill()?;
            child.wait()?;
        }
    }
    Ok(())
}

fn pid_of(child: &Child) -> Option<Pid> {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw)
}

/// The last lines of a text.
pub fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.trim_end().lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// A command the way one would type it; long arguments are cut.
fn show(command: &Command) -> String {
    let word = |text: &OsStr| {
        let text = text.to_string_lossy();
        if text.chars().count() > 120 {
            text.chars().take(117).chain("...".chars()).collect()
        } else {
            text.into_owned()
        }
    };
    let program = PathBuf::from(command.get_program());
    let program = program.file_name().map_or_else(|| word(command.get_program()), word);
    std::iter::once(program).chain(command.get_args().map(word)).collect::<Vec<_>>().join(" ")
}

/// Where a program is; also looks where programs for root live, which an ordinary PATH leaves out.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|directory| directory.join(program))
        .find(|file| file.is_file())
}

/// Whether we may administer this machine.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_the_command_and_its_last_words() {
        let error =
            output(Command::new("sh").args(["-c", "echo before; echo reason >&2; exit 3"])).unwrap_err();
        let error = error.to_string();
        assert!(
            error.contains("sh -c") && error.contains("exit status: 3") && error.ends_with("reason"),
            "{error}"
        );
        assert!(!error.contains("before\n"), "{error}");
    }

    #[test]
    fn a_slow_program_is_ended_with_its_helpers() {
        let started = Instant::now();
        let error =
            run_within(Command::new("sh").args(["-c", "sleep 20 & wait"]), Duration::from_millis(200));
        assert!(error.unwrap_err().to_string().contains("took longer"));
        assert!(started.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn the_tail_is_the_end() {
        assert_eq!(tail("a\nb\nc\n", 2), "b\nc");
        assert_eq!(tail("", 2), "");
    }
}
