//! The first call of `dev`, and the text that tells a developer how to go on.

use std::fmt::Write as _;

use grantd_wire::Code;
use grantd_wire::api::Event;
use serde_json::json;

use super::made::Made;
use crate::cli::{Api, Failure, NoQuery, chain, escape};

const SERVER_DEFAULT: &str = "http://127.0.0.1:8400";

/// Where everything is.
pub struct Place<'a> {
    pub base_url: &'a str,
    /// Signs in to the portal once.
    pub login_url: &'a str,
    pub demo_url: &'a str,
    /// Absolute.
    pub data_dir: &'a str,
}

/// How the one real call through the vault ended.
pub enum Sample {
    Answered {
        status: u16,
        body: String,
        event: Event,
    },
    /// An app or a grant may be set so that calls are refused; that is no reason not to start.
    Refused {
        why: String,
        next: Next,
    },
}

/// What to do about a refused call.
pub enum Next {
    /// This command makes such calls possible again.
    Undo(String),
    /// The next start makes what is missing.
    Restart,
    /// The audit trail tells more.
    Look,
}

/// Makes the call.
pub async fn sample(
    api: &Api,
    base_url: &str,
    made: &Made,
    demo_url: &str,
    demo_host: &str,
) -> Result<Sample, Failure> {
    let unusable = |e: grantd_sdk::Error| Failure::local(format!("the first call could not be made: {}", chain(&e)));
    let app = grantd_sdk::App::builder(made.api_key.clone()).base_url(base_url).build().map_err(unusable)?;
    let answer = app
        .request("GET", &format!("{demo_url}/hello"))
        .grant_id(&made.grant_id)
        .reason("first call of grantd dev")
        .context("user_id", "demo-user")
        .any_status()
        .redact_echo()
        .send()
        .await;
    app.close().await;
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => return Ok(refused(&error, made, demo_host)),
    };
    let event = match &answer.event_id {
        Some(id) => api.get(&["apps", &made.app_id, "audit", "events", id], &NoQuery {}).await?,
        None => Event::new(),
    };
    let body = String::from_utf8_lossy(&answer.body).into_owned();
    Ok(Sample::Answered { status: answer.status, body, event })
}

fn refused(error: &grantd_sdk::Error, made: &Made, demo_host: &str) -> Sample {
    let Some(refusal) = error.refusal() else {
        return Sample::Refused { why: chain(error), next: Next::Look };
    };
    let (app, grant, slug) = (&made.app_id, &made.grant_id, &made.slug);
    let next = match refusal.code.as_deref().and_then(Code::parse) {
        Some(Code::RestrictedGrantRequiresProxy) => Next::Undo(format!("grantd apps update {app} --retrieve on")),
        Some(Code::TenantMismatch) => Next::Undo(format!("grantd grants update {grant} --clear-tenant")),
        Some(Code::BlockedDestination) => {
            Next::Undo(format!("grantd managed-secrets set-allowed-hosts {slug} --host {demo_host}"))
        }
        Some(Code::GrantExpired | Code::GrantRevoked | Code::KeyRevoked | Code::KeyExpired) => Next::Restart,
        _ => Next::Look,
    };
    let hint = refusal.hint.as_deref().map(|hint| format!(" {hint}")).unwrap_or_default();
    Sample::Refused { why: format!("{}{hint}", refusal.message), next }
}

/// The text for people.
pub fn text(place: &Place<'_>, made: &Made, notes: &[String], sample: &Sample, connect_url: Option<&str>) -> String {
    let Place { base_url, login_url, demo_url, data_dir } = place;
    let mut text = format!("grantd is running on {base_url}, with everything in {data_dir}. Ctrl-C stops it.\n\n");
    let _ = write!(text, "To sign in to the portal, open this within 15 minutes; it works once:\n\n  {login_url}\n\n");
    for note in notes {
        let _ = writeln!(text, "{}", escape(note));
    }
    if !notes.is_empty() {
        text.push('\n');
    }
    text.push_str(&told(sample, demo_url));
    if let Some(url) = connect_url {
        let _ = write!(
            text,
            "To connect an account at the demo provider, as a user of yours would, open this within ten minutes:\n\n  {url}\n\n"
        );
    }
    text.push_str(&exports(place, made));
    let (app_id, grant_id) = (&made.app_id, &made.grant_id);
    let _ = write!(
        text,
        "\
and run it (pip install alter-sdk):

  import asyncio, os
  from alter_sdk import App

  async def main():
      async with App(api_key=os.environ[\"ALTER_API_KEY\"]) as vault:
          answer = await vault.request(
              \"GET\", os.environ[\"DEMO_URL\"] + \"/hello\",
              grant_id=os.environ[\"GRANT_ID\"],
              reason=\"trying grantd\", context={{\"user_id\": \"u-1\"}},
          )
          print(answer.json())

  asyncio.run(main())

What the demo API says without a credential:   curl -i {demo_url}/hello
The same call from the command line:           grantd request GET {demo_url}/hello --grant {grant_id}
Who did what:                                  grantd audit list --context user_id=u-1
Accounts that were connected:                  grantd grants list --provider demo
Store a key of your own:                       grantd managed-secrets create --name Stripe --value - --allowed-host api.stripe.com
The app is {app_id}. Another link to sign in: grantd operator login-link. Not built yet: proxy mode.
"
    );
    text
}

fn told(sample: &Sample, demo_url: &str) -> String {
    match sample {
        Sample::Answered { status, body, event } => {
            let event = json!({
                "id": event.get("id"),
                "kind": event.get("kind"),
                "outcome": event.get("outcome"),
                "host": event.get("host"),
                "context": event.get("context"),
                "hash": event.get("hash"),
            });
            format!(
                "One real call went through it: GET {demo_url}/hello answered {status}, with the credential injected\n\n\
                 {}\nand left this event in the audit trail\n\n{}\n",
                indented(body.trim()),
                indented(&event.to_string()),
            )
        }
        Sample::Refused { why, next } => {
            let (heading, command) = match next {
                Next::Undo(command) => ("To allow it again, once the lines below are pasted:", command.as_str()),
                Next::Restart => ("To go on, stop this with Ctrl-C and run it again:", "grantd dev"),
                Next::Look => ("To see more, once the lines below are pasted:", "grantd audit list --since 1h"),
            };
            let why = escape(why);
            let command = indented(command);
            format!("One call was tried, GET {demo_url}/hello, and refused: {why}\n{heading}\n\n{command}\n")
        }
    }
}

/// Two blanks before each line.
fn indented(text: &str) -> String {
    text.lines().fold(String::new(), |mut out, line| {
        let _ = writeln!(out, "  {}", escape(line));
        out
    })
}

/// What to paste. The client's three come first; the rest is for the command line.
fn exports(place: &Place<'_>, made: &Made) -> String {
    let mut lines = vec![
        ("ALTER_BASE_URL", place.base_url),
        ("ALTER_API_KEY", &made.api_key),
        ("GRANT_ID", &made.grant_id),
        ("DEMO_URL", place.demo_url),
    ];
    if place.base_url != SERVER_DEFAULT {
        lines.push(("GRANTD_SERVER", place.base_url));
    }
    lines.extend([("GRANTD_DATA_DIR", place.data_dir), ("GRANTD_APP_ID", &made.app_id)]);
    let mut text = "Paste this where your program runs:\n\n".to_owned();
    for (name, value) in lines {
        let _ = writeln!(text, "  export {name}={}", word(value));
    }
    text.push('\n');
    text
}

/// One word of a shell.
pub fn word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-:=@%+,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made() -> Made {
        let text = str::to_owned;
        Made {
            app_id: text("app-1"),
            key_id: text("key-1"),
            api_key: text("alter_rk_x"),
            secret_id: text("secret-1"),
            grant_id: text("grant-1"),
            slug: text("demo-api"),
        }
    }

    fn exported(base_url: &str, data_dir: &str) -> Vec<String> {
        let place = Place {
            base_url,
            login_url: "http://127.0.0.1:8400/portal/sign-in?link=login_x",
            demo_url: "http://127.0.0.1:1",
            data_dir,
        };
        let text = exports(&place, &made());
        text.lines().filter_map(|line| line.trim().strip_prefix("export ")).map(str::to_owned).collect()
    }

    #[test]
    fn the_lines_to_paste_work_for_any_address_and_directory() {
        let here = exported(SERVER_DEFAULT, "/home/x/.grantd");
        let names: Vec<&str> = here.iter().map(|line| line.split_once('=').unwrap().0).collect();
        let wanted = ["ALTER_BASE_URL", "ALTER_API_KEY", "GRANT_ID", "DEMO_URL", "GRANTD_DATA_DIR", "GRANTD_APP_ID"];
        assert_eq!(names, wanted);
        let there = exported("http://127.0.0.1:8480", "/home/x y/it's");
        assert!(there.contains(&"GRANTD_SERVER=http://127.0.0.1:8480".to_owned()), "{there:?}");
        assert!(there.contains(&r"GRANTD_DATA_DIR='/home/x y/it'\''s'".to_owned()), "{there:?}");
    }

    #[test]
    fn a_refused_call_says_why_and_what_undoes_it() {
        let next = Next::Undo("grantd apps update app-1 --retrieve on".to_owned());
        let sample = Sample::Refused { why: "No.".to_owned(), next };
        let login_url = "http://127.0.0.1:8400/portal/sign-in?link=login_x";
        let place = Place { base_url: SERVER_DEFAULT, login_url, demo_url: "http://127.0.0.1:1", data_dir: "/d" };
        let link = "http://127.0.0.1:8400/sdk/oauth/connect#session=sess_x";
        let text = text(&place, &made(), &["The key was revoked.".to_owned()], &sample, Some(link));
        let undo = "\n  grantd apps update app-1 --retrieve on\n";
        for wanted in
            ["refused: No.\n", undo, "The key was revoked.\n", &format!("\n  {link}\n"), &format!("\n  {login_url}\n")]
        {
            assert!(text.contains(wanted), "{text}");
        }
    }

    #[test]
    fn what_is_shown_is_indented_line_by_line_and_escaped() {
        assert_eq!(indented("{\n  \"a\": 1\u{1b}\n}"), "  {\n    \"a\": 1\\u{1b}\n  }\n");
    }
}
