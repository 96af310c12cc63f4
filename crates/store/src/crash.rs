//! Named steps at which a test lets the process die, to look at what a crash leaves behind.
//!
//! Only a program built with the feature `crash-steps` can die at one. In every other build a step is an empty function: no code, no
//! name of a step, and nothing that could be switched on.

#[cfg(feature = "crash-steps")]
pub use steps::{STEPS, arm, step};

/// Nothing: this build has no crash steps.
#[cfg(not(feature = "crash-steps"))]
#[inline]
pub const fn step(_name: &'static str) {}

#[cfg(feature = "crash-steps")]
mod steps {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// Every step there is. The part before the dot says when it is passed: `init` while an install is made, `stop` while the
    /// server ends, `callback`, `refresh` and `ending` of accounts at OAuth providers, `sign_in` and `key_entry` while a user signs in or
    /// gives a key, `retention` when a trail comes of age, `sqlite` and `postgres` while serving on that engine, all others while serving
    /// on either.
    pub const STEPS: &[&str] = &[
        "init.directory_made",
        "init.migration_applied",
        "init.migrated",
        "init.root_key_written",
        "init.root_key_made",
        "init.token_written",
        "init.rows_written",
        "init.install_made",
        "sqlite.begun",
        "sqlite.append_ran",
        "sqlite.job_ran",
        "sqlite.before_commit",
        "sqlite.committed",
        "sqlite.answering",
        "sqlite.log_moved",
        "postgres.lane_begun",
        "postgres.lane_before_commit",
        "postgres.lane_committed",
        "postgres.append_linked",
        "postgres.append_written",
        "store.before_statement",
        "token.decided",
        "token.durable",
        "key.inserted",
        "key.revoked",
        "secret.sealed",
        "secret.inserted",
        "secret.credential_inserted",
        "secret.grant_inserted",
        "secret.rotated",
        "data_key.stored",
        "grant.inserted",
        "grant.revoked",
        "grant.credential_destroyed",
        "change.durable",
        "checkpoint.signed",
        "checkpoint.stored",
        "job.nonces_pruned",
        "job.terms_stored",
        "job.events_counted",
        "stop.drained",
        "stop.uses_written",
        "stop.jobs_ended",
        "stop.closed",
        "callback.taken",
        "callback.exchanged",
        "callback.identified",
        "callback.credential_written",
        "callback.kept",
        "sign_in.taken",
        "sign_in.exchanged",
        "sign_in.proved",
        "sign_in.user_known",
        "sign_in.written",
        "sign_in.kept",
        "key_entry.taken",
        "key_entry.checked",
        "key_entry.sealed",
        "key_entry.credential_written",
        "key_entry.kept",
        "refresh.claimed",
        "refresh.opened",
        "refresh.confirmed",
        "refresh.answered",
        "refresh.sealed",
        "refresh.replaced",
        "refresh.stored",
        "refresh.kept",
        "refresh.broken",
        "ending.taken",
        "ending.sent",
        "ending.settled",
        "retention.cut",
        "retention.signed",
        "retention.durable",
        "retention.terms_deleted",
        "retention.events_deleted",
        "retention.ended",
    ];

    struct Armed {
        name: String,
        /// Passages until the last one.
        left: AtomicU64,
    }

    static ARMED: OnceLock<Armed> = OnceLock::new();

    /// Arms `NAME` or `NAME:COUNT`: the process dies when it passes that step, the first time or the COUNTth.
    pub fn arm(text: &str) -> Result<(), String> {
        let (name, count) = text.split_once(':').unwrap_or((text, "1"));
        if !STEPS.contains(&name) {
            return Err(format!("`{name}` is no crash step. There are: {}", STEPS.join(" ")));
        }
        let count = count.parse().ok().filter(|count| *count > 0);
        let left = count.ok_or_else(|| format!("`{text}`: write STEP:COUNT with a count of at least 1"))?;
        let armed = Armed { name: name.to_owned(), left: AtomicU64::new(left) };
        ARMED.set(armed).map_err(|_| "a crash step is armed already".to_owned())
    }

    /// Dies here, as if killed, if this step is armed and it is time: nothing is unwound, flushed or closed.
    pub fn step(name: &'static str) {
        assert!(STEPS.contains(&name), "every step is in the list");
        let Some(armed) = ARMED.get() else { return };
        if armed.name == name && armed.left.fetch_sub(1, Ordering::SeqCst) == 1 {
            std::process::abort();
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn only_a_step_of_the_list_and_a_count_can_be_armed() {
            assert!(arm("token.decidet").unwrap_err().contains("There are: init.directory_made"));
            for text in ["token.decided:0", "token.decided:", "token.decided:x", "token.decided:-1"] {
                assert!(arm(text).unwrap_err().contains("STEP:COUNT"), "{text}");
            }
        }

        #[test]
        fn names_are_unique() {
            let unique: std::collections::BTreeSet<_> = STEPS.iter().collect();
            assert_eq!(unique.len(), STEPS.len());
        }
    }
}
