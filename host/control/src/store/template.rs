//! Writing templates without overwriting what somebody else wrote.

use chrono::{DateTime, Utc};

use crate::domain::{Generation, Template, TemplateBody};

/// What has to be there for a change to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// Whatever there is, or nothing.
    Anything,
    /// Nothing.
    Nothing,
    /// Something.
    Something,
    /// This version. A template that was deleted and made again is another one.
    Version(Generation, DateTime<Utc>),
}

impl Expected {
    /// Whether a change may be made to what there is.
    pub fn met(self, found: Option<&Template>) -> bool {
        match (self, found) {
            (Self::Anything, _) | (Self::Nothing, None) | (Self::Something, Some(_)) => true,
            (Self::Version(generation, created_at), Some(found)) => {
                (generation, created_at) == (found.generation, found.created_at)
            }
            (Self::Nothing, Some(_)) | (Self::Something | Self::Version(..), None) => false,
        }
    }
}

/// A template to be stored.
#[derive(Debug, Clone)]
pub struct TemplateWrite {
    /// Its key.
    pub name: String,
    /// What it is to be.
    pub body: TemplateBody,
    /// What has to be there.
    pub expected: Expected,
}

/// What became of a [`TemplateWrite`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TemplateWritten {
    /// There was none of that name.
    Created(Template),
    /// There was another.
    Replaced(Template),
    /// It was there as it is to be.
    Unchanged(Template),
    /// What was expected was not there; nothing was stored. What is there.
    Unmet(Option<Template>),
}

/// What became of the wish that a template be gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TemplateDeletion {
    /// It is gone.
    Deleted,
    /// There is none of that name.
    NoSuchTemplate,
    /// It is not the one that was expected; it stays.
    Unmet,
}
