//! What can be done to the model's backend by hand, and to the process around it.

use async_trait::async_trait;
use serde_json::{Value, json};
use streamspace_conformance::{
    Ability, Applied, ConfigRefusal, Fixture, FixtureError, Foreign, Process, Transport, Weather,
};
use streamspace_proto::quantity::{ByteQuantity, CpuQuantity};

use super::Fault;
use super::controller::Model;

fn no_session() -> FixtureError {
    FixtureError::Failed("there is no such session".to_owned())
}

#[async_trait]
impl Fixture for Model {
    fn offers(&self) -> &[Ability] {
        use Ability::*;
        &[
            Inventory,
            Inspect,
            Foreigners,
            StopByHand,
            RemoveByHand,
            PauseByHand,
            RenameByHand,
            Files,
            Homes,
            Weather,
            CallByCall,
            NoRoom,
            LoseEvents,
            Restart,
        ]
    }

    async fn objects_of(&self, session: &str) -> Result<Vec<String>, FixtureError> {
        let mut objects = self.main_objects_of(session).await?;
        let prefix = format!("{session}.");
        objects.extend(self.world().volumes.iter().filter(|volume| volume.starts_with(&prefix)).cloned());
        Ok(objects)
    }

    async fn main_objects_of(&self, session: &str) -> Result<Vec<String>, FixtureError> {
        let world = self.world();
        let Some(object) = world.objects.get(session) else { return Ok(Vec::new()) };
        Ok((0..=object.doubles).map(|number| format!("{} {number}", object.node)).collect())
    }

    async fn inspect(&self, session: &str) -> Result<Option<Applied>, FixtureError> {
        let world = self.world();
        Ok(world.objects.get(session).map(|object| {
            let resources = object.spec.resources.clone().unwrap_or_default();
            let runs = object.phase == "Running" || self.is(Fault::SleepsAwake);
            if self.is(Fault::AppliesNothing) {
                return Applied { runs, ..Default::default() };
            }
            Applied {
                runs,
                memory_bytes: ByteQuantity::parse(&resources.memory).ok().map(|quantity| quantity.bytes()),
                cpu_millis: CpuQuantity::parse(&resources.cpu).ok().map(|quantity| quantity.millicores()),
                env: object.spec.env.iter().map(|env| (env.name.clone(), env.value.clone())).collect(),
                sizes: Vec::new(),
            }
        }))
    }

    async fn make_foreign(&self, session: &str, kind: Foreign) -> Result<(), FixtureError> {
        self.world().foreign.insert(session.to_owned(), kind);
        Ok(())
    }

    async fn look_at_foreign(&self, session: &str) -> Result<Option<String>, FixtureError> {
        Ok(self.world().foreign.get(session).map(|kind| format!("{kind:?}")))
    }

    async fn remove_foreign(&self, session: &str) -> Result<(), FixtureError> {
        self.world().foreign.remove(session);
        Ok(())
    }

    async fn stop_by_hand(&self, session: &str) -> Result<(), FixtureError> {
        if self.is(Fault::MissesHands) {
            return Ok(());
        }
        self.world().objects.get_mut(session).ok_or_else(no_session)?.phase = "Hibernated";
        self.announce(session);
        Ok(())
    }

    async fn remove_by_hand(&self, session: &str) -> Result<(), FixtureError> {
        if self.is(Fault::MissesHands) {
            return Ok(());
        }
        self.world().objects.remove(session).ok_or_else(no_session)?;
        self.announce(session);
        Ok(())
    }

    async fn pause_by_hand(&self, session: &str, paused: bool) -> Result<(), FixtureError> {
        if self.is(Fault::MissesHands) {
            return Ok(());
        }
        let phase = if paused { "Pending" } else { "Running" };
        self.world().objects.get_mut(session).ok_or_else(no_session)?.phase = phase;
        Ok(())
    }

    async fn write_file(&self, session: &str, path: &str, content: &str) -> Result<(), FixtureError> {
        let mut world = self.world();
        let user = world.objects.get(session).ok_or_else(no_session)?.user.clone();
        world.homes.entry(user).or_default().insert(path.to_owned(), content.to_owned());
        Ok(())
    }

    async fn read_file(&self, session: &str, path: &str) -> Result<Option<String>, FixtureError> {
        let world = self.world();
        let user = &world.objects.get(session).ok_or_else(no_session)?.user;
        Ok(world.homes.get(user).and_then(|files| files.get(path)).cloned())
    }

    async fn has_home(&self, user: &str) -> Result<bool, FixtureError> {
        Ok(self.world().homes.contains_key(user))
    }

    async fn weather(&self, weather: Weather) -> Result<(), FixtureError> {
        let mut world = self.world();
        world.weather = Some(weather);
        world.calls = 0;
        Ok(())
    }

    async fn calls(&self) -> Result<usize, FixtureError> {
        Ok(self.world().calls)
    }

    async fn lose_events(&self) -> Result<(), FixtureError> {
        if !self.is(Fault::HidesLostEvents) {
            self.world().feed.forget();
            self.news.send_replace(());
        }
        Ok(())
    }

    async fn rename_by_hand(&self, session: &str) -> Result<(), FixtureError> {
        self.world().objects.get_mut(session).ok_or_else(no_session)?.renamed = true;
        self.announce(session);
        Ok(())
    }

    async fn restart(&self) -> Result<(), FixtureError> {
        if self.is(Fault::ForgetsSleepers) {
            self.world().objects.retain(|_, object| object.phase != "Hibernated");
        }
        Ok(())
    }
}

#[async_trait]
impl Process for Model {
    fn wipe_state(&self) {}

    async fn fresh(&self) -> Result<Transport, String> {
        Ok(self.transport())
    }

    async fn try_config(&self, config: Value) -> Option<ConfigRefusal> {
        let (name, value) = config.as_object()?.iter().next()?;
        let accepted = (name == "size" && value.is_u64()) || self.is(Fault::TakesAnySetting);
        (!accepted).then(|| ConfigRefusal { message: format!("config.{name}: is wrong") })
    }

    fn config_schema(&self) -> Value {
        json!({"additionalProperties": false, "properties": {"size": {"type": "integer"}}})
    }

    fn undeclared_imports(&self) -> Vec<String> {
        if self.is(Fault::ImportsMore) { vec!["wasi:sockets/tcp".to_owned()] } else { Vec::new() }
    }

    fn open_files(&self) -> Option<usize> {
        // Other tests run in this process.
        None
    }
}
