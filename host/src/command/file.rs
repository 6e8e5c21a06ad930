//! Files that are given to commands.

use std::io::Read as _;
use std::path::Path;

use anyhow::Context as _;
use serde_json::Value;

/// The text of a file, or of standard input for `-`.
pub(super) fn read(path: &Path) -> anyhow::Result<String> {
    if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("standard input cannot be read")?;
        return Ok(text);
    }
    std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))
}

/// Reads one JSON or YAML value.
pub(super) fn parse(text: &str) -> anyhow::Result<Value> {
    // What begins like JSON is meant as JSON: its reader says better what is wrong with it.
    if text.trim_start().starts_with(['{', '[']) {
        return serde_json::from_str(text).context("no valid JSON");
    }
    // As in YAML 1.2: `no` and `y` are texts. Snippets would show what may be a secret.
    let options = serde_saphyr::options! { strict_booleans: true, with_snippet: false };
    serde_saphyr::from_str_with_options(text, options).context("no valid YAML")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn both_forms_are_read() {
        let expected = json!({"a": [1, "x", "no"], "b": null, "c": true});
        assert_eq!(parse("{\"a\": [1, \"x\", \"no\"], \"b\": null, \"c\": true}").unwrap(), expected);
        assert_eq!(parse("a:\n- 1\n- x\n- no\nb:\nc: true\n").unwrap(), expected);
        assert!(parse("{\"a\": ").is_err() && parse("a: [").is_err());
    }
}
