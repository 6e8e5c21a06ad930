//! Named points in the code at which a test kills the process.
//!
//! A crash test starts the server with `STREAMSPACE_KILL_AT=<name>[:<n>]`; the process then ends itself with
//! SIGKILL when it comes to that point for the n-th time (1 if not given). `STREAMSPACE_FAILPOINTS_SEEN` names a file
//! to which the name of every point is added when it is passed for the first time. Without the feature `enabled` a
//! point is an empty function.

#[cfg(feature = "enabled")]
mod enabled {
    use std::collections::HashSet;
    use std::fs::File;
    use std::io::Write as _;
    use std::process;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::{Mutex, OnceLock, PoisonError};

    struct Target {
        name: String,
        nth: u64,
        seen: AtomicU64,
    }

    fn target() -> Option<&'static Target> {
        static TARGET: OnceLock<Option<Target>> = OnceLock::new();
        TARGET
            .get_or_init(|| {
                let wish = std::env::var("STREAMSPACE_KILL_AT").ok()?;
                let (name, nth) = match wish.rsplit_once(':') {
                    Some((name, nth)) => (name.to_owned(), nth.parse().ok()?),
                    None => (wish, 1),
                };
                Some(Target { name, nth, seen: AtomicU64::new(0) })
            })
            .as_ref()
    }

    /// The points that were passed, and where that is written.
    struct Seen {
        file: File,
        names: Mutex<HashSet<String>>,
    }

    fn seen() -> Option<&'static Seen> {
        static SEEN: OnceLock<Option<Seen>> = OnceLock::new();
        SEEN.get_or_init(|| {
            let path = std::env::var_os("STREAMSPACE_FAILPOINTS_SEEN")?;
            // Without its file a crash test finds no points and says so.
            let file = File::options().create(true).append(true).open(path).ok()?;
            Some(Seen { file, names: Mutex::default() })
        })
        .as_ref()
    }

    impl Seen {
        fn note(&self, name: &str) {
            let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
            if !names.contains(name) {
                names.insert(name.to_owned());
                // Likewise: a point that is not written down is one that is missed.
                let _ = (&self.file).write_all(format!("{name}\n").as_bytes());
            }
        }
    }

    /// Whether anybody wants to know: names that have to be put together first are not, otherwise.
    pub(super) fn is_watched() -> bool {
        seen().is_some() || target().is_some()
    }

    pub(super) fn hit(name: &str) {
        if let Some(seen) = seen() {
            seen.note(name);
        }
        let Some(target) = target() else { return };
        if target.name == name && target.seen.fetch_add(1, Ordering::SeqCst) + 1 == target.nth {
            // SIGKILL and not abort(): no handler, no core, no unwinding, as when the machine's owner does it.
            let _ = process::Command::new("kill").args(["-KILL", &process::id().to_string()]).status();
            loop {
                std::thread::park();
            }
        }
    }
}

/// Marks a point. Ends the process here if a crash test asked for it.
#[inline]
pub fn hit(name: &'static str) {
    #[cfg(feature = "enabled")]
    enabled::hit(name);
    #[cfg(not(feature = "enabled"))]
    let _ = name;
}

/// Marks a point that every subject passes, such as every kind of transaction: `<point>.<subject>`.
#[inline]
pub fn hit_on(point: &'static str, subject: &'static str) {
    #[cfg(feature = "enabled")]
    if enabled::is_watched() {
        enabled::hit(&format!("{point}.{subject}"));
    }
    #[cfg(not(feature = "enabled"))]
    let _ = (point, subject);
}
