//! What can be seen of a session, and how it is reached.

use streamspace_sdk::{
    AccessPoint, Error, ErrorExt as _, ErrorKind, HttpTarget, LogEntry, LogPage, LogQuery, Result, Target,
    Usage,
};

use crate::api::{Api, Box, State};
use crate::names;

/// What the box uses. What the infrastructure does not measure is none.
pub(crate) fn metrics(api: &Api<'_>, session: &str) -> Result<Usage> {
    let name = names::of_box(session)?;
    api.get_own(&name)?;
    let metrics = api.metrics(&name)?;
    Ok(Usage {
        sampled_at_ms: metrics.sampled_at_ms,
        memory_bytes: Some(metrics.memory_bytes),
        memory_limit_bytes: metrics.memory_limit_bytes,
        cpu_ns: Some(metrics.cpu_ns),
        cpu_millis: None,
        cpu_limit_millis: None,
        network_rx_bytes: Some(metrics.network_rx_bytes),
        network_tx_bytes: Some(metrics.network_tx_bytes),
        disk_read_bytes: None,
        disk_write_bytes: None,
        ext: Vec::new(),
    })
}

/// A page of the box's output.
pub(crate) fn logs(api: &Api<'_>, session: &str, query: &LogQuery) -> Result<LogPage> {
    let name = names::of_box(session)?;
    api.get_own(&name)?;
    let after = query.cursor.as_deref();
    if after.is_some_and(|cursor| cursor.parse::<u64>().is_err()) {
        return Err(Error::invalid("cursor", "it is no cursor of this backend"));
    }
    let page = api.lines(&name, after, query.tail, query.limit, query.wait_ms)?;
    let entries = page.lines.into_iter().map(|line| LogEntry {
        time_ns: Some(line.at_ms.saturating_mul(1_000_000)),
        source: line.source,
        message: line.message,
        cursor: line.seq.to_string(),
    });
    Ok(LogPage {
        entries: entries.collect(),
        cursor: (page.next > 0).then(|| page.next.to_string()),
        ended: page.ended,
        ext: Vec::new(),
    })
}

/// The box's page, for each service that it stands for.
pub(crate) fn access(api: &Api<'_>, session: &str, service: Option<&str>) -> Result<Vec<AccessPoint>> {
    points(&api.get_own(&names::of_box(session)?)?, service)
}

fn points(found: &Box, service: Option<&str>) -> Result<Vec<AccessPoint>> {
    let refused = |message: &str| Err(Error::new(ErrorKind::FailedPrecondition, message));
    if let Some(unknown) = service.filter(|service| !found.services.iter().any(|name| name == service)) {
        return Err(Error::new(ErrorKind::NotFound, format!("the session has no service `{unknown}`")));
    }
    if found.state != State::Running {
        return refused("the session does not run");
    }
    let Some(port) = found.port else { return refused("boxes of this infrastructure serve no pages") };
    let wanted = found.services.iter().filter(|name| service.is_none_or(|service| service == *name));
    Ok(wanted
        .map(|name| AccessPoint {
            service: name.clone(),
            target: Target::Http(HttpTarget {
                base_url: format!("http://127.0.0.1:{port}"),
                headers: Vec::new(),
            }),
            login: None,
            ext: Vec::new(),
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::tests::found;

    #[test]
    fn a_running_box_is_reached_by_its_services() {
        let all = points(&found(State::Running), None).unwrap();
        let Target::Http(target) = &all[0].target else { panic!("{all:?}") };
        assert_eq!((all[0].service.as_str(), target.base_url.as_str()), ("web", "http://127.0.0.1:8080"));
        for state in [State::Running, State::Stopped] {
            assert!(points(&found(state), Some("vnc")).unwrap_err().is_not_found());
        }
        for refused in [found(State::Stopped), Box { port: None, ..found(State::Running) }] {
            assert_eq!(points(&refused, None).unwrap_err().kind, ErrorKind::FailedPrecondition);
        }
    }
}
