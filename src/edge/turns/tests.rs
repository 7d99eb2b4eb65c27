use std::sync::atomic::Ordering;

use tokio::io::AsyncReadExt as _;

use super::{super::meter::Metered, turn::Stage, *};

const MILLI: Duration = Duration::from_millis(1);
/// Until a test has failed that would hang.
const PATIENCE: Duration = Duration::from_secs(5);

fn turns(limit: Duration) -> Arc<Turns> {
    Arc::new(Turns::new(limit, Arc::new(Instruments::new(&metrics::NoopRecorder)), Cores::of(1)))
}

impl Turns {
    fn each(&self) -> Duration {
        Duration::from_nanos(self.state().each)
    }

    /// As if calls had taken `each` so far.
    fn costing(self: Arc<Self>, each: Duration) -> Arc<Self> {
        self.state().each = each.as_nanos() as u64;
        self
    }

    fn rests(&self, from: Instant, to: Instant) {
        let mut state = self.state();
        state.rest.begins(from);
        state.rest.ends(to);
    }

    fn began(&self) -> Instant {
        self.state().rest.began()
    }
}

/// Lets calls of `seat` come in at once, `count` of them, and says how many were refused.
fn burst(seat: &Seat, at: Instant, count: usize) -> (Vec<Turn>, usize) {
    let (mut let_in, mut refused) = (Vec::new(), 0);
    for _ in 0..count {
        match seat.join(None, at) {
            Ok(turn) => let_in.push(turn),
            Err(_) => refused += 1,
        }
    }
    (let_in, refused)
}

#[test]
fn as_long_as_it_has_rested_and_the_limit_may_be_waited_for() {
    let turns = turns(5 * MILLI);
    let (began, seat) = (turns.began(), Seat::new(&turns, 1));
    // Nothing is known of what a call costs: all are let in.
    let (let_in, refused) = burst(&seat, began, 1_000);
    assert_eq!((let_in.len(), refused), (1_000, 0));
    drop(let_in);
    let turns = turns.costing(MILLI);
    turns.rests(began, began + 1_000 * MILLI);
    let (mut let_in, refused) = burst(&seat, began + 1_000 * MILLI, 150);
    assert_eq!((let_in.len(), refused), (106, 44), "a tenth of a second and the limit");
    // Looking for the next batch is next to no rest: a millisecond in all.
    for look in 1..20 {
        let at = began + (1_000 + look * 10) * MILLI;
        turns.rests(at, at + MILLI / 10);
    }
    let standing = began + 1_190 * MILLI;
    assert_eq!(seat.join(None, standing).expect_err("standing"), 106 * MILLI);
    let_in.truncate(7);
    assert_eq!(seat.join(None, standing).expect_err("7 ms"), 7 * MILLI);
    let_in.truncate(6);
    assert_eq!(seat.join(None, standing).expect_err("who was refused has used up what was rested"), 6 * MILLI);
    let_in.truncate(5);
    let within = seat.join(None, standing).expect("within the limit");
    drop((let_in, within));
    assert_eq!(turns.state().let_in, 0);
    // What was rested can be caught up on.
    turns.rests(began + 1_280 * MILLI, began + 1_300 * MILLI);
    assert_eq!(burst(&seat, began + 1_310 * MILLI, 50).1, 24);
    // Without any rest there is only the limit.
    assert_eq!(burst(&seat, began + 1_501 * MILLI, 50).1, 44);
}

/// A moment of rest after a long time of work does not bring back what was rested before that.
#[test]
fn what_was_rested_long_ago_has_been_caught_up_on() {
    let turns = turns(5 * MILLI).costing(MILLI);
    let (began, seat) = (turns.began(), Seat::new(&turns, 1));
    turns.rests(began, began + 90 * MILLI);
    turns.rests(began + 2_000 * MILLI, began + 2_001 * MILLI);
    assert_eq!(burst(&seat, began + 2_002 * MILLI, 50).1, 43, "the limit and a millisecond");
}

#[test]
fn one_client_is_not_refused_for_what_another_has_asked_for() {
    let turns = turns(5 * MILLI).costing(MILLI);
    let (greedy, other) = (Seat::new(&turns, 1), Seat::new(&turns, 2));
    let never_rested = turns.began() + 10 * BURST;
    let (let_in, refused) = burst(&greedy, never_rested, 50);
    assert_eq!((let_in.len(), refused), (6, 44));
    // Of each of its calls one of the other's is in front.
    let (let_in, refused) = burst(&other, never_rested, 50);
    assert_eq!((let_in.len(), refused), (3, 47));
    // Whose second connection is still he.
    let again = Seat::new(&turns, 2);
    assert_eq!(burst(&again, never_rested, 1).1, 1);
    drop(let_in);
    // And one connection may carry several clients.
    assert!(again.join(Some(b"Bearer a"), never_rested).is_ok());
}

#[test]
fn who_is_slow_is_not_counted_once_the_worker_has_rested() {
    let turns = turns(5 * MILLI).costing(MILLI);
    let seat = Seat::new(&turns, 1);
    let never_rested = turns.began() + 10 * BURST;
    let (slow, refused) = burst(&seat, never_rested, 50);
    assert_eq!((slow.len(), refused), (6, 44));
    turns.parks(never_rested);
    turns.wakes(never_rested + ON_THE_WAY);
    let (let_in, _) = burst(&seat, turns.began() + 20 * BURST, 50);
    assert!(let_in.len() >= 6, "{}", let_in.len());
    drop(slow);
    assert_eq!(turns.state().let_in, let_in.len(), "what was forgotten does not leave a second time");
}

/// What a worker runs beside its connections.
fn calling(turns: &Arc<Turns>) -> tokio::task::JoinHandle<()> {
    let turns = turns.clone();
    tokio::spawn(async move { turns.call().await })
}

/// Who has worked, in turn.
#[derive(Clone, Default)]
struct Order(Arc<Mutex<Vec<&'static str>>>);

impl Order {
    fn note(&self, name: &'static str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(name);
    }

    fn noted(&self) -> Vec<&'static str> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Lets calls come in at `now`, which wait for their turn and then work for a moment.
async fn wait(order: &Order, calls: &[(&'static str, &Seat)], now: Instant) -> tokio::task::JoinSet<()> {
    let mut waiting = tokio::task::JoinSet::new();
    for (name, seat) in calls.iter().copied() {
        let (mut turn, order) = (seat.join(None, now).expect("let in"), order.clone());
        waiting.spawn(async move {
            turn.begin().await.expect("called");
            order.note(name);
            turn.end();
        });
        tokio::task::yield_now().await;
    }
    waiting
}

#[tokio::test]
async fn whoever_asks_for_little_is_next() {
    let turns = turns(Duration::MAX).costing(MILLI);
    let (greedy, other) = (Seat::new(&turns, 1), Seat::new(&turns, 2));
    let now = Instant::now();
    let mut works = greedy.join(None, now).expect("let in");
    works.begin().await.expect("at once");
    let order = Order::default();
    let calls =
        wait(&order, &[("greedy", &greedy), ("greedy", &greedy), ("greedy", &greedy), ("other", &other)], now).await;
    let calling = calling(&turns);
    works.end();
    tokio::time::timeout(PATIENCE, calls.join_all()).await.expect("all are called");
    calling.abort();
    assert_eq!(order.noted(), ["other", "greedy", "greedy", "greedy"]);
    let state = turns.state();
    assert_eq!((state.let_in, state.held), (0, false));
}

#[tokio::test]
async fn who_goes_passes_the_call_on() {
    let turns = turns(Duration::MAX);
    let seat = Seat::new(&turns, 1);
    let now = Instant::now();
    let mut works = seat.join(None, now).expect("let in");
    works.begin().await.expect("at once");
    let mut waiting = Vec::new();
    for _ in 0..3 {
        let mut turn = seat.join(None, now).expect("let in");
        let mut begins = Box::pin(async move {
            turn.begin().await.expect("called");
            turn
        });
        assert!(futures_util::poll!(begins.as_mut()).is_pending());
        waiting.push(begins);
    }
    // One goes while it waits, one when it has just been called.
    let last = waiting.pop().expect("three");
    drop(waiting.pop());
    let calling = calling(&turns);
    works.end();
    drop(waiting);
    let _turn = tokio::time::timeout(PATIENCE, last).await.expect("the third is called");
    calling.abort();
}

#[tokio::test]
async fn a_long_slice_ends_with_a_look_at_the_sockets() {
    let turns = turns(Duration::MAX);
    let seat = Seat::new(&turns, 1);
    turns.state().spent = SLICE;
    let mut turn = seat.join(None, Instant::now()).expect("let in");
    let mut begins = Box::pin(turn.begin());
    assert!(futures_util::poll!(begins.as_mut()).is_pending(), "nobody works, but the sockets come first");
    let calling = calling(&turns);
    tokio::time::timeout(PATIENCE, begins).await.expect("in time").expect("called");
    calling.abort();
    assert_eq!(turns.state().spent, Duration::ZERO);
}

#[test]
fn a_stall_is_forgotten_by_those_who_come_first() {
    let turns = turns(5 * MILLI);
    // The machine stood still for ten seconds; there is never any rest.
    turns.state().learn(10_000 * MILLI);
    let never_rested = turns.began() + 10 * BURST;
    assert!(turns.each() > 300 * MILLI);
    let seat = Seat::new(&turns, 1);
    for _ in 0..200 {
        let first = seat.join(None, never_rested).expect("nobody is before it");
        turns.state().learn(MILLI / 2);
        drop(first);
    }
    let (let_in, refused) = burst(&seat, never_rested, 8);
    assert_eq!((let_in.len(), refused), (8, 0), "{:?} each", turns.each());
}

/// As under a quota of a container: the worker stands still within a call, and what has come in the meantime is read at once.
#[test]
fn a_stall_within_one_call_refuses_nobody() {
    let turns = turns(25 * MILLI).costing(MILLI / 50);
    turns.state().learn(80 * MILLI);
    let never_rested = turns.began() + 10 * BURST;
    let (let_in, refused) = burst(&Seat::new(&turns, 1), never_rested, 400);
    assert_eq!((let_in.len(), refused), (400, 0), "{:?} each", turns.each());
    // What has become dearer is learnt, in a dozen calls.
    (0..12).for_each(|_| turns.state().learn(MILLI));
    assert!(turns.each() > MILLI / 3, "{:?}", turns.each());
}

/// Others would be let in because it has taken so little, and come later still.
#[tokio::test]
async fn who_is_called_too_late_teaches_nothing() {
    let turns = turns(Duration::ZERO).costing(MILLI);
    let seat = Seat::new(&turns, 1);
    let mut works = seat.join(None, Instant::now()).expect("let in");
    works.begin().await.expect("at once");
    let mut late = seat.join(None, Instant::now()).expect("nobody is before it");
    let mut begins = Box::pin(late.begin());
    assert!(futures_util::poll!(begins.as_mut()).is_pending());
    std::thread::sleep(BURST + MILLI);
    works.end();
    let calling = calling(&turns);
    let called = tokio::time::timeout(PATIENCE, begins).await.expect("in time");
    let refused = called.expect_err("it has waited for longer than a burst");
    assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
    let each = turns.each();
    drop(late);
    assert_eq!(turns.each(), each);
    assert!(!turns.state().held);
    calling.abort();
}

#[derive(Default)]
struct Woken(std::sync::atomic::AtomicUsize);

impl std::task::Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn who_is_put_off_reads_on_after_a_pause_or_when_nobody_waits() {
    let turns = turns(Duration::MAX);
    let seat = Seat::new(&turns, 1);
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(woken.clone());
    let times = || woken.0.load(Ordering::Relaxed);
    assert_eq!(turns.puts_off(&waker), None, "nobody works");
    let mut works = seat.join(None, Instant::now()).expect("let in");
    works.begin().await.expect("at once");
    assert_eq!(turns.puts_off(&waker), None, "nobody waits");
    let mut waits = seat.join(None, Instant::now()).expect("let in");
    let mut begins = Box::pin(waits.begin());
    assert!(futures_util::poll!(begins.as_mut()).is_pending());
    let pause = turns.puts_off(&waker).expect("put off");
    assert_eq!((times(), turns.is_pausing(pause)), (0, true));
    // The slice and the pause are over: a look, and the one that waits is called.
    turns.state().spent = SLICE;
    turns.state().worked = SLICE;
    works.end();
    let calling = calling(&turns);
    tokio::time::timeout(PATIENCE, begins).await.expect("in time").expect("called");
    assert_eq!((times(), turns.is_pausing(pause)), (1, false));
    let mut last = seat.join(None, Instant::now()).expect("let in");
    let mut begins = Box::pin(last.begin());
    assert!(futures_util::poll!(begins.as_mut()).is_pending());
    assert!(turns.puts_off(&waker).is_some());
    // It goes without a word.
    drop(begins);
    drop(last);
    turns.state().spent = Duration::ZERO;
    waits.end();
    assert_eq!(times(), 2);
    calling.abort();
}

#[tokio::test]
async fn whose_last_call_was_refused_is_read_after_a_pause() {
    let turns = turns(Duration::MAX);
    let seat = Seat::new(&turns, 1);
    let mut works = seat.join(None, Instant::now()).expect("let in");
    works.begin().await.expect("at once");
    let mut waits = seat.join(None, Instant::now()).expect("let in");
    let mut begins = Box::pin(waits.begin());
    assert!(futures_util::poll!(begins.as_mut()).is_pending());
    let open = || Metered::new(&b"something"[..], (100, 100), 1 << 16, turns.clone());
    let ((mut refused, state), (mut other, _)) = (open(), open());
    state.called(true);
    let (mut kept, mut read) = ([0; 9], [0; 9]);
    assert!(futures_util::poll!(Box::pin(refused.read(&mut kept))).is_pending());
    // Woken by somebody else it does not read either.
    assert!(futures_util::poll!(Box::pin(refused.read(&mut kept))).is_pending());
    assert_eq!(other.read(&mut read).await.expect("not put off"), 9);
    turns.state().spent = SLICE;
    turns.state().worked = SLICE;
    works.end();
    let calling = calling(&turns);
    tokio::time::timeout(PATIENCE, begins).await.expect("in time").expect("called");
    let read = tokio::time::timeout(PATIENCE, refused.read(&mut kept)).await.expect("the pause is over");
    assert_eq!(read.expect("its turn"), 9);
    calling.abort();
}

/// Works until the slice is over.
fn takes_a_slice() {
    let began = Instant::now();
    while began.elapsed() < SLICE {
        std::hint::spin_loop();
    }
}

#[tokio::test]
async fn long_work_goes_on_after_those_who_ask_for_less() {
    // A sibling comes after as much work, however long the machine is busy with something else.
    let turns = turns(Duration::MAX).costing(Duration::from_mins(1));
    let (long, short) = (Seat::new(&turns, 1), Seat::new(&turns, 2));
    let now = Instant::now();
    let mut works = long.join(None, now).expect("let in");
    works.begin().await.expect("at once");
    let order = Order::default();
    let calls = wait(&order, &[("sibling", &long), ("short", &short)], now).await;
    let calling = calling(&turns);
    takes_a_slice();
    tokio::time::timeout(PATIENCE, works.next_slice()).await.expect("called again");
    order.note("long");
    takes_a_slice();
    let each = turns.each();
    works.end();
    tokio::time::timeout(PATIENCE, calls.join_all()).await.expect("all are called");
    calling.abort();
    assert_eq!(order.noted(), ["short", "long", "sibling"]);
    assert!(each < Duration::from_mins(1), "a short one was learnt from");
    let state = turns.state();
    assert_eq!((state.let_in, state.held), (0, false));
    drop(state);
    // What it took in both slices, and then what the sibling took, which is next to nothing.
    assert!(turns.each() >= (each * 15 / 16 + 2 * SLICE / 16) * 15 / 16, "{:?} of {each:?}", turns.each());
}

#[tokio::test]
async fn work_goes_on_at_once_while_the_slice_is_not_over() {
    let turns = turns(Duration::MAX);
    let now = Instant::now();
    let mut works = Seat::new(&turns, 1).join(None, now).expect("let in");
    works.begin().await.expect("at once");
    let wait = works.0.as_mut().expect("not exempt");
    let &mut Stage::Working(began) = &mut wait.stage else { panic!("{:?}", wait.stage) };
    wait.pauses(began + SLICE / 2);
    assert!(matches!(wait.stage, Stage::Working(_)));
    wait.pauses(began + SLICE);
    assert!(matches!(wait.stage, Stage::Paused(_)));
}

#[tokio::test]
async fn who_goes_between_two_slices_passes_the_call_on() {
    for was_called in [false, true] {
        let turns = turns(Duration::MAX);
        let (long, short) = (Seat::new(&turns, 1), Seat::new(&turns, 2));
        let now = Instant::now();
        let mut works = long.join(None, now).expect("let in");
        works.begin().await.expect("at once");
        takes_a_slice();
        let mut between = Box::pin(works.next_slice());
        assert!(futures_util::poll!(between.as_mut()).is_pending());
        let mut waits = short.join(None, now).expect("let in");
        let calling = calling(&turns);
        if was_called {
            // It is called, but does not hear it before it goes.
            while !turns.state().held {
                tokio::task::yield_now().await;
            }
        }
        drop(between);
        drop(works);
        tokio::time::timeout(PATIENCE, waits.begin()).await.expect("in time").expect("called");
        calling.abort();
        drop(waits);
        let state = turns.state();
        assert_eq!((state.let_in, state.held), (0, false));
    }
}
