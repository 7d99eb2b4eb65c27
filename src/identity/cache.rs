//! Tokens that were verified, so that a signature is checked once and not on every call.

use std::{
    collections::HashMap,
    sync::{
        PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use super::{Caller, clients::Digest};

/// Tokens that are remembered.
const MOST: usize = 1024;

/// By the digest of the token: whose it is, and the second since 1970 from which on it is nobody's. Only good tokens get in,
/// so that nobody can fill it who has none.
#[derive(Debug, Default)]
pub(super) struct Cache {
    callers: RwLock<HashMap<Digest, (Caller, u64)>>,
    generation: AtomicU64,
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

impl Cache {
    /// Changes whenever everything is forgotten.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    pub(super) fn get(&self, digest: &Digest) -> Option<Caller> {
        let callers = self.callers.read().unwrap_or_else(PoisonError::into_inner);
        callers.get(digest).filter(|(_, until)| now() < *until).map(|(caller, _)| caller.clone())
    }

    /// Remembers what was verified in `generation`, unless what it was verified against has changed since.
    pub(super) fn put(&self, digest: Digest, caller: Caller, until: u64, generation: u64) {
        let mut callers = self.callers.write().unwrap_or_else(PoisonError::into_inner);
        if self.generation() != generation {
            return;
        }
        if callers.len() >= MOST {
            let now = now();
            callers.retain(|_, (_, until)| now < *until);
            if callers.len() >= MOST {
                callers.clear();
            }
        }
        callers.insert(digest, (caller, until));
    }

    /// Forgets everything.
    pub(super) fn clear(&self) {
        let mut callers = self.callers.write().unwrap_or_else(PoisonError::into_inner);
        self.generation.fetch_add(1, Ordering::AcqRel);
        callers.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Roles;

    #[test]
    fn what_has_expired_or_was_verified_before_a_change_is_not_remembered() {
        let cache = Cache::default();
        let caller = Caller { name: Some("a".into()), roles: Roles::default() };
        let seen = cache.generation();
        cache.put([1; 32], caller.clone(), u64::MAX, seen);
        cache.put([2; 32], caller.clone(), now() - 1, seen);
        assert_eq!(cache.get(&[1; 32]), Some(caller.clone()));
        assert_eq!(cache.get(&[2; 32]), None);
        cache.clear();
        cache.put([3; 32], caller.clone(), u64::MAX, seen);
        assert_eq!((cache.get(&[1; 32]), cache.get(&[3; 32])), (None, None));
        for at in 0..3 * MOST as u64 {
            let mut digest = [0; 32];
            digest[..8].copy_from_slice(&at.to_be_bytes());
            cache.put(digest, caller.clone(), u64::MAX, cache.generation());
            assert!(cache.get(&digest).is_some());
        }
        assert!(cache.callers.read().expect("no panic").len() <= MOST);
    }
}
