//! Where the store is: a file, or a database by its address.

use std::{fmt, path::PathBuf, str::FromStr, sync::Arc};

use tokio_postgres::Config;

/// What an address of PostgreSQL begins with.
const SCHEMES: [&str; 2] = ["postgres://", "postgresql://"];

/// Where the store is. Passwords are not shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A file of SQLite, for one process.
    File(PathBuf),
    /// PostgreSQL, for several.
    Postgres(Arc<Config>),
}

/// It begins like an address of PostgreSQL and is none.
#[derive(Debug, thiserror::Error)]
#[error("this is no address of PostgreSQL")]
pub struct NotAPlace(#[from] tokio_postgres::Error);

impl FromStr for Place {
    type Err = NotAPlace;

    fn from_str(text: &str) -> Result<Self, NotAPlace> {
        if SCHEMES.iter().any(|scheme| text.starts_with(scheme)) {
            Ok(Self::Postgres(Arc::new(text.parse()?)))
        } else {
            Ok(Self::File(PathBuf::from(text)))
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Postgres(config) => {
                write!(f, "postgres:{}", config.get_dbname().unwrap_or_default())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Place;

    #[test]
    fn an_address_of_postgresql_is_one_and_all_else_is_a_file() {
        let place: Place = "postgres://rider:secret@db/rides".parse().unwrap();
        assert!(matches!(place, Place::Postgres(_)));
        assert_eq!(place.to_string(), "postgres:rides");
        assert!(!format!("{place:?}").contains("secret"));
        assert!("postgres://rider@db:port/rides".parse::<Place>().is_err());
        let place: Place = "/var/lib/ride/rider.db".parse().unwrap();
        assert_eq!(place, Place::File("/var/lib/ride/rider.db".into()));
    }
}
