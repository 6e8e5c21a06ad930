//! Hears what other servers have stored.

use std::time::Duration;

use sqlx::postgres::PgListener;
use tokio::sync::watch;
use tokio::time::sleep;

use super::dialect::{self, Options, Pool};
use super::sql::writer::tell;
use crate::domain::EventCursor;

/// Even if nothing is heard there is a look so often: a word can be lost with a connection that dies silently.
const LOOK_EVERY: Duration = Duration::from_secs(3);
/// Between two attempts to listen.
const PAUSE: Duration = Duration::from_secs(1);

/// Moves what is known of the events forward, for as long as it runs.
pub(super) async fn listen(options: Options, readers: Pool, news: watch::Sender<EventCursor>) {
    let listening = async {
        loop {
            if let Err(error) = hear(&options, &readers, &news).await {
                tracing::warn!(%error, "events of other servers are not heard; they are looked for");
            }
            sleep(PAUSE).await;
        }
    };
    let looking = async {
        loop {
            sleep(LOOK_EVERY).await;
            if let Err(error) = look(&readers, &news).await {
                tracing::debug!(%error, "whether there are new events is not known");
            }
        }
    };
    tokio::join!(listening, looking);
}

/// Listens until the connection fails.
async fn hear(
    options: &Options,
    readers: &Pool,
    news: &watch::Sender<EventCursor>,
) -> Result<(), sqlx::Error> {
    // A pool of its own: the listener keeps its connection, which readers would miss.
    let pool = sqlx::postgres::PgPoolOptions::new()
        .max_connections(1)
        .max_lifetime(None)
        .idle_timeout(None)
        .connect_lazy_with(options.clone());
    let mut listener = PgListener::connect_with(&pool).await?;
    listener.ignore_pool_close_event(true);
    listener.listen(dialect::CHANNEL).await?;
    loop {
        // Whatever was said before, or while there was no connection, was not heard.
        look(readers, news).await?;
        while let Some(word) = listener.try_recv().await? {
            match word.payload().parse() {
                Ok(id) => tell(news, EventCursor::from_db(id)),
                Err(_) => {
                    tracing::warn!(payload = word.payload(), "somebody else uses the channel of events")
                }
            }
        }
    }
}

async fn look(readers: &Pool, news: &watch::Sender<EventCursor>) -> Result<(), sqlx::Error> {
    let latest = dialect::latest_event(&mut *readers.acquire().await?).await?;
    tell(news, latest);
    Ok(())
}
