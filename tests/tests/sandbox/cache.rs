//! The cache of compiled plugins.

use std::fs;
use std::path::{Path, PathBuf};

use futures::future::join_all;
use streamspace_runtime::{Plugin, Runtime, RuntimeConfig};

use crate::load::replaced;
use crate::stage::{Controller, NOWHERE, another_version, config, hostile_file};

/// A start of the host: everything that an earlier one has mapped is gone.
fn runtime(cache: &Path) -> Runtime {
    Runtime::new(RuntimeConfig { cache_dir: Some(cache.to_owned()), ..Default::default() }).unwrap()
}

async fn load(cache: &Path, plugin: &Path) -> Plugin {
    runtime(cache).load_file(plugin).await.unwrap()
}

fn files(cache: &Path) -> Vec<PathBuf> {
    fs::read_dir(cache).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[tokio::test]
async fn the_second_start_finds_what_the_first_has_compiled() {
    let Some(plugin) = hostile_file() else { return };
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("cache");
    let first = load(&cache, &plugin).await.digest();
    let kept = files(&cache);
    assert_eq!(kept.len(), 1, "{kept:?}");
    assert!(kept[0].file_name().unwrap().to_str().unwrap().starts_with(&first.to_string()));
    let written = fs::metadata(&kept[0]).unwrap().modified().unwrap();

    let again = load(&cache, &plugin).await;
    assert_eq!(again.digest(), first);
    assert_eq!(files(&cache), kept);
    assert_eq!(fs::metadata(&kept[0]).unwrap().modified().unwrap(), written, "it was not made again");
    Controller::of(again, config(NOWHERE)).await.works().await;
}

#[tokio::test]
async fn a_damaged_artefact_is_made_again() {
    let Some(plugin) = hostile_file() else { return };
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("cache");
    drop(load(&cache, &plugin).await);
    let artefact = files(&cache).remove(0);
    let whole = fs::read(&artefact).unwrap();
    let mut flipped = whole.clone();
    let middle = whole.len() / 2;
    flipped[middle] ^= 0x10;
    let mut checksum_flipped = whole.clone();
    *checksum_flipped.last_mut().unwrap() ^= 1;
    let damages: [(&str, Vec<u8>); 5] = [
        ("one bit in the machine code", flipped),
        ("one bit in the checksum", checksum_flipped),
        ("empty", Vec::new()),
        ("something else", b"not machine code".to_vec()),
        ("cut off", whole[..middle].to_vec()),
    ];
    for (damage, bytes) in damages {
        // A new file, as nothing may change under what an earlier start has mapped.
        fs::remove_file(&artefact).unwrap();
        fs::write(&artefact, bytes).unwrap();
        let loaded = load(&cache, &plugin).await;
        Controller::of(loaded, config(NOWHERE)).await.works().await;
        assert!(fs::read(&artefact).unwrap() == whole, "{damage}: it was not made again");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn starts_at_the_same_time_share_a_cache() {
    let Some(plugin) = hostile_file() else { return };
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("cache");
    let loaded = join_all((0..4).map(|_| load(&cache, &plugin))).await;
    assert_eq!(files(&cache).len(), 1, "nothing half done is left: {:?}", files(&cache));
    drop(loaded);
    Controller::of(load(&cache, &plugin).await, config(NOWHERE)).await.works().await;
}

#[tokio::test]
async fn an_artefact_of_one_plugin_does_not_serve_for_another() {
    let Some(plugin) = hostile_file() else { return };
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("cache");
    let first = load(&cache, &plugin).await.digest();
    let other = another_version(fs::read(&plugin).unwrap());
    let file = dir.path().join("other.wasm");
    fs::write(&file, other).unwrap();
    assert_ne!(load(&cache, &file).await.digest(), first);
    assert_eq!(files(&cache).len(), 2);
}

#[tokio::test]
async fn what_is_refused_leaves_nothing() {
    let Some(plugin) = hostile_file() else { return };
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("cache");
    // It compiles, and calls itself by another name than its manifest.
    let other = replaced(&fs::read(&plugin).unwrap(), "name = \"hostile\"", "name = \"hostilE\"");
    runtime(&cache).load(other).await.map(drop).unwrap_err();
    assert!(files(&cache).is_empty(), "{:?}", files(&cache));
}
