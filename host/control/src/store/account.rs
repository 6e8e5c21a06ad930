//! Changing users and tokens.

use crate::domain::{Role, Token, User};

/// What is to change about a user; what is absent stays.
#[derive(Debug, Clone, Default)]
pub struct UserChange {
    /// Absent inside = none.
    pub email: Option<Option<String>>,
    /// For people.
    pub full_name: Option<String>,
    /// The most that their tokens can do.
    pub role: Option<Role>,
    /// Whether their tokens are taken.
    pub active: Option<bool>,
}

/// What became of a change of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UserChanged {
    /// It is stored.
    Stored(User),
    /// There is no such user.
    NoSuchUser,
    /// There is a user with this id already.
    IdTaken,
    /// Another user has this address.
    EmailTaken,
    /// Nobody would be left to administrate.
    LastAdmin,
}

/// What became of the wish that a user be gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserDeletion {
    /// They are gone, and their tokens with them.
    Deleted,
    /// There is no such user.
    NoSuchUser,
    /// So many sessions are theirs.
    HasSessions(u64),
    /// Nobody would be left to administrate.
    LastAdmin,
}

/// What became of a new token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenCreated {
    /// It is stored.
    Stored(Token),
    /// There is no such user.
    NoSuchUser,
    /// It could do more than its user.
    AboveUser(Role),
    /// The user has too many.
    TooMany,
}
