//! Where log lines go.

use std::io::{self, IsTerminal as _};

use anyhow::Context as _;
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::filter::{EnvFilter, FilterExt as _, FilterFn, LevelFilter};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::registry::Registry;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Logs to standard error: for a person on a terminal, as JSON lines otherwise. Never what sessions are given.
pub(crate) fn init(filter: &str) -> anyhow::Result<()> {
    subscriber(filter, io::stderr().is_terminal(), io::stderr)?
        .try_init()
        .map_err(|error| anyhow::anyhow!("the log cannot be set up: {error}"))
}

fn subscriber<W>(
    filter: &str,
    for_people: bool,
    writer: W,
) -> anyhow::Result<impl Subscriber + Send + Sync + use<W>>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let filter = EnvFilter::try_new(filter).with_context(|| format!("log: `{filter}` is no filter"))?;
    // Beside the filter and not in it, where a directive for one module would win.
    let harmless = FilterFn::new(is_harmless).with_max_level_hint(LevelFilter::TRACE);
    let layer = tracing_subscriber::fmt::layer().with_writer(writer);
    let layer = if for_people { layer.boxed() } else { layer.json().boxed() };
    Ok(Registry::default().with(layer.with_filter(filter.and(harmless))))
}

/// The Docker client writes whole requests and answers, with the environment of sessions and all secrets in it.
fn is_harmless(line: &Metadata<'_>) -> bool {
    let of_the_client = line.target() == "bollard" || line.target().starts_with("bollard::");
    !of_the_client || *line.level() <= Level::WARN
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn no_filter_shows_what_the_docker_client_sends() {
        for filter in ["trace", "bollard::docker=trace", "bollard=debug,info", "info,bollard[{x}]=trace"] {
            for for_people in [true, false] {
                let lines = Lines::default();
                let writer = lines.clone();
                let subscriber = subscriber(filter, for_people, move || writer.clone()).unwrap();
                tracing::subscriber::with_default(subscriber, || {
                    tracing::trace!(target: "bollard::docker", "geheim");
                    tracing::debug!(target: "bollard", x = 1, "geheim");
                    tracing::warn!(target: "bollard::docker", "a warning");
                    tracing::error!("an error of ours");
                });
                let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
                assert!(!text.contains("geheim"), "{filter}: {text}");
                // The others are as the filter says.
                assert_eq!(
                    text.contains("an error of ours"),
                    !filter.starts_with("bollard::"),
                    "{filter}: {text}"
                );
                if filter != "info,bollard[{x}]=trace" {
                    assert!(text.contains("a warning"), "{filter}: {text}");
                }
            }
        }
    }

    #[test]
    fn a_filter_that_is_none_is_named() {
        let error = subscriber("loud=1=2", true, io::sink).err().unwrap();
        assert!(error.to_string().contains("loud=1=2"), "{error}");
    }
}
