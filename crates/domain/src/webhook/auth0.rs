//! Auth0: event streams (CloudEvents, one in a body), and log streams (records of the tenant's log, in any of their formats).

use serde_json::Value;

use super::{Change, Malformed, Told, bounded, json, text, time};

/// Where the management API changes a user.
const USERS: &str = "/api/v2/users/";

pub fn read(body: &[u8]) -> Result<Vec<Told>, Malformed> {
    let records = match json(body) {
        Ok(Value::Array(records)) => records,
        Ok(one) => match one.pointer("/logs").and_then(Value::as_array) {
            Some(records) => records.clone(),
            None => vec![one],
        },
        // JSON lines.
        Err(wrong) => {
            let lines = body.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
            let records: Result<Vec<Value>, _> = lines.map(json).collect();
            records.ok().filter(|records| records.len() > 1).ok_or(wrong)?
        }
    };
    Ok(bounded(&records)?.iter().filter_map(told).collect())
}

fn told(record: &Value) -> Option<Told> {
    if record.get("specversion").is_some() || record.get("spec_version").is_some() {
        return of_stream(record);
    }
    // A record stands under `data`, or by itself.
    let log = record.get("data").filter(|data| data.is_object()).unwrap_or(record);
    let id = text(record, "/log_id").or_else(|| text(log, "/log_id")).or_else(|| text(log, "/_id"))?;
    let (subject, change) = match text(log, "/type")? {
        "sdu" => (text(log, "/user_id")?.to_owned(), Change::Deleted),
        "sapi" => of_management(log)?,
        _ => return None,
    };
    Some(Told { id: id.to_owned(), at: time(log, "/date")?, subject, change })
}

fn of_stream(event: &Value) -> Option<Told> {
    let kind = text(event, "/type")?;
    let change = match kind.strip_prefix("com.auth0.").unwrap_or(kind) {
        "user.deleted" => Change::Deleted,
        "user.updated" => blocked(event.pointer("/data/object/blocked"))?,
        _ => return None,
    };
    let subject = text(event, "/data/object/user_id")?.to_owned();
    Some(Told { id: text(event, "/id")?.to_owned(), at: time(event, "/time")?, subject, change })
}

/// Without the field nothing is said of it.
fn blocked(field: Option<&Value>) -> Option<Change> {
    Some(if field?.as_bool()? { Change::Blocked } else { Change::Unblocked })
}

/// A call of the management API. `user_id` is there the administrator's: the path says who was changed.
fn of_management(log: &Value) -> Option<(String, Change)> {
    let request = log.pointer("/details/request")?;
    let status = log.pointer("/details/response/statusCode").and_then(Value::as_i64)?;
    let segment = text(request, "/path")?.strip_prefix(USERS)?;
    let subject = percent_decoded(segment)?;
    if !(200..300).contains(&status) {
        return None;
    }
    let change = match text(request, "/method")?.to_ascii_lowercase().as_str() {
        "delete" => Change::Deleted,
        "patch" => blocked(request.pointer("/body/blocked"))?,
        _ => return None,
    };
    Some((subject, change))
}

/// One segment of a path; anything below it is of something else than the user.
fn percent_decoded(segment: &str) -> Option<String> {
    if segment.is_empty() || segment.contains(['/', '?', '#']) {
        return None;
    }
    percent_encoding::percent_decode_str(segment).decode_utf8().ok().map(std::borrow::Cow::into_owned)
}
