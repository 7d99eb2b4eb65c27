//! What each client has in flight, and how often it has called. A call finds the account of its client without a lock as long as
//! its worker remembers it; the table behind that is swept of those at rest at most once a second, and has a bound.

use std::{
    cell::RefCell,
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    num::NonZero,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use super::Client;

/// The rate is of calls in this time.
const MINUTE: Duration = Duration::from_secs(60);
/// Accounts from which on those at rest are looked for.
const FEW: usize = 1_000;
/// Accounts of addresses. More come from nobody's clients: who is new then shares one with its network, or with all others.
const MOST: usize = 50_000;
/// Between two sweeps, each of which looks at every account.
const PAUSE: Duration = Duration::from_secs(1);
/// Accounts that a worker remembers.
const RECENT: usize = 64;

/// What one client has taken. Who holds it keeps it in the table.
#[derive(Debug)]
pub(super) struct Account {
    client: Client,
    pub(super) calls: AtomicUsize,
    pub(super) bytes: AtomicUsize,
    /// Nanoseconds from the beginning of the table at which its rate will be as if it had never called: the theoretical arrival
    /// time of the generic cell rate algorithm (ITU-T I.371).
    rests: AtomicU64,
}

/// The accounts of all clients.
#[derive(Debug)]
pub(super) struct Accounts {
    /// Among all of this process: what a worker remembers may be of another.
    id: u64,
    began: Instant,
    /// Between two calls of a client that calls for ever; absent without a limit.
    interval: Option<Duration>,
    most: usize,
    table: Mutex<Table>,
}

#[derive(Debug)]
struct Table {
    accounts: HashMap<Client, Arc<Account>>,
    swept: Instant,
    sweep_at: usize,
    others: Arc<Account>,
}

impl Account {
    fn new(client: Client) -> Arc<Self> {
        Arc::new(Self { client, calls: AtomicUsize::new(0), bytes: AtomicUsize::new(0), rests: AtomicU64::new(0) })
    }
}

/// An account, and the table that it is of.
type Remembered = Option<(u64, Arc<Account>)>;

thread_local! {
    /// By a hash of the client that costs next to nothing.
    static REMEMBERED: RefCell<[Remembered; RECENT]> = const { RefCell::new([const { None }; RECENT]) };
}

impl Accounts {
    /// Nobody has called. `a_minute` are the calls that each may make in a minute, and at once.
    pub(super) fn new(a_minute: Option<NonZero<u32>>) -> Self {
        Self::bounded(a_minute, MOST)
    }

    fn bounded(a_minute: Option<NonZero<u32>>, most: usize) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let now = Instant::now();
        Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            began: now,
            interval: a_minute.map(|calls| MINUTE / calls.get()),
            most,
            table: Mutex::new(Table {
                accounts: HashMap::new(),
                swept: now,
                sweep_at: FEW.min(most),
                others: Account::new(Client::Local),
            }),
        }
    }

    /// That of `client`.
    pub(super) fn of(&self, client: Client) -> Arc<Account> {
        REMEMBERED.with_borrow_mut(|remembered| {
            let slot = &mut remembered[slot(&client)];
            match slot {
                Some((id, account)) if *id == self.id && account.client == client => account.clone(),
                _ => {
                    let account = self.looked_up(client);
                    *slot = Some((self.id, account.clone()));
                    account
                }
            }
        })
    }

    fn looked_up(&self, client: Client) -> Arc<Account> {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(account) = table.accounts.get(&client) {
            return account.clone();
        }
        if table.accounts.len() >= table.sweep_at {
            self.sweep(&mut table);
        }
        let client = match client {
            // Who has a name was given it.
            Client::Address(address) if table.accounts.len() >= self.most => match site(address) {
                Some(site) if table.accounts.len() < 2 * self.most => Client::Address(site),
                _ => return table.others.clone(),
            },
            client => client,
        };
        table.accounts.entry(client.clone()).or_insert_with(|| Account::new(client)).clone()
    }

    /// Forgets whoever has nothing in flight and would be let in as if never seen.
    fn sweep(&self, table: &mut Table) {
        let now = Instant::now();
        if now.duration_since(table.swept) < PAUSE && table.accounts.len() > FEW {
            return;
        }
        let nanos = self.nanos(now);
        table
            .accounts
            .retain(|_, account| Arc::strong_count(account) > 1 || account.rests.load(Ordering::Relaxed) > nanos);
        table.swept = now;
        table.sweep_at = (2 * table.accounts.len()).clamp(FEW.min(self.most), self.most);
    }

    /// One call of `account`.
    ///
    /// # Errors
    /// It is over its rate, for so long.
    pub(super) fn called(&self, account: &Account) -> Result<(), Duration> {
        let Some(interval) = self.interval else { return Ok(()) };
        let (now, interval) = (self.nanos(Instant::now()), interval.as_nanos() as u64);
        let latest = now + MINUTE.as_nanos() as u64;
        let after = |rests: u64| rests.max(now) + interval;
        let counted = account.rests.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |rests| {
            Some(after(rests)).filter(|after| *after <= latest)
        });
        counted.map(drop).map_err(|rests| Duration::from_nanos(after(rests) - latest))
    }

    fn nanos(&self, now: Instant) -> u64 {
        now.duration_since(self.began).as_nanos() as u64
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.table.lock().unwrap_or_else(PoisonError::into_inner).accounts.len()
    }
}

/// Where a worker remembers it.
fn slot(client: &Client) -> usize {
    let key = match client {
        Client::Address(IpAddr::V4(address)) => u64::from(address.to_bits()),
        Client::Address(IpAddr::V6(address)) => (address.to_bits() >> 64) as u64,
        // The same allocation for as long as identity remembers the caller.
        Client::Named(name) => name.as_ptr() as u64,
        Client::Local => 0,
    };
    // Fibonacci hashing (Knuth, volume 3, 6.4): the upper bits depend on all.
    (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 58) as usize % RECENT
}

/// The network of 48 bits that a site of IPv6 is given (RFC 6177).
fn site(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V6(address) => Some(Ipv6Addr::from_bits(address.to_bits() & !(u128::MAX >> 48)).into()),
        IpAddr::V4(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v6(n: u32) -> Client {
        Client::Address(Ipv6Addr::from_bits(0x2001_0db8_u128 << 96 | u128::from(n) << 64).into())
    }

    fn v4(n: u32) -> Client {
        Client::Address(std::net::Ipv4Addr::from_bits(n).into())
    }

    #[test]
    fn an_account_is_its_clients_own_however_it_is_found() {
        let (accounts, other) = (Accounts::new(None), Accounts::new(None));
        let first = accounts.of(v4(1));
        for n in 1..10_000 {
            assert_eq!(accounts.of(v4(n)).client, v4(n));
        }
        assert!(Arc::ptr_eq(&first, &accounts.of(v4(1))), "while it is held");
        assert!(!Arc::ptr_eq(&first, &other.of(v4(1))), "of another table");
        assert_eq!(accounts.of(Client::Named("a".into())).client, Client::Named("a".into()));
    }

    #[test]
    fn who_is_at_rest_is_forgotten() {
        let accounts = Accounts::new(None);
        let held: Vec<_> = (0..100).map(|n| accounts.of(v4(n))).collect();
        for n in 100..1_500 {
            accounts.of(v4(n));
        }
        assert!(accounts.len() < FEW, "{}", accounts.len());
        assert!(held.iter().enumerate().all(|(n, account)| Arc::ptr_eq(account, &accounts.of(v4(n as u32)))));
        // Who has called is remembered for as long as it matters.
        let accounts = Accounts::new(NonZero::new(1));
        for n in 0..3_000 {
            accounts.called(&accounts.of(v4(n))).expect("the first");
        }
        accounts.called(&accounts.of(v4(1))).expect_err("the second within a minute");
    }

    #[test]
    fn beyond_the_bound_networks_share_and_then_everybody_does() {
        let accounts = Accounts::bounded(NonZero::new(1_000), 1_000);
        let call = |client: Client| {
            let account = accounts.of(client);
            accounts.called(&account).expect("within the rate");
            account
        };
        for n in 0..1_000 {
            call(v4(n));
        }
        let known = accounts.of(v4(7));
        assert_eq!(known.client, v4(7), "who is known stays so");
        // 2001:db8:0::/48 and 2001:db8:1::/48.
        assert!(Arc::ptr_eq(&call(v6(0)), &call(v6(1))));
        assert!(!Arc::ptr_eq(&call(v6(0)), &call(v6(1 << 16))));
        assert!(Arc::ptr_eq(&call(v4(5_000)), &call(v4(5_001))));
        assert_eq!(accounts.len(), 1_002);
        let named = call(Client::Named("a".into()));
        assert_eq!(named.client, Client::Named("a".into()));
    }

    /// What a flood of addresses costs each call: a sweep looks at every account, so there must be few.
    #[test]
    fn there_is_at_most_one_sweep_a_second() {
        let accounts = Accounts::new(NonZero::new(1_000));
        let began = Instant::now();
        let (mut swept, mut called) = (0, 0);
        let mut last = began;
        for n in 0..60_000 {
            // Most of them share an account, and are refused.
            called += u32::from(accounts.called(&accounts.of(v4(n))).is_ok());
            let now = accounts.table.lock().expect("no panic").swept;
            swept += u64::from(now != last);
            last = now;
        }
        assert!(swept <= began.elapsed().as_secs() + 2, "{swept} sweeps in {:?}", began.elapsed());
        assert!(accounts.len() <= MOST && called >= 50_000, "{called}");
    }
}
