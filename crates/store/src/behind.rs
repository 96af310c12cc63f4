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
const PROVIDER_COLUMNS: usize = 18;

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

#[cfg(test)]
mod tests {
    use super::{PROVIDER_COLUMNS, SECRET_COLUMNS};

    #[test]
    fn as_many_columns_are_passed_over_as_there_are() {
        let count = |columns: &str| columns.split(',').count();
        assert_eq!(count(crate::secrets::secret_columns!()), SECRET_COLUMNS);
        assert_eq!(count(crate::providers::provider_columns!()), PROVIDER_COLUMNS);
    }
}
