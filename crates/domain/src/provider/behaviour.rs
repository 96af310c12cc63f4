//! How a provider departs from a plain server of RFC 6749, named. The names follow from the facts of its entry: nobody writes them down
//! beside them.

use super::{Body, ClientAuth, Ends, IdentitySource, Method, Pkce, Provider, Quirk, RefreshKind, RevokeAuth};

macro_rules! behaviours {
    ($($(#[doc = $means:literal])+ $name:ident = $text:literal,)*) => {
        /// One way in which providers differ.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum Behaviour {
            $($(#[doc = $means])+ $name,)*
        }

        impl Behaviour {
            /// All there are.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Stable text.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

behaviours! {
    /// Part of its URLs is said when an app is registered.
    FieldInUrl = "field_in_url",
    /// `redirect_uri` is a name that the provider gave it.
    NamedRedirectUri = "named_redirect_uri",
    /// The link to consent goes to a route in the fragment.
    RouteInFragment = "route_in_fragment",
    /// The link needs parameters beside those of the standard.
    LinkParameters = "link_parameters",
    /// It has another name for `client_id`.
    OwnClientId = "own_client_id",
    /// It has another name for `scope` in the link.
    OwnScope = "own_scope",
    /// Between scopes there is a comma.
    CommaScopes = "comma_scopes",
    /// The link asks for no scopes: what is granted was chosen elsewhere.
    NoScopes = "no_scopes",
    /// It refuses a link without PKCE.
    PkceRequired = "pkce_required",
    /// It fails when PKCE is sent.
    PkceRefused = "pkce_refused",
    /// The code comes with something behind it.
    CodeSuffix = "code_suffix",
    /// The client's secret is sent in the body, not in a header.
    ClientInBody = "client_in_body",
    /// Token calls are JSON.
    JsonBody = "json_body",
    /// Token calls need further headers.
    TokenHeaders = "token_headers",
    /// Answers are forms.
    FormAnswer = "form_answer",
    /// Failures are 200 with `"ok": false`.
    OkFalse = "ok_false",
    /// Failures are 200 with an error.
    ErrorIn200 = "error_in_200",
    /// The tokens are deeper in the answer.
    NestedTokens = "nested_tokens",
    /// `expires_in` is 0 for a token that does not end.
    ZeroIsNever = "zero_is_never",
    /// The answer may leave out how long a token lives; it is known.
    KnownLifetime = "known_lifetime",
    /// The answer does not say how long a token lives: the first 401 will.
    MissingExpiresIn = "missing_expires_in",
    /// The answer says when a token ends, not how long it lives.
    ExpiresAt = "expires_at",
    /// A token whose answer says nothing else does not end by time.
    NeverExpires = "never_expires",
    /// The first token is exchanged at once for one that lives longer.
    SecondExchange = "second_exchange",
    /// There is no refresh token, and nothing else that renews.
    NoRefresh = "no_refresh",
    /// Each use of a refresh token returns a new one; a spent one works for a while.
    RotatesWithGrace = "rotates_with_grace",
    /// Each use of a refresh token returns a new one, and the old one is dead at once.
    RotatesStrict = "rotates_strict",
    /// Nobody says whether refresh tokens are good once: it is taken for strict.
    MayRotate = "may_rotate",
    /// The access token itself is exchanged for the next.
    ExchangesAccessToken = "exchanges_access_token",
    /// A young token is not renewed.
    RefreshMinimumAge = "refresh_minimum_age",
    /// Refreshes go to a URL of their own.
    SeparateRefreshUrl = "separate_refresh_url",
    /// The redirect URI goes along with a refresh.
    RedirectUriAtRefresh = "redirect_uri_at_refresh",
    /// Refreshes need parameters beside those of the standard.
    RefreshParameters = "refresh_parameters",
    /// The account is read from the answer of the token endpoint.
    AccountInTokenAnswer = "account_in_token_answer",
    /// The account is read from the ID token.
    AccountInIdToken = "account_in_id_token",
    /// The account is in the callback.
    AccountInCallback = "account_in_callback",
    /// The account is asked for with a body, such as a GraphQL query.
    AccountByPost = "account_by_post",
    /// Several values together are the account.
    AccountOfParts = "account_of_parts",
    /// The account has a host of its own.
    InstanceUrl = "instance_url",
    /// Tokens are sent to the API in another way than `Authorization: Bearer`.
    OwnHeader = "own_header",
    /// Further headers go to the API with a token.
    ApiHeaders = "api_headers",
    /// No call is known that ends a token.
    NoRevocation = "no_revocation",
    /// Tokens are ended by a call that is not RFC 7009's.
    OwnRevocation = "own_revocation",
    /// Ending one token ends all that the user gave the app.
    RevocationEndsGrant = "revocation_ends_grant",
}

impl Provider {
    /// How it departs from a plain server, in a fixed order.
    pub fn behaviours(&self) -> Vec<Behaviour> {
        Behaviour::ALL.iter().copied().filter(|behaviour| self.is(*behaviour)).collect()
    }

    fn is(&self, behaviour: Behaviour) -> bool {
        let (authorize, token, refresh) = (&self.authorize, &self.token, &self.refresh);
        let has = |quirk| token.quirks.contains(&quirk);
        let is_spent = refresh.kind == RefreshKind::Rotates;
        let account_is = |source| self.identity.source == source;
        match behaviour {
            Behaviour::FieldInUrl => self.fields.iter().any(|field| self.urls().any(|url| stands_in(&field.name, url))),
            Behaviour::NamedRedirectUri => authorize.redirect_uri.is_some(),
            Behaviour::RouteInFragment => authorize.url.contains('#'),
            Behaviour::LinkParameters => !authorize.params.is_empty(),
            Behaviour::OwnClientId => authorize.client_id != "client_id",
            Behaviour::OwnScope => self.scopes.param != "scope",
            Behaviour::CommaScopes => self.scopes.separator == ",",
            Behaviour::NoScopes => self.scopes.asked(&[]).is_empty(),
            Behaviour::PkceRequired => authorize.pkce == Pkce::Required,
            Behaviour::PkceRefused => authorize.pkce == Pkce::Refused,
            Behaviour::CodeSuffix => has(Quirk::CodeSuffix),
            Behaviour::ClientInBody => token.auth == ClientAuth::Post,
            Behaviour::JsonBody => token.body == Body::Json,
            Behaviour::TokenHeaders => !token.headers.is_empty(),
            Behaviour::FormAnswer => has(Quirk::FormAnswer),
            Behaviour::OkFalse => has(Quirk::OkFalse),
            Behaviour::ErrorIn200 => has(Quirk::ErrorIn200),
            Behaviour::NestedTokens => token.root.is_some(),
            Behaviour::ZeroIsNever => has(Quirk::ZeroIsNever),
            Behaviour::KnownLifetime => token.lifetime_s.is_some(),
            Behaviour::MissingExpiresIn => has(Quirk::MissingExpiresIn),
            Behaviour::ExpiresAt => token.expires_at.is_some(),
            Behaviour::NeverExpires => token.never_expires,
            Behaviour::SecondExchange => self.exchange.is_some(),
            Behaviour::NoRefresh => refresh.kind == RefreshKind::None,
            Behaviour::RotatesWithGrace => is_spent && refresh.grace_s.is_some_and(|seconds| seconds > 0),
            Behaviour::RotatesStrict => is_spent && refresh.grace_s.is_none_or(|seconds| seconds == 0),
            Behaviour::MayRotate => refresh.kind == RefreshKind::Unknown,
            Behaviour::ExchangesAccessToken => refresh.kind == RefreshKind::Exchange,
            Behaviour::RefreshMinimumAge => refresh.min_age_s.is_some(),
            Behaviour::SeparateRefreshUrl => refresh.url.as_ref().is_some_and(|url| *url != token.url),
            Behaviour::RedirectUriAtRefresh => refresh.redirect_uri,
            Behaviour::RefreshParameters => refresh.kind != RefreshKind::Exchange && !refresh.params.is_empty(),
            Behaviour::AccountInTokenAnswer => account_is(IdentitySource::Token),
            Behaviour::AccountInIdToken => account_is(IdentitySource::IdToken),
            Behaviour::AccountInCallback => account_is(IdentitySource::Callback),
            Behaviour::AccountByPost => self.identity.method != Method::Get,
            Behaviour::AccountOfParts => self.identity.id.len() > 1,
            Behaviour::InstanceUrl => self.hosts.pin.is_some(),
            Behaviour::OwnHeader => {
                self.injection.header != "Authorization" || self.injection.format != "Bearer {token}"
            }
            Behaviour::ApiHeaders => !self.injection.further.is_empty(),
            Behaviour::NoRevocation => self.revoke.is_none(),
            Behaviour::OwnRevocation => self.revoke.as_ref().is_some_and(|revoke| {
                let is_authorized = matches!(revoke.auth, RevokeAuth::Basic | RevokeAuth::Post);
                let is_named = revoke.params.get("token").is_some_and(|value| value == "{token}");
                revoke.method != Method::Post || revoke.body != Body::Form || !is_authorized || !is_named
            }),
            Behaviour::RevocationEndsGrant => self.revoke.as_ref().is_some_and(|revoke| revoke.ends == Ends::Grant),
        }
    }
}

fn stands_in(field: &str, url: &str) -> bool {
    url.contains(&format!("{{{field}}}"))
}
