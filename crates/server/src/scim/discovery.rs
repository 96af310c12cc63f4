//! What grantd tells of itself: RFC 7643, 5 to 7.

use grantd_domain::scim::schema::{self, GROUP_ATTRIBUTES, USER_ATTRIBUTES, describe};
use grantd_wire::{Error, limits};
use serde_json::{Value, json};

use super::{Call, Window, missing, page, scim};
use crate::answer::Answer;

/// `/ServiceProviderConfig`.
pub fn config(base: &str) -> Value {
    let no = json!({"supported": false});
    json!({
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:ServiceProviderConfig"],
        "patch": {"supported": true},
        "bulk": {"supported": false, "maxOperations": 0, "maxPayloadSize": 0},
        "filter": {"supported": true, "maxResults": limits::SCIM_PAGE_MAX},
        "changePassword": no,
        "sort": no,
        "etag": no,
        "authenticationSchemes": [{
            "type": "oauthbearertoken",
            "name": "Bearer token",
            "description": "The token that `grantd idp scim enable` prints, in the Authorization header.",
            "specUri": "https://www.rfc-editor.org/rfc/rfc6750",
            "primary": true,
        }],
        "meta": {"resourceType": "ServiceProviderConfig", "location": format!("{base}/ServiceProviderConfig")},
    })
}

/// `/ResourceTypes`, and one of them.
pub fn resource_types(call: &Call, one: Option<&str>) -> Result<Answer, Error> {
    let all =
        [("User", "/Users", schema::USER, "Users of the app"), ("Group", "/Groups", schema::GROUP, "Groups of users")];
    let all = all.map(|(name, endpoint, schema, description)| {
        json!({
            "schemas": ["urn:ietf:params:scim:schemas:core:2.0:ResourceType"],
            "id": name,
            "name": name,
            "description": description,
            "endpoint": endpoint,
            "schema": schema,
            "meta": {"resourceType": "ResourceType", "location": format!("{}/ResourceTypes/{name}", call.base)},
        })
    });
    chosen(&all, one)
}

/// `/Schemas`, and one of them.
pub fn schemas(call: &Call, one: Option<&str>) -> Result<Answer, Error> {
    let all = [("User", schema::USER, USER_ATTRIBUTES), ("Group", schema::GROUP, GROUP_ATTRIBUTES)];
    let all = all.map(|(name, urn, attributes)| {
        json!({
            "schemas": ["urn:ietf:params:scim:schemas:core:2.0:Schema"],
            "id": urn,
            "name": name,
            "description": format!("What grantd keeps of a {}.", name.to_lowercase()),
            "attributes": describe(attributes),
            "meta": {"resourceType": "Schema", "location": format!("{}/Schemas/{urn}", call.base)},
        })
    });
    chosen(&all, one)
}

fn chosen(all: &[Value], one: Option<&str>) -> Result<Answer, Error> {
    match one {
        None => {
            let total = i64::try_from(all.len()).unwrap_or(i64::MAX);
            Ok(page(all, total, Window { offset: 0, limit: total }))
        }
        Some(id) => all.iter().find(|told| told["id"] == id).map(|told| scim(200, told)).ok_or_else(missing),
    }
}
