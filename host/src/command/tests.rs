//! The command line as a whole: what it says about itself is true.

use std::collections::BTreeSet;

use clap::{Command, CommandFactory as _, Parser as _};

use crate::cli::Cli;

/// All commands that do something, with the words that call them.
fn leaves() -> Vec<(String, Command)> {
    fn walk(path: &str, command: &Command, found: &mut Vec<(String, Command)>) {
        let mut below = command.get_subcommands().filter(|below| below.get_name() != "help").peekable();
        if below.peek().is_none() {
            found.push((path.to_owned(), command.clone()));
        }
        for below in below {
            walk(&format!("{path} {}", below.get_name()), below, found);
        }
    }
    let mut found = Vec::new();
    walk("streamspace", &Cli::command(), &mut found);
    found
}

/// Lines that go on in the next one, made one.
fn joined(text: &str) -> String {
    text.replace("\\\n", " ")
}

/// The words of the last call of the program in a line of a shell, up to where its output goes.
fn call(line: &str) -> Vec<&str> {
    let words: Vec<_> = line.split_whitespace().map(|word| word.trim_matches(['$', '(', ')'])).collect();
    let from = words.iter().rposition(|word| *word == "streamspace").unwrap();
    words[from..].iter().copied().take_while(|word| !["|", ">"].contains(word)).collect()
}

fn parses(line: &str) {
    if let Err(error) = Cli::try_parse_from(call(line)) {
        panic!("`{line}`: {error}");
    }
}

#[test]
fn the_definition_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_has_help_and_examples_that_parse() {
    for (path, command) in leaves() {
        assert!(command.get_about().is_some(), "{path} has no help");
        let examples = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let mut own = 0;
        for line in joined(&examples).lines().filter(|line| line.contains("streamspace ")) {
            parses(line);
            own += usize::from(line.contains(&path));
        }
        assert!(own > 0, "{path} has no example");
        for argument in command.get_arguments().filter(|one| one.get_id() != "help") {
            assert!(argument.get_help().is_some(), "{path}: {} has no help", argument.get_id());
        }
    }
}

#[test]
fn the_readme_of_a_new_plugin_has_commands_that_parse() {
    let text = include_str!("../plugin_new/README.md.txt");
    let commands: Vec<_> = text.lines().filter(|line| line.starts_with("streamspace ")).collect();
    assert!(commands.len() >= 2, "{commands:?}");
    commands.into_iter().for_each(parses);
}

#[test]
fn the_documentation_names_every_command_and_no_other() {
    let text = include_str!("../../../docs/cli.md");
    let written: BTreeSet<&str> =
        text.lines().filter_map(|line| line.strip_prefix("### `")?.strip_suffix('`')).collect();
    let leaves = leaves();
    let real: BTreeSet<&str> = leaves.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(written, real);
    for line in joined(text).lines().filter(|line| line.starts_with("$ ") && line.contains("streamspace ")) {
        parses(line);
    }
}
