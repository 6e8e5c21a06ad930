//! How a controller stands to a request, and in what words it is told.

use std::collections::BTreeMap;

use crate::domain::{Controller, QuotaKind, Requirement, Share};

/// How one controller stands to a request.
#[derive(Debug, Clone)]
pub(crate) struct Verdict<'a> {
    /// The controller.
    pub(crate) controller: &'a Controller,
    /// What is in the way; `None` = it could take the session.
    pub(crate) obstacle: Option<Obstacle<'a>>,
}

/// Why a controller does not take the session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Obstacle<'a> {
    /// The request names another controller.
    OtherController,
    /// The request names another type, or the session goes to another one by preference.
    OtherType(&'a str),
    /// The session's template has nothing for its type; why.
    Template(String),
    /// It lacks a label.
    Label(&'a str, &'a str),
    /// It cannot do what is required.
    Capability(Requirement),
    /// It does not answer, or is not well.
    Health,
    /// It has less than is asked for, even without any session.
    TooSmall(Share),
    /// It could, but is being emptied.
    Draining,
    /// It could, but has no room now.
    Full(Share),
}

impl Obstacle<'_> {
    /// Whether the controller was never asked for.
    pub(crate) fn is_other(&self) -> bool {
        matches!(self, Self::OtherController | Self::OtherType(_))
    }

    /// Whether it may be gone later without anybody's changing the controller or the request.
    pub(super) fn passes(&self) -> bool {
        matches!(self, Self::Draining | Self::Full(_))
    }

    /// One word for programs.
    pub(crate) fn as_str(&self) -> &'static str {
        match self {
            Self::OtherController => "other_controller",
            Self::OtherType(_) => "other_type",
            Self::Template(_) => "template",
            Self::Label(..) => "label",
            Self::Capability(_) => "capability",
            Self::Health => "health",
            Self::TooSmall(_) => "too_small",
            Self::Draining => "draining",
            Self::Full(_) => "full",
        }
    }

    /// What is in the way, without anything that tells one controller of a type from another.
    pub(crate) fn describe(&self, controller: &Controller) -> String {
        match self {
            Self::OtherController => "is not the controller that was asked for".to_owned(),
            Self::OtherType(wanted) => format!("is not of type {wanted:?}, to which the session goes"),
            Self::Template(why) => format!("cannot: {why}"),
            Self::Label(key, value) => format!("has no label {key}={value}"),
            Self::Capability(requirement) => format!("does not support {}", requirement.as_str()),
            Self::Health => format!("is {}", controller.status.as_str()),
            Self::TooSmall(share) => format!("has less {} than is asked for", name(share.kind)),
            Self::Draining => "is draining".to_owned(),
            Self::Full(Share { kind: QuotaKind::Sessions, .. }) => "is full".to_owned(),
            Self::Full(share) => format!("is full: it has too little {} left", name(share.kind)),
        }
    }

    /// What is in the way, for those who may know all about the controller.
    pub(crate) fn describe_fully(&self, controller: &Controller) -> String {
        let plain = self.describe(controller);
        match self {
            Self::Health if !controller.message.is_empty() => format!("{plain} ({})", controller.message),
            Self::TooSmall(share) | Self::Full(share) => format!("{plain} ({})", share.describe()),
            _ => plain,
        }
    }
}

fn name(kind: QuotaKind) -> &'static str {
    match kind {
        QuotaKind::Sessions => "room for sessions",
        QuotaKind::Cpu => "processor time",
        QuotaKind::Memory => "memory",
        QuotaKind::Storage => "storage",
    }
}

/// Why nobody takes it, in words that its owner may read: controllers are counted, not named.
pub(super) fn reasons(candidates: &[Verdict<'_>], wanted_type: Option<&str>) -> String {
    if candidates.is_empty() {
        return match wanted_type {
            Some(wanted) => format!("no controller of type {wanted:?} was ever registered"),
            None => "no controller was ever registered".to_owned(),
        };
    }
    let mut groups: BTreeMap<(&str, String), u32> = BTreeMap::new();
    for Verdict { controller, obstacle } in candidates {
        let why =
            obstacle.as_ref().map_or_else(|| "takes it".to_owned(), |obstacle| obstacle.describe(controller));
        *groups.entry((&controller.controller_type, why)).or_default() += 1;
    }
    let each = groups.into_iter().map(|((kind, why), count)| match count {
        1 => format!("a controller of type {kind:?} {why}"),
        _ => format!("each of {count} controllers of type {kind:?} {why}"),
    });
    each.collect::<Vec<_>>().join("; ")
}
