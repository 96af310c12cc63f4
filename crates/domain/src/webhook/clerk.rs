//! Clerk: one event in a signed message.

use grantd_wire::TimeMs;
use serde_json::Value;

use super::{Change, Malformed, Message, Told, json, text};

pub fn read(body: &[u8], message: &Message<'_>) -> Result<Vec<Told>, Malformed> {
    let event = json(body)?;
    Ok(told(&event, message).into_iter().collect())
}

fn told(event: &Value, message: &Message<'_>) -> Option<Told> {
    let change = match text(event, "/type")? {
        "user.deleted" => Change::Deleted,
        // `locked` is a pause after wrong passwords, and ends by itself.
        "user.updated" | "user.created" => match event.pointer("/data/banned").and_then(Value::as_bool)? {
            true => Change::Blocked,
            false => Change::Unblocked,
        },
        _ => return None,
    };
    let at = event.get("timestamp").and_then(Value::as_i64).map_or(message.at, TimeMs);
    Some(Told { id: message.id.to_owned(), at, subject: text(event, "/data/id")?.to_owned(), change })
}
