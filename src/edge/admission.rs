//! What may be in flight: calls and bytes, in all and of each client, and calls of each client a minute. Nothing here waits: what does
//! not fit is refused at once, with the time after which another try may fit.

use std::{
    net::{IpAddr, Ipv6Addr},
    num::NonZero,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tonic::{Status, metadata::MetadataValue};

use self::accounts::{Account, Accounts};
use super::{
    Peer,
    instruments::{Instruments, Refusal},
};

mod accounts;

/// After this time whoever was refused for want of room may try again: about what a call takes.
const ROOM: Duration = Duration::from_millis(50);

/// What may be in flight.
#[derive(Clone, Copy, Debug)]
pub struct InFlight {
    /// Calls that are complete and not yet answered, at the same time.
    pub calls: usize,
    /// Bytes of messages that have come and of answers that are not yet sent.
    pub bytes: usize,
    /// Calls of one client that are not yet answered, complete or not. Absent: no limit.
    pub client_calls: Option<usize>,
    /// Bytes of one client. Absent: no limit.
    pub client_bytes: Option<usize>,
    /// Calls of one client in a minute; as many may come at once. Absent: no limit.
    pub client_calls_a_minute: Option<NonZero<u32>>,
}

impl Default for InFlight {
    /// A quarter of everything for one client: it takes four to keep the others out, and behind a mesh, where all share an
    /// address, a quarter is still more than a worker can have in hand.
    fn default() -> Self {
        let (calls, bytes) = (4096, 256 << 20);
        Self { calls, bytes, client_calls: Some(calls / 4), client_bytes: Some(bytes / 4), client_calls_a_minute: None }
    }
}

/// Whom the limits of a client hold for: the name that identity gave, else the address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Client {
    /// Known by a certificate or a token.
    Named(Arc<str>),
    /// An address; of IPv6 the network of 64 bits that one subscriber has to himself.
    Address(IpAddr),
    /// Everybody on the Unix socket.
    Local,
}

impl From<&Peer> for Client {
    fn from(peer: &Peer) -> Self {
        match peer.ip() {
            Some(ip) => Self::Address(network(ip)),
            None => Self::Local,
        }
    }
}

/// The part of an address that tells clients apart.
pub(super) fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from(u128::from(ip) & !u128::from(u64::MAX)).into(),
        ip @ IpAddr::V4(_) => ip,
    }
}

/// Decides on every call. Shared by all workers; lock-free for clients that a worker has seen of late.
#[derive(Debug)]
pub struct Admission {
    limits: InFlight,
    calls: AtomicUsize,
    bytes: AtomicUsize,
    /// Absent where clients have no limits.
    accounts: Option<Accounts>,
    instruments: Arc<Instruments>,
}

impl Admission {
    /// Nothing in flight.
    pub fn new(limits: InFlight, instruments: Arc<Instruments>) -> Self {
        let InFlight { client_calls, client_bytes, client_calls_a_minute, .. } = limits;
        let limited = client_calls.is_some() || client_bytes.is_some() || client_calls_a_minute.is_some();
        Self {
            limits,
            calls: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            accounts: limited.then(|| Accounts::new(client_calls_a_minute)),
            instruments,
        }
    }

    /// One call of `client` begins to arrive. Among all calls it has no place yet: a message that never comes must not keep one.
    /// Among those of its client it has.
    ///
    /// # Errors
    /// RESOURCE_EXHAUSTED with `grpc-retry-pushback-ms` when the client has too many in flight or is over its rate.
    pub fn begin(self: &Arc<Self>, client: impl FnOnce() -> Client) -> Result<Permit, Status> {
        let mut permit =
            Permit { admission: self.clone(), bytes: 0, place: Place::None, account: None, counted: false };
        if let Some(accounts) = &self.accounts {
            let account = permit.account.insert(accounts.of(client()));
            let before = account.calls.fetch_add(1, Ordering::Relaxed);
            // From here on dropping it gives it back.
            permit.counted = true;
            if let Some(most) = self.limits.client_calls.filter(|most| before >= *most) {
                let text = format!("limit {most} calls of one client in flight");
                return Err(self.refuse(Refusal::ClientCalls, ROOM, &text));
            }
            self.charge(accounts, account)?;
        }
        Ok(permit)
    }

    /// A call from `peer` was denied before it began. Whoever is nobody has a rate, too: that of the address.
    ///
    /// # Errors
    /// RESOURCE_EXHAUSTED when it is over it, in place of the denial.
    pub fn denied(&self, peer: &Peer) -> Result<(), Status> {
        match &self.accounts {
            Some(accounts) if self.limits.client_calls_a_minute.is_some() => {
                self.charge(accounts, &accounts.of(Client::from(peer)))
            }
            _ => Ok(()),
        }
    }

    /// A call that is not counted.
    pub(super) fn exempt(self: &Arc<Self>) -> Permit {
        Permit { admission: self.clone(), bytes: 0, place: Place::Exempt, account: None, counted: false }
    }

    fn charge(&self, accounts: &Accounts, account: &Account) -> Result<(), Status> {
        accounts.called(account).map_err(|wait| {
            let calls = self.limits.client_calls_a_minute.map_or(0, NonZero::get);
            self.refuse(Refusal::Rate, wait, &format!("limit {calls} calls of one client in a minute"))
        })
    }

    fn refuse(&self, reason: Refusal, wait: Duration, text: &str) -> Status {
        self.instruments.refused(reason);
        busy(text, wait)
    }

    /// Calls in flight now.
    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }

    /// Bytes in flight now.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// RESOURCE_EXHAUSTED, and when to try again: for gRPC's retries (gRFC A6), and for proxies. Cheap: it is said most when there
/// is most to do.
pub fn busy(text: &str, wait: Duration) -> Status {
    let wait = wait.max(Duration::from_millis(1));
    let mut status = Status::resource_exhausted(format!("busy: {text}"));
    let metadata = status.metadata_mut();
    metadata.insert("grpc-retry-pushback-ms", MetadataValue::from(wait.as_millis() as u64));
    metadata.insert("retry-after", MetadataValue::from(wait.as_secs_f64().ceil() as u64));
    status
}

/// What one call has taken; dropping it gives it back.
#[derive(Debug)]
pub struct Permit {
    admission: Arc<Admission>,
    bytes: usize,
    place: Place,
    /// Where clients have limits.
    account: Option<Arc<Account>>,
    /// Among the calls of its account.
    counted: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    None,
    /// Neither it nor its bytes are counted.
    Exempt,
    /// Among all calls.
    Taken,
}

impl Permit {
    /// Takes the place of a call that is complete and now begins.
    ///
    /// # Errors
    /// RESOURCE_EXHAUSTED when too many are in flight.
    pub fn take_place(&mut self) -> Result<(), Status> {
        if self.place != Place::None {
            return Ok(());
        }
        let Admission { limits: InFlight { calls: most, .. }, calls, .. } = &*self.admission;
        if calls.fetch_add(1, Ordering::Relaxed) >= *most {
            calls.fetch_sub(1, Ordering::Relaxed);
            return Err(self.admission.refuse(Refusal::Calls, ROOM, &format!("limit {most} calls in flight")));
        }
        self.place = Place::Taken;
        Ok(())
    }

    /// The request is gone, its answer of `bytes` is there: gives the places back and keeps the bytes. Who does not read keeps
    /// nobody's place.
    ///
    /// # Errors
    /// As [`Self::hold`].
    pub(super) fn answered(&mut self, bytes: usize) -> Result<(), Status> {
        self.leave();
        self.hold(bytes)
    }

    fn leave(&mut self) {
        if self.place == Place::Taken {
            self.admission.calls.fetch_sub(1, Ordering::Relaxed);
            self.place = Place::None;
        }
        if let (true, Some(account)) = (std::mem::take(&mut self.counted), &self.account) {
            account.calls.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Whether `bytes` more would find room now: to refuse by its prefix what would be refused half-way.
    ///
    /// # Errors
    /// As [`Self::hold`].
    pub fn has_room_for(&self, bytes: usize) -> Result<(), Status> {
        let Admission { limits, bytes: all, .. } = &*self.admission;
        if self.place == Place::Exempt {
            return Ok(());
        }
        if all.load(Ordering::Relaxed) + bytes > limits.bytes {
            return Err(self.no_room());
        }
        if let (Some(account), Some(most)) = (&self.account, limits.client_bytes)
            && account.bytes.load(Ordering::Relaxed) + bytes > most
        {
            return Err(self.no_room_for_client(most));
        }
        Ok(())
    }

    fn no_room(&self) -> Status {
        let text = format!("limit {} bytes in flight", self.admission.limits.bytes);
        self.admission.refuse(Refusal::Bytes, ROOM, &text)
    }

    fn no_room_for_client(&self, most: usize) -> Status {
        self.admission.refuse(Refusal::ClientBytes, ROOM, &format!("limit {most} bytes of one client in flight"))
    }

    /// Takes `bytes` in place of what it took before.
    ///
    /// # Errors
    /// RESOURCE_EXHAUSTED when there is no room for more, in all or for this client.
    pub fn hold(&mut self, bytes: usize) -> Result<(), Status> {
        let Admission { limits, bytes: all, .. } = &*self.admission;
        if self.place == Place::Exempt {
            return Ok(());
        }
        if bytes <= self.bytes {
            self.give_back(self.bytes - bytes);
        } else {
            let more = bytes - self.bytes;
            if all.fetch_add(more, Ordering::Relaxed) + more > limits.bytes {
                all.fetch_sub(more, Ordering::Relaxed);
                return Err(self.no_room());
            }
            if let Some(account) = &self.account
                && let taken = account.bytes.fetch_add(more, Ordering::Relaxed) + more
                && let Some(most) = limits.client_bytes.filter(|most| taken > *most)
            {
                self.give_back(more);
                return Err(self.no_room_for_client(most));
            }
        }
        self.bytes = bytes;
        Ok(())
    }

    fn give_back(&self, bytes: usize) {
        self.admission.bytes.fetch_sub(bytes, Ordering::Relaxed);
        if let Some(account) = &self.account {
            account.bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.give_back(self.bytes);
        self.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(limits: InFlight) -> Arc<Admission> {
        Arc::new(Admission::new(limits, Arc::new(Instruments::new(&metrics::NoopRecorder))))
    }

    impl Admission {
        /// As a call whose message is there.
        fn admit(self: &Arc<Self>, client: impl FnOnce() -> Client) -> Result<Permit, Status> {
            let mut permit = self.begin(client)?;
            permit.take_place()?;
            Ok(permit)
        }
    }

    fn named(name: &str) -> Client {
        Client::Named(name.into())
    }

    #[test]
    fn places_and_bytes_come_back() {
        let admission = admission(InFlight { calls: 2, bytes: 100, ..InFlight::default() });
        let mut first = admission.admit(|| Client::Local).expect("room");
        let mut second = admission.admit(|| Client::Local).expect("room");
        let refused = admission.admit(|| Client::Local).expect_err("full");
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
        assert_eq!(
            refused.metadata().get("grpc-retry-pushback-ms").map(tonic::metadata::MetadataValue::as_bytes),
            Some(&b"50"[..])
        );
        first.hold(60).expect("room");
        second.hold(41).expect_err("101 bytes");
        second.hold(40).expect("room");
        first.hold(10).expect("less");
        assert_eq!((admission.calls(), admission.bytes()), (2, 50));
        drop((first, second));
        assert_eq!((admission.calls(), admission.bytes()), (0, 0));
    }

    #[test]
    fn what_is_still_on_its_way_has_no_place() {
        let admission = admission(InFlight { calls: 1, bytes: 100, ..InFlight::default() });
        let half_open: Vec<Permit> =
            (0..1_000).map(|_| admission.begin(|| Client::Local).expect("fewer than a client may have")).collect();
        let mut call = admission.admit(|| Client::Local).expect("the one place");
        call.hold(60).expect("room");
        call.has_room_for(40).expect("room");
        call.has_room_for(41).expect_err("101 bytes");
        drop((half_open, call));
        assert_eq!((admission.calls(), admission.bytes()), (0, 0));
    }

    #[test]
    fn one_client_does_not_take_the_place_of_another() {
        let admission = admission(InFlight { client_calls: Some(1), ..InFlight::default() });
        let first = admission.admit(|| named("a")).expect("room");
        admission.admit(|| named("a")).expect_err("one already");
        admission.begin(|| named("a")).expect_err("not even half of one");
        let other = admission.admit(|| named("b")).expect("another");
        drop((first, other));
        assert_eq!(admission.calls(), 0);
        let half = admission.begin(|| named("a")).expect("again");
        admission.begin(|| named("a")).expect_err("half of one already");
        drop(half);
        admission.admit(|| named("a")).expect("again");
    }

    /// An answer that is not read keeps its bytes and nobody's place.
    #[test]
    fn what_is_answered_has_no_place() {
        let admission = admission(InFlight { calls: 1, client_calls: Some(1), bytes: 100, ..InFlight::default() });
        let mut unread = admission.admit(|| named("a")).expect("room");
        unread.hold(10).expect("room");
        unread.answered(20).expect("room");
        assert_eq!((admission.calls(), admission.bytes()), (0, 20));
        let mut next = admission.admit(|| named("a")).expect("a place");
        next.answered(81).expect_err("101 bytes");
        drop((unread, next));
        assert_eq!((admission.calls(), admission.bytes()), (0, 0));
    }

    #[test]
    fn one_client_does_not_take_the_bytes_of_another() {
        let admission = admission(InFlight { bytes: 100, client_bytes: Some(60), ..InFlight::default() });
        let mut first = admission.admit(|| named("a")).expect("room");
        first.hold(50).expect("room");
        let mut second = admission.admit(|| named("a")).expect("room");
        let refused = second.hold(11).expect_err("61 bytes of a");
        assert_eq!(refused.message(), "busy: limit 60 bytes of one client in flight");
        second.has_room_for(11).expect_err("as many");
        second.hold(10).expect("60 bytes");
        let mut other = admission.admit(|| named("b")).expect("room");
        other.hold(40).expect("100 bytes");
        other.hold(41).expect_err("101 bytes");
        // Probes are answered all the same.
        admission.exempt().hold(1_000).expect("not counted");
        drop((first, second, other));
        assert_eq!(admission.bytes(), 0);
        admission.admit(|| named("a")).expect("room").hold(60).expect("all is given back");
    }

    #[test]
    fn a_rate_is_each_clients_own_and_says_when_to_come_back() {
        let admission = admission(InFlight { client_calls_a_minute: NonZero::new(2), ..InFlight::default() });
        for _ in 0..2 {
            admission.admit(|| named("a")).expect("within the rate");
        }
        let refused = admission.admit(|| named("a")).expect_err("a third");
        let wait: u64 = refused
            .metadata()
            .get("grpc-retry-pushback-ms")
            .and_then(|value| value.to_str().ok()?.parse().ok())
            .expect("a number");
        assert!((29_000..=30_000).contains(&wait), "a call every 30 s: {wait}");
        admission.admit(|| named("b")).expect("another");
        assert_eq!(admission.calls(), 0);
    }

    #[test]
    fn addresses_of_one_subscriber_are_one_client() {
        let of = |ip: &str| network(ip.parse().expect("an address"));
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::7"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
        assert_ne!(of("10.0.0.1"), of("10.0.0.2"));
    }
}
