//! What may be in flight: calls and bytes in all, calls and calls a minute for each client. Nothing here waits: what does
//! not fit is refused at once, with the time after which another try may fit.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    num::NonZero,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use governor::{
    DefaultKeyedRateLimiter, Quota, RateLimiter,
    clock::{Clock, DefaultClock},
};
use tonic::{Status, metadata::MetadataValue};

use super::{
    Peer,
    instruments::{Instruments, Refusal},
};

/// After this time whoever was refused for want of room may try again: about what a call takes.
const ROOM: Duration = Duration::from_millis(50);
/// Clients whose rate is remembered; those at rest are forgotten when there are more.
const REMEMBERED: usize = 10_000;

/// What may be in flight.
#[derive(Clone, Copy, Debug)]
pub struct InFlight {
    /// Calls at the same time.
    pub calls: usize,
    /// Bytes of their messages and of answers that are not yet sent.
    pub bytes: usize,
    /// Calls of one client at the same time.
    pub client_calls: Option<usize>,
    /// Calls of one client in a minute; as many may come at once.
    pub client_calls_a_minute: Option<NonZero<u32>>,
}

impl Default for InFlight {
    fn default() -> Self {
        Self { calls: 4096, bytes: 256 << 20, client_calls: None, client_calls_a_minute: None }
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

/// Decides on every call. Shared by all workers; lock-free unless clients have limits.
#[derive(Debug)]
pub struct Admission {
    limits: InFlight,
    calls: AtomicUsize,
    bytes: AtomicUsize,
    clients: Mutex<HashMap<Client, usize>>,
    rates: Option<DefaultKeyedRateLimiter<Client>>,
    instruments: Arc<Instruments>,
}

impl Admission {
    /// Nothing in flight.
    pub fn new(limits: InFlight, instruments: Arc<Instruments>) -> Self {
        Self {
            limits,
            calls: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            clients: Mutex::default(),
            rates: limits.client_calls_a_minute.map(|calls| RateLimiter::keyed(Quota::per_minute(calls))),
            instruments,
        }
    }

    /// One call of `client` begins to arrive. It has no place yet: a message that never comes must not keep one.
    ///
    /// # Errors
    /// RESOURCE_EXHAUSTED with `grpc-retry-pushback-ms` when the client is over its rate.
    pub fn begin(self: &Arc<Self>, client: impl FnOnce() -> Client) -> Result<Permit, Status> {
        let InFlight { client_calls, .. } = self.limits;
        let client = (client_calls.is_some() || self.rates.is_some()).then(client);
        if let Some(client) = &client {
            self.check_rate(client)?;
        }
        Ok(Permit { admission: self.clone(), bytes: 0, place: Place::None, client })
    }

    /// A call that is not counted.
    pub(super) fn exempt(self: &Arc<Self>) -> Permit {
        Permit { admission: self.clone(), bytes: 0, place: Place::Exempt, client: None }
    }

    fn check_rate(&self, client: &Client) -> Result<(), Status> {
        let Some(rates) = &self.rates else { return Ok(()) };
        if rates.len() > REMEMBERED {
            rates.retain_recent();
        }
        let Err(early) = rates.check_key(client) else { return Ok(()) };
        let wait = early.wait_time_from(DefaultClock::default().now());
        let calls = self.limits.client_calls_a_minute.map_or(0, NonZero::get);
        Err(self.refuse(Refusal::Rate, wait, &format!("limit {calls} calls of one client in a minute")))
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
    client: Option<Client>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    None,
    Exempt,
    /// Among all calls.
    Taken,
    /// And among those of its client.
    TakenOfClient,
}

impl Permit {
    /// Takes the place of a call that is complete and now begins.
    ///
    /// # Errors
    /// RESOURCE_EXHAUSTED when too many are in flight, in all or of this client.
    pub fn take_place(&mut self) -> Result<(), Status> {
        if self.place != Place::None {
            return Ok(());
        }
        let Admission { limits: InFlight { calls: most, client_calls, .. }, calls, clients, .. } = &*self.admission;
        if calls.fetch_add(1, Ordering::Relaxed) >= *most {
            calls.fetch_sub(1, Ordering::Relaxed);
            return Err(self.admission.refuse(Refusal::Calls, ROOM, &format!("limit {most} calls in flight")));
        }
        // From here on dropping it gives it back.
        self.place = Place::Taken;
        if let (Some(most), Some(client)) = (client_calls, &self.client) {
            let mut clients = clients.lock().unwrap_or_else(PoisonError::into_inner);
            let in_flight = clients.entry(client.clone()).or_default();
            if *in_flight >= *most {
                drop(clients);
                let text = format!("limit {most} calls of one client in flight");
                return Err(self.admission.refuse(Refusal::ClientCalls, ROOM, &text));
            }
            *in_flight += 1;
            drop(clients);
            self.place = Place::TakenOfClient;
        }
        Ok(())
    }

    /// Whether `bytes` more would find room now: to refuse by its prefix what would be refused half-way.
    ///
    /// # Errors
    /// As [`Self::hold`].
    pub fn has_room_for(&self, bytes: usize) -> Result<(), Status> {
        if self.admission.bytes() + bytes > self.admission.limits.bytes { Err(self.no_room()) } else { Ok(()) }
    }

    fn no_room(&self) -> Status {
        let text = format!("limit {} bytes in flight", self.admission.limits.bytes);
        self.admission.refuse(Refusal::Bytes, ROOM, &text)
    }

    /// Takes `bytes` in place of what it took before.
    ///
    /// # Errors
    /// RESOURCE_EXHAUSTED when there is no room for more.
    pub fn hold(&mut self, bytes: usize) -> Result<(), Status> {
        let Admission { limits, bytes: all, .. } = &*self.admission;
        if bytes <= self.bytes {
            all.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
        } else {
            let more = bytes - self.bytes;
            if all.fetch_add(more, Ordering::Relaxed) + more > limits.bytes {
                all.fetch_sub(more, Ordering::Relaxed);
                return Err(self.no_room());
            }
        }
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let Admission { calls, bytes, clients, .. } = &*self.admission;
        bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        if matches!(self.place, Place::Taken | Place::TakenOfClient) {
            calls.fetch_sub(1, Ordering::Relaxed);
        }
        if let (Place::TakenOfClient, Some(client)) = (self.place, &self.client) {
            let mut clients = clients.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(in_flight) = clients.get_mut(client) {
                *in_flight -= 1;
                if *in_flight == 0 {
                    clients.remove(client);
                }
            }
        }
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
        let half_open: Vec<Permit> = (0..1_000).map(|_| admission.begin(|| Client::Local).expect("no limit")).collect();
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
        let other = admission.admit(|| named("b")).expect("another");
        drop((first, other));
        assert_eq!(admission.calls(), 0);
        assert!(admission.clients.lock().expect("no panic").is_empty(), "nothing is kept of who has gone");
        admission.admit(|| named("a")).expect("again");
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
