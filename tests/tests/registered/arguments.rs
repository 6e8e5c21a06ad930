//! What is refused before anything is served.

use streamspace_tests::controller::ControllerProcess;
use streamspace_tests::provided;

use crate::api::JOIN_TOKEN;

/// How it ends with these arguments, and what it says.
fn outcome(more: &[&str]) -> Option<(i32, String)> {
    let plugin = provided("STREAMSPACE_TEST_SIMULATED_PLUGIN")?;
    let arguments = ["--plugin", &plugin, "--name", "lab", "--endpoint", "api=unix:///nowhere"];
    let arguments: Vec<&str> = arguments.iter().chain(more).copied().collect();
    let mut controller = ControllerProcess::start(&arguments, &[])?;
    let status = controller.end();
    Some((status.code().unwrap(), controller.log()))
}

#[test]
fn what_is_not_safe_or_not_whole_is_refused() {
    let api = ["--api", "http://127.0.0.1:1", "--join-token", JOIN_TOKEN];
    let with = |more: &[&'static str]| -> Vec<&'static str> { api.iter().chain(more).copied().collect() };
    for (arguments, code, words) in [
        (vec!["--api", "http://127.0.0.1:1"], 1, "a join token is needed"),
        (vec!["--api", "http://api.example", "--join-token", JOIN_TOKEN], 1, "--insecure"),
        (
            vec!["--api", "https://me:geheim@api.example", "--join-token", JOIN_TOKEN],
            1,
            "no user and no password",
        ),
        (vec!["--api", "api.example", "--join-token", JOIN_TOKEN], 1, "--api"),
        (vec!["--api", "http://127.0.0.1:1", "--join-token-file", "/no/such/file"], 4, "/no/such/file"),
        (with(&["--listen", "0.0.0.0:0"]), 1, "--tls-cert"),
        (with(&["--listen", "0.0.0.0:0", "--insecure"]), 1, "--advertise"),
        (with(&["--advertise", "http://a:1"]), 2, "grpc://host:port"),
        (with(&["--advertise", "grpc://site-b.example.org:1"]), 1, "allow_insecure_endpoints"),
        (with(&["--tls-cert", "/no/such/file"]), 2, "--tls-key"),
        (with(&["--tls-cert", "/no/such/file", "--tls-key", "/no/such/key"]), 1, "--tls-cert: /no/such/file"),
        (with(&["--ca", "/no/such/file"]), 1, "--ca: /no/such/file"),
        (with(&["--label", "no-value"]), 2, "name=target"),
        (with(&["--drain", "soon"]), 2, "duration"),
        // Without an API server there is nobody to tell.
        (vec!["--advertise", "grpc://a:1"], 2, "--api"),
        (vec!["--label", "a=b"], 2, "--api"),
    ] {
        let Some((ended, log)) = outcome(&arguments) else { return };
        assert!(ended == code && log.contains(words), "{arguments:?}: {ended}\n{log}");
        assert!(!log.contains("geheim") && !log.contains(JOIN_TOKEN), "{log}");
    }
}
