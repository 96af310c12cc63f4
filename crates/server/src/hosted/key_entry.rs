//! The pages of a session in which a user gives their own key. What was typed of a secret is never shown again.

use std::collections::BTreeMap;
use std::sync::Arc;

use grantd_domain::connect::{Outcome, Why};
use grantd_domain::grant::{Grant, expires_at};
use grantd_domain::key_entry::{Asks, KEY, Path, Wrong, asks};
use grantd_domain::template::Form;
use grantd_store::connect::StepState;
use grantd_wire::{Code, Error, TimeMs};
use zeroize::Zeroizing;

use super::connect::{View, field, page};
use crate::answer::Answer;
use crate::caller::Source;
use crate::flow::connect::{self, Opened, Step};
use crate::flow::key_entry::{self, Entered, Standing, Took};
use crate::pages::{Input, InputKind, InputWrong, KeyEntry, KeyKnown, KeyTrouble, Page, Stale};
use crate::vault::Vault;

/// Begins the names of what is asked for beside the key.
const FIELD_PREFIX: &str = "field_";

/// What was sent, as far as a page may show it again, and what is wrong with it.
#[derive(Default)]
pub(super) struct Typed {
    label: Option<String>,
    fields: BTreeMap<String, String>,
    wrong: Option<Wrong>,
}

/// The page that asks for what is wanted now.
pub(super) async fn show(vault: &Vault, view: &View<'_>, typed: &Typed, source: &Source) -> Result<Answer, Error> {
    let session = &view.opened.session;
    let Some((standing, path)) = key_entry::find(vault, session, source.now).await? else {
        return Ok(page(vault, 410, &Page::Expired(Stale { app: Some(view.app()) })));
    };
    let held = path.grant().and_then(|grant| standing.grant(grant));
    Ok(match (path, held) {
        (Path::FastPath(_), Some(held)) => known(vault, view, &standing, held),
        _ => entry(vault, view, &standing, held, typed, source.now),
    })
}

fn known(vault: &Vault, view: &View<'_>, standing: &Standing, held: &Grant) -> Answer {
    let shown = KeyKnown {
        app: view.app(),
        session: view.session(),
        provider: view.provider(&standing.secret.slug),
        label: held.label.as_deref(),
        own: standing.is_own(held.credential_id),
        since: held.created_at,
        until: held.expires_at,
    };
    page(vault, 200, &Page::KeyKnown(shown))
}

fn entry(
    vault: &Vault,
    view: &View<'_>,
    standing: &Standing,
    replaced: Option<&Grant>,
    typed: &Typed,
    now: TimeMs,
) -> Answer {
    let Standing { secret, template, .. } = standing;
    let session = &view.opened.session;
    let wrong = |name: &str| match &typed.wrong {
        Some(Wrong::Missing(missing)) if missing == name => Some(InputWrong::Missing),
        Some(Wrong::Unfit(unfit)) if unfit == name => Some(InputWrong::Unfit),
        Some(Wrong::Elsewhere) if name == KEY => Some(InputWrong::Elsewhere),
        _ => None,
    };
    let rows: Vec<Row<'_>> = asks(secret, *template).into_iter().map(Row::of).collect();
    let fields: Vec<Input<'_>> = rows
        .iter()
        .map(|row| row.input(typed.fields.get(row.asks.name).map(String::as_str), wrong(row.asks.name)))
        .collect();
    let text = Input {
        name: "label",
        label: None,
        hint: None,
        kind: InputKind::Text,
        required: false,
        choices: &[],
        typed: typed.label.as_deref(),
        wrong: wrong("label"),
    };
    let key = Input {
        name: KEY,
        label: template.map(|template| template.value.as_str()),
        kind: InputKind::Secret,
        required: true,
        typed: None,
        wrong: wrong(KEY),
        ..text
    };
    let hosts: Vec<String> = secret.hosts.iter().map(ToString::to_string).collect();
    let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
    let until = match replaced {
        Some(grant) if !grant.lapsed(now) => grant.expires_at,
        _ => expires_at(session.request.lifetime, now).ok().flatten(),
    };
    let is_named = replaced.is_some() || session.request.label.is_some();
    let step = view.step(&secret.slug);
    let shown = KeyEntry {
        app: view.app(),
        session: view.session(),
        provider: view.provider(&secret.slug),
        again: replaced.is_some(),
        label: (!is_named).then_some(text),
        key,
        fields: &fields,
        hosts: &hosts,
        docs: template.map(|template| template.docs.as_str()),
        until,
        checked: key_entry::is_checked(standing),
        trouble: step.filter(|_| typed.wrong.is_none()).and_then(|step| trouble(step, now)),
    };
    let status = if typed.wrong.is_some() { 422 } else { 200 };
    page(vault, status, &Page::KeyEntry(&shown))
}

/// Something that is asked for, with the texts that its input needs.
struct Row<'t> {
    asks: Asks<'t>,
    name: String,
    label: String,
    choices: Vec<&'t str>,
}

impl<'t> Row<'t> {
    fn of(asks: Asks<'t>) -> Self {
        let label = asks.field.map_or_else(|| asks.name.replace('_', " "), |field| field.label.clone());
        let choices = asks.field.into_iter().flat_map(|field| field.choices.keys()).map(String::as_str).collect();
        Self { name: format!("{FIELD_PREFIX}{}", asks.name), label, choices, asks }
    }

    fn input<'r>(&'r self, typed: Option<&'r str>, wrong: Option<InputWrong>) -> Input<'r> {
        let field = self.asks.field;
        let kind = match field {
            Some(field) if field.form == Form::Choice => InputKind::Choice,
            _ if self.asks.is_secret => InputKind::Secret,
            _ => InputKind::Text,
        };
        let default = field.and_then(|field| field.default.as_deref()).filter(|_| kind == InputKind::Choice);
        Input {
            name: &self.name,
            label: Some(&self.label),
            hint: field.map(|field| field.find.as_str()),
            kind,
            required: self.asks.is_required,
            choices: &self.choices,
            typed: typed.filter(|_| kind != InputKind::Secret).or(default),
            wrong,
        }
    }
}

/// Why the key that was sent last is not kept; none: it is, or none was sent.
fn trouble(step: &Step, now: TimeMs) -> Option<KeyTrouble<'_>> {
    match (&step.outcome, step.state) {
        (Some(Outcome::Failed { why }), _) => Some(match why {
            Why::Refused(status) => KeyTrouble::Refused { status },
            Why::Unreachable => KeyTrouble::Unreachable,
            Why::Full => KeyTrouble::Full,
            Why::Interrupted => KeyTrouble::Interrupted,
            _ => KeyTrouble::Internal,
        }),
        (None, StepState::Exchanging) if step.lease_until.is_some_and(|until| until > now) => {
            Some(KeyTrouble::UnderWay)
        }
        // Whoever looked at it was stopped.
        (None, StepState::Exchanging) => Some(KeyTrouble::Interrupted),
        _ => None,
    }
}

/// `POST /connect/{id}/{key,approve}`. The session's page, if it did not end with it.
pub(super) async fn change(
    vault: &Arc<Vault>,
    view: &View<'_>,
    action: &str,
    form: &[u8],
    source: &Source,
) -> Result<Option<Typed>, Error> {
    let Opened { session, steps, .. } = view.opened;
    let attempts = steps.first().map_or(0, |step| step.attempt);
    let Some((standing, path)) = key_entry::find(vault, session, source.now).await? else { return Ok(None) };
    match (action, path) {
        ("approve", Path::FastPath(_)) => {
            key_entry::approve(vault, session, attempts, source).await?;
            Ok(None)
        }
        ("key", Path::KeyEntry | Path::Repair(_)) => {
            let was_unreachable = steps
                .first()
                .is_some_and(|step| matches!(&step.outcome, Some(Outcome::Failed { why: Why::Unreachable })));
            let entered = entered(form, was_unreachable);
            let mut typed =
                Typed { label: entered.label.clone(), fields: shown_again(&standing, &entered), wrong: None };
            match key_entry::enter(vault, session, attempts, standing, entered, source).await? {
                Took::Tried => {}
                Took::Wrong(wrong) => typed.wrong = Some(wrong),
            }
            Ok(Some(typed))
        }
        // The page is of before: it asks for something else by now.
        ("approve" | "key", _) => Ok(None),
        _ => Err(Code::NotFound.into()),
    }
}

fn entered(form: &[u8], was_unreachable: bool) -> Entered {
    let fields = form_urlencoded::parse(form)
        .filter_map(|(name, value)| Some((name.strip_prefix(FIELD_PREFIX)?.to_owned(), value.into_owned())));
    Entered {
        label: field(form, "label"),
        key: Zeroizing::new(field(form, KEY).unwrap_or_default()),
        fields: fields.collect(),
        is_unchecked: was_unreachable && field(form, "unchecked").is_some(),
    }
}

/// What was typed and is no secret.
fn shown_again(standing: &Standing, entered: &Entered) -> BTreeMap<String, String> {
    let asked = asks(&standing.secret, standing.template);
    let is_open = |name: &str| asked.iter().any(|asks| asks.name == name && !asks.is_secret);
    entered.fields.iter().filter(|(name, _)| is_open(name)).map(|(n, v)| (n.clone(), v.clone())).collect()
}

/// As the session stands after a change.
pub(super) async fn again(vault: &Vault, opened: &Opened) -> Result<Option<Opened>, Error> {
    let Some(browser_hash) = opened.session.browser_hash else { return Ok(None) };
    connect::find(vault, opened.session.id, browser_hash).await
}
