//! Every page in every form, made of the words given.

use grantd_wire::TimeMs;

use super::super::*;

/// What others name.
pub(super) struct Words {
    /// Names of apps, users, providers, accounts, scopes.
    pub(super) name: String,
    /// Ids and codes.
    pub(super) id: String,
    pub(super) website: String,
    /// Where a browser is sent.
    pub(super) url: String,
    pub(super) base: &'static str,
}

impl Words {
    pub(super) fn plain() -> Self {
        Self {
            name: "Fernway Travel".to_owned(),
            id: "google".to_owned(),
            website: "https://fernway.example/about".to_owned(),
            url: "https://fernway.example/return?trip=7#top".to_owned(),
            base: "/vault",
        }
    }

    pub(super) fn site(&self) -> Site<'_> {
        Site { base: self.base, host: "vault.halden.example" }
    }

    fn app(&self) -> App<'_> {
        App {
            name: &self.name,
            website: Some(&self.website),
            brand_css_href: Some("/brand/app_1.css?v=0011"),
            logo: Some("/brand/app_1.png?v=0011"),
        }
    }

    fn session(&self, several: bool) -> Session<'_> {
        Session { id: &self.id, csrf: &self.id, user: several.then_some(self.name.as_str()), several }
    }

    fn provider(&self) -> Provider<'_> {
        Provider { id: &self.id, name: &self.name }
    }

    fn support(&self) -> Support<'_> {
        Support { code: &self.id, request_id: &self.id }
    }

    /// Hands each page over, with a name for it.
    pub(super) fn each(&self, mut see: impl FnMut(&str, &Page<'_>)) {
        let bare = App { website: None, brand_css_href: None, logo: None, ..self.app() };
        for (not_a_link, signs_in) in [(false, false), (true, false), (false, true), (true, true)] {
            see("open", &Page::Open(Open { not_a_link, signs_in }));
        }
        for app in [bare, self.app()] {
            let (session, provider) = (self.session(false), self.provider());
            see("sign_in", &Page::SignIn(SignIn { app, session, provider }));
            for several in [false, true] {
                let (session, only) = (self.session(several), (!several).then(|| self.provider()));
                see("connect_sign_in", &Page::ConnectSignIn(ConnectSignIn { app, session, provider, only }));
            }
            for end in SignInEnd::ALL {
                for again in [None, Some("/connect/x")] {
                    see("signed_in", &Page::SignedIn(SignedIn { app, end, again, support: self.support() }));
                }
            }
        }
        self.keys(&mut see);
        self.lists(&mut see);
        self.consents(&mut see);
        self.outcomes(&mut see);
        self.endings(&mut see);
        for app in [None, Some(bare), Some(self.app())] {
            see("expired", &Page::Expired(Stale { app }));
            see("wrong_browser", &Page::WrongBrowser(Stale { app }));
            see("closed", &Page::Closed(Stale { app }));
            for kind in TroubleKind::ALL {
                let again_href = app.map(|_| "/connect/x?provider=google");
                see("trouble", &Page::Trouble(Trouble { app, kind, again_href, support: self.support() }));
            }
        }
    }

    fn keys(&self, see: &mut impl FnMut(&str, &Page<'_>)) {
        let hosts = [self.name.as_str(), "api.example.com"];
        let input = |kind, wrong: Option<InputWrong>| Input {
            name: &self.id,
            label: Some(&self.name),
            hint: Some(&self.name),
            kind,
            required: wrong.is_some(),
            choices: if kind == InputKind::Choice { &hosts } else { &[] },
            typed: (kind == InputKind::Text).then_some(self.name.as_str()),
            wrong,
        };
        let kinds = [InputKind::Text, InputKind::Secret, InputKind::Choice];
        let mut wrongs = vec![None];
        wrongs.extend(InputWrong::ALL.map(Some));
        let fields: Vec<Input<'_>> =
            kinds.into_iter().flat_map(|kind| wrongs.iter().map(move |wrong| input(kind, *wrong))).collect();
        let mut troubles = vec![None];
        troubles.extend(KeyTrouble::ALL.map(Some));
        troubles.push(Some(KeyTrouble::Refused { status: &self.id }));
        for (n, trouble) in troubles.into_iter().enumerate() {
            let is_odd = n % 2 == 1;
            let bare = Input { label: None, hint: None, ..input(InputKind::Secret, None) };
            let entry = KeyEntry {
                app: self.app(),
                session: self.session(false),
                provider: self.provider(),
                again: is_odd,
                label: (!is_odd).then(|| input(InputKind::Text, None)),
                key: if is_odd { bare } else { input(InputKind::Secret, Some(InputWrong::Unfit)) },
                fields: if is_odd { &[] } else { &fields },
                hosts: &hosts,
                docs: is_odd.then_some(self.website.as_str()),
                until: is_odd.then_some(TimeMs(1_795_960_800_000)),
                checked: is_odd,
                trouble,
            };
            see("key_entry", &Page::KeyEntry(&entry));
        }
        for own in [false, true] {
            let (app, session, provider) = (self.app(), self.session(false), self.provider());
            let label = own.then_some(self.name.as_str());
            let until = own.then_some(TimeMs(1_795_960_800_000));
            let known = KeyKnown { app, session, provider, label, own, since: TimeMs(1_795_960_800_000), until };
            see("key_known", &Page::KeyKnown(known));
        }
    }

    fn lists(&self, see: &mut impl FnMut(&str, &Page<'_>)) {
        let states = [OfferState::ToDo, OfferState::Connected, OfferState::Declined];
        let offer = |state| Offer {
            provider: self.provider(),
            note: (state == OfferState::Connected).then_some(self.name.as_str()),
            state,
        };
        let offers: Vec<Offer<'_>> = states.into_iter().map(offer).collect();
        for offers in [&offers[..], &offers[1..], &offers[2..], &[]] {
            see("picker", &Page::Picker(Picker { app: self.app(), session: self.session(true), offers }));
        }
    }

    fn consents(&self, see: &mut impl FnMut(&str, &Page<'_>)) {
        let line = |known| ScopeLine { text: &self.name, known };
        let scopes = [line(true), line(true), line(false)];
        for (scopes, several) in [(&scopes[..], true), (&scopes[..2], false), (&scopes[2..], false), (&[], true)] {
            let consent = Consent {
                app: self.app(),
                session: self.session(several),
                provider: self.provider(),
                scopes,
                repair: several.then_some(self.name.as_str()),
                until: several.then_some(TimeMs(1_795_960_800_000)),
                direct: !several,
            };
            see("consent", &Page::Consent(consent));
            let (app, session, provider) = (consent.app, consent.session, consent.provider);
            see("partial", &Page::Partial(Partial { app, session, provider, missing: scopes }));
        }
        see("leaving", &Page::Leaving(Leaving { app: self.app(), provider: self.provider(), url: &self.url }));
    }

    fn outcomes(&self, see: &mut impl FnMut(&str, &Page<'_>)) {
        let (app, provider) = (self.app(), self.provider());
        for several in [false, true] {
            let session = self.session(several);
            see("declined", &Page::Declined(Declined { app, session, provider }));
            for reason in Reason::ALL {
                let account = several.then_some(self.name.as_str());
                let support = self.support();
                see("failed", &Page::Failed(Failed { app, session, provider, reason, account, support }));
            }
        }
    }

    fn endings(&self, see: &mut impl FnMut(&str, &Page<'_>)) {
        let grant = |operation, account: bool| Granted {
            grant_id: &self.id,
            provider: &self.id,
            provider_name: &self.name,
            account_identifier: account.then_some(self.name.as_str()),
            account_name: None,
            timestamp: TimeMs(1_795_960_800_000),
            operation,
            scopes: &[],
        };
        let grants =
            [grant(Operation::Creation, true), grant(Operation::Reauth, true), grant(Operation::Creation, false)];
        let (code, description) = (self.id.as_str(), self.name.as_str());
        let endings = [
            Ending::Connected(&grants),
            Ending::Connected(&grants[..1]),
            Ending::Connected(&grants[1..2]),
            Ending::Connected(&grants[2..]),
            Ending::Connected(&[]),
            Ending::Declined { code, description },
            Ending::Failed { code, description },
        ];
        for ending in endings {
            for to in [None, Some(self.url.as_str())] {
                let names = [description, description];
                let left_out = if to.is_some() { &names[..] } else { &[] };
                let finished = Finished {
                    app: self.app(),
                    ending,
                    is_key: to.is_some(),
                    left_out,
                    target_origin: to,
                    return_url: to,
                };
                see("finished", &Page::Finished(finished));
            }
        }
    }
}
