//! SCIM 2.0 (RFC 7643, RFC 7644): how a directory tells what became of its users and groups. Pure: documents in, meanings out.
//!
//! A user is a document: it is read against the table of attributes in [`schema`], changed by [`patch`], searched by [`filter`].
//! A group is its name and its members, of which there may be many: a change of it is a list of [`group::Change`]s, and the members
//! are never loaded for it.
//!
//! Invariant: what a document holds beside the attributes of the table is dropped, so no attribute has a meaning that is not
//! written down here. An error names an attribute and never shows a value.

pub mod filter;
pub mod group;
pub mod patch;
pub mod path;
pub mod schema;
pub mod user;

#[cfg(test)]
mod tests;

/// Characters of a filter, and of a path of a change.
pub const FILTER_CHARS_MAX: usize = 1_000;
/// Brackets, `not`s and alternatives within each other.
pub const FILTER_DEPTH_MAX: usize = 16;
/// Comparisons in one filter.
pub const FILTER_COMPARISONS_MAX: usize = 50;
/// Operations in one change.
pub const OPERATIONS_MAX: usize = 100;
/// Characters of any one text.
pub const TEXT_CHARS_MAX: usize = 500;
/// Values of an attribute of a user that can have several, such as `emails`.
pub const VALUES_MAX: usize = 20;
/// Members that one call adds to a group, removes from it or gives it.
pub const MEMBERS_PER_CHANGE_MAX: usize = 5_000;

/// What is wrong with a call, as RFC 7644, 3.12 sorts it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wrong {
    InvalidFilter,
    InvalidPath,
    InvalidSyntax,
    InvalidValue,
    Mutability,
    NoTarget,
    TooMany,
    Uniqueness,
}

impl Wrong {
    /// The `scimType` of the answer.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidFilter => "invalidFilter",
            Self::InvalidPath => "invalidPath",
            Self::InvalidSyntax => "invalidSyntax",
            Self::InvalidValue => "invalidValue",
            Self::Mutability => "mutability",
            Self::NoTarget => "noTarget",
            Self::TooMany => "tooMany",
            Self::Uniqueness => "uniqueness",
        }
    }

    /// The status of the answer.
    pub const fn status(self) -> u16 {
        match self {
            Self::Uniqueness => 409,
            _ => 400,
        }
    }
}

/// A call that was refused: why, and what to do about it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{detail}")]
pub struct Refused {
    pub wrong: Wrong,
    pub detail: String,
}

impl Refused {
    /// A refusal with its sentence.
    pub fn new(wrong: Wrong, detail: impl Into<String>) -> Self {
        Self { wrong, detail: detail.into() }
    }
}
