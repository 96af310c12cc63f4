//! Hashing of operators' passwords.
//!
//! Invariants: a hash takes the same time whether there is such an operator or not; so many are made at once, so many wait, and one
//! more is told to come again: no number of attempts takes the process's memory.

use std::sync::Arc;

use argon2::{Algorithm, Argon2, Block, Params, Version};
use grantd_domain::env::{Entropy, random};
use grantd_store::sign_in_methods::PasswordHash;
use grantd_wire::{Code, Error, limits};
use tokio::sync::Semaphore;
use zeroize::{Zeroize as _, Zeroizing};

use crate::install::Pepper;

/// Whoever hashes.
pub struct Passwords {
    /// Those that are hashed now.
    hashing: Arc<Semaphore>,
    /// Those, and those that wait.
    waiting: Semaphore,
}

impl Default for Passwords {
    fn default() -> Self {
        let places = limits::PASSWORD_HASHES_AT_ONCE + limits::PASSWORD_HASHES_WAITING_MAX;
        Self { hashing: Arc::new(Semaphore::new(limits::PASSWORD_HASHES_AT_ONCE)), waiting: Semaphore::new(places) }
    }
}

impl Passwords {
    /// Hashes a new password.
    pub async fn hash(&self, entropy: &dyn Entropy, pepper: &Pepper, password: &str) -> Result<PasswordHash, Error> {
        let (memory_kib, passes) = (limits::PASSWORD_MEMORY_KIB, limits::PASSWORD_PASSES);
        let salt = random(entropy);
        let hash = self.run(peppered(pepper, password), memory_kib, passes, salt).await?;
        Ok(PasswordHash { memory_kib, passes, salt, hash })
    }

    /// Whether it is the password that was stored; `None`: there is none, which is found out just as slowly.
    pub async fn is(&self, pepper: &Pepper, password: &str, stored: Option<&PasswordHash>) -> Result<bool, Error> {
        let (memory_kib, passes, salt) = match stored {
            Some(stored) => (stored.memory_kib, stored.passes, stored.salt),
            None => (limits::PASSWORD_MEMORY_KIB, limits::PASSWORD_PASSES, [0; 16]),
        };
        let hash = self.run(peppered(pepper, password), memory_kib, passes, salt).await?;
        let expected = stored.map_or([0; 32], |stored| stored.hash);
        let is_same = aws_lc_rs::constant_time::verify_slices_are_equal(&hash, &expected).is_ok();
        Ok(is_same && stored.is_some())
    }

    async fn run(
        &self,
        input: Zeroizing<[u8; 32]>,
        memory_kib: u32,
        passes: u32,
        salt: [u8; 16],
    ) -> Result<[u8; 32], Error> {
        let _waiting = self.waiting.try_acquire().map_err(|_| Error::new(Code::Busy))?;
        let permit = Arc::clone(&self.hashing).acquire_owned().await.map_err(|_| Error::new(Code::Draining))?;
        let hashed = tokio::task::spawn_blocking(move || {
            // Held until the memory is free again, also when nobody waits for the answer any more.
            let _permit = permit;
            argon2id(&*input, memory_kib, passes, salt)
        });
        let hash = hashed.await.ok().flatten();
        hash.ok_or_else(|| {
            tracing::error!(memory_kib, passes, "A password cannot be hashed");
            Error::new(Code::Internal)
        })
    }
}

/// What is hashed: whoever has the database alone cannot try passwords.
fn peppered(pepper: &Pepper, password: &str) -> Zeroizing<[u8; 32]> {
    Zeroizing::new(pepper.hash(Zeroizing::new(["grantd.password.1|", password].concat())))
}

fn argon2id(input: &[u8], memory_kib: u32, passes: u32, salt: [u8; 16]) -> Option<[u8; 32]> {
    let mut hash = [0; 32];
    let params = Params::new(memory_kib, passes, 1, Some(hash.len())).ok()?;
    let mut blocks = vec![Block::new(); params.block_count()];
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let done = argon2.hash_password_into_with_memory(input, &salt, &mut hash, &mut blocks);
    for block in &mut blocks {
        block.zeroize();
    }
    done.ok().map(|()| hash)
}

#[cfg(test)]
mod tests {
    use super::*;
    use grantd_wire::sign::unhex;

    #[test]
    fn it_is_argon2id() {
        // As OpenSSL makes it.
        let hash = argon2id(b"password", 65_536, 2, *b"somesaltsomesalt").unwrap();
        assert_eq!(Some(hash), unhex(KNOWN));
        assert!(argon2id(b"password", 1, 2, *b"somesaltsomesalt").is_none(), "too little memory is an error");
    }

    const KNOWN: &str = "fc33b78139231d34b71626bd6245c1d72efa190ad605c3d8166a72adcedfa2c2";

    #[tokio::test]
    async fn so_many_wait_and_one_more_is_told_to_come_again() {
        let passwords = Passwords::default();
        let all = limits::PASSWORD_HASHES_AT_ONCE + limits::PASSWORD_HASHES_WAITING_MAX;
        let input = || Zeroizing::new([7; 32]);
        let held = passwords.waiting.try_acquire_many(u32::try_from(all - 1).unwrap()).unwrap();
        assert!(passwords.run(input(), 64, 1, [1; 16]).await.is_ok());
        let last = passwords.waiting.try_acquire().unwrap();
        assert_eq!(passwords.run(input(), 64, 1, [1; 16]).await.unwrap_err().code, Code::Busy);
        drop((held, last));
        assert!(passwords.run(input(), 64, 1, [1; 16]).await.is_ok());
    }
}
