//! The story: every command in an order that makes sense, and its mistakes.

use super::super::super::Exit;

/// One command line.
#[derive(Clone, Copy)]
pub struct Step {
    /// Without `grantd`. `$NAME` stands for what an earlier step saved, and for `$DIR`, `$DATA`, `$SERVER` and `$PROVIDER`.
    pub line: &'static str,
    pub stdin: &'static str,
    pub exit: Exit,
    /// What of the JSON later lines need: a name, and where it is.
    pub saves: &'static [(&'static str, &'static str)],
    /// Files that are there, in `$DIR`.
    pub files: &'static [(&'static str, &'static str)],
    /// What the directory of `$IDP` tells the server first, with the token `$SCIM`: of which resource, and what.
    pub told: &'static [(&'static str, &'static str)],
    /// Runs on the files of a host, by its own clock.
    pub is_local: bool,
    /// Goes on until it is stopped.
    pub is_endless: bool,
    /// Prints lines that are not ours to break.
    pub wide: bool,
}

pub const fn step(line: &'static str) -> Step {
    let (is_local, is_endless, wide) = (false, false, false);
    Step { line, stdin: "", exit: Exit::Ok, saves: &[], files: &[], told: &[], is_local, is_endless, wide }
}

const fn fails(line: &'static str, exit: Exit) -> Step {
    Step { exit, ..step(line) }
}

const fn local(line: &'static str) -> Step {
    Step { is_local: true, ..step(line) }
}

const fn saves(line: &'static str, saves: &'static [(&'static str, &'static str)]) -> Step {
    Step { saves, ..step(line) }
}

/// A command that stores a value, from stdin.
const fn stores(line: &'static str, saves: &'static [(&'static str, &'static str)]) -> Step {
    Step { stdin: "example-value", saves, ..step(line) }
}

/// Commands that the story leaves out, and why.
pub const NOT_TOLD: &[(&str, &str)] = &[
    ("serve", "it prints one line when it listens, which every test of the program waits for"),
    ("dev", "it serves until it is stopped; tests of its own know its text, and the README is run by one"),
    ("doctor", "what it finds depends on the machine; its own tests have the texts"),
    ("connect", "it waits for somebody in a browser; its own tests have the texts"),
    ("completion", "a script that clap makes"),
    ("man", "pages that clap makes of what --help says"),
    ("openapi", "the document is kept in docs/openapi.json"),
];

pub const STORY: &[Step] = &[
    fails("auth whoami", Exit::NotSignedIn),
    step("auth status"),
    step("auth login --token-file $DATA/operator.pat"),
    step("auth status"),
    step("auth whoami"),
    step("apps list"),
    fails("apps show", Exit::Usage),
    fails("grants list", Exit::Usage),
    saves(
        "apps create --name shop --description 'The web shop' --website-url https://shop.example.com",
        &[("APP", "/id")],
    ),
    saves("apps create --name blog", &[("BLOG", "/id")]),
    fails("apps create --name shop --website-url shop", Exit::Usage),
    fails("link", Exit::Usage),
    step("link $APP"),
    step("apps list"),
    step("apps list --limit 1 --fields name,state"),
    step("apps show"),
    fails("apps show 0199c0de-0000-7000-8000-00000000beef", Exit::NotFound),
    step("apps update --tenant-key user_id --tenant-mode observe --index run_id,user_id"),
    step("apps update --connect-sign-in required --return-origin https://shop.example"),
    fails("apps update", Exit::Usage),
    fails("apps delete $BLOG --confirm blog", Exit::Conflict),
    step("apps archive $BLOG"),
    step("apps unarchive $BLOG"),
    step("apps archive $BLOG"),
    fails("apps delete $BLOG --confirm shop", Exit::Usage),
    step("apps delete $BLOG --confirm blog"),
    // Before anything happened: what is counted later depends on the moment, and `overview.rs` has it.
    step("overview"),
    step("overview --range 30d --all-apps --fields range,total"),
    fails("overview --range 7d", Exit::Usage),
    step("apps retention show"),
    step("apps retention set --for 90d"),
    fails("apps retention set --for 5m", Exit::Usage),
    step("apps retention reset"),
    step("apps hold show"),
    step("apps hold set --reason 'Case 2026/17'"),
    step("apps hold release"),
    step("branding get"),
    step("branding set --display-name 'The Shop' --accent-color #0a7f5a"),
    fails("branding set --accent-color green", Exit::Error),
    step("branding reset"),
    step("organization show"),
    step("organization rename --name Acme"),
    fails("organization rename --name ''", Exit::Usage),
    step("organization update --token-days-max 0"),
    fails("organization update --token-days-max 3661", Exit::Error),
    saves("operators create --email ann@example.com --role developer", &[("ANN", "/id")]),
    fails("operators create --email ann@example.com --role viewer", Exit::Conflict),
    step("operators list"),
    step("operators show $ANN"),
    step("operators update $ANN --role viewer"),
    step("operators disable $ANN"),
    step("operators enable $ANN"),
    step("operators login-link $ANN"),
    fails("operators show 0199c0de-0000-7000-8000-00000000beef", Exit::NotFound),
    saves("tokens create --name laptop --operator $ANN --expires-in 30d", &[("TOKEN", "/id")]),
    fails("tokens create --name root --operator $ANN --role admin", Exit::Error),
    step("tokens list"),
    step("tokens show $TOKEN"),
    step("tokens revoke $TOKEN"),
    fails("tokens revoke 0199c0de-0000-7000-8000-00000000beef", Exit::NotFound),
    step("identity-keys list"),
    step("identity-keys rotate"),
    fails("identity-keys rotate", Exit::Conflict),
    step("identity-keys rotate --leaked"),
    step("keys list"),
    saves("keys mint --name web", &[("KEY", "/id")]),
    step(
        "keys mint --name job --scopes tokens:retrieve,grants:read --cidr 10.0.0.0/8 --rate-limit-rpm 600 --expires-in 90d",
    ),
    fails("keys mint --name job --scopes tokens:steal", Exit::Error),
    step("keys mint --name old --allow-unsigned-identity"),
    step("keys list"),
    step("keys show $KEY"),
    step("keys rename $KEY --name storefront"),
    saves("keys rotate $KEY --grace 7d", &[("NEXT", "/id")]),
    fails("keys rotate $KEY", Exit::Conflict),
    step("keys revoke $NEXT"),
    fails("keys show 0199c0de-0000-7000-8000-00000000beef", Exit::NotFound),
    step("providers list-catalog --search git"),
    step("providers list-catalog google"),
    fails("providers list-catalog nonesuch", Exit::NotFound),
    step("providers list"),
    stores("providers create google --client-id 1234.apps.example.com --client-secret -", &[]),
    step("providers list-catalog salesforce"),
    fails("providers create microsoft --client-id 1234 --field tenant=a/b", Exit::Error),
    fails("providers create google --client-id 1234 --field tenant=a", Exit::Error),
    fails("providers create ebay --client-id 1234", Exit::Error),
    step("providers create microsoft --client-id 1234 --field tenant=contoso.example"),
    fails("providers update microsoft --field tenant=a --field tenant=b", Exit::Usage),
    step("providers update microsoft --default-fields"),
    step("providers delete microsoft --confirm microsoft"),
    step("providers create --provider docusign --client-id 1234 --environment demo --name Signatures"),
    stores(
        "providers create acme --custom --name Acme --client-id 1234 --client-secret - \
         --authorize-url https://id.acme.example/authorize --token-url https://id.acme.example/token \
         --authorize-param prompt=consent --scopes read,write --scope-text read=Read --allowed-host api.acme.example",
        &[],
    ),
    fails("providers create google --client-id 1234", Exit::Conflict),
    fails("providers create nonesuch --client-id 1234", Exit::Error),
    fails("providers create google", Exit::Usage),
    step("providers list"),
    step("providers show google"),
    step("providers show acme"),
    fails("providers show nonesuch", Exit::NotFound),
    step("providers update google --scopes openid,email --allowed-host mail.example.com"),
    step("providers update acme --token-url https://id.acme.example/v2/token --default-scopes"),
    fails("providers update acme --token-url https://elsewhere.example/token", Exit::Error),
    fails("providers update google --header X-Token", Exit::Usage),
    fails("providers update google", Exit::Usage),
    fails("providers delete google --confirm goo", Exit::Usage),
    step("providers delete google --confirm google"),
    step("managed-secrets templates --search stripe"),
    step("managed-secrets templates shopify"),
    fails("managed-secrets templates nonesuch", Exit::NotFound),
    step("managed-secrets list"),
    stores("managed-secrets create --name Partner --value - --allowed-host $PROVIDER", &[("GRANT", "/grant_id")]),
    stores("managed-secrets create --name Store --value - --template shopify --field store=acme", &[]),
    stores("managed-secrets create --name Search --value - --template meilisearch --field host=http://$PROVIDER", &[]),
    stores(
        "managed-secrets create --name Maps --value - --credential-type header_key --header X-Maps-Key \
         --injection query_param:region:region --field region=eu --allowed-host maps.example.com,*.maps.example.com/v1",
        &[],
    ),
    stores("managed-secrets create --name Anything --value - --allow-any-host", &[]),
    fails("managed-secrets create --name Lost --value x", Exit::Usage),
    fails("managed-secrets create --name Store --value x --template shopify", Exit::Error),
    step("managed-secrets list"),
    step("managed-secrets show maps"),
    fails("managed-secrets show nonesuch", Exit::NotFound),
    stores("managed-secrets rotate partner --value -", &[]),
    step("managed-secrets test search"),
    fails("managed-secrets test partner", Exit::Error),
    step("managed-secrets set-allowed-hosts anything --host api.example.com"),
    fails("managed-secrets set-allowed-hosts anything --host https://api.example.com/x?y", Exit::Usage),
    saves(
        "managed-secrets grants create --secret partner --principal-type system --label nightly --expires-in 30d",
        &[("NIGHTLY", "/grant_id")],
    ),
    fails("managed-secrets grants create --secret partner --principal-type system --label nightly", Exit::Conflict),
    step("managed-secrets grants list --secret partner"),
    step("managed-secrets grants update $NIGHTLY --no-expiry"),
    step("managed-secrets access partner"),
    step("managed-secrets grants revoke $NIGHTLY --reason 'no longer needed'"),
    step("managed-secrets grants revoke $NIGHTLY"),
    fails("managed-secrets delete maps --confirm map", Exit::Usage),
    step("managed-secrets delete maps --confirm maps"),
    step("grants list --status active"),
    step("grants list --search nothing"),
    step("grants show $GRANT"),
    fails("grants show 0199c0de-0000-7000-8000-00000000beef", Exit::NotFound),
    step("grants update $GRANT --label checkout --tenant alice"),
    fails("grants update $GRANT --tenant alice --clear-tenant", Exit::Usage),
    step("grants update $GRANT --clear-tenant"),
    Step {
        wide: true,
        ..step("request GET http://$PROVIDER/hello --grant $GRANT --reason 'trying it out' --context run_id=42")
    },
    Step { wide: true, ..fails("request GET http://$PROVIDER/missing --grant $GRANT", Exit::Error) },
    fails("request GET https://elsewhere.example.com/ --grant $GRANT", Exit::Error),
    Step { files: ENV_FILE, ..fails("import env $DIR/.env --map PARTNER=partner --dry-run", Exit::Error) },
    step("import env $DIR/.env"),
    fails("import env $DIR/nonesuch", Exit::Usage),
    Step { files: CSV_FILE, ..fails("import csv $DIR/secrets.csv", Exit::Error) },
    fails("import kv --address http://$PROVIDER --path apps", Exit::Error),
    fails("grants revoke $GRANT --reason", Exit::Usage),
    step("grants revoke $GRANT --reason 'the trial is over'"),
    fails("grants revoke --all --managed-secret store", Exit::Usage),
    step("grants revoke --all --managed-secret store --reason 'a drill' --confirm store"),
    fails("grants revoke --all --provider nonesuch --confirm nonesuch", Exit::NotFound),
    step("grants revoke --all --provider acme --confirm acme"),
    step("grants list --provider acme --upstream failed"),
    // Events of one write share their moment, and have no order in a list: one kind at a time.
    saves("audit list --kind secret.created --limit 4", &[("EVENT", "/items/0/id")]),
    step("audit list --context run_id=42 --outcome allowed"),
    step("audit list --organization --kind pat.created --limit 3"),
    step("audit list --kind key.minted --since 2020-01-01 --until 2020-01-02"),
    fails("audit list --kind key.stolen", Exit::Usage),
    Step { is_endless: true, wide: true, ..step("audit tail --since 1h --kind token.released") },
    fails("audit tail --outcome lost", Exit::Usage),
    fails("audit tail --fields nonsense", Exit::Usage),
    step("audit show $EVENT"),
    fails("audit show 0199c0de-0000-7000-8000-00000000beef", Exit::NotFound),
    step("audit export --out $DIR/audit.jsonl"),
    Step { wide: true, ..step("audit export --format csv --kind grant.revoked") },
    step("audit verify $DIR/audit.jsonl"),
    // What it prints depends on the moment; `messages.rs` has it.
    fails("audit checkpoints --cursor soon", Exit::Usage),
    fails("audit erase --event $EVENT --reason 'Request 42'", Exit::Usage),
    step("audit erase --event $EVENT --reason 'Request 42' --confirm shop"),
    fails("audit erase --reason 'Request 42'", Exit::Usage),
    Step { files: &[("cut.jsonl", "{\"type\":\"event\"}\n")], ..fails("audit verify $DIR/cut.jsonl", Exit::Error) },
    saves(
        "idp create --preset okta --issuer https://company.okta.com/oauth2/default --audience api://default \
         --jwks-url https://company.okta.com/oauth2/default/v1/keys",
        &[("IDP", "/id")],
    ),
    fails("idp create --issuer https://id.example.com --jwks-url https://id.example.com/keys", Exit::Error),
    Step { wide: true, ..fails("idp discover --issuer https://127.0.0.1:1 --preset okta", Exit::Error) },
    step("idp list"),
    stores(
        "idp update $IDP --client-id shop --audience api://default,shop --client-secret - --roles-claim /realm_access/roles",
        &[],
    ),
    fails("idp update $IDP", Exit::Usage),
    step("idp show https://company.okta.com/oauth2/default"),
    fails("idp show nonesuch", Exit::NotFound),
    fails("idp scim show $IDP", Exit::NotFound),
    step("idp scim enable $IDP --subject-from user-name"),
    fails("idp scim enable $IDP", Exit::Conflict),
    saves("idp scim rotate $IDP", &[("SCIM", "/token")]),
    fails("idp webhook status $IDP", Exit::NotFound),
    fails("idp webhook enable $IDP --secret whsec_x", Exit::Error),
    step("idp webhook enable $IDP --subject-from login"),
    fails("idp webhook enable $IDP", Exit::Conflict),
    step("idp webhook rotate $IDP"),
    step("idp webhook status $IDP"),
    step("idp webhook disable $IDP"),
    fails("end-users list --status away", Exit::Usage),
    Step { told: DIRECTORY, ..saves("end-users list --search ada", &[("USER", "/items/0/id")]) },
    step("end-users show $USER"),
    fails("end-users show 0199c0de-0000-7000-8000-00000000beef", Exit::NotFound),
    step("end-users suspend $USER"),
    fails("managed-secrets grants create --secret partner --principal-type user --user $USER", Exit::Conflict),
    step("end-users resume $USER"),
    fails("managed-secrets grants create --secret partner --principal-type user", Exit::Error),
    fails("managed-secrets grants create --secret partner --principal-type agent", Exit::Usage),
    fails("end-users deprovision $USER --confirm grace", Exit::Usage),
    step("end-users deprovision $USER --confirm ada@example.com"),
    fails("end-users suspend $USER", Exit::Conflict),
    saves("groups list", &[("GROUP", "/items/0/id")]),
    step("groups show $GROUP"),
    fails(
        "managed-secrets grants create --secret partner --principal-type group --group $GROUP --user $USER",
        Exit::Error,
    ),
    fails("groups show nonesuch", Exit::NotFound),
    step("idp scim show $IDP"),
    step("idp scim disable $IDP"),
    fails("idp delete $IDP", Exit::Usage),
    step("idp delete $IDP --confirm Okta"),
    step("unlink"),
    fails("unlink", Exit::NotFound),
    step("auth logout"),
    local("config show --data-dir $DIR/other --listen 127.0.0.1:9000"),
    Step { is_local: true, ..fails("config show --listen nowhere", Exit::Error) },
    local("init --data-dir $DIR/other"),
    local("init --data-dir $DIR/other"),
    local("operator reset --data-dir $DIR/other"),
    local("backup --data-dir $DIR/other --out $DIR/copy.db"),
    Step { is_local: true, ..fails("backup --data-dir $DIR/other --out $DIR/copy.db", Exit::Conflict) },
    Step {
        is_local: true,
        files: NEW_KEY,
        ..fails("rotate-root-key --data-dir $DIR/other --to file:$DIR/none.key", Exit::Error)
    },
    local("rotate-root-key --data-dir $DIR/other --to file:$DIR/new.key"),
    Step { is_local: true, ..fails("restore $DIR/copy.db --data-dir $DIR/other", Exit::Conflict) },
    local("restore $DIR/copy.db --data-dir $DIR/other --in-place"),
    local("operator login-link --data-dir $DIR/other"),
];

const DIRECTORY: &[(&str, &str)] = &[
    (
        "Users",
        r#"{"userName":"ada@example.com","displayName":"Ada","emails":[{"value":"ada@example.com","primary":true}]}"#,
    ),
    ("Groups", r#"{"displayName":"Engineering","externalId":"eng"}"#),
];
const ENV_FILE: &[(&str, &str)] =
    &[(".env", "STRIPE_API_KEY=example\nLOG_LEVEL=debug\nPARTNER=example\nANTHROPIC_API_KEY=example\n")];
const CSV_FILE: &[(&str, &str)] = &[(
    "secrets.csv",
    "name,value,template,allowed_hosts\nPartner,example,,api.example.com\nMail,example,,mail.example.com\nNowhere,example,,\n",
)];
/// The key of nobody: 32 bytes that were made up.
const NEW_KEY: &[(&str, &str)] = &[("new.key", "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\n")];
