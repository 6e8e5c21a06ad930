//! The schemas as they really are, against the text that is kept of them.

use std::path::PathBuf;

/// Compares with `migrations/<database>/schema.txt`, or writes it if `STREAMSPACE_UPDATE_GOLDEN` is set.
pub(super) fn compare(database: &str, schema: &str) {
    let file: PathBuf =
        [env!("CARGO_MANIFEST_DIR"), "../../migrations", database, "schema.txt"].iter().collect();
    if std::env::var_os("STREAMSPACE_UPDATE_GOLDEN").is_some() {
        std::fs::write(&file, schema).unwrap();
    }
    let kept = std::fs::read_to_string(&file).unwrap();
    let (kept, found): (Vec<&str>, Vec<&str>) = (kept.lines().collect(), schema.lines().collect());
    let missing: Vec<_> = kept.iter().filter(|line| !found.contains(line)).collect();
    let new: Vec<_> = found.iter().filter(|line| !kept.contains(line)).collect();
    assert!(missing.is_empty() && new.is_empty(), "missing: {missing:#?}\nnew: {new:#?}");
    assert_eq!(kept, found);
}

/// What the original design asks of the tables, and who else reads them may count on.
pub(super) fn has_what_was_designed(schema: &str) {
    for (table, columns) in [
        (
            "controllers",
            "id type name endpoint status capabilities labels current_sessions last_heartbeat created_at updated_at",
        ),
        ("controller_tokens", "controller_id token_hash expires_at created_at"),
        ("sessions", "controller_id controller_type node_id"),
    ] {
        for column in columns.split(' ') {
            let found = schema.lines().any(|line| line.starts_with(&format!("{table}.{column} ")));
            assert!(found, "{table}.{column}");
        }
    }
    for index in [
        "idx_controllers_type",
        "idx_controllers_status",
        "idx_sessions_controller",
        "idx_sessions_controller_type",
    ] {
        assert!(schema.contains(&format!("index {index} ")), "{index}");
    }
}
