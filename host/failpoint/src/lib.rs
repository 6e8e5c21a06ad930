//! Named points in the code at which a test kills the process.
//!
//! A crash test starts the server with `STREAMSPACE_KILL_AT=<name>[:<n>]`; the process then ends itself with
//! SIGKILL when it comes to that point for the n-th time (1 if not given). Without the feature `enabled` a point
//! is an empty function, and the name is not even in the binary.

#[cfg(feature = "enabled")]
mod enabled {
    use std::process;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

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

    pub(super) fn hit(name: &'static str) {
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
