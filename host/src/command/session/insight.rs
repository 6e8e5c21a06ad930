//! `streamspace session metrics`, `events` and `explain`.

use std::process::ExitCode;

use chrono::{DateTime, Utc};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{OneArgs, resolve, whole};
use crate::client::{Client, Page};
use crate::command::time::{moment, moment_of};
use crate::table::{Cell, Table, Tone, fields};

/// What a session uses; what was not measured is absent.
#[derive(Deserialize)]
struct Usage {
    sampled_at: Option<DateTime<Utc>>,
    #[serde(default)]
    usage: Map<String, Value>,
    #[serde(default)]
    rates: Map<String, Value>,
    #[serde(default)]
    counters: Map<String, Value>,
    #[serde(default)]
    custom: Map<String, Value>,
}

pub(super) async fn metrics(args: OneArgs) -> anyhow::Result<ExitCode> {
    let client = args.remote.client()?;
    let id = resolve(&client, &args.id).await?;
    let answer = client.get(&["sessions", &id, "metrics"]).await?;
    args.remote.print(&answer, || {
        let usage: Usage = client.typed(&answer)?;
        let measures = [&usage.usage, &usage.rates, &usage.counters, &usage.custom];
        let measured =
            measures.into_iter().flatten().map(|(name, value)| (name.as_str(), measure(name, value)));
        let sampled = ("sampled_at", Cell::from(moment_of(usage.sampled_at)));
        Ok(fields(std::iter::once(sampled).chain(measured)))
    })
}

/// A number as people read it.
fn measure(name: &str, value: &Value) -> Cell {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => match number.as_f64() {
            Some(bytes) if name.ends_with("_bytes") || name.ends_with("_bytes_per_second") => in_bytes(bytes),
            Some(share) if number.is_f64() => format!("{share:.2}"),
            _ => number.to_string(),
        },
        other => other.to_string(),
    };
    text.into()
}

fn in_bytes(mut number: f64) -> String {
    let mut unit = "B";
    for next in ["KiB", "MiB", "GiB", "TiB"] {
        if number < 1024.0 {
            break;
        }
        (number, unit) = (number / 1024.0, next);
    }
    if unit == "B" { format!("{number:.0} B") } else { format!("{number:.1} {unit}") }
}

#[derive(Deserialize)]
struct Event {
    time: DateTime<Utc>,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    message: String,
}

pub(super) async fn events(args: OneArgs) -> anyhow::Result<ExitCode> {
    let client = args.remote.client()?;
    let id = resolve(&client, &args.id).await?;
    let answer = whole(all_events(&client, &id).await?);
    args.remote.print(&answer, || {
        let mut table = Table::new(["TIME", "TYPE", "REASON", "MESSAGE"]);
        for event in client.typed::<Page>(&answer)?.items {
            let event: Event = client.typed(&event)?;
            table.row([moment(event.time), event.kind, event.reason, event.message].map(Cell::from));
        }
        Ok(table.render())
    })
}

/// Events go on `after` one, not from a `cursor`.
async fn all_events(client: &Client, id: &str) -> anyhow::Result<Vec<Value>> {
    let mut events = Vec::new();
    let mut after = None;
    loop {
        let query: Vec<_> = after.map(|after| ("after", after)).into_iter().collect();
        let call = client.call(Method::GET, &["sessions", id, "events"]).query(&query);
        let page: Page = client.typed(&call.send().await?.body)?;
        events.extend(page.items);
        after = page.next_cursor;
        if after.is_none() {
            return Ok(events);
        }
    }
}

#[derive(Deserialize)]
struct Explanation {
    state: String,
    phase: String,
    waiting_for: Option<String>,
    placement: Placement,
}

#[derive(Deserialize)]
struct Placement {
    controllers: Vec<Verdict>,
}

/// Plain users are not told who a controller is.
#[derive(Deserialize)]
struct Verdict {
    name: Option<String>,
    #[serde(rename = "type")]
    kind: String,
    status: String,
    chosen: bool,
    eligible: bool,
    reason: String,
    #[serde(default)]
    capacity: Vec<Share>,
}

/// What a session asks for, and what the controller has of it; for operators.
#[derive(Deserialize)]
struct Share {
    resource: String,
    asked: String,
    reserved: String,
    total: Option<String>,
    /// How many times the total is given away.
    #[serde(default = "once")]
    overcommit: f64,
    available: Option<String>,
    promised: String,
}

fn once() -> f64 {
    1.0
}

impl Share {
    /// `cpu: asks for 2; 12 of 4 times 4 reserved`, `memory: asks for 4Gi; 12Gi of 32Gi reserved, 16Gi available (2Gi
    /// promised)`
    fn describe(&self) -> String {
        let times = self.overcommit;
        let given = if times == once() { String::new() } else { format!("{times} times ") };
        let total = self.total.as_ref().map(|total| format!("{} of {given}{total} reserved", self.reserved));
        let available =
            self.available.as_ref().map(|free| format!("{free} available ({} promised)", self.promised));
        let known: Vec<String> = total.into_iter().chain(available).collect();
        let known = if known.is_empty() { "no limit told".to_owned() } else { known.join(", ") };
        format!("{}: asks for {}; {known}", self.resource, self.asked)
    }
}

pub(super) async fn explain(args: OneArgs) -> anyhow::Result<ExitCode> {
    let client = args.remote.client()?;
    let id = resolve(&client, &args.id).await?;
    let answer = client.get(&["sessions", &id, "explain"]).await?;
    args.remote.print(&answer, || {
        let told: Explanation = client.typed(&answer)?;
        let waiting = told.waiting_for.unwrap_or_else(|| "nothing".to_owned());
        let mut text = fields([
            ("WANTED", told.state.into()),
            ("PHASE", told.phase.into()),
            ("WAITS FOR", Cell::from(waiting)),
        ]);
        let mut table = Table::new(["CONTROLLER", "TYPE", "STATUS", "VERDICT", "REASON"]);
        for verdict in told.placement.controllers {
            let (word, tone) = match (verdict.chosen, verdict.eligible) {
                (true, _) => ("chosen", Some(Tone::Good)),
                (false, true) => ("eligible", None),
                (false, false) => ("not eligible", Some(Tone::Waiting)),
            };
            let shares: Vec<String> = verdict.capacity.iter().map(Share::describe).collect();
            table.row([
                verdict.name.unwrap_or_default().into(),
                verdict.kind.into(),
                verdict.status.into(),
                Cell::toned(word, tone),
                verdict.reason.into(),
            ]);
            table.note(&shares.join("\n"), 2);
        }
        text.push('\n');
        text.push_str(&table.render());
        Ok(text)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_away_more_than_once_is_told_so() {
        let share = |overcommit: f64| {
            let share = serde_json::json!({"resource": "cpu", "asked": "2", "reserved": "12", "total": "4",
                "overcommit": overcommit, "available": null, "promised": "0"});
            serde_json::from_value::<Share>(share).unwrap().describe()
        };
        assert_eq!(share(4.0), "cpu: asks for 2; 12 of 4 times 4 reserved");
        assert_eq!(share(1.0), "cpu: asks for 2; 12 of 4 reserved");
    }

    #[test]
    fn bytes_are_told_in_the_unit_that_fits() {
        for (number, text) in [
            (0.0, "0 B"),
            (1023.0, "1023 B"),
            (1536.0, "1.5 KiB"),
            (67_108_864.0, "64.0 MiB"),
            (3e15, "2728.5 TiB"),
        ] {
            assert_eq!(in_bytes(number), text);
        }
    }
}
