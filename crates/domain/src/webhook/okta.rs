//! Okta: event hooks, several events in a body.

use serde_json::Value;

use super::{Change, Malformed, SubjectFrom, Told, bounded, json, text, time};

pub fn read(body: &[u8], subject_from: SubjectFrom) -> Result<Vec<Told>, Malformed> {
    let delivery = json(body)?;
    let events = delivery.pointer("/data/events").and_then(Value::as_array);
    let events = events.ok_or(Malformed("The body has no `data.events`. Send event hooks here, and nothing else."))?;
    Ok(bounded(events)?.iter().filter_map(|event| told(event, subject_from)).collect())
}

fn told(event: &Value, subject_from: SubjectFrom) -> Option<Told> {
    let change = match text(event, "/eventType")? {
        "user.lifecycle.suspend" | "user.lifecycle.deactivate" => Change::Blocked,
        "user.lifecycle.unsuspend" | "user.lifecycle.activate" | "user.lifecycle.reactivate" => Change::Unblocked,
        "user.lifecycle.delete.initiated" | "user.lifecycle.delete.completed" => Change::Deleted,
        _ => return None,
    };
    // What was tried, and did not happen.
    if text(event, "/outcome/result").is_some_and(|result| result != "SUCCESS") {
        return None;
    }
    let targets = event.get("target")?.as_array()?;
    let user = targets.iter().find(|target| text(target, "/type") == Some("User"))?;
    let subject = match subject_from {
        SubjectFrom::Id => text(user, "/id")?,
        SubjectFrom::Login => text(user, "/alternateId")?,
    };
    let id = text(event, "/uuid")?.to_owned();
    Some(Told { id, at: time(event, "/published")?, subject: subject.to_owned(), change })
}
