//! Rows of every table: what is stored comes back, guards hold, and another app finds nothing.

use grantd_domain::grant::{AppState, CredentialState, GrantStatus, Tenant};
use grantd_store::grants::{GrantFilter, Listed};
use grantd_store::{
    Error, Location, apps, credentials, data_keys, grants, installs, keys, operators, secrets, signing_keys,
};
use grantd_wire::api::{Retrieve, TenantMode};
use grantd_wire::ids::{ActorId, OperatorId, PatId, SigningKeyId};
use grantd_wire::{Code, limits};

use crate::engine::{Database, NOW};
use crate::world::{
    World, app, app_id, checkpoint_key, credential, grant, grant_id, install, key, key_id, organization_id, refused,
    secret, secret_id,
};

async fn an_install_is_made_once(store: &Database) {
    let world = World::create(store).await;
    let (second, wrapped) = install();
    let other = organization_id();
    let created = store.write(move |tx| installs::create(tx, &second, &wrapped, other, NOW)).await.unwrap();
    assert!(!created);
    let found = store.read(|tx| Ok((installs::organization(tx)?, installs::find(tx)?, data_keys::count(tx)?))).await;
    let (organization, install, data_keys) = found.unwrap();
    assert_eq!(organization, Some(world.organization));
    assert_eq!((install.unwrap().pepper, data_keys), (vec![2; 61], 1));
}

async fn the_clock_floor_never_falls(store: &Database) {
    World::create(store).await;
    assert_eq!(store.raise_clock_floor(NOW.plus_seconds(60)).await.unwrap(), NOW.plus_seconds(60));
    assert_eq!(store.raise_clock_floor(NOW).await.unwrap(), NOW.plus_seconds(60));
}

async fn operators_and_their_tokens_come_back(store: &Database) {
    let world = World::create(store).await;
    let organization_id = world.organization;
    let app = world.app.id;
    let found = store
        .write(move |tx| {
            let id = OperatorId::parse(&grant_id().to_string()).expect("an id is an id");
            let role = operators::Role::Admin;
            let operator =
                operators::Operator { id, organization_id, email: "a@example.com".to_owned(), role, disabled_at: None };
            operators::insert(tx, &operator, NOW)?;
            let pat = operators::Pat {
                id: PatId::parse(&grant_id().to_string()).expect("an id is an id"),
                operator_id: id,
                name: "laptop".to_owned(),
                role: operators::Role::Viewer,
                app_ids: Some(vec![app]),
                expires_at: Some(NOW),
                revoked_at: None,
            };
            operators::insert_pat(tx, &pat, &[5; 32], NOW)?;
            assert_eq!(operators::find_first(tx, organization_id)?, Some(id));
            assert!(operators::find_pat(tx, &[6; 32])?.is_none());
            operators::find_pat(tx, &[5; 32])
        })
        .await
        .unwrap();
    let (pat, operator) = found.unwrap();
    assert_eq!((pat.role, pat.app_ids, pat.expires_at), (operators::Role::Viewer, Some(vec![app]), Some(NOW)));
    assert_eq!((operator.role, operator.email.as_str()), (operators::Role::Admin, "a@example.com"));
}

async fn an_app_changes_only_at_the_version_that_was_read(store: &Database) {
    let world = World::create(store).await;
    let before = world.epochs(store).await;
    let mut changed = world.app.clone();
    changed.name = String::from("Élan vital");
    changed.tenant_key = Some("org".to_owned());
    changed.tenant_mode = TenantMode::Enforce;
    changed.retrieve = Retrieve::Off;
    let update = move |version| {
        let app = changed.clone();
        store.write(move |tx| apps::update(tx, &app, version))
    };
    update(1).await.unwrap();
    assert_eq!(refused(update(1).await), Code::Conflict);
    let (organization, id) = (world.organization, world.app.id);
    let found = store.read(move |tx| apps::find(tx, organization, id)).await.unwrap().unwrap();
    assert_eq!((found.name.as_str(), found.version, found.state), ("Élan vital", 2, AppState::Active));
    assert_eq!((found.tenant_mode, found.retrieve), (TenantMode::Enforce, Retrieve::Off));
    assert_eq!(found.context_index().collect::<Vec<_>>(), ["user_id", "org"]);
    assert_eq!(world.epochs(store).await.app, before.app + 1, "any setting may turn an allow into a deny");
    let elsewhere = organization_id();
    assert!(store.read(move |tx| apps::find(tx, elsewhere, id)).await.unwrap().is_none());
}

async fn names_are_searched_by_their_beginning_whatever_the_case(store: &Database) {
    let world = World::create(store).await;
    let organization = world.organization;
    // In the order of a dictionary these stand elsewhere than in the order of bytes.
    for name in ["Zebra", "a-b", "aB c", "a_b", "Ärger", "äx", "~tilde", "{brace", "a"] {
        let app = app(organization, name);
        store.write(move |tx| apps::insert(tx, &app)).await.unwrap();
    }
    let search = |text: &'static str| async move {
        let (found, total) = store.read(move |tx| apps::list(tx, organization, Some(text), 100, 0)).await.unwrap();
        let mut names: Vec<String> = found.into_iter().map(|a| a.name).collect();
        assert_eq!(i64::try_from(names.len()).unwrap(), total);
        names.sort();
        names
    };
    assert_eq!(search("A").await, ["a", "a-b", "aB c", "a_b"]);
    assert_eq!(search("a-").await, ["a-b"]);
    assert_eq!(search("ä").await, ["Ärger", "äx"]);
    assert_eq!(search("~").await, ["~tilde"]);
    assert_eq!(search("{").await, ["{brace"]);
    assert_eq!(search("zebras").await, Vec::<String>::new());
    assert_eq!(search("").await.len(), 10);
    let page = store.read(move |tx| apps::list(tx, organization, None, 4, 8)).await.unwrap();
    assert_eq!((page.0.len(), page.1), (2, 10));
}

async fn a_key_is_found_by_its_hash_with_its_app(store: &Database) {
    let world = World::create(store).await;
    let known = store.find_key(world.key_hash).await.unwrap().unwrap();
    assert_eq!((known.key.id, known.app.id), (world.key.id, world.app.id));
    assert_eq!((known.key.cidrs, known.key.rate_limit_rpm), (world.key.cidrs.clone(), Some(60)));
    assert_eq!(known.epochs, world.epochs(store).await);
    assert!(store.find_key([0; 32]).await.unwrap().is_none());
    let (twin, hash) = (key(world.app.id, "Twin"), world.key_hash);
    let twice = store.write(move |tx| keys::insert(tx, &twin, &hash)).await;
    assert!(matches!(twice, Err(Error::Duplicate)), "{twice:?}");
}

async fn a_key_is_revoked_once_and_only_in_its_app(store: &Database) {
    let world = World::create(store).await;
    let other = World::app_of(store, world.organization, "Second").await;
    let (id, mine, foreign) = (world.key.id, world.app.id, other.app.id);
    let revoke = |app| store.write(move |tx| keys::revoke(tx, app, id, NOW));
    assert!(!revoke(foreign).await.unwrap());
    assert!(store.read(move |tx| keys::find(tx, foreign, id)).await.unwrap().is_none());
    assert!(revoke(mine).await.unwrap());
    assert!(!revoke(mine).await.unwrap());
    let (living, (keys, total)) = store
        .read(move |tx| {
            Ok((
                keys::count_living(tx, mine)?,
                keys::list(tx, mine, &keys::KeyFilter { limit: 10, ..Default::default() }, NOW)?,
            ))
        })
        .await
        .unwrap();
    assert_eq!((living, total, keys[0].0.revoked_at), (0, 1, Some(NOW)));
}

async fn times_of_use_only_rise(store: &Database) {
    let world = World::create(store).await;
    let (app, grant, key) = (world.app.id, world.grant.id, world.key.id);
    let later = NOW.plus_ms(50);
    store.touch_grants(vec![(app, grant, NOW), (app, grant, later), (app, grant_id(), NOW)]).await.unwrap();
    store.touch_grants(vec![(app, grant, NOW)]).await.unwrap();
    store.touch_keys(vec![(key, later), (key, NOW), (key_id(), NOW)]).await.unwrap();
    store.write(move |tx| keys::touch(tx, key, NOW)).await.unwrap();
    store.touch_grants(Vec::new()).await.unwrap();
    let used = store
        .read(move |tx| Ok((grants::find(tx, app, grant)?, keys::find(tx, app, key)?)))
        .await
        .map(|(grant, key)| (grant.unwrap().grant.last_used_at, key.unwrap().1.last_used_at))
        .unwrap();
    assert_eq!(used, (Some(later), Some(later)));
}

async fn callers_are_registered_once(store: &Database) {
    let world = World::create(store).await;
    let app = world.app.id;
    let new = || ActorId::parse(&grant_id().to_string()).unwrap();
    let register =
        |label: &'static str, id| store.write(move |tx| keys::register_actor(tx, app, label, "agent", id, NOW));
    let first = new();
    assert_eq!(register("bot", first).await.unwrap(), Some(first));
    assert_eq!(register("bot", new()).await.unwrap(), Some(first));
    let second = new();
    assert_eq!(register("other", second).await.unwrap(), Some(second));
}

async fn a_taken_slug_becomes_the_next_one(store: &Database) {
    let world = World::create(store).await;
    let app = world.app.id;
    let mut slugs = Vec::new();
    for _ in 0..3 {
        let mut secret = secret(app, "stripe", "Stripe");
        let slug = store.write(move |tx| secrets::insert(tx, &mut secret).map(|()| secret.slug.clone())).await;
        slugs.push(slug.unwrap());
    }
    assert_eq!(slugs, ["stripe-2", "stripe-3", "stripe-4"]);
    let other = World::app_of(store, world.organization, "Second").await;
    assert_eq!(other.secret.slug, "stripe", "slugs are unique within an app");
}

async fn a_secret_is_found_by_id_before_slug(store: &Database) {
    let world = World::create(store).await;
    let (app, real) = (world.app.id, world.secret.id);
    // Its name was made from the other one's id.
    let mut impostor = secret(app, &real.to_string(), "Impostor");
    store.write(move |tx| secrets::insert(tx, &mut impostor)).await.unwrap();
    let find = |text: String| store.read(move |tx| secrets::find(tx, app, &text));
    assert_eq!(find(real.to_string()).await.unwrap().unwrap().id, real);
    assert_eq!(find("stripe".to_owned()).await.unwrap().unwrap().id, real);
    assert!(find(secret_id().to_string()).await.unwrap().is_none());
    let (upper, bare) = (real.to_string().to_uppercase(), real.to_string().replace('-', ""));
    for spelling in [upper, bare, format!("{{{real}}}")] {
        assert!(find(spelling.clone()).await.unwrap().is_none(), "{spelling} is no id");
    }
    let elsewhere = app_id();
    assert!(store.read(move |tx| secrets::find(tx, elsewhere, "stripe")).await.unwrap().is_none());
}

async fn a_secret_changes_only_at_the_version_that_was_read(store: &Database) {
    let world = World::create(store).await;
    let secret = world.secret.clone();
    let set = || {
        let secret = secret.clone();
        store.write(move |tx| secrets::set_hosts(tx, &secret, &[]))
    };
    set().await.unwrap();
    assert_eq!(refused(set().await), Code::Conflict);
    let stale = world.secret.clone();
    let names = store.write(move |tx| secrets::set_field_names(tx, &stale, &["extra".to_owned()], NOW)).await;
    assert_eq!(refused(names), Code::Conflict);
    let (app, id) = (world.app.id, world.secret.id.to_string());
    let found = store.read(move |tx| secrets::find(tx, app, &id)).await.unwrap().unwrap();
    assert_eq!((found.hosts.len(), found.version), (0, 2));
}

async fn a_label_is_unique_among_living_siblings(store: &Database) {
    let world = World::create(store).await;
    let credential = world.credential.clone();
    let insert = |label: &'static str| {
        let grant = grant(&credential, Some(label));
        let id = grant.id;
        let write = store.write(move |tx| grants::insert(tx, &grant));
        async move { write.await.map(|()| id) }
    };
    assert_eq!(refused(insert("live").await), Code::SiblingLabelConflict);
    let second = insert("Live").await.unwrap();
    let (app, first) = (world.app.id, world.grant.id);
    let Listed { grant: mut renamed, .. } = store.read(move |tx| grants::find(tx, app, second)).await.unwrap().unwrap();
    renamed.label = Some("live".to_owned());
    let rename = || {
        let grant = renamed.clone();
        store.write(move |tx| grants::update(tx, &grant, 1, NOW))
    };
    assert_eq!(refused(rename().await), Code::SiblingLabelConflict);
    assert!(store.write(move |tx| grants::revoke(tx, app, first, Some("over"), NOW)).await.unwrap());
    rename().await.unwrap();
    assert_eq!(refused(rename().await), Code::Conflict, "its version has moved");
}

async fn a_credential_has_at_most_fifty_living_grants(store: &Database) {
    let world = World::create(store).await;
    let (app, credential, first) = (world.app.id, world.credential.clone(), world.grant.id);
    let more: Vec<_> = (1..limits::SIBLINGS_MAX).map(|_| grant(&credential, None)).collect();
    store.write(move |tx| more.iter().try_for_each(|grant| grants::insert(tx, grant))).await.unwrap();
    let one_more = || {
        let grant = grant(&credential, None);
        store.write(move |tx| grants::insert(tx, &grant))
    };
    assert_eq!(refused(one_more().await), Code::TooMany);
    store.write(move |tx| grants::revoke(tx, app, first, None, NOW)).await.unwrap();
    one_more().await.unwrap();
    assert_eq!(refused(one_more().await), Code::TooMany);
}

async fn a_grant_is_revoked_once_and_only_in_its_app(store: &Database) {
    let world = World::create(store).await;
    let other = World::app_of(store, world.organization, "Second").await;
    let (id, mine, foreign) = (world.grant.id, world.app.id, other.app.id);
    let revoke = |app| store.write(move |tx| grants::revoke(tx, app, id, Some("leaked"), NOW));
    assert!(!revoke(foreign).await.unwrap());
    assert!(store.read(move |tx| grants::find(tx, foreign, id)).await.unwrap().is_none());
    assert!(store.find_held(foreign, id).await.unwrap().unwrap().1.is_none());
    assert!(store.find_held(app_id(), id).await.unwrap().is_none());
    assert!(revoke(mine).await.unwrap());
    assert!(!revoke(mine).await.unwrap());
    let held = store.find_held(mine, id).await.unwrap().unwrap().1.unwrap();
    assert_eq!(held.grant.status, GrantStatus::Revoked { at: NOW, reason: Some("leaked".to_owned()) });
    let grant = world.grant.clone();
    let update = store.write(move |tx| grants::update(tx, &grant, 2, NOW)).await;
    assert_eq!(refused(update), Code::Conflict, "what is revoked does not change");
}

async fn grants_are_filtered_and_paged(store: &Database) {
    let world = World::create(store).await;
    let app = world.app.id;
    let mut second = secret(app, "github", "GitHub");
    let credential_2 = credential(&second);
    let labels = ["Élan", "eu-west", "EU-east", "a_b"];
    let grants_2: Vec<_> = labels.iter().map(|label| grant(&credential_2, Some(label))).collect();
    let lapsed = grants_2[1].id;
    let revoked = grants_2[2].id;
    store
        .write(move |tx| {
            secrets::insert(tx, &mut second)?;
            credentials::insert(tx, &credential_2)?;
            for grant in &grants_2 {
                let mut grant = grant.clone();
                grant.expires_at = (grant.id == lapsed).then_some(NOW);
                grant.tenant = Tenant::Bound("acme".to_owned());
                grants::insert(tx, &grant)?;
            }
            grants::revoke(tx, app, revoked, None, NOW).map(drop)
        })
        .await
        .unwrap();
    let list = |filter: GrantFilter| async move {
        let filter = GrantFilter { limit: if filter.limit == 0 { 100 } else { filter.limit }, ..filter };
        let (listed, total) = store.read(move |tx| grants::list(tx, app, &filter, NOW)).await.unwrap();
        (listed.into_iter().map(|listed| listed.grant.label.unwrap()).collect::<Vec<_>>(), total)
    };
    let text = |text: &str| Some(text.to_owned());
    let labels = |labels: &[&str], total| (labels.iter().map(|l| (*l).to_owned()).collect::<Vec<_>>(), total);
    let all = ["a_b", "EU-east", "eu-west", "Élan", "live"];
    assert_eq!(list(GrantFilter::default()).await, labels(&all, 5));
    assert_eq!(list(GrantFilter { limit: 2, offset: 2, ..Default::default() }).await, labels(&all[2..4], 5));
    assert_eq!(list(GrantFilter { limit: 2, offset: 9, ..Default::default() }).await, labels(&[], 5));
    let status = |status| list(GrantFilter { status: text(status), ..Default::default() });
    assert_eq!(status("active").await, labels(&["a_b", "Élan", "live"], 3));
    assert_eq!(status("expired").await, labels(&["eu-west"], 1));
    assert_eq!(status("revoked").await, labels(&["EU-east"], 1));
    assert_eq!(list(GrantFilter { provider: text("stripe"), ..Default::default() }).await, labels(&["live"], 1));
    let secret = Some(world.secret.id);
    assert_eq!(list(GrantFilter { secret, ..Default::default() }).await, labels(&["live"], 1));
    assert_eq!(list(GrantFilter { grant: Some(lapsed), ..Default::default() }).await, labels(&["eu-west"], 1));
    assert_eq!(list(GrantFilter { label: text("eu-west"), ..Default::default() }).await, labels(&["eu-west"], 1));
    assert_eq!(list(GrantFilter { label: text("EU-WEST"), ..Default::default() }).await, labels(&[], 0));
    let search = |search| list(GrantFilter { search: text(search), ..Default::default() });
    assert_eq!(search("eu-").await, labels(&["EU-east", "eu-west"], 2));
    assert_eq!(search("ÉL").await, labels(&["Élan"], 1));
    assert_eq!(search("a_").await, labels(&["a_b"], 1));
    assert_eq!(search("gith").await, labels(&all[..4], 4), "by the secret's name");
    assert_eq!(search("STRI").await, labels(&["live"], 1), "by its slug");
    let both = GrantFilter { status: text("active"), search: text("github"), ..Default::default() };
    assert_eq!(list(both).await, labels(&["a_b", "Élan"], 2));
    let alike = |label| GrantFilter { label: text(label), is_system: true, search: text("gith"), ..Default::default() };
    assert_eq!(list(alike("eu-west")).await, labels(&["eu-west"], 1));
    assert_eq!(list(alike("live")).await, labels(&[], 0));
    // Whatever leads to the grants, everything else that is asked for is still asked.
    let provider =
        |slug, search| list(GrantFilter { provider: text(slug), search: text(search), ..Default::default() });
    assert_eq!(provider("github", "eu-").await, labels(&["EU-east", "eu-west"], 2));
    assert_eq!(provider("stripe", "eu-").await, labels(&[], 0));
    let of_secret = |provider| list(GrantFilter { secret, provider: text(provider), ..Default::default() });
    assert_eq!(of_secret("stripe").await, labels(&["live"], 1));
    assert_eq!(of_secret("github").await, labels(&[], 0));
    let named = |status| list(GrantFilter { grant: Some(revoked), status: text(status), ..Default::default() });
    assert_eq!(named("revoked").await, labels(&["EU-east"], 1));
    assert_eq!(named("active").await, labels(&[], 0));
    for provider in [None, text("github")] {
        let account = GrantFilter { account: text("nobody"), provider, ..Default::default() };
        assert_eq!(list(account).await, labels(&[], 0), "no secret is an account");
    }
    let upstream = GrantFilter { upstream: Some("pending"), ..Default::default() };
    assert_eq!(list(upstream).await, labels(&[], 0));
}

async fn a_total_is_counted_up_to_its_bound(store: &Database) {
    let world = World::create(store).await;
    let (app, of) = (world.app.id, world.secret.clone());
    if let Location::Postgres(_) = store.location {
        // As right after a load: the server has no figures of these tables, and takes them for all but empty.
        for table in ["grants", "credentials"] {
            store.behind_its_back(&format!("ALTER TABLE {table} SET (autovacuum_enabled = off)")).await;
        }
    }
    let add = async |mut count: i64| {
        while count > 0 {
            // As many grants on each credential as there may be.
            let (on, few) = (credential(&of), count.min(limits::SIBLINGS_MAX));
            count -= few;
            let write = move |tx: &mut grantd_store::Tx<'_>| {
                credentials::insert(tx, &on)?;
                (0..few).try_for_each(|_| grants::insert(tx, &grant(&on, None)))
            };
            store.write(write).await.unwrap();
        }
    };
    let list = |filter: GrantFilter| async move {
        let filter = GrantFilter { limit: 2, offset: limits::OFFSET_MAX, ..filter };
        let (listed, total) = store.read(move |tx| grants::list(tx, app, &filter, NOW)).await.unwrap();
        (listed.len(), total)
    };
    let provider = || GrantFilter { provider: Some("stripe".to_owned()), ..Default::default() };
    // By the provider, whom all have, and by labels, which none has.
    let search = |text: &str| GrantFilter { search: Some(text.to_owned()), ..Default::default() };
    add(limits::TOTAL_MAX - 2).await;
    assert_eq!(list(GrantFilter::default()).await, (0, limits::TOTAL_MAX - 1));
    assert_eq!(list(search("STRI")).await, (0, limits::TOTAL_MAX - 1));
    assert_eq!(
        list(GrantFilter { status: Some("active".to_owned()), ..search("stri") }).await,
        (0, limits::TOTAL_MAX - 1)
    );
    assert_eq!(list(search("none")).await, (0, 0));
    add(1).await;
    assert_eq!(list(provider()).await, (1, limits::TOTAL_MAX));
    add(1).await;
    assert_eq!(list(GrantFilter::default()).await, (2, limits::TOTAL_MAX), "there is one more than was counted");
    assert_eq!(list(provider()).await, (2, limits::TOTAL_MAX));
    assert_eq!(list(search("stri")).await, (2, limits::TOTAL_MAX));
    let active = GrantFilter { status: Some("active".to_owned()), ..search("stri") };
    assert_eq!(list(active).await, (2, limits::TOTAL_MAX));
    assert_eq!(list(GrantFilter { status: Some("revoked".to_owned()), ..search("stri") }).await, (0, 0));
}

async fn a_credential_is_destroyed_with_its_last_living_grant(store: &Database) {
    let world = World::create(store).await;
    let (app, id, first) = (world.app.id, world.credential.id, world.grant.id);
    let second = grant(&world.credential, None);
    let second_id = second.id;
    store.write(move |tx| grants::insert(tx, &second)).await.unwrap();
    let revoke = |grant| {
        store.write(move |tx| {
            grants::revoke(tx, app, grant, None, NOW)?;
            credentials::destroy_if_unused(tx, app, id, NOW)
        })
    };
    assert!(!revoke(first).await.unwrap());
    assert!(revoke(second_id).await.unwrap());
    assert!(!revoke(second_id).await.unwrap(), "once");
    let found = store.read(move |tx| credentials::find(tx, app, id)).await.unwrap().unwrap();
    assert_eq!((found.state, found.version), (CredentialState::Destroyed, 2));
    let secret = world.secret.id;
    assert!(store.read(move |tx| credentials::find_living(tx, app, secret)).await.unwrap().is_none());
    let mut again = world.credential.clone();
    again.version = 3;
    let update = store.write(move |tx| credentials::update(tx, &again, 2)).await;
    assert_eq!(refused(update), Code::Conflict, "what is destroyed stays so");
}

async fn a_data_key_seals_within_its_bounds(store: &Database) {
    use grantd_domain::seal::SEALS_BLOCK;
    let world = World::create(store).await;
    let app = world.app.id;
    let (_, mut key) = install();
    key.app = Some(app);
    let id = key.id;
    store.write(move |tx| data_keys::insert(tx, &key, NOW)).await.unwrap();
    let current = |made_after, seals_max| {
        store.read(move |tx| Ok(data_keys::find_current(tx, app, made_after, seals_max)?.map(|k| k.id)))
    };
    let max = 2 * SEALS_BLOCK;
    assert_eq!(current(NOW.plus_ms(-1), max).await.unwrap(), Some(id));
    assert_eq!(current(NOW, max).await.unwrap(), None, "too old");
    let reserve = || store.write(move |tx| data_keys::reserve(tx, id, max));
    assert!(reserve().await.unwrap());
    assert!(!reserve().await.unwrap(), "used up");
    assert_eq!(current(NOW.plus_ms(-1), max).await.unwrap(), None);
    let foreign = app_id();
    let find = |app| store.read(move |tx| Ok(data_keys::find(tx, app, id)?.is_some()));
    assert!(find(Some(app)).await.unwrap());
    assert!(!find(Some(foreign)).await.unwrap());
    assert!(!find(None).await.unwrap());
}

async fn the_newest_signing_key_comes_first(store: &Database) {
    let (_, wrapped) = install();
    let insert = |n: i64| {
        let id = SigningKeyId::from_uuid(grantd_wire::ids::uuid_v7(n, [0; 10]));
        let public_jwk = checkpoint_key().jwk();
        let key = signing_keys::SigningKey { id, public_jwk, data_key_id: wrapped.id, private_sealed: vec![4; 61] };
        store.write(move |tx| signing_keys::insert(tx, &key, NOW))
    };
    for n in [1, 3, 2] {
        insert(n).await.unwrap();
    }
    let keys = store.read(signing_keys::list).await.unwrap();
    let times: Vec<_> = keys.iter().map(|k| k.id.as_bytes()[5]).collect();
    assert_eq!(times, [3, 2, 1]);
}

async fn a_text_with_a_nul_is_refused_on_every_engine(store: &Database) {
    let world = World::create(store).await;
    let (app, organization) = (world.app.id, world.organization);
    let search = store.read(move |tx| apps::list(tx, organization, Some("a\0b"), 1, 0)).await;
    assert_eq!(refused(search), Code::InvalidValue);
    let insert = store.write(move |tx| secrets::insert(tx, &mut secret(app, "x", "a\0b"))).await;
    assert_eq!(refused(insert), Code::InvalidValue);
}

async fn an_impossible_row_is_named(store: &Database) {
    let world = World::create(store).await;
    store.behind_its_back("UPDATE grants SET revoked_at_ms = 5").await;
    let found = store.find_held(world.app.id, world.grant.id).await;
    let text = found.unwrap_err().to_string();
    assert_eq!(text, format!("grants.grants.status of row {} is inconsistent", world.grant.id));
}

on_every_engine! {
    an_install_is_made_once,
    the_clock_floor_never_falls,
    operators_and_their_tokens_come_back,
    an_app_changes_only_at_the_version_that_was_read,
    names_are_searched_by_their_beginning_whatever_the_case,
    a_key_is_found_by_its_hash_with_its_app,
    a_key_is_revoked_once_and_only_in_its_app,
    times_of_use_only_rise,
    callers_are_registered_once,
    a_taken_slug_becomes_the_next_one,
    a_secret_is_found_by_id_before_slug,
    a_secret_changes_only_at_the_version_that_was_read,
    a_label_is_unique_among_living_siblings,
    a_credential_has_at_most_fifty_living_grants,
    a_grant_is_revoked_once_and_only_in_its_app,
    grants_are_filtered_and_paged,
    a_total_is_counted_up_to_its_bound,
    a_credential_is_destroyed_with_its_last_living_grant,
    a_data_key_seals_within_its_bounds,
    the_newest_signing_key_comes_first,
    a_text_with_a_nul_is_refused_on_every_engine,
}

mod kept {
    use super::an_impossible_row_is_named;
    on_kept_engines! { an_impossible_row_is_named, }
}
