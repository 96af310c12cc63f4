//! What was counted for each hour: of an app under its id, and of all apps of an organization under the organization's.

use std::collections::BTreeMap;

use grantd_domain::hourly::What;
use grantd_wire::TimeMs;
use grantd_wire::ids::AppId;

use crate::error::Result;
use crate::hot::alone;
use crate::seam::{Row, Tx, Value, owner_id};
use crate::{Engine, Store};
use grantd_domain::audit::Owner;

/// Counts of one write; appends wait for it on SQLite.
const WRITE_COUNTS: usize = 500;

/// How often what happened in which hour.
#[derive(Clone, Debug, Default)]
pub struct Counts(BTreeMap<(i64, String), i64>);

impl Counts {
    /// Counts something of the hour that begins so.
    pub fn add(&mut self, hour: TimeMs, what: What, times: i64) {
        *self.0.entry((hour.0, what.text())).or_default() += times;
    }

    /// As PostgreSQL takes them, in the order of the primary key.
    pub(crate) fn columns(&self) -> (Vec<i64>, Vec<&str>, Vec<i64>) {
        let hours = self.0.keys().map(|(hour, _)| *hour).collect();
        let whats = self.0.keys().map(|(_, what)| what.as_str()).collect();
        (hours, whats, self.0.values().copied().collect())
    }
}

/// Adds the rows of `counted` (`app_id`, `hour_ms`, `what`, `times`) to an app's counts and its organization's. In the order of the
/// primary key, so that two processes wait for each other and do not deadlock.
macro_rules! add_counted {
    () => {
        "INSERT INTO hourly (app_id, hour_ms, what, times) \
         SELECT o.id, c.hour_ms, c.what, SUM(c.times)::bigint FROM counted c CROSS JOIN LATERAL ( \
           SELECT c.app_id AS id UNION ALL SELECT a.organization_id FROM apps a WHERE a.id = c.app_id) o \
         GROUP BY o.id, c.hour_ms, c.what ORDER BY o.id, c.hour_ms, c.what \
         ON CONFLICT (app_id, hour_ms, what) DO UPDATE SET times = hourly.times + EXCLUDED.times"
    };
}
pub(crate) use add_counted;

/// Adds to an owner's counts, and, if that is an app, to its organization's.
pub(crate) fn add(tx: &mut Tx<'_>, owner: &[u8], counts: &Counts) -> Result<()> {
    let own = "INSERT INTO hourly (app_id, hour_ms, what, times) VALUES ($1, $2, $3, $4) \
        ON CONFLICT (app_id, hour_ms, what) DO UPDATE SET times = hourly.times + excluded.times";
    let organization = "INSERT INTO hourly (app_id, hour_ms, what, times) \
        SELECT organization_id, $2, $3, $4 FROM apps WHERE id = $1 \
        ON CONFLICT (app_id, hour_ms, what) DO UPDATE SET times = hourly.times + excluded.times";
    for ((hour, what), times) in &counts.0 {
        let params = [owner.into(), Value::Int(*hour), what.into(), Value::Int(*times)];
        tx.execute(own, &params)?;
        tx.execute(organization, &params)?;
    }
    Ok(())
}

/// What was counted in a step of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Where the step begins.
    pub from: TimeMs,
    /// What.
    pub what: What,
    /// How often.
    pub times: i64,
}

/// What was counted of the owner from `from` on and before `to`, in steps of `step_ms` that begin at multiples of that. What a later
/// version counts is left out.
pub fn list(tx: &mut Tx<'_>, owner: &Owner, from: TimeMs, to: TimeMs, step_ms: i64) -> Result<Vec<Counted>> {
    let sql = "SELECT hour_ms / $4 * $4, what, CAST(SUM(times) AS BIGINT) FROM hourly \
        WHERE app_id = $1 AND hour_ms >= $2 AND hour_ms < $3 GROUP BY 1, 2 ORDER BY 1, 2";
    let rows = tx.query("hourly", sql, &[owner_id(owner), from.into(), to.into(), step_ms.into()])?;
    let counted = |mut row: Row| {
        let (from, text) = (row.time("hour_ms")?, row.text("what")?);
        let times = row.int("times")?;
        Ok(What::parse(&text).map(|what| Counted { from, what, times }))
    };
    rows.into_iter().filter_map(|row| counted(row).transpose()).collect()
}

/// Forgets what was counted before.
pub fn prune(tx: &mut Tx<'_>, owner: &Owner, before: TimeMs) -> Result<u64> {
    tx.execute("DELETE FROM hourly WHERE app_id = $1 AND hour_ms < $2", &[owner_id(owner), before.into()])
}

impl Store {
    /// Adds to counts of apps, and to those of their organizations. Should the answer be lost, some of it may have been added: it is
    /// not to be asked for again.
    pub async fn count(&self, counts: Vec<(AppId, TimeMs, What, i64)>) -> Result<()> {
        for chunk in counts.chunks(WRITE_COUNTS) {
            let mut by_app: BTreeMap<AppId, Counts> = BTreeMap::new();
            for (app, hour, what, times) in chunk {
                by_app.entry(*app).or_default().add(*hour, *what, *times);
            }
            match &self.inner.engine {
                Engine::Sqlite(sqlite) => {
                    let write = move |tx: &mut Tx<'_>| {
                        by_app.iter().try_for_each(|(app, counts)| add(tx, app.as_bytes(), counts))
                    };
                    sqlite.write(write).await?;
                }
                Engine::Postgres { pools, .. } => {
                    let sql = concat!(
                        "WITH counted AS (SELECT * FROM unnest($1::bytea[], $2::bigint[], $3::text[], $4::bigint[]) \
                         AS t(app_id, hour_ms, what, times)) ",
                        add_counted!()
                    );
                    let (mut apps, mut hours, mut whats, mut times) = (vec![], vec![], vec![], vec![]);
                    for (app, counts) in &by_app {
                        let columns = counts.columns();
                        apps.extend(std::iter::repeat_n(app.as_bytes().as_slice(), columns.0.len()));
                        hours.extend(columns.0);
                        whats.extend(columns.1);
                        times.extend(columns.2);
                    }
                    alone(&pools.shared, sql, &[&apps, &hours, &whats, &times]).await?;
                }
            }
        }
        Ok(())
    }
}
