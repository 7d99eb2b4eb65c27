//! Finds the two halves of an exchange: the request that the mesh has mirrored, and the primary's copy of request and answer
//! from its tap. Whichever comes first waits for the other, within bounds. No clock: `now` is an argument.
//!
//! The key is the header `x-shadow-id`, which a route can add to both; else the header `x-request-id`, which calls of one
//! user request may share, with method and body; else method and body. Equal keys are served first in, first out: then the
//! requests are the same, and so are, but for their order, the answers.

use std::{
    collections::{BTreeMap, HashMap, VecDeque, hash_map::Entry},
    hash::{BuildHasher, Hash, RandomState},
    time::{Duration, Instant},
};

use understudy::v1::Method;

use super::{Side, Unmatched};

/// What two halves have in common: 128 bits, by two keyed hashes, so that nobody can make two requests collide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key(u64, u64);

/// Makes keys. Two of them never agree.
#[derive(Debug, Default)]
pub struct Keys(RandomState, RandomState);

impl Keys {
    /// Of one half: `message` is the request, decompressed.
    pub fn key(&self, shadow_id: &str, request_id: &str, method: Method, message: &[u8]) -> Key {
        let what = if shadow_id.is_empty() { (request_id, Some((method as i32, message))) } else { (shadow_id, None) };
        Key(self.0.hash_one(what), self.1.hash_one(what))
    }
}

/// How much may wait, for each side.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Halves.
    pub capacity: usize,
    /// Bytes of the halves from the tap; those from the mirror are keys only.
    pub bytes: usize,
    /// How long.
    pub ttl: Duration,
}

/// The two-sided table. `T` is what the tap's half holds.
#[derive(Debug)]
pub struct Join<T> {
    bounds: Bounds,
    mirror: Waiting<()>,
    tap: Waiting<T>,
}

/// Halves that will not be joined any more: by side and reason, how many.
pub type Lost = Vec<(Side, Unmatched, u64)>;

impl<T> Join<T> {
    /// Nothing waits.
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, mirror: Waiting::default(), tap: Waiting::default() }
    }

    /// A mirrored request has come. The primary's half, if it waits already.
    pub fn mirrored(&mut self, key: Key, now: Instant, lost: &mut Lost) -> Option<T> {
        self.expire(now, lost);
        let answered = self.tap.take(key);
        if answered.is_none() {
            self.mirror.push(key, 0, (), now);
            note(lost, Side::Mirror, Unmatched::Evicted, self.mirror.shrink(self.bounds.capacity, usize::MAX));
        }
        answered
    }

    /// The primary's half has come, of `bytes`. It is given back if its request waits already.
    pub fn answered(&mut self, key: Key, bytes: usize, half: T, now: Instant, lost: &mut Lost) -> Option<T> {
        self.expire(now, lost);
        if self.mirror.take(key).is_some() {
            return Some(half);
        }
        if bytes > self.bounds.bytes {
            note(lost, Side::Tap, Unmatched::Oversize, 1);
            return None;
        }
        self.tap.push(key, bytes, half, now);
        note(lost, Side::Tap, Unmatched::Evicted, self.tap.shrink(self.bounds.capacity, self.bounds.bytes));
        None
    }

    /// Gives up what has waited too long.
    pub fn expire(&mut self, now: Instant, lost: &mut Lost) {
        let ttl = self.bounds.ttl;
        note(lost, Side::Mirror, Unmatched::Ttl, self.mirror.expire(now, ttl));
        note(lost, Side::Tap, Unmatched::Ttl, self.tap.expire(now, ttl));
    }

    /// Gives up everything on the mirror's side: nobody will answer any more. How many those were.
    pub fn give_up(&mut self) -> u64 {
        self.mirror.shrink(0, 0)
    }

    /// Halves that wait, by [`Side`].
    pub fn waiting(&self) -> [u64; 2] {
        [self.mirror.halves.len() as u64, self.tap.halves.len() as u64]
    }
}

fn note(lost: &mut Lost, side: Side, reason: Unmatched, count: u64) {
    if count > 0 {
        lost.push((side, reason, count));
    }
}

/// One side, in the order in which it came.
#[derive(Debug)]
struct Waiting<T> {
    halves: BTreeMap<u64, Half<T>>,
    by_key: HashMap<Key, VecDeque<u64>>,
    next: u64,
    bytes: usize,
}

#[derive(Debug)]
struct Half<T> {
    key: Key,
    since: Instant,
    bytes: usize,
    value: T,
}

impl<T> Default for Waiting<T> {
    fn default() -> Self {
        Self { halves: BTreeMap::new(), by_key: HashMap::new(), next: 0, bytes: 0 }
    }
}

impl<T> Waiting<T> {
    fn push(&mut self, key: Key, bytes: usize, value: T, since: Instant) {
        self.halves.insert(self.next, Half { key, since, bytes, value });
        self.by_key.entry(key).or_default().push_back(self.next);
        self.next += 1;
        self.bytes += bytes;
    }

    /// The oldest of this key.
    fn take(&mut self, key: Key) -> Option<T> {
        let number = *self.by_key.get(&key)?.front()?;
        self.remove(number).map(|half| half.value)
    }

    /// The oldest of its key.
    fn remove(&mut self, number: u64) -> Option<Half<T>> {
        let half = self.halves.remove(&number)?;
        self.bytes -= half.bytes;
        if let Entry::Occupied(mut numbers) = self.by_key.entry(half.key) {
            numbers.get_mut().pop_front();
            if numbers.get().is_empty() {
                numbers.remove();
            }
        }
        Some(half)
    }

    fn shrink(&mut self, capacity: usize, bytes: usize) -> u64 {
        let mut evicted = 0;
        while (self.halves.len() > capacity || self.bytes > bytes) && self.drop_first() {
            evicted += 1;
        }
        evicted
    }

    fn expire(&mut self, now: Instant, ttl: Duration) -> u64 {
        let mut expired = 0;
        let late = |half: &Half<T>| now.saturating_duration_since(half.since) >= ttl;
        while self.halves.first_key_value().is_some_and(|(_, half)| late(half)) && self.drop_first() {
            expired += 1;
        }
        expired
    }

    fn drop_first(&mut self) -> bool {
        let first = self.halves.first_key_value().map(|(number, _)| *number);
        first.and_then(|number| self.remove(number)).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { capacity: 3, bytes: 100, ttl: Duration::from_secs(10) };

    fn table() -> (Join<&'static str>, Keys, Instant, Lost) {
        (Join::new(BOUNDS), Keys::default(), Instant::now(), Lost::new())
    }

    #[test]
    fn keys_are_by_id_then_by_request_and_body_then_by_body() {
        let keys = Keys::default();
        let of = |shadow, request, method, body: &str| keys.key(shadow, request, method, body.as_bytes());
        let (infer, predict) = (Method::ModelInfer, Method::Predict);
        assert_eq!(of("a", "x", infer, "1"), of("a", "y", predict, "2"), "its own id is enough");
        assert_ne!(of("a", "x", infer, "1"), of("b", "x", infer, "1"));
        assert_eq!(of("", "x", infer, "1"), of("", "x", infer, "1"));
        assert_ne!(
            of("", "x", infer, "1"),
            of("", "x", infer, "2"),
            "calls of one user request share their request id"
        );
        assert_ne!(of("", "x", infer, "1"), of("", "y", infer, "1"));
        assert_ne!(of("", "", infer, "1"), of("", "", predict, "1"));
        assert_ne!(of("x", "", infer, ""), of("", "x", infer, ""));
    }

    #[test]
    fn halves_meet_in_either_order_first_in_first_out() {
        let (mut join, keys, now, mut lost) = table();
        let key = keys.key("", "", Method::Predict, b"same");
        let other = keys.key("", "", Method::Predict, b"other");
        assert_eq!(join.answered(key, 10, "first", now, &mut lost), None);
        assert_eq!(join.answered(key, 10, "second", now, &mut lost), None);
        assert_eq!(join.mirrored(other, now, &mut lost), None);
        assert_eq!(join.mirrored(key, now, &mut lost), Some("first"));
        assert_eq!(join.mirrored(key, now, &mut lost), Some("second"));
        assert_eq!(join.mirrored(key, now, &mut lost), None);
        assert_eq!(join.answered(key, 10, "third", now, &mut lost), Some("third"));
        assert_eq!((join.waiting(), lost.as_slice()), ([1, 0], &[][..]));
        assert_eq!((join.tap.bytes, join.tap.by_key.len(), join.mirror.by_key.len()), (0, 0, 1));
    }

    #[test]
    fn what_does_not_fit_is_told_with_its_reason() {
        let (mut join, keys, now, mut lost) = table();
        let key = |n: u8| keys.key("", "", Method::Predict, &[n]);
        for n in 0..5 {
            assert_eq!(join.mirrored(key(n), now, &mut lost), None);
        }
        assert_eq!(lost, [(Side::Mirror, Unmatched::Evicted, 1); 2]);
        lost.clear();
        assert_eq!(join.answered(key(10), 60, "a", now, &mut lost), None);
        assert_eq!(join.answered(key(11), 50, "b", now, &mut lost), None);
        assert_eq!(join.answered(key(12), 101, "c", now, &mut lost), None);
        assert_eq!(lost, [(Side::Tap, Unmatched::Evicted, 1), (Side::Tap, Unmatched::Oversize, 1)]);
        lost.clear();
        // A flood on one side takes nothing from the other.
        assert_eq!(join.waiting(), [3, 1]);
        join.expire(now + BOUNDS.ttl, &mut lost);
        assert_eq!(lost, [(Side::Mirror, Unmatched::Ttl, 3), (Side::Tap, Unmatched::Ttl, 1)]);
        assert_eq!((join.waiting(), join.tap.bytes, join.mirror.by_key.len()), ([0, 0], 0, 0));
    }

    /// Whatever comes in whatever order, every half ends once.
    #[test]
    fn nothing_is_lost_from_sight() {
        let (mut join, keys, now, mut lost) = table();
        let (mut mirrored, mut answered, mut joined) = (0, 0, 0);
        let mut random = fastrand::Rng::with_seed(7);
        for step in 0..10_000u64 {
            let at = now + Duration::from_secs(step / 4);
            let key = keys.key("", "", Method::Predict, &[random.u8(0..8)]);
            if random.bool() {
                mirrored += 1;
                joined += u64::from(join.mirrored(key, at, &mut lost).is_some());
            } else {
                answered += 1;
                joined += u64::from(join.answered(key, random.usize(0..120), "", at, &mut lost).is_some());
            }
            let gone = |side| lost.iter().filter(|(of, ..)| *of == side).map(|(.., count)| count).sum::<u64>();
            let waiting = join.waiting();
            assert_eq!(mirrored, joined + gone(Side::Mirror) + waiting[0], "step {step}");
            assert_eq!(answered, joined + gone(Side::Tap) + waiting[1], "step {step}");
        }
        assert!(joined > 1000, "{joined}");
    }
}
