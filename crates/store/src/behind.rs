//! What stands behind a grant: its credential, and the managed secret or the provider that is of.

use std::sync::Arc;

use grantd_domain::grant::{Behind, Credential, CredentialOf};

use crate::error::Result;
use crate::seam::Row;
use crate::{credentials, providers, secrets};

/// The columns that [`read`] reads, of the aliases `c`, `s` and `p`.
macro_rules! behind_columns {
    () => {
        concat!(
            $crate::credentials::credential_columns!(),
            ", ",
            $crate::secrets::secret_columns!(),
            ", ",
            $crate::providers::provider_columns!()
        )
    };
}
pub(crate) use behind_columns;

/// Columns of a managed secret.
const SECRET_COLUMNS: usize = 13;
/// Columns of a provider.
const PROVIDER_COLUMNS: usize = 17;

/// Reads the columns of [`behind_columns`].
pub(crate) fn read(row: &mut Row) -> Result<(Credential, Behind)> {
    let credential = credentials::read(row)?;
    let behind = match &credential.of {
        CredentialOf::Secret(_) => {
            let secret = secrets::read(row)?;
            row.skip(PROVIDER_COLUMNS);
            Behind::Secret(Arc::new(secret))
        }
        CredentialOf::Account(_) => {
            row.skip(SECRET_COLUMNS);
            Behind::Provider(Arc::new(providers::read(row)?))
        }
    };
    Ok((credential, behind))
}
