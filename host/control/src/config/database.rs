//! Where the database is, as a URL.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use sqlx::postgres::PgConnectOptions;
use url::Url;

use crate::ControlError;

/// What a URL of PostgreSQL may say behind its `?`.
const PARAMETERS: [&str; 11] = [
    "application_name",
    "dbname",
    "host",
    "options",
    "password",
    "port",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "user",
];

/// Where the database is. Nothing that it prints contains a password.
#[derive(Clone)]
pub struct DatabaseUrl {
    place: DatabasePlace,
    /// As it may be shown.
    shown: String,
}

/// How the database is reached.
#[derive(Clone)]
pub(crate) enum DatabasePlace {
    /// A file of this machine.
    Sqlite(PathBuf),
    /// A server.
    Postgres(Box<PgConnectOptions>),
}

impl DatabaseUrl {
    /// A SQLite database in this file.
    pub fn sqlite(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        Self { shown: format!("sqlite://{}", path.display()), place: DatabasePlace::Sqlite(path) }
    }

    /// The file of a SQLite database.
    pub fn path(&self) -> Option<&Path> {
        match &self.place {
            DatabasePlace::Sqlite(path) => Some(path),
            DatabasePlace::Postgres(_) => None,
        }
    }

    pub(crate) fn place(&self) -> &DatabasePlace {
        &self.place
    }

    fn parse_postgres(text: &str) -> Result<Self, String> {
        let mut url = Url::parse(text).map_err(|error| error.to_string())?;
        if let Some((unknown, _)) = url.query_pairs().find(|(key, _)| !PARAMETERS.contains(&key.as_ref())) {
            return Err(format!("`{unknown}` is not known; known are {}", PARAMETERS.join(", ")));
        }
        if url.host_str().is_some_and(|host| host.contains(',')) {
            return Err("it names several servers, and one is expected".to_owned());
        }
        let mut options = PgConnectOptions::from_str(text).map_err(|error| error.to_string())?;
        if options.get_application_name().is_none() {
            options = options.application_name("streamspace");
        }
        // A URL without a host cannot have had a password.
        let _ = url.set_password(None);
        let kept: Vec<_> = url.query_pairs().into_owned().filter(|(key, _)| key != "password").collect();
        url.set_query(None);
        if !kept.is_empty() {
            url.query_pairs_mut().extend_pairs(kept);
        }
        Ok(Self { place: DatabasePlace::Postgres(Box::new(options)), shown: url.into() })
    }
}

impl FromStr for DatabaseUrl {
    type Err = ControlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // Never repeated in an error: a URL may carry a password.
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            return Self::parse_postgres(text).map_err(|error| {
                ControlError::Database(format!("the postgres:// URL is not valid: {error}"))
            });
        }
        match text.strip_prefix("sqlite://") {
            Some(path) if path.contains('?') => {
                Err(ControlError::Database("a sqlite:// URL takes no parameters".to_owned()))
            }
            Some(path) if !path.is_empty() && path != ":memory:" => Ok(Self::sqlite(path)),
            _ => Err(ControlError::Database(
                "expected sqlite://<path>, e.g. sqlite:///var/lib/x.db, or postgres://<user>@<host>/<database>"
                    .to_owned(),
            )),
        }
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DatabaseUrl").field(&self.shown).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn database_urls() {
        let url: DatabaseUrl = "sqlite:///var/lib/streamspace.db".parse().unwrap();
        assert_eq!(url.path(), Some(Path::new("/var/lib/streamspace.db")));
        assert_eq!(url.to_string(), "sqlite:///var/lib/streamspace.db");
        for bad in [
            "",
            "sqlite://",
            "sqlite://:memory:",
            "mysql://x",
            "/plain/path",
            "sqlite:///x?mode=ro",
            "postgres://one,two/x",
            "postgres://db:port/x",
            "postgres://db/x?sslmode=sometimes",
            "postgres://db/x?pool=5",
        ] {
            assert!(bad.parse::<DatabaseUrl>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_server_is_named_as_its_own_programs_name_it() {
        let url = "postgres://me@db.example:5433/space?sslmode=verify-full&sslrootcert=/etc/ca.pem";
        let url: DatabaseUrl = url.parse().unwrap();
        let DatabasePlace::Postgres(options) = url.place() else { panic!("{url}") };
        assert_eq!(
            (options.get_host(), options.get_port(), options.get_username(), options.get_database()),
            ("db.example", 5433, "me", Some("space"))
        );
        assert_eq!(options.get_application_name(), Some("streamspace"));

        let url: DatabaseUrl = "postgresql:///space?host=/run/postgresql&user=me".parse().unwrap();
        let DatabasePlace::Postgres(options) = url.place() else { panic!("{url}") };
        assert_eq!(options.get_socket().map(PathBuf::as_path), Some(Path::new("/run/postgresql")));
        assert_eq!(url.path(), None);
    }

    #[test]
    fn passwords_are_never_shown() {
        for text in [
            "postgres://me:se%63ret@db/x?sslmode=require",
            "postgres://me@db/x?sslmode=require&password=secret",
            "postgres:///x?sslmode=require&password=secret&host=/run",
        ] {
            let url: DatabaseUrl = text.parse().unwrap();
            let shown = format!("{url} {url:?}");
            assert!(!shown.contains("secret") && !shown.contains("se%63ret"), "{shown}");
            assert!(shown.contains("sslmode=require"), "{shown}");
        }
        for bad in ["postgres://me:secret@db:port/x", "postgres://me:secret@db/x?pool=secret"] {
            let error = format!("{:?}", bad.parse::<DatabaseUrl>());
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
