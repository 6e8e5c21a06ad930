//! Several servers over one database, all under load, of which one dies or stands still every few seconds: nothing is
//! lost or done twice, what it was doing is taken over by the others, and whoever listens to any of them misses nothing.

mod database;
mod listener;
mod report;
mod server;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use streamspace_tests::provided;
use streamspace_tests::server::Installation;
use streamspace_tests::simulated::Simulated;

use crate::Arguments;
use crate::desk::Manners;
use crate::driver::Driver;
use crate::effects::Ledger;
use crate::judge;
use crate::operator::{self, Vault};
use crate::stage::{config, keep_evidence, weather};
use database::Database;
use listener::Listeners;
use report::Report;
use server::{Member, Plight};

/// A server that stands still keeps whoever asked it waiting: they turn to another one.
const MANNERS: Manners = Manners { wait: "3s", patience: Duration::from_secs(5) };
/// How long the load runs undisturbed at first.
const REHEARSAL: Duration = Duration::from_secs(8);
/// Between two judgements.
const BLOWS_A_ROUND: u32 = 12;
/// Between two blows, in milliseconds.
const PAUSE_MS: std::ops::Range<u64> = 1000..4000;
/// How long a server is away, in milliseconds: mostly long enough for others to take over …
const AWAY_MS: std::ops::Range<u64> = 3500..9000;
/// … and one time in so many too short for that, or just about.
const SHORT: (u32, std::ops::Range<u64>) = (4, 200..3500);
/// How often what became of a blow is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// Disturbs the servers until the time is up.
pub(crate) async fn run(arguments: &Arguments) -> Result<ExitCode> {
    let began = Instant::now();
    let mut random = StdRng::seed_from_u64(arguments.seed);
    let missing = "what it needs is not provided: use `cargo xtask crash --servers 3 --database postgres`";
    let mut play = Play::begin(arguments).await?.context(missing)?;
    println!(
        "{} servers, {} users: {} s undisturbed",
        arguments.servers,
        arguments.sessions,
        REHEARSAL.as_secs()
    );
    tokio::time::sleep(REHEARSAL).await;
    play.judge().await?;

    let limit = Duration::from_secs(arguments.minutes * 60);
    // From here on: three servers and their plugins take a while to start. A run in which nothing was taken over goes on.
    let disturbed = Instant::now();
    let time_is_up =
        |report: &Report| disturbed.elapsed() >= if report.takeovers() == 0 { limit * 3 } else { limit };
    while play.report.blows() < arguments.kills && !time_is_up(&play.report) {
        weather(&play.simulated, random.random(), play.report.rounds() % 2 == 1).await;
        for _ in 0..BLOWS_A_ROUND {
            if time_is_up(&play.report) {
                break;
            }
            play.blow(&mut random).await?;
            let pause = Duration::from_millis(random.random_range(PAUSE_MS));
            play.watch_for(pause).await?;
        }
        weather(&play.simulated, random.random(), false).await;
        play.recover().await?;
        let took = play.judge().await?;
        println!(
            "{:>6.1} min, {:>4} blows, {:>6} verbs acknowledged, {} whole again in {:.1} s",
            began.elapsed().as_secs_f64() / 60.0,
            play.report.blows(),
            play.driver.acknowledged(),
            play.report.so_far(),
            took.as_secs_f64()
        );
    }
    let text = play.report.finish(began.elapsed(), arguments, play.driver.acknowledged(), &play.ledger);
    println!("{text}");
    if let Some(file) = &arguments.report {
        std::fs::write(file, text).with_context(|| format!("{} cannot be written", file.display()))?;
    }
    ensure!(play.report.takeovers() > 0, "nothing was ever taken over");
    Ok(ExitCode::SUCCESS)
}

/// Everything there is.
struct Play {
    // First: servers end before what they need.
    members: Vec<Member>,
    /// How long it may take until everything is as it is wished.
    settle: Duration,
    listeners: Listeners,
    driver: Driver,
    ledger: Ledger,
    report: Report,
    database: Database,
    simulated: Arc<Simulated>,
    _plugins: tempfile::TempDir,
}

impl Play {
    /// None where something is missing; a line said what.
    async fn begin(arguments: &Arguments) -> Result<Option<Self>> {
        let Some(plugin) = provided("STREAMSPACE_TEST_SIMULATED_PLUGIN") else { return Ok(None) };
        let Some(simulated) = Simulated::start().map(Arc::new) else { return Ok(None) };
        let Some(first) = Installation::new() else { return Ok(None) };
        let plugins = tempfile::tempdir()?;
        std::fs::copy(plugin, plugins.path().join("simulated.wasm"))?;
        let first = first
            .plugins(plugins.path())
            .config(&config(&simulated))
            .environment("STREAMSPACE_LOG", "warn,streamspace=info");
        let Some(url) = first.database_url().map(str::to_owned) else { return Ok(None) };
        let mut installations: Vec<_> = (1..arguments.servers).map(|_| first.beside()).collect();
        installations.insert(0, first);
        weather(&simulated, arguments.seed, false).await;
        let mut members = Vec::new();
        for installation in installations {
            members.push(Member::start(installation)?);
        }
        let play = Self {
            settle: Duration::from_secs(arguments.settle),
            listeners: Listeners::start(&members),
            driver: Driver::start(arguments.sessions, arguments.seed, MANNERS),
            ledger: Ledger::default(),
            report: Report::default(),
            database: Database::connect(&url).await?,
            members,
            simulated,
            _plugins: plugins,
        };
        play.tell_where();
        operator::employ(&play.driver, &play.simulated, &Vault::Server(url), arguments.seed);
        Ok(Some(play))
    }

    /// Users and listeners turn to those that are up. One that stands still looks as if it were.
    fn tell_where(&self) {
        self.driver.serve_all(self.members.iter().filter_map(Member::api));
        self.listeners.serve(&self.members);
    }

    /// Kills one of the servers or makes it stand still, as long as another one is left.
    async fn blow(&mut self, random: &mut StdRng) -> Result<()> {
        let well: Vec<_> = (0..self.members.len()).filter(|one| self.members[*one].is_well()).collect();
        if well.len() < 2 {
            return Ok(());
        }
        // Mostly the one that has something to lose.
        let driving = self.database.driving().await?;
        let busy =
            well.iter().copied().find(|one| driving.as_deref() == self.members[*one].place().as_deref());
        let chosen = match busy {
            Some(busy) if random.random_ratio(2, 3) => busy,
            _ => well[random.random_range(0..well.len())],
        };
        let (one_in, short) = SHORT;
        let away = if random.random_ratio(1, one_in) { short } else { AWAY_MS };
        let away = Duration::from_millis(random.random_range(away));
        let member = &mut self.members[chosen];
        let place = member.place();
        let kills = random.random::<bool>();
        if kills {
            member.kill(away)
        } else {
            member.stop(away)
        }
        let struck = Instant::now();
        let claims = match &place {
            Some(place) => self.database.claims_of(place).await?,
            None => Vec::new(),
        };
        member.lost(Plight {
            drives: place.filter(|place| driving.as_deref() == Some(place)),
            claims,
            struck,
        });
        self.report.struck(kills);
        self.tell_where();
        Ok(())
    }

    /// Lets time pass: sees who comes back, and what becomes of what others were doing.
    async fn watch_for(&mut self, pause: Duration) -> Result<()> {
        let end = Instant::now() + pause;
        while Instant::now() < end {
            self.look(false).await?;
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    async fn look(&mut self, all_back: bool) -> Result<()> {
        let mut came_back = false;
        for member in &mut self.members {
            if let Some(Plight { drives: Some(place), struck, .. }) = member.plight()
                && let Some(driving) = self.database.driving().await?
                && driving != *place
            {
                self.report.driven_again(struck.elapsed());
                member.replaced();
            }
            if let Some(plight) = member.plight()
                && !plight.claims.is_empty()
                && let Some(session) = self.database.first_taken_over(&plight.claims).await?
            {
                let took = plight.struck.elapsed();
                self.report.taken_over(took);
                self.listeners.expect(session, plight.struck);
                member.forget_plight();
            }
            came_back |= member.come_back(all_back)?;
            member.check()?;
        }
        if came_back {
            self.tell_where();
        }
        Ok(())
    }

    /// Waits until all servers are back.
    async fn recover(&mut self) -> Result<()> {
        while !self.members.iter().all(Member::is_well) {
            self.look(true).await?;
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// Holds the users still, waits until everything is as they wish it, and tells how long that took.
    async fn judge(&mut self) -> Result<Duration> {
        let began = Instant::now();
        let _pause = self.driver.pause().await;
        let mut amiss =
            match judge::settled(&self.simulated, &self.driver, &mut self.ledger, self.settle).await? {
                Ok(()) => self.listeners.judge(&mut self.database).await?,
                Err(amiss) => amiss,
            };
        if amiss.is_empty() {
            amiss = self.compare_servers().await;
        }
        if amiss.is_empty() {
            self.report.judged(began.elapsed(), self.listeners.heard());
            return Ok(began.elapsed());
        }
        let kept = keep_evidence(&self.simulated, None)?;
        for (number, member) in self.members.iter().enumerate() {
            std::fs::write(kept.join(format!("server-{number}.log")), member.log())?;
        }
        judge::broken(&kept, &amiss)
    }

    /// All servers show the same, as soon as nothing changes from one look to the next: the time of a session may run out
    /// in between.
    async fn compare_servers(&self) -> Vec<String> {
        let began = Instant::now();
        loop {
            let amiss = self.differences_of_servers().await;
            if amiss.is_empty() || began.elapsed() > self.settle {
                return amiss;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn differences_of_servers(&self) -> Vec<String> {
        let mut shown = Vec::new();
        for api in self.members.iter().filter_map(Member::api) {
            match api.all_sessions().await {
                Ok(sessions) => shown.push(sessions),
                Err(error) => return vec![format!("the sessions cannot be listed: {error:#}")],
            }
        }
        let differs = shown.windows(2).any(|pair| pair[0] != pair[1]);
        if differs { vec!["servers show different sessions".to_owned()] } else { Vec::new() }
    }
}
