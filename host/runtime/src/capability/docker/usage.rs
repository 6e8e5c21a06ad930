//! What a container uses, in one sample.

use std::collections::HashMap;

use bollard::models::{
    ContainerBlkioStats, ContainerMemoryStats, ContainerNetworkStats, ContainerStatsResponse,
};
use bollard::query_parameters::StatsOptions;
use futures::StreamExt as _;
use streamspace_bindings::imports::docker::{ContainerState, ContainerUsage};
use streamspace_bindings::types::{Error, ErrorKind};

use super::endpoint::DockerEndpoint;
use super::failure::translate;
use super::{convert, error};

impl DockerEndpoint {
    pub(super) async fn container_stats(&self, name: &str) -> Result<ContainerUsage, Error> {
        let found = self.inspect_own(name).await?;
        let cpu_limit = found.host_config.as_ref().and_then(|host| host.nano_cpus);
        let container = convert::inspected(found);
        let stopped = || error(ErrorKind::FailedPrecondition, format!("the container `{name}` does not run"));
        if !matches!(container.state, ContainerState::Running | ContainerState::Paused) {
            return Err(stopped());
        }
        // Without `one_shot` the engine takes two samples and a second in between.
        let options = StatsOptions { stream: false, one_shot: true };
        let client = self.client().await?;
        let mut samples = std::pin::pin!(client.stats(&container.id, Some(options)));
        let sample = samples.next().await.ok_or_else(stopped)?.map_err(translate)?;
        // It may have ended in between: then the engine answers with empty fields, at a time in the year 1.
        usage(sample, cpu_limit.and_then(counted).filter(|limit| *limit > 0)).ok_or_else(stopped)
    }
}

fn counted(number: i64) -> Option<u64> {
    u64::try_from(number).ok()
}

/// None for the sample of a container that does not run.
fn usage(sample: ContainerStatsResponse, cpu_limit_nano: Option<u64>) -> Option<ContainerUsage> {
    let sampled_at_ms = counted(sample.read?.timestamp_millis())?;
    let cpu = sample.cpu_stats.and_then(|cpu| cpu.cpu_usage).and_then(|cpu| cpu.total_usage);
    let memory = sample.memory_stats.unwrap_or_default();
    if cpu.unwrap_or_default() == 0 && memory.usage.is_none() && memory.privateworkingset.is_none() {
        return None;
    }
    let networks = sample.networks.as_ref();
    let blocks = sample.blkio_stats.as_ref();
    Some(ContainerUsage {
        sampled_at_ms,
        cpu_ns: cpu,
        cpu_limit_nano,
        memory_bytes: memory_in_use(&memory),
        memory_limit_bytes: memory.limit.filter(|limit| *limit > 0),
        network_rx_bytes: networks.and_then(|all| sum(all, |network| network.rx_bytes)),
        network_tx_bytes: networks.and_then(|all| sum(all, |network| network.tx_bytes)),
        block_read_bytes: blocks.and_then(|stats| block_bytes(stats, "read")),
        block_write_bytes: blocks.and_then(|stats| block_bytes(stats, "write")),
        ext: Vec::new(),
    })
}

/// Without the cache that the kernel would give up first, as Docker's own client counts: it is called
/// `total_inactive_file` under cgroup v1, `inactive_file` under v2. Windows tells the working set instead.
fn memory_in_use(memory: &ContainerMemoryStats) -> Option<u64> {
    let Some(usage) = memory.usage else { return memory.privateworkingset };
    let cache = memory.stats.as_ref().and_then(|stats| {
        ["total_inactive_file", "inactive_file", "cache"].iter().find_map(|key| stats.get(*key))
    });
    Some(usage.saturating_sub(cache.copied().unwrap_or_default()))
}

fn sum(
    networks: &HashMap<String, ContainerNetworkStats>,
    part: impl Fn(&ContainerNetworkStats) -> Option<u64>,
) -> Option<u64> {
    networks.values().filter_map(part).reduce(u64::saturating_add)
}

/// None where the engine lists no device: it does so as well where the kernel does not count.
fn block_bytes(stats: &ContainerBlkioStats, operation: &str) -> Option<u64> {
    let entries = stats.io_service_bytes_recursive.as_ref()?;
    entries
        .iter()
        .filter(|entry| entry.op.as_deref().is_some_and(|op| op.eq_ignore_ascii_case(operation)))
        .filter_map(|entry| entry.value)
        .reduce(u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(json: &str) -> Option<ContainerUsage> {
        usage(serde_json::from_str(json).unwrap(), Some(500_000_000))
    }

    #[test]
    fn a_sample_is_read_for_both_kinds_of_cgroups() {
        let with_stats = |stats: &str| {
            sample(&format!(
                r#"{{"read": "2026-01-01T00:00:01.5Z",
                    "cpu_stats": {{"cpu_usage": {{"total_usage": 7}}}},
                    "memory_stats": {{"usage": 1000, "limit": 4096, "stats": {stats}}},
                    "networks": {{"eth0": {{"rx_bytes": 1, "tx_bytes": 2}}, "eth1": {{"rx_bytes": 10, "tx_bytes": 20}}}},
                    "blkio_stats": {{"io_service_bytes_recursive": [
                        {{"op": "Read", "value": 5}}, {{"op": "read", "value": 6}}, {{"op": "Write", "value": 3}}]}}}}"#
            ))
            .unwrap()
        };
        let v1 = with_stats(r#"{"cache": 500, "inactive_file": 1, "total_inactive_file": 400}"#);
        assert_eq!((v1.sampled_at_ms % 10_000, v1.cpu_ns), (1500, Some(7)));
        assert_eq!((v1.memory_bytes, v1.memory_limit_bytes), (Some(600), Some(4096)));
        assert_eq!((v1.network_rx_bytes, v1.network_tx_bytes), (Some(11), Some(22)));
        assert_eq!((v1.block_read_bytes, v1.block_write_bytes), (Some(11), Some(3)));
        assert_eq!(with_stats(r#"{"inactive_file": 300}"#).memory_bytes, Some(700));
        assert_eq!(with_stats("{}").memory_bytes, Some(1000));
    }

    #[test]
    fn a_stopped_container_has_no_usage_and_what_is_not_counted_is_not_zero() {
        let stopped = r#"{"read": "0001-01-01T00:00:00Z", "cpu_stats": {"cpu_usage": {"total_usage": 0}},
            "memory_stats": {}, "blkio_stats": {"io_service_bytes_recursive": null}}"#;
        assert_eq!(sample(stopped), None);
        let bare = sample(
            r#"{"read": "2026-01-01T00:00:00Z", "cpu_stats": {"cpu_usage": {"total_usage": 1}},
                "memory_stats": {"usage": 1}, "blkio_stats": {"io_service_bytes_recursive": []}}"#,
        )
        .unwrap();
        assert_eq!(
            (bare.network_rx_bytes, bare.block_read_bytes, bare.memory_limit_bytes),
            (None, None, None)
        );
    }
}
