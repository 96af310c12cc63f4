//! Settings of the organization.

use grantd_wire::Error;
use grantd_wire::api::{Organization, OrganizationUpdate};

use super::desk::{Desk, Shown, number};
use crate::answer::Answer;
use crate::routes::Api;

/// `GET /portal/settings`.
pub async fn show(desk: &Desk<'_>) -> Result<Answer, Error> {
    let organization: Organization = desk.load(Api::OrganizationShow, &[], &[]).await?;
    Ok(desk.page(&Shown::new("portal/settings.html", "settings", &organization)))
}

/// `POST /portal/settings`.
pub async fn save(desk: &Desk<'_>) -> Result<Answer, Error> {
    let saved = match number(&desk.form, "token_days_max") {
        Ok(days) => {
            let ask =
                OrganizationUpdate { name: Some(desk.form.text("name")), token_days_max: Some(days.unwrap_or(0)) };
            desk.send::<Organization>(Api::OrganizationUpdate, &[], &ask).await.map(drop)
        }
        Err(error) => Err(error),
    };
    match saved {
        Ok(()) => Ok(desk.go("/portal/settings?done=settings_saved")),
        Err(error) => {
            let page: Organization = desk.load(Api::OrganizationShow, &[], &[]).await?;
            let keep = ["name", "token_days_max"];
            desk.again(error, &keep, Shown::new("portal/settings.html", "settings", &page))
        }
    }
}
