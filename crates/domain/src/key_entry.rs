//! A user's own key for a managed secret: whether there is one to use, to replace, or to ask for, and what is asked.
//!
//! Invariant: a user has one living key of their own for a secret, and it may only go where the secret may.

use std::collections::BTreeMap;

use grantd_wire::TimeMs;
use grantd_wire::ids::{GrantId, SecretId, UserId};
use serde::{Deserialize, Serialize};

use crate::credential::SecretValue;
use crate::destination::Rules;
use crate::grant::{Credential, CredentialState, Grant, GrantStatus, ManagedSecret, Principal};
use crate::inject::{self, FIELD_SOURCE, Plan};
use crate::template::{Field, Template};

/// What a session was asked with.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, Serialize)]
pub struct AskedKey {
    pub secret_id: SecretId,
    /// The grant whose key is replaced.
    pub repair: Option<GrantId>,
}

/// A grant on the secret that is the user's, or of a group of theirs.
#[derive(Clone, Copy)]
pub struct Held<'a> {
    pub grant: &'a Grant,
    pub credential: &'a Credential,
}

impl Held<'_> {
    /// Whether it stands on a key that this user entered.
    pub fn is_own(&self, user: UserId) -> bool {
        self.grant.principal == Principal::User(user) && self.credential.user_id == Some(user)
    }

    fn is_usable(&self, now: TimeMs) -> bool {
        let is_ok = matches!(self.credential.state, CredentialState::Ok { .. });
        is_ok && self.grant.status == GrantStatus::Active && !self.grant.lapsed(now)
    }
}

/// What the user is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Path {
    /// Whether the app may use what they hold.
    FastPath(GrantId),
    /// A key.
    KeyEntry,
    /// Another key, in place of the one behind this grant.
    Repair(GrantId),
}

impl Path {
    /// The text of the protocol.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FastPath(_) => "fast_path",
            Self::KeyEntry => "key_entry",
            Self::Repair(_) => "repair",
        }
    }

    /// Whether this can be asked for the secret: a user's key has a place to go to, and no other.
    pub fn is_possible(self, secret: &ManagedSecret) -> bool {
        !secret.any_host || matches!(self, Self::FastPath(_))
    }

    /// The grant that it is about.
    pub const fn grant(self) -> Option<GrantId> {
        match self {
            Self::FastPath(grant) | Self::Repair(grant) => Some(grant),
            Self::KeyEntry => None,
        }
    }
}

/// What to ask the user for. `held`: newest first. `None`: what was to be replaced is no key of the user's own.
pub fn decide(
    held: &[Held<'_>],
    repair: Option<GrantId>,
    label: Option<&str>,
    user: UserId,
    now: TimeMs,
) -> Option<Path> {
    // A lapsed grant can be mended; a revoked one cannot, its key is gone.
    let own = |held: &&Held<'_>| held.is_own(user) && held.grant.status == GrantStatus::Active;
    if let Some(repair) = repair {
        let found = held.iter().filter(own).find(|held| held.grant.id == repair);
        return found.map(|held| Path::Repair(held.grant.id));
    }
    let usable = || held.iter().filter(|held| held.is_usable(now));
    let labelled = usable().find(|held| label.is_some() && held.grant.label.as_deref() == label);
    if let Some(held) = labelled.or_else(|| usable().next()) {
        return Some(Path::FastPath(held.grant.id));
    }
    Some(held.iter().find(own).map_or(Path::KeyEntry, |held| Path::Repair(held.grant.id)))
}

/// Something that is asked for beside the key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Asks<'t> {
    pub name: &'t str,
    pub is_required: bool,
    /// It is a secret itself. What is not known to be none, is.
    pub is_secret: bool,
    /// What the template says of it.
    pub field: Option<&'t Field>,
}

/// What is asked for beside the key: fields that are sent along with it. Those that only fix hosts are the operator's to say.
pub fn asks<'t>(secret: &'t ManagedSecret, template: Option<&'t Template>) -> Vec<Asks<'t>> {
    let injected =
        |name: &str| secret.injections.iter().any(|sent| sent.value_source.strip_prefix(FIELD_SOURCE) == Some(name));
    let known = template.into_iter().flat_map(Template::fields_of_key).map(|field| Asks {
        name: &field.name,
        is_required: field.required || injected(&field.name) && field.default.is_none(),
        is_secret: field.secret,
        field: Some(field),
    });
    let is_unknown = |name: &&String| template.is_none_or(|template| template.field(name).is_none());
    let others = secret.field_names.iter().filter(is_unknown);
    let others = others.map(|name| Asks { name, is_required: true, is_secret: true, field: None });
    known.chain(others).collect()
}

/// What was entered, and cannot be a key of this secret.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Wrong {
    /// Nothing was entered there.
    Missing(String),
    /// What was entered there is of another form.
    Unfit(String),
    /// It is for a host that the secret may not go to.
    Elsewhere,
}

/// The name under which the key itself is entered.
pub const KEY: &str = "key";

/// Makes a value of what was entered, that can be sent as the secret is. `shared`: the app's own, for the fields that only fix hosts.
pub fn value(
    secret: &ManagedSecret,
    template: Option<&Template>,
    shared: Option<&SecretValue>,
    key: &str,
    entered: &BTreeMap<String, String>,
) -> Result<SecretValue, Wrong> {
    let key = key.trim();
    if key.is_empty() {
        return Err(Wrong::Missing(KEY.to_owned()));
    }
    let mut fields = BTreeMap::new();
    for asked in asks(secret, template) {
        match entered.get(asked.name).map(|text| text.trim()).filter(|text| !text.is_empty()) {
            Some(text) => drop(fields.insert(asked.name.to_owned(), text.to_owned())),
            None if asked.is_required => return Err(Wrong::Missing(asked.name.to_owned())),
            None => {}
        }
    }
    let mut value = SecretValue::new(key.to_owned(), fields);
    let hosts = Rules(secret.hosts.clone());
    if let Some(template) = template {
        let (key, fields) = value.parts_mut();
        let shared = shared.map(|shared| (shared.value(), shared.fields()));
        template.refill(key, fields, shared, &hosts).map_err(|e| unfit(&e))?;
        if !template.is_for(key, fields, &hosts) {
            return Err(Wrong::Elsewhere);
        }
    }
    let plan =
        Plan { header: secret.header.clone(), format: secret.format.clone(), injections: secret.injections.clone() };
    let check = || {
        inject::check_values(secret.credential_type, &plan, value.value(), value.fields())?;
        let names: Vec<&str> = value.fields().keys().map(String::as_str).collect();
        inject::check_signable(secret.credential_type, &names, &secret.hosts, secret.any_host)
    };
    check().map_err(|e| unfit(&e))?;
    Ok(value)
}

/// Which of them the error is about.
fn unfit(error: &grantd_wire::Error) -> Wrong {
    let named = error.details.get("field").and_then(serde_json::Value::as_str);
    Wrong::Unfit(named.and_then(|named| named.strip_prefix("fields.")).unwrap_or(KEY).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grant::{CredentialOf, Tenant};
    use crate::template;
    use grantd_wire::api::CredentialType;
    use grantd_wire::ids::{AppId, CredentialId, DataKeyId, GenerationId, GroupId, uuid_v7};
    use grantd_wire::sdk::{Injection, InjectionTarget};

    const NOW: TimeMs = TimeMs(1_000_000);

    fn user(n: i64) -> UserId {
        UserId::from_uuid(uuid_v7(n, [1; 10]))
    }

    fn grant(n: i64, principal: Principal, label: Option<&str>, expires_at: Option<TimeMs>) -> Grant {
        Grant {
            id: GrantId::from_uuid(uuid_v7(n, [2; 10])),
            app_id: AppId::from_uuid(uuid_v7(1, [3; 10])),
            credential_id: CredentialId::from_uuid(uuid_v7(n, [4; 10])),
            principal,
            label: label.map(str::to_owned),
            status: GrantStatus::Active,
            tenant: Tenant::Exempt,
            expires_at,
            created_at: TimeMs(n),
            last_used_at: None,
            version: 1,
        }
    }

    fn credential(grant: &Grant, of_user: Option<UserId>) -> Credential {
        Credential {
            id: grant.credential_id,
            app_id: grant.app_id,
            of: CredentialOf::Secret(SecretId::from_uuid(uuid_v7(1, [5; 10]))),
            user_id: of_user,
            generation: GenerationId::from_uuid(uuid_v7(1, [6; 10])),
            version: 1,
            state: CredentialState::Ok { data_key_id: DataKeyId::from_uuid(uuid_v7(1, [7; 10])), sealed: vec![1] },
            updated_at: NOW,
        }
    }

    #[test]
    fn what_a_user_holds_decides_what_they_are_asked() {
        let (ann, bob) = (user(1), user(2));
        let (of_ann, of_bob) = (Principal::User(ann), Principal::User(bob));
        let group = Principal::Group(GroupId::from_uuid(uuid_v7(1, [8; 10])));
        let own = (grant(1, of_ann, Some("mine"), None), Some(ann));
        let given = (grant(2, of_ann, Some("given"), None), None);
        let shared = (grant(3, group, None, None), None);
        let lapsed = (grant(4, of_ann, None, Some(NOW)), Some(ann));
        let lapsed_given = (grant(5, of_ann, None, Some(NOW)), None);
        let foreign = (grant(6, of_bob, None, None), Some(bob));
        let mut revoked = own.clone();
        revoked.0.status = GrantStatus::Revoked { at: NOW, reason: None };
        let id = |of: &(Grant, Option<UserId>)| of.0.id;
        let fast = |of: &(Grant, Option<UserId>)| Some(Path::FastPath(of.0.id));
        let mend = |of: &(Grant, Option<UserId>)| Some(Path::Repair(of.0.id));
        for (held, repair, label, expected) in [
            (vec![], None, None, Some(Path::KeyEntry)),
            (vec![&own], None, None, fast(&own)),
            // The newest, unless a label says which; one that nothing has makes none.
            (vec![&shared, &given, &own], None, None, fast(&shared)),
            (vec![&shared, &given, &own], None, Some("mine"), fast(&own)),
            (vec![&shared, &given, &own], None, Some("other"), fast(&shared)),
            // Nothing usable, and the key is there: it is replaced, for there can be no second one.
            (vec![&lapsed], None, None, mend(&lapsed)),
            (vec![&given, &lapsed], None, None, fast(&given)),
            (vec![&lapsed_given], None, None, Some(Path::KeyEntry)),
            (vec![&revoked], None, None, Some(Path::KeyEntry)),
            // Only a key of the user's own is mended, and only one that is there.
            (vec![&given, &own], Some(id(&own)), None, mend(&own)),
            (vec![&lapsed], Some(id(&lapsed)), None, mend(&lapsed)),
            (vec![&given, &own], Some(id(&given)), None, None),
            (vec![&foreign], Some(id(&foreign)), None, None),
            (vec![&revoked], Some(id(&revoked)), None, None),
            (vec![], Some(id(&own)), None, None),
        ] {
            let credentials: Vec<Credential> = held.iter().map(|(grant, of)| credential(grant, *of)).collect();
            let held: Vec<Held<'_>> =
                held.iter().zip(&credentials).map(|((grant, _), credential)| Held { grant, credential }).collect();
            assert_eq!(decide(&held, repair, label, ann, NOW), expected, "{repair:?} {label:?}");
        }
        // A value that cannot be opened any more is as good as none.
        let broken =
            Credential { state: CredentialState::Broken(crate::grant::Broken::Lost), ..credential(&own.0, Some(ann)) };
        let held = [Held { grant: &own.0, credential: &broken }];
        assert_eq!(decide(&held, None, None, ann, NOW), mend(&own));
    }

    fn secret(hosts: &[&str], fields: &[&str]) -> ManagedSecret {
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        ManagedSecret {
            id: SecretId::from_uuid(uuid_v7(1, [5; 10])),
            app_id: AppId::from_uuid(uuid_v7(1, [3; 10])),
            slug: "s".to_owned(),
            name: "S".to_owned(),
            credential_type: CredentialType::HeaderKey,
            header: "X-Key".to_owned(),
            format: "{token}".to_owned(),
            injections: fields
                .iter()
                .map(|field| Injection {
                    target: InjectionTarget::Header,
                    key: format!("X-{field}"),
                    value_source: format!("{FIELD_SOURCE}{field}"),
                })
                .collect(),
            field_names: fields.iter().map(|field| (*field).to_owned()).collect(),
            hosts: Rules::parse_all(&hosts).unwrap().0,
            any_host: false,
            created_at: NOW,
            version: 1,
        }
    }

    fn entered(fields: &[(&str, &str)]) -> BTreeMap<String, String> {
        fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_secret_of_no_template_asks_for_all_that_it_sends() {
        let secret = secret(&["api.example.com"], &["account"]);
        let asked = asks(&secret, None);
        assert_eq!((asked[0].name, asked[0].is_required, asked[0].is_secret), ("account", true, true));
        let of = |key: &str, fields: &[(&str, &str)]| value(&secret, None, None, key, &entered(fields));
        let made = of(" canary\n", &[("account", " a "), ("else", "x")]).unwrap();
        assert_eq!((made.value(), made.fields()), ("canary", &entered(&[("account", "a")])));
        assert_eq!(of("  ", &[("account", "a")]).unwrap_err(), Wrong::Missing("key".to_owned()));
        assert_eq!(of("k", &[("account", " ")]).unwrap_err(), Wrong::Missing("account".to_owned()));
        assert_eq!(of("k\u{1}k", &[("account", "a")]).unwrap_err(), Wrong::Unfit("key".to_owned()));
        assert_eq!(of("k", &[("account", "a\r\nb")]).unwrap_err(), Wrong::Unfit("account".to_owned()));
    }

    #[test]
    fn no_key_is_asked_for_that_could_go_anywhere() {
        let grant = GrantId::from_uuid(uuid_v7(1, [2; 10]));
        let bound = secret(&["api.example.com"], &[]);
        let anywhere = ManagedSecret { any_host: true, ..bound.clone() };
        for (path, is_possible) in
            [(Path::FastPath(grant), true), (Path::KeyEntry, false), (Path::Repair(grant), false)]
        {
            assert!(path.is_possible(&bound));
            assert_eq!(path.is_possible(&anywhere), is_possible);
        }
    }

    #[test]
    fn what_fixes_hosts_is_the_operators_to_say() {
        let gitlab = template::find("gitlab").unwrap();
        let secret = secret(&["git.example.com"], &[]);
        assert_eq!(asks(&secret, Some(gitlab)), []);
        let shared = SecretValue::new("app".to_owned(), entered(&[("host", "git.example.com")]));
        let said = entered(&[("host", "evil.example.com")]);
        let made = value(&secret, Some(gitlab), Some(&shared), "canary", &said).unwrap();
        assert_eq!(made.fields()["host"], "git.example.com");
        assert!(gitlab.has_fields_of_hosts() && !template::find("deepgram").unwrap().has_fields_of_hosts());
    }

    #[test]
    fn a_key_that_names_its_host_is_for_that_host() {
        let neon = template::find("neon-sql").unwrap();
        let key = "postgresql://u:canary@ep-1.eu.aws.neon.tech/db";
        let mut found = BTreeMap::new();
        for hosts in [&["ep-1.eu.aws.neon.tech", "api.eu.aws.neon.tech"][..], &["api.other.example.com"]] {
            let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
            found.insert(hosts.len(), neon.is_for(key, &BTreeMap::new(), &Rules::parse_all(&hosts).unwrap()));
        }
        assert_eq!(found, BTreeMap::from([(1, false), (2, true)]));
        assert!(!neon.is_for("no address", &BTreeMap::new(), &Rules::default()));
    }
}
