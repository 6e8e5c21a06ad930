//! The files: every change is written before anybody is told of it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::effect::Effect;
use crate::object::{BoxRecord, Home};

/// What became of an object.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Change {
    Box(Arc<BoxRecord>),
    BoxGone(Arc<BoxRecord>),
    Home(Arc<Home>),
    HomeGone(Arc<Home>),
}

/// A line of the state file. Both in one line, so that a kill never separates them.
#[derive(Serialize, Deserialize)]
struct Entry {
    change: Change,
    effect: Option<Effect>,
}

/// What an earlier process left.
#[derive(Default)]
pub(crate) struct Kept {
    pub(crate) boxes: BTreeMap<String, Arc<BoxRecord>>,
    pub(crate) homes: BTreeMap<String, Arc<Home>>,
    pub(crate) effects: Vec<Effect>,
}

impl Kept {
    pub(crate) fn apply(&mut self, change: Change) {
        match change {
            Change::Box(record) => drop(self.boxes.insert(record.name.clone(), record)),
            Change::BoxGone(record) => drop(self.boxes.remove(&record.name)),
            Change::Home(home) => drop(self.homes.insert(home.name.clone(), home)),
            Change::HomeGone(home) => drop(self.homes.remove(&home.name)),
        }
    }
}

/// The open files.
pub(crate) struct Journal {
    state: Option<File>,
    effects: Option<File>,
}

impl Journal {
    /// Opens the files and reads what is in them.
    pub(crate) fn open(state: Option<&Path>, effects: Option<&Path>) -> anyhow::Result<(Self, Kept)> {
        let mut kept = Kept::default();
        let state = match state {
            None => None,
            Some(path) => {
                let (file, entries) = open_lines::<Entry>(path)?;
                for Entry { change, effect } in entries {
                    kept.apply(change);
                    kept.effects.extend(effect);
                }
                Some(file)
            }
        };
        let effects = match effects {
            None => None,
            Some(path) => {
                let (file, written) = open_lines::<Effect>(path)?;
                let mut file = file;
                if state.is_some() {
                    // The state is written first: a kill in between leaves one effect to be told here.
                    let last = written.last().map_or(0, |effect| effect.seq);
                    ensure!(
                        last <= kept.effects.last().map_or(0, |effect| effect.seq),
                        "{} belongs to another state file",
                        path.display()
                    );
                    for effect in kept.effects.iter().filter(|effect| effect.seq > last) {
                        file.write_all(&line(effect)?).context("the effects cannot be written")?;
                    }
                } else {
                    kept.effects = written;
                }
                Some(file)
            }
        };
        Ok((Self { state, effects }, kept))
    }

    /// Writes a change. A judge that cannot write things down must not go on: the process ends.
    pub(crate) fn write(&mut self, change: &Change, effect: Option<&Effect>) {
        if let Err(error) = self.try_write(change, effect) {
            eprintln!("error: an effect cannot be written down: {error:#}");
            std::process::exit(1);
        }
    }

    fn try_write(&mut self, change: &Change, effect: Option<&Effect>) -> anyhow::Result<()> {
        if let Some(file) = &mut self.state {
            file.write_all(&line(&Entry { change: change.clone(), effect: effect.cloned() })?)?;
        }
        if let (Some(file), Some(effect)) = (&mut self.effects, effect) {
            file.write_all(&line(effect)?)?;
        }
        Ok(())
    }
}

fn line(value: &impl Serialize) -> anyhow::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    Ok(line)
}

/// Opens a file of lines for appending. A last line without its end is what a kill left: it never happened.
fn open_lines<T: DeserializeOwned>(path: &Path) -> anyhow::Result<(File, Vec<T>)> {
    let cannot = |what: &str| format!("{} cannot be {what}", path.display());
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .with_context(|| cannot("opened"))?;
    let mut text = Vec::new();
    file.read_to_end(&mut text).with_context(|| cannot("read"))?;
    let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let lines = text[..whole]
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .enumerate()
        .map(|(index, line)| {
            serde_json::from_slice(line).with_context(|| format!("{}, line {}", path.display(), index + 1))
        })
        .collect::<anyhow::Result<_>>()?;
    let end = u64::try_from(whole)?;
    file.set_len(end).with_context(|| cannot("written"))?;
    file.seek(SeekFrom::Start(end)).with_context(|| cannot("written"))?;
    Ok((file, lines))
}
