//! `streamspace whoami`.

use std::process::ExitCode;

use chrono::{DateTime, Utc};
use clap::Args;
use serde::Deserialize;

use super::Remote;
use super::time::moment_of;
use crate::executor::on_one_thread;
use crate::table::fields;

#[derive(Debug, Args)]
pub(crate) struct WhoamiArgs {
    #[command(flatten)]
    remote: Remote,
}

#[derive(Deserialize)]
struct Me {
    user_id: String,
    role: String,
    user: User,
    token: Option<Token>,
}

#[derive(Deserialize)]
struct User {
    #[serde(default)]
    full_name: String,
    email: Option<String>,
}

#[derive(Deserialize)]
struct Token {
    id: String,
    name: String,
    expires_at: Option<DateTime<Utc>>,
}

/// Prints who calls.
pub(crate) fn run(args: &WhoamiArgs) -> anyhow::Result<ExitCode> {
    on_one_thread(async {
        let client = args.remote.client()?;
        let answer = client.get(&["me"]).await?;
        args.remote.print(&answer, || {
            let me: Me = client.typed(&answer)?;
            let (token, expires) = match me.token {
                Some(token) => (format!("{} ({})", token.id, token.name), token.expires_at),
                None => (String::new(), None),
            };
            Ok(fields([
                ("USER", me.user_id.into()),
                ("NAME", me.user.full_name.into()),
                ("EMAIL", me.user.email.unwrap_or_default().into()),
                ("ROLE", me.role.into()),
                ("TOKEN", token.into()),
                ("EXPIRES", moment_of(expires).into()),
            ]))
        })
    })
}
