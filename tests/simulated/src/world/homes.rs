//! What clients do with homes, and programs in boxes with the files in them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Progress, Refusal, World, check_name, now_ms};
use crate::effect::{Caller, Cause, EffectKind};
use crate::journal::Change;
use crate::object::{CONTROLLER, Home, Labels, State, label};

impl World {
    pub(crate) fn put_home(
        &mut self,
        name: &str,
        labels: Labels,
        caller: Caller,
    ) -> Result<(Progress, Arc<Home>), Refusal> {
        check_name(name)?;
        if let Some(home) = self.kept.homes.get(name) {
            return if label(&home.labels, CONTROLLER) == label(&labels, CONTROLLER) {
                Ok((Progress::Already, Arc::clone(home)))
            } else {
                Err(Refusal::Taken(name.to_owned()))
            };
        }
        let home = Home {
            name: name.to_owned(),
            uid: self.next_uid(),
            labels,
            made_at_ms: now_ms(),
            files: BTreeMap::new(),
        };
        let home = Arc::new(home);
        self.commit(Change::Home(Arc::clone(&home)), Some(Cause::api(EffectKind::HomeMade, caller)));
        Ok((Progress::Done, home))
    }

    pub(crate) fn get_home(&self, name: &str) -> Result<Arc<Home>, Refusal> {
        let home = self.kept.homes.get(name).cloned();
        home.ok_or_else(|| Refusal::NotFound { what: "home", name: name.to_owned() })
    }

    pub(crate) fn delete_home(&mut self, name: &str, caller: Caller) -> Result<(), Refusal> {
        let home = self.get_home(name)?;
        let user = self.kept.boxes.values().find(|record| record.home.as_deref() == Some(name));
        if let Some(user) = user {
            return Err(Refusal::InUse(user.name.clone()));
        }
        self.commit(Change::HomeGone(home), Some(Cause::api(EffectKind::HomeRemoved, caller)));
        Ok(())
    }

    /// A program in a box writes a file. Only what is in the home is kept; there is nothing else to write to.
    pub(crate) fn write_file(&mut self, name: &str, path: String, content: String) -> Result<(), Refusal> {
        let mut home = Home::clone(&*self.home_of_running(name)?);
        home.files.insert(path, content);
        self.commit(Change::Home(Arc::new(home)), None);
        Ok(())
    }

    /// A program in a box reads a file; none = there is no such file.
    pub(crate) fn read_file(&self, name: &str, path: &str) -> Result<Option<String>, Refusal> {
        Ok(self.home_of_running(name)?.files.get(path).cloned())
    }

    fn home_of_running(&self, name: &str) -> Result<Arc<Home>, Refusal> {
        let record = self.get_box(name)?;
        if record.state != State::Running {
            return Err(Refusal::NotRunning(name.to_owned()));
        }
        let home = record.home.as_ref().ok_or_else(|| Refusal::NoHome(name.to_owned()))?;
        self.get_home(home)
    }
}
