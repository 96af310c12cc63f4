//! The forms that Okta and Entra ID document are marked so.

use serde_json::{Map, Value, json};

use super::filter::Filter;
use super::group::{Change, Group, changes};
use super::path::{GROUP, USER};
use super::user::{Deactivation, Meaning, SubjectFrom, User, meanings, project};
use super::*;

fn map(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        other => panic!("not an object: {other}"),
    }
}

fn ada() -> User {
    let body = json!({
        "schemas": [schema::USER, "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"],
        "id": "chosen by the caller", "meta": {"created": "2020-01-01T00:00:00Z"},
        "userName": "Ada@Example.com", "externalId": "00uAda",
        "name": {"givenName": "Ada", "familyName": "Lovelace", "honorificPrefix": "Countess"},
        "emails": [{"value": "ada@example.com", "type": "work", "primary": true}, {"value": "ada@home.example", "type": "home"}],
        "groups": [{"value": "admins"}], "phoneNumbers": [{"value": "+44"}],
        "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User": {"department": "Engines"},
    });
    User::parse(&map(body)).expect("a user")
}

fn patched(user: &User, operations: Value) -> Result<User, Refused> {
    let schemas = json!(["urn:ietf:params:scim:api:messages:2.0:PatchOp"]);
    user.changed(&Map::from_iter([("schemas".to_owned(), schemas), ("Operations".to_owned(), operations)]))
}

fn get(user: &User, pointer: &str) -> Value {
    Value::Object(user.document().clone()).pointer(pointer).cloned().unwrap_or(Value::Null)
}

fn holds(filter: &str) -> bool {
    Filter::parse(USER, filter).unwrap_or_else(|e| panic!("{filter}: {e}")).holds(ada().document())
}

#[test]
fn a_document_keeps_what_is_in_the_table_and_nothing_else() {
    let user = ada();
    let names: Vec<_> = user.document().keys().map(String::as_str).collect();
    assert_eq!(names, ["active", "emails", "externalId", "name", "userName"]);
    assert_eq!(get(&user, "/name"), json!({"givenName": "Ada", "familyName": "Lovelace"}));
    assert!(user.is_active());
    assert_eq!((user.email(), user.name().as_deref()), (Some("ada@example.com"), Some("Ada Lovelace")));
    assert_eq!(User::stored(&user.text()), Some(user));
}

#[test]
fn names_of_attributes_are_the_same_in_any_case_and_stand_once() {
    let user = User::parse(&map(json!({"USERNAME": "u", "Active": "FALSE", "displayname": "U"}))).unwrap();
    assert_eq!((user.user_name(), user.is_active(), user.name().as_deref()), ("u", false, Some("U")));
    let twice = User::parse(&map(json!({"userName": "u", "username": "v"}))).unwrap_err();
    assert_eq!(twice.wrong, Wrong::InvalidSyntax);
}

#[test]
fn a_user_has_a_name_and_values_are_of_their_kind_and_bounded() {
    let refused = |body: Value| User::parse(&map(body)).unwrap_err();
    for body in [
        json!({}),
        json!({"userName": ""}),
        json!({"userName": "  "}),
        json!({"userName": null}),
        json!({"userName": 7}),
        json!({"userName": ["u"]}),
        json!({"userName": "a\nb"}),
        json!({"userName": "u", "active": "maybe"}),
        json!({"userName": "u", "active": 0}),
        json!({"userName": "u", "name": "N"}),
        json!({"userName": "u", "emails": ["a@b"]}),
        json!({"userName": "u", "emails": [{"value": "a", "primary": true}, {"value": "b", "primary": true}]}),
    ] {
        assert_eq!(refused(body.clone()).wrong, Wrong::InvalidValue, "{body}");
    }
    let named = |n: usize| User::parse(&map(json!({"userName": "é".repeat(n)})));
    assert!(named(TEXT_CHARS_MAX).is_ok() && named(TEXT_CHARS_MAX + 1).is_err());
    let with = |n: usize| {
        let emails: Vec<_> = (0..n).map(|i| json!({"value": format!("{i}@example.com")})).collect();
        User::parse(&map(json!({"userName": "u", "emails": emails})))
    };
    assert!(with(VALUES_MAX).is_ok());
    assert_eq!(with(VALUES_MAX + 1).unwrap_err().wrong, Wrong::TooMany);
    let canary = refused(json!({"userName": "canary\n"}));
    assert!(!canary.detail.contains("canary"), "{canary}");
}

#[test]
fn a_document_that_does_not_say_active_lets_nobody_in_again() {
    let off = patched(&ada(), json!([{"op": "replace", "path": "active", "value": false}])).unwrap();
    assert!(!off.replaced(&map(json!({"userName": "ada"}))).unwrap().is_active());
    assert!(ada().replaced(&map(json!({"userName": "ada"}))).unwrap().is_active());
    assert!(off.replaced(&map(json!({"userName": "ada", "active": true}))).unwrap().is_active());
    assert!(!patched(&ada(), json!([{"op": "remove", "path": "active"}])).unwrap().is_active());
}

#[test]
fn filters_hold_as_the_rfc_says() {
    for yes in [
        r#"userName eq "ada@example.com""#,
        r#"USERNAME EQ "ADA@EXAMPLE.COM""#,
        r#"urn:ietf:params:scim:schemas:core:2.0:User:userName sw "ADA""#,
        r#"externalId eq "00uAda""#,
        r#"externalId ne "00uada""#,
        r#"name.familyName co "love""#,
        r#"name.familyName ew "LACE" and name.givenName pr"#,
        r#"displayName ne "anything""#,
        "not (displayName pr)",
        "displayName eq null",
        "active eq true",
        r#"active eq "True""#,
        r#"emails eq "ada@home.example""#,
        r#"emails.value co "home""#,
        r#"emails[type eq "work" and value co "@example.com"]"#,
        r#"emails[type eq "work"].value eq "ada@example.com" and userName pr"#,
        r#"emails[type eq "work"].value pr"#,
        "emails[primary eq true] and userName pr",
        r#"userName eq "x" or userName eq "y" or (active eq true and not (emails[type eq "other"]))"#,
        r#"userName gt "aca" and userName lt "adb" and userName ge "ada@example.com" and userName le "ada@example.com""#,
        r#"externalId eq "\u0030\u0030uAda""#,
    ] {
        assert!(holds(yes), "{yes}");
    }
    for no in [
        r#"externalId eq "00UADA""#,
        r#"emails[type eq "home" and value co "@example.com"]"#,
        r#"emails[type eq "home"].value eq "ada@example.com""#,
        r#"emails[type eq "nowhere"].value pr"#,
        "displayName pr",
        r#"displayName gt "a""#,
        "active eq false",
        // `and` binds closer than `or`.
        r#"active eq false or active eq true and userName eq "nobody""#,
        r#"userName eq "a" and userName eq "b" or userName eq "c""#,
        "not (userName pr)",
    ] {
        assert!(!holds(no), "{no}");
    }
}

#[test]
fn what_is_no_filter_is_refused_and_not_shown() {
    for bad in [
        "",
        " ",
        "userName",
        "userName eq",
        "userName eq canary",
        r#"userName eq "canary"#,
        r#"userName eq "canary" and"#,
        r#"userName is "canary""#,
        r#"userName eq "canary" "x""#,
        r#"(userName eq "canary""#,
        r#"userName eq "canary")"#,
        r#"emails[type eq "canary""#,
        r#"emails[type eq "canary"].value"#,
        r#"emails[type eq "canary"].secret eq "x""#,
        r#"emails[type eq "canary"]. eq "x""#,
        r#"emails[type eq "canary"].(value eq "x")"#,
        r#"emails[type eq "canary"].value[type eq "x"]"#,
        r#"userName[type eq "canary"]"#,
        r#"password eq "canary""#,
        r#"urn:other:userName eq "canary""#,
        r#"name eq "canary""#,
        "active gt true",
        r#"active eq "canary""#,
        "userName eq 7",
        "userName gt null",
        "userName eq \"\u{e9}canary\" \u{e9}",
        "not userName pr",
        "pr pr pr",
        "[]",
        r#"userName eq "canary\"#,
    ] {
        let refused = Filter::parse(USER, bad).expect_err(bad);
        assert_eq!(refused.wrong, Wrong::InvalidFilter, "{bad}");
        assert!(!refused.detail.contains("canary"), "{refused}");
    }
}

#[test]
fn filters_are_bounded_in_length_depth_and_number() {
    let long = |n: usize| Filter::parse(USER, &format!("userName eq \"{}\"", "é".repeat(n - 14)));
    assert!(long(FILTER_CHARS_MAX).is_ok() && long(FILTER_CHARS_MAX + 1).is_err());
    let deep = |n: usize| Filter::parse(USER, &format!("{}active pr{}", "(".repeat(n), ")".repeat(n)));
    assert!(deep(FILTER_DEPTH_MAX).is_ok() && deep(FILTER_DEPTH_MAX + 1).is_err());
    let many = |n: usize| Filter::parse(USER, &vec!["active pr"; n].join(" or "));
    assert!(many(FILTER_COMPARISONS_MAX).is_ok() && many(FILTER_COMPARISONS_MAX + 1).is_err());
}

#[test]
fn an_index_is_asked_only_for_what_must_be() {
    let must =
        |filter: &str, name, part| Filter::parse(USER, filter).unwrap().must_equal(name, part).map(ToOwned::to_owned);
    assert_eq!(must(r#"userName eq "a""#, "userName", None).as_deref(), Some("a"));
    assert_eq!(
        must(r#"active eq true and (userName eq "a" and externalId pr)"#, "userName", None).as_deref(),
        Some("a")
    );
    assert_eq!(must(r#"userName eq "a" or active eq true"#, "userName", None), None);
    assert_eq!(must(r#"not (userName eq "a")"#, "userName", None), None);
    assert_eq!(must(r#"userName ne "a""#, "userName", None), None);
    for filter in
        [r#"members eq "m""#, r#"members.value eq "m""#, r#"members[value eq "m"]"#, r#"id eq "g" and members eq "m""#]
    {
        assert_eq!(Filter::parse(GROUP, filter).unwrap().must_equal("members", Some("value")), Some("m"), "{filter}");
    }
}

#[test]
fn times_are_compared_as_times() {
    let at = |filter: &str| {
        let document = map(json!({"meta": {"lastModified": "2026-11-29T10:00:00.500Z"}}));
        Filter::parse(USER, filter).unwrap().holds(&document)
    };
    assert!(at(r#"meta.lastModified gt "2026-11-29T10:00:00Z""#));
    assert!(at(r#"meta.lastModified gt "2026-11-29T11:00:00+01:00""#));
    assert!(!at(r#"meta.lastModified lt "2026-11-29T10:00:00.4Z""#));
    assert!(Filter::parse(USER, r#"meta.created gt "yesterday""#).is_err());
}

#[test]
fn okta_and_entra_turn_a_user_off_and_on() {
    for operations in [
        // Okta.
        json!([{"op": "replace", "value": {"active": false}}]),
        // Entra ID, in its old form and in its new one.
        json!([{"op": "Replace", "path": "active", "value": "False"}]),
        json!([{"op": "replace", "path": "active", "value": false}]),
        json!([{"op": "Add", "path": "active", "value": "False"}]),
        json!([{"op": "replace", "path": "urn:ietf:params:scim:schemas:core:2.0:User:active", "value": "false"}]),
        json!([{"op": "replace", "value": {"urn:ietf:params:scim:schemas:core:2.0:User:active": false}}]),
    ] {
        let off = patched(&ada(), operations.clone()).unwrap_or_else(|e| panic!("{operations}: {e}"));
        assert!(!off.is_active(), "{operations}");
        let means = meanings(Some(&ada()), &off, SubjectFrom::ExternalId, Deactivation::Suspend);
        assert_eq!(means, [Meaning::Suspend], "{operations}");
        assert_eq!(meanings(Some(&off), &ada(), SubjectFrom::ExternalId, Deactivation::Deprovision), [Meaning::Resume]);
    }
}

#[test]
fn entra_changes_several_attributes_at_once() {
    let operations = json!([
        {"op": "Replace", "path": "displayName", "value": "Countess"},
        {"op": "Replace", "path": "emails[type eq \"work\"].value", "value": "countess@example.com"},
        {"op": "Add", "path": "emails[type eq \"other\"].value", "value": "a@other.example"},
        {"op": "Replace", "value": {
            "name.givenName": "Augusta", "emails[type eq \"home\"].value": "b@home.example", "externalId": "new",
            "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:department": "Numbers",
            "addresses[type eq \"work\"].region": "London",
        }},
        {"op": "Add", "path": "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:manager", "value": "x"},
        {"op": "Remove", "path": "name.familyName"},
    ]);
    let user = patched(&ada(), operations).unwrap();
    assert_eq!(get(&user, "/name"), json!({"givenName": "Augusta"}));
    assert_eq!(
        get(&user, "/emails"),
        json!([
            {"value": "countess@example.com", "type": "work", "primary": true}, {"value": "b@home.example", "type": "home"},
            {"value": "a@other.example", "type": "other"},
        ])
    );
    let means = meanings(Some(&ada()), &user, SubjectFrom::ExternalId, Deactivation::Suspend);
    assert_eq!(means, [Meaning::Rebind, Meaning::Describe]);
    assert_eq!(meanings(Some(&ada()), &user, SubjectFrom::UserName, Deactivation::Suspend), [Meaning::Describe]);
}

#[test]
fn values_are_added_once_and_one_is_primary() {
    let again = json!([{"op": "add", "path": "emails", "value": [{"value": "ada@home.example", "type": "home"}]}]);
    assert_eq!(patched(&ada(), again).unwrap(), ada());
    let primary = json!([{"op": "add", "path": "emails", "value": {"value": "c@example.com", "primary": true}}]);
    let user = patched(&ada(), primary).unwrap();
    assert_eq!((user.email(), get(&user, "/emails").as_array().unwrap().len()), (Some("c@example.com"), 3));
    let home = json!([{"op": "replace", "path": "emails[type eq \"home\"]", "value": {"value": "h", "primary": true}}]);
    let user = patched(&ada(), home).unwrap();
    assert_eq!(
        get(&user, "/emails"),
        json!([{"value": "ada@example.com", "type": "work"}, {"value": "h", "primary": true}])
    );
    let less = json!([{"op": "remove", "path": "emails", "value": [{"value": "ada@example.com"}]}]);
    assert_eq!(patched(&ada(), less).unwrap().email(), Some("ada@home.example"));
    let none = json!([{"op": "remove", "path": "emails"}]);
    assert_eq!(get(&patched(&ada(), none).unwrap(), "/emails"), Value::Null);
    let gone = json!([{"op": "remove", "path": "emails[type eq \"work\" or type eq \"home\"]"}]);
    assert_eq!(get(&patched(&ada(), gone).unwrap(), "/emails"), Value::Null);
}

#[test]
fn changes_that_cannot_be_are_refused_by_their_name() {
    for (operations, wrong) in [
        (json!([]), Wrong::TooMany),
        (json!(["active"]), Wrong::InvalidSyntax),
        (json!([{"op": "move", "path": "active", "value": true}]), Wrong::InvalidSyntax),
        (json!([{"path": "active", "value": true}]), Wrong::InvalidSyntax),
        (json!([{"op": "replace", "value": "canary"}]), Wrong::InvalidSyntax),
        (json!([{"op": "remove"}]), Wrong::NoTarget),
        (json!([{"op": "replace", "path": 7, "value": "x"}]), Wrong::InvalidPath),
        (json!([{"op": "replace", "path": "", "value": "x"}]), Wrong::InvalidPath),
        (json!([{"op": "replace", "path": "emails[", "value": "x"}]), Wrong::InvalidFilter),
        (json!([{"op": "replace", "path": "emails[canary eq 1]", "value": "x"}]), Wrong::InvalidFilter),
        (json!([{"op": "replace", "path": "emails[type eq \"work\"]x", "value": "x"}]), Wrong::InvalidPath),
        (json!([{"op": "replace", "path": "name[givenName eq \"Ada\"]", "value": {}}]), Wrong::InvalidPath),
        (json!([{"op": "replace", "path": "emails[type eq \"other\"].value", "value": "x"}]), Wrong::NoTarget),
        (json!([{"op": "replace", "path": "id", "value": "x"}]), Wrong::Mutability),
        (json!([{"op": "add", "path": "groups", "value": [{"value": "admins"}]}]), Wrong::Mutability),
        (json!([{"op": "remove", "path": "userName"}]), Wrong::InvalidValue),
        (json!([{"op": "replace", "path": "userName", "value": ""}]), Wrong::InvalidValue),
        (json!([{"op": "replace", "path": "userName", "value": null}]), Wrong::InvalidValue),
        (json!([{"op": "replace", "path": "active", "value": "canary"}]), Wrong::InvalidValue),
    ] {
        let refused = patched(&ada(), operations.clone()).expect_err(&operations.to_string());
        assert_eq!(refused.wrong, wrong, "{operations}: {refused}");
        assert!(!refused.detail.contains("canary"), "{refused}");
    }
    let many = |n: usize| patched(&ada(), json!(vec![json!({"op": "replace", "path": "active", "value": true}); n]));
    assert!(many(OPERATIONS_MAX).is_ok() && many(OPERATIONS_MAX + 1).is_err());
    assert!(ada().changed(&Map::new()).is_err());
}

#[test]
fn what_a_new_user_means_depends_on_whether_it_is_active() {
    let off = patched(&ada(), json!([{"op": "replace", "value": {"active": false}}])).unwrap();
    let new = |user: &User, off| meanings(None, user, SubjectFrom::UserName, off);
    assert_eq!(new(&ada(), Deactivation::Suspend), [Meaning::Create]);
    assert_eq!(new(&off, Deactivation::Suspend), [Meaning::Create, Meaning::Suspend]);
    assert_eq!(new(&off, Deactivation::Deprovision), [Meaning::Create, Meaning::Deprovision]);
    let nameless = User::parse(&map(json!({"userName": "u"}))).unwrap();
    assert_eq!(nameless.subject(SubjectFrom::UserName), Ok("u"));
    assert_eq!(nameless.subject(SubjectFrom::ExternalId).unwrap_err().wrong, Wrong::InvalidValue);
}

#[test]
fn groups_are_read_and_changed_by_who_comes_and_goes() {
    let body = json!({"displayName": "Engineers", "externalId": "g1", "members": [{"value": "b", "display": "B"}, {"value": "a"}, {"value": "a"}]});
    let group = Group::parse(&map(body)).unwrap();
    assert_eq!((group.name.as_str(), group.external_id.as_deref()), ("Engineers", Some("g1")));
    assert_eq!(group.members, ["a", "b"]);
    let read = |operations: Value| changes(&map(json!({"Operations": operations})));
    let ids = |ids: &[&str]| ids.iter().map(ToString::to_string).collect::<Vec<_>>();
    for (operations, wanted) in [
        // Okta.
        (json!([{"op": "replace", "value": {"id": "g", "displayName": "New"}}]), vec![Change::Name("New".into())]),
        (
            json!([{"op": "remove", "path": "members[value eq \"a\"]"}, {"op": "add", "path": "members", "value": [{"value": "b", "display": "B"}]}]),
            vec![Change::Remove(ids(&["a"])), Change::Add(ids(&["b"]))],
        ),
        (
            json!([{"op": "replace", "path": "members", "value": [{"value": "a"}, {"value": "b"}]}]),
            vec![Change::Replace(ids(&["a", "b"]))],
        ),
        // Entra ID.
        (
            json!([{"op": "Add", "path": "members", "value": [{"$ref": null, "value": "a"}]}]),
            vec![Change::Add(ids(&["a"]))],
        ),
        (json!([{"op": "Remove", "path": "members", "value": [{"value": "a"}]}]), vec![Change::Remove(ids(&["a"]))]),
        (json!([{"op": "Replace", "path": "externalId", "value": "e"}]), vec![Change::ExternalId(Some("e".into()))]),
        // The RFC.
        (json!([{"op": "remove", "path": "members"}]), vec![Change::Replace(vec![])]),
        (json!([{"op": "remove", "path": "externalId"}]), vec![Change::ExternalId(None)]),
        (json!([{"op": "add", "value": {"members": [{"value": "a"}]}}]), vec![Change::Add(ids(&["a"]))]),
        (
            json!([{"op": "remove", "path": "members[value eq \"a\" or value eq \"b\"]"}]),
            vec![Change::Remove(ids(&["a", "b"]))],
        ),
    ] {
        assert_eq!(read(operations.clone()), Ok(wanted), "{operations}");
    }
    for (operations, wrong) in [
        (json!([{"op": "remove", "path": "displayName"}]), Wrong::InvalidValue),
        (json!([{"op": "add", "path": "members", "value": [{"value": "g2", "type": "Group"}]}]), Wrong::InvalidValue),
        (json!([{"op": "add", "path": "members", "value": [{"display": "A"}]}]), Wrong::InvalidValue),
        (json!([{"op": "replace", "path": "members[value eq \"a\"].display", "value": "A"}]), Wrong::Mutability),
        (json!([{"op": "replace", "path": "members[value eq \"a\"].value", "value": "b"}]), Wrong::Mutability),
        (json!([{"op": "remove", "path": "members[value co \"a\"]"}]), Wrong::InvalidFilter),
        (json!([{"op": "remove", "path": "members[display eq \"a\"]"}]), Wrong::InvalidFilter),
    ] {
        assert_eq!(read(operations.clone()).unwrap_err().wrong, wrong, "{operations}");
    }
    let many = |n: usize| {
        let members: Vec<_> = (0..n).map(|i| json!({"value": i.to_string()})).collect();
        read(json!([{"op": "add", "path": "members", "value": members}]))
    };
    assert!(many(MEMBERS_PER_CHANGE_MAX).is_ok());
    assert_eq!(many(MEMBERS_PER_CHANGE_MAX + 1).unwrap_err().wrong, Wrong::TooMany);
}

#[test]
fn answers_hold_what_was_asked_for() {
    let shown = |attributes, excluded| {
        let mut document = ada().document().clone();
        document.insert("id".to_owned(), json!("1"));
        project(&mut document, USER, attributes, excluded);
        Value::Object(document)
    };
    assert_eq!(
        shown(Some("userName, name.givenName,nonsense"), None),
        json!({"id": "1", "userName": "Ada@Example.com", "name": {"givenName": "Ada"}})
    );
    assert_eq!(
        shown(None, Some("emails,name.familyName,externalId,id")),
        json!({"id": "1", "userName": "Ada@Example.com", "active": true, "name": {"givenName": "Ada"}})
    );
    assert_eq!(
        shown(Some("emails.value"), None)["emails"],
        json!([{"value": "ada@example.com"}, {"value": "ada@home.example"}])
    );
}

proptest::proptest! {
    #[test]
    fn whatever_is_sent_is_read_or_refused(text in ".{0,80}", path in r#"[a-z$:.\[\]()" ]{0,40}"#, value in ".{0,10}") {
        let _ = Filter::parse(USER, &text);
        let _ = Filter::parse(USER, &path);
        let _ = Filter::parse(GROUP, &format!("{path} eq {value}"));
        for op in ["add", "replace", "remove"] {
            let body = json!({"Operations": [{"op": op, "path": path, "value": value}]});
            if let Ok(user) = patched(&ada(), body["Operations"].clone()) {
                proptest::prop_assert_eq!(User::stored(&user.text()), Some(user));
            }
            let _ = changes(&map(body));
        }
    }
}
