//! Erasing what events say of people.

use grantd_domain::audit::{Kind, Owner};
use grantd_domain::grant::check_text;
use grantd_store::audit::{self, EventFilter};
use grantd_store::{Tx, append_event, erasure, retention};
use grantd_wire::api::{Erase, Erased, EventsQuery};
use grantd_wire::ids::EventId;
use grantd_wire::{Code, Error, limits};
use serde_json::{Map, Value};

use super::Request;
use super::audit::{index, search};
use crate::answer::{Answer, json as answer, of_store};
use crate::parse;
use crate::vault::Vault;

/// Events of one write.
const EVENTS_PER_WRITE: i64 = 100;

/// Which events, as they are looked for.
enum Which {
    One(EventId),
    Found(EventFilter),
}

pub async fn erase(vault: &Vault, request: &Request, owner: Owner) -> Result<Answer, Error> {
    let ask: Erase = parse::json(&request.body)?;
    check_text("reason", &ask.reason, limits::REASON_CHARS_MAX)?;
    let by = by(&ask);
    let mut which = which(vault, request, owner, &ask).await?;
    // Terms that are stored later would bring back what is erased here.
    vault.store.catch_up(owner).await.map_err(of_store)?;
    let mut erased = 0;
    loop {
        let (events, next) = find(vault, owner, &which).await?;
        let event = request.event(vault, owner, Kind::AuditErased).core("by", Value::Object(by.clone()));
        let event = event.private("reason", Some(ask.reason.clone()));
        erased += vault
            .store
            .write(move |tx| {
                if let Owner::App(app) = owner {
                    retention::check_not_held(tx, app)?;
                }
                let erased = erasure::erase(tx, &owner, &events)?;
                if erased > 0 {
                    append_event(tx, &event.clone().core("erased", erased).prepare())?;
                }
                Ok(erased)
            })
            .await
            .map_err(of_store)?;
        match (&mut which, next) {
            (Which::Found(filter), Some(next)) if erased < limits::ERASED_EVENTS_MAX => filter.before = Some(next),
            (_, next) => return Ok(answer(200, &Erased { erased, has_more: next.is_some() })),
        }
    }
}

/// What it is told by: ids, and of a context the names of its keys. A value could be what is to be forgotten.
fn by(ask: &Erase) -> Map<String, Value> {
    let Erase { event, grant, user, agent, key, context, reason: _ } = ask;
    let keys = |pairs: &String| {
        pairs.split('\n').filter_map(|pair| Some(pair.split_once('=')?.0)).collect::<Vec<_>>().join(",")
    };
    let fields = [
        ("event", event.clone()),
        ("grant", grant.clone()),
        ("user", user.clone()),
        ("agent", agent.clone()),
        ("key", key.clone()),
        ("context", context.as_ref().map(keys)),
    ];
    fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), Value::from(value?)))).collect()
}

async fn which(vault: &Vault, request: &Request, owner: Owner, ask: &Erase) -> Result<Which, Error> {
    let Erase { event, grant, user, agent, key, context, reason: _ } = ask.clone();
    let filters = [&grant, &user, &agent, &key, &context].iter().filter(|filter| filter.is_some()).count();
    match (event, filters) {
        (Some(event), 0) => {
            let missing = || {
                Error::new(Code::NotFound)
                    .message("There is no such event here.")
                    .hint("`grantd audit list` shows the events of this app; those of the organization are shown with --organization.")
            };
            let event = EventId::parse(&event).ok_or_else(missing)?;
            let found = vault.store.read(move |tx| audit::find(tx, &owner, event)).await.map_err(of_store)?;
            found.map(|event| Which::One(event.id)).ok_or_else(missing)
        }
        (None, 1..) => {
            let query = EventsQuery { grant, user, agent, key, context, ..EventsQuery::default() };
            let found = search(&query, &index(vault, request, owner).await?)?;
            if !found.scanned.is_empty() {
                return Err(Error::invalid("context", "events are erased by indexed context keys only")
                    .hint("`grantd apps update --index KEY` indexes one from now on; earlier events are erased one by one, by `event`."));
            }
            Ok(Which::Found(EventFilter { limit: EVENTS_PER_WRITE, ..found.filter }))
        }
        _ => Err(Error::invalid("event", "must stand alone, or one of grant, user, agent, key and context be there")),
    }
}

/// The next events that have a private part, and where to go on.
async fn find(vault: &Vault, owner: Owner, which: &Which) -> Result<(Vec<EventId>, Option<EventId>), Error> {
    let filter = match which {
        Which::One(event) => return Ok((vec![*event], None)),
        Which::Found(filter) => filter.clone(),
    };
    let found = vault.store.read(move |tx: &mut Tx<'_>| audit::list(tx, &owner, &filter)).await.map_err(of_store)?;
    let private = found.events.into_iter().filter(|event| event.private.is_some());
    Ok((private.map(|event| event.id).collect(), found.next))
}
