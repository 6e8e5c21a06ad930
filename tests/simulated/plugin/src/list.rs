//! All sessions of this controller, and what changes about them.

use streamspace_sdk::{Change, Error, ErrorExt as _, EventPage, Result, SessionEvent, SessionPage};

use crate::api::{Api, Event};
use crate::observed;

/// A page of sessions. The cursor is the name of the last box, so that what comes and goes meanwhile shifts nothing.
pub(crate) fn page(api: &Api<'_>, cursor: Option<&str>, limit: u32) -> Result<SessionPage> {
    let page = api.list(cursor, limit)?;
    if page.next.is_some() && page.next.as_deref() <= cursor {
        return Err(Error::internal(
            "the listing does not come to an end: its next page starts before this one",
        ));
    }
    let entries = page.boxes.iter().filter(|found| api.owns(found)).map(observed::entry).collect();
    Ok(SessionPage { entries, next_cursor: page.next, ext: Vec::new() })
}

/// A page of changes.
pub(crate) fn watch(api: &Api<'_>, cursor: Option<&str>, wait_ms: u32) -> Result<EventPage> {
    let position = cursor.map(parse).transpose()?;
    let page = api.events(position, wait_ms)?;
    let events = page.events.iter().filter(|event| api.owns(&event.found)).map(told).collect();
    let cursor = format!("{}.{}", page.instance, page.next);
    Ok(EventPage { events, cursor, resync: page.lost, ext: Vec::new() })
}

fn told(event: &Event) -> SessionEvent {
    let change = if event.gone { Change::Gone } else { Change::Seen(observed::entry(&event.found)) };
    SessionEvent { session_id: event.found.session().to_owned(), external_ref: None, change }
}

/// A cursor is `<instance>.<number>`: numbers of another instance of the infrastructure mean nothing.
fn parse(cursor: &str) -> Result<(&str, u64)> {
    cursor
        .rsplit_once('.')
        .and_then(|(instance, number)| Some((instance, number.parse().ok()?)))
        .ok_or_else(|| Error::invalid("cursor", format!("`{cursor}` is no cursor of this backend")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_are_read_back() {
        assert_eq!(parse("00ff.12").unwrap(), ("00ff", 12));
        for bad in ["", "12", "00ff.", "00ff.x"] {
            assert_eq!(parse(bad).unwrap_err().field.as_deref(), Some("cursor"), "{bad}");
        }
    }
}
