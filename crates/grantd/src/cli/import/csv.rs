//! Tables of secrets.

use std::collections::BTreeSet;

use grantd_wire::api::CredentialType;
use serde_json::Value;
use zeroize::Zeroizing;

use super::super::input::parse_host;
use super::{Failure, Found};

const COLUMNS: [&str; 7] = ["name", "value", "template", "credential_type", "header", "format", "allowed_hosts"];
/// Begins the name of a column of further values.
const FIELD: &str = "field.";

/// A secret for each row.
pub fn read(text: &Zeroizing<String>) -> Result<Vec<Found>, Failure> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::Headers).from_reader(text.as_bytes());
    // The parser's own words would repeat the row.
    let unreadable = |row: usize| {
        Failure::usage(format!("row {row} is no row of this table")).hint("Each has as many cells as the first one.")
    };
    let headers: Vec<String> = reader.headers().map_err(|_| unreadable(1))?.iter().map(str::to_owned).collect();
    check(&headers)?;
    let mut found = Vec::new();
    for (n, record) in reader.records().enumerate() {
        let row = n + 2;
        let record = record.map_err(|_| unreadable(row))?;
        let mut one = Found { from: format!("row {row}"), ..Found::default() };
        for (header, cell) in headers.iter().zip(record.iter()).filter(|(_, cell)| !cell.is_empty()) {
            put(&mut one, header, cell);
        }
        found.push(one);
    }
    Ok(found)
}

fn check(headers: &[String]) -> Result<(), Failure> {
    let known = |header: &String| {
        COLUMNS.contains(&&**header) || header.strip_prefix(FIELD).is_some_and(|name| !name.is_empty())
    };
    if let Some(unknown) = headers.iter().find(|header| !known(header)) {
        let message = format!("there is no column `{unknown}`: there are {} and field.NAME", COLUMNS.join(", "));
        return Err(Failure::usage(message).hint("The first row of the file names the columns."));
    }
    if let Some(missing) = ["name", "value"].iter().find(|name| !headers.iter().any(|header| header == **name)) {
        return Err(Failure::usage(format!("the column `{missing}` is missing"))
            .hint("The first row of the file names the columns."));
    }
    if headers.iter().collect::<BTreeSet<_>>().len() < headers.len() {
        return Err(Failure::usage("a column is there twice").hint("The first row of the file names each column once."));
    }
    Ok(())
}

fn put(found: &mut Found, header: &str, cell: &str) {
    let text = || Some(cell.to_owned());
    match header {
        "name" => cell.clone_into(&mut found.name),
        "value" => found.value = Zeroizing::new(cell.to_owned()),
        "template" => found.template = text(),
        "header" => found.header = text(),
        "format" => found.format = text(),
        "credential_type" => match serde_json::from_value::<CredentialType>(Value::from(cell)) {
            Ok(credential_type) => found.credential_type = Some(credential_type),
            Err(_) => {
                found.refused =
                    Some("credential_type is bearer_token, header_key, basic_auth or aws_sig_v4".to_owned());
            }
        },
        "allowed_hosts" => match cell.split_whitespace().map(parse_host).collect() {
            Ok(hosts) => found.allowed_hosts = hosts,
            Err(why) => found.refused = Some(format!("allowed_hosts: {why}")),
        },
        field => {
            let name = field.strip_prefix(FIELD).unwrap_or(field).to_owned();
            found.fields.insert(name, Zeroizing::new(cell.to_owned()));
        }
    }
}
