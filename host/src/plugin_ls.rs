//! `streamspace plugin ls`.

use anyhow::Context as _;
use serde_json::Value;

use crate::cli::{OutputFormat, PluginLsArgs};
use crate::client::Client;

/// Prints the plugins of a server.
pub(crate) fn run(args: &PluginLsArgs) -> anyhow::Result<()> {
    let client = Client::new(&args.client)?;
    let listed = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the async runtime does not start")?
        .block_on(client.get("/api/v1/admin/plugins"))?;
    match args.output {
        OutputFormat::Json => println!("{}", serde_json::to_string_pretty(&listed)?),
        OutputFormat::Table => print!("{}", table(&listed)),
    }
    Ok(())
}

/// One line a plugin, and under it why it does not serve as one would expect.
fn table(listed: &Value) -> String {
    let text = |plugin: &Value, field: &str| plugin[field].as_str().unwrap_or("-").to_owned();
    let mut rows = vec![["FILE", "NAME", "VERSION", "STATE", "DIGEST", "CONTROLLERS"].map(str::to_owned)];
    let mut notes = vec![None];
    for plugin in listed["items"].as_array().into_iter().flatten() {
        let controllers: Vec<_> = plugin["controllers"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|one| one["name"].as_str())
            .collect();
        rows.push([
            text(plugin, "file"),
            text(plugin, "name"),
            text(plugin, "version"),
            text(plugin, "state"),
            text(plugin, "digest").chars().take(12).collect(),
            if controllers.is_empty() { "-".to_owned() } else { controllers.join(",") },
        ]);
        let mut note = plugin["reason"].as_str().map(|reason| format!("    {reason}\n")).unwrap_or_default();
        for line in plugin["configuration"].as_str().into_iter().flat_map(str::lines) {
            note.push_str(&format!("        {line}\n"));
        }
        notes.push(Some(note));
    }
    let mut widths = [0; 6];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut lines = String::new();
    for (row, note) in rows.iter().zip(notes) {
        let cells: Vec<_> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        lines.push_str(cells.join("  ").trim_end());
        lines.push('\n');
        lines.push_str(&note.unwrap_or_default());
    }
    lines
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_table_says_what_serves_and_why_something_does_not() {
        let listed = json!({"items": [
            {"file": "a.wasm", "name": "docker", "version": "0.1.0", "state": "serving", "digest": "ab".repeat(32),
             "controllers": [{"id": "1", "name": "x"}, {"id": "2", "name": "y"}], "reason": null},
            {"file": "b.wasm", "name": null, "state": "refused", "controllers": [], "reason": "it is empty"},
        ]});
        assert_eq!(
            table(&listed),
            "FILE    NAME    VERSION  STATE    DIGEST        CONTROLLERS\n\
             a.wasm  docker  0.1.0    serving  abababababab  x,y\n\
             b.wasm  -       -        refused  -             -\n    it is empty\n"
        );
    }
}
