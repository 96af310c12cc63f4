//! The pages on which a user gives a key of their own. They take one; none shows one.

use grantd_wire::TimeMs;
use serde::{Serialize, Serializer};

use super::{App, Provider, Session, shown};

/// Asks for a key.
#[derive(Clone, Copy, Serialize)]
pub struct KeyEntry<'a> {
    pub app: App<'a>,
    pub session: Session<'a>,
    /// The secret that it is a key for.
    pub provider: Provider<'a>,
    /// It takes the place of one that was given before.
    pub again: bool,
    /// What the user may call it, as typed; none: it has its name.
    pub label: Option<Input<'a>>,
    pub key: Input<'a>,
    /// What is asked for beside it.
    pub fields: &'a [Input<'a>],
    /// The only hosts that it is sent to.
    #[serde(serialize_with = "shown::as_names")]
    pub hosts: &'a [&'a str],
    /// Where its maker says how to get one.
    #[serde(serialize_with = "shown::as_link")]
    pub docs: Option<&'a str>,
    /// When the app's access ends by itself.
    pub until: Option<TimeMs>,
    /// Its maker is asked whether it works before it is kept.
    pub checked: bool,
    pub trouble: Option<KeyTrouble<'a>>,
}

/// Something to fill in.
#[derive(Clone, Copy, Serialize)]
pub struct Input<'a> {
    /// Of the field of the form.
    pub name: &'a str,
    /// In its maker's words; none: in ours.
    #[serde(serialize_with = "shown::as_name_opt")]
    pub label: Option<&'a str>,
    #[serde(serialize_with = "shown::as_name_opt")]
    pub hint: Option<&'a str>,
    pub kind: InputKind,
    pub required: bool,
    /// What can be chosen.
    #[serde(serialize_with = "shown::as_names")]
    pub choices: &'a [&'a str],
    /// What was typed before; never of a secret.
    #[serde(serialize_with = "as_typed")]
    pub typed: Option<&'a str>,
    pub wrong: Option<InputWrong>,
}

/// As an input can hold it.
fn as_typed<S: Serializer>(text: &Option<&str>, serializer: S) -> Result<S::Ok, S::Error> {
    text.map(|text| text.replace(char::is_control, "")).serialize(serializer)
}

/// How something is filled in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum InputKind {
    Text,
    /// Not shown while it is typed, nor ever after.
    Secret,
    Choice,
}

/// What is wrong with what was filled in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum InputWrong {
    Missing,
    Unfit,
    /// It names a host that the secret may not go to.
    Elsewhere,
}

impl InputWrong {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Missing, Self::Unfit, Self::Elsewhere];
}

/// Why the key that was sent last is not kept.
#[derive(Clone, Copy, Serialize)]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum KeyTrouble<'a> {
    /// Its maker does not know it.
    Refused {
        #[serde(serialize_with = "shown::as_name")]
        status: &'a str,
    },
    /// Its maker does not answer. It may be kept all the same.
    Unreachable,
    /// It is being looked at.
    UnderWay,
    /// We were stopped, or what is asked for changed.
    Interrupted,
    Full,
    Internal,
}

impl KeyTrouble<'static> {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Refused { status: "401" },
        Self::Unreachable,
        Self::UnderWay,
        Self::Interrupted,
        Self::Full,
        Self::Internal,
    ];
}

/// Asks whether the app may use what the user holds.
#[derive(Clone, Copy, Serialize)]
pub struct KeyKnown<'a> {
    pub app: App<'a>,
    pub session: Session<'a>,
    pub provider: Provider<'a>,
    /// What the user called it.
    #[serde(serialize_with = "shown::as_name_opt")]
    pub label: Option<&'a str>,
    /// The user gave it; else whoever runs the app did.
    pub own: bool,
    pub since: TimeMs,
    pub until: Option<TimeMs>,
}
