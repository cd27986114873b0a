//! Threads that stay awake between the parallel regions of a pass.
//!
//! A pass through a network is hundreds of parallel regions, most of them shorter than a millisecond. Rayon's threads fall asleep when a
//! region leaves them nothing to do, and waking one takes as long as a small region. So a pass forms a *team*: those of the pool's threads
//! that are free join it, look for its next region until it is over, and go back to the pool. Nobody waits for a thread that does not come,
//! and none stays long where no region comes.
//!
//! Each thread begins with its own share of a region's tasks, the same part of every region, which its caches know from the one before,
//! and then helps the others. Which thread runs a task never shows in its result.

use std::any::Any;
use std::cell::{RefCell, UnsafeCell};
use std::hint::spin_loop;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use rayon::iter::plumbing::{Producer, ProducerCallback};
use rayon::prelude::*;

/// Rounds that a thread waits at full speed, some microseconds, before it offers its core to others in every round.
const ROUNDS: usize = 1 << 12;
/// How long a member waits for a region before it leaves: longer than what a pass does between two. It may have come from
/// within other work of the pool, which waits for it.
const STAY: Duration = Duration::from_millis(2);
/// Most tasks of a region; of more items, several are one.
const TASKS: usize = 256;

thread_local! {
    /// The team that this thread leads; none while it works on one of its regions.
    static LED: RefCell<Option<Arc<Team>>> = const { RefCell::new(None) };
}

/// Runs `f` on a thread of the current pool, which leads a team as long as `f` lasts. Called from outside, every operator of a pass would
/// wake the pool and sleep until it is done.
///
/// Within `f`, only [`OnTeam::on_team`] runs in parallel: members have no eye for other work of the pool.
pub fn in_pool<R: Send>(f: impl FnOnce() -> R + Send) -> R {
    rayon::scope(|_| {
        let threads = rayon::current_num_threads();
        if threads == 1 || LED.with_borrow(Option::is_some) {
            return f();
        }
        let team = Arc::new(Team::new(threads));
        team.call();
        LED.set(Some(team.clone()));
        let leading = Leading(team);
        let result = f();
        drop(leading);
        result
    })
}

/// Ends a team, however its pass ends.
struct Leading(Arc<Team>);

impl Drop for Leading {
    fn drop(&mut self) {
        LED.set(None);
        self.0.over.store(true, Ordering::Release);
    }
}

/// Parallel iterators that a team can work through.
pub trait OnTeam: IndexedParallelIterator {
    /// [`for_each`](ParallelIterator::for_each), item by item, on the team that this thread leads, if it leads one.
    fn on_team(self, f: impl Fn(Self::Item) + Sync + Send) {
        let len = self.len();
        let Some(team) = LED.with_borrow_mut(|led| led.take_if(|_| len > 1)) else {
            return self.with_max_len(1).for_each(f);
        };
        let working = Working(Some(team.clone()));
        self.with_producer(Items {
            len,
            team: &team,
            f,
        });
        drop(working);
    }
}

impl<I: IndexedParallelIterator> OnTeam for I {}

/// Gives the leader its team back after a region, however that ends.
struct Working(Option<Arc<Team>>);

impl Drop for Working {
    fn drop(&mut self) {
        LED.set(self.0.take());
    }
}

/// What becomes of an iterator's items.
struct Items<'a, F> {
    len: usize,
    team: &'a Arc<Team>,
    f: F,
}

impl<T, F: Fn(T) + Sync> ProducerCallback<T> for Items<'_, F> {
    type Output = ();

    fn callback<P: Producer<Item = T>>(self, items: P) {
        let (len, tasks) = (self.len, self.len.min(TASKS));
        let mut rest = items;
        let mut parts = Vec::with_capacity(tasks);
        for i in 0..tasks {
            let part;
            (part, rest) = rest.split_at(len * (i + 1) / tasks - len * i / tasks);
            parts.push(Mutex::new(Some(part)));
        }
        self.team.region(tasks, &|i| {
            let part = parts[i]
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
            part.into_iter().flat_map(P::into_iter).for_each(&self.f);
        });
    }
}

/// What leader and members share.
struct Team {
    /// Odd while a region is open.
    generation: AtomicUsize,
    /// The last region opened. Written by the leader between regions; read by members that `Open` waits for.
    region: UnsafeCell<Region>,
    /// The next task of every thread's share.
    shares: Box<[Share]>,
    /// Members that read the region, or are about to find it closed.
    inside: AtomicUsize,
    /// Of a member's task.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    /// Whether a member left since the last call.
    left: AtomicBool,
    over: AtomicBool,
}

/// On cache lines of its own.
#[repr(align(128))]
struct Share(AtomicUsize);

/// Runs the task of this number.
type Run<'a> = dyn Fn(usize) + Sync + 'a;

#[derive(Clone, Copy)]
struct Region {
    tasks: usize,
    /// Lives until the region is closed and nobody is inside.
    run: *const Run<'static>,
}

// SAFETY: the region is written and read as its comments say, and what it points to may be called from any thread.
unsafe impl Send for Team {}
// SAFETY: as above.
unsafe impl Sync for Team {}

impl Team {
    fn new(threads: usize) -> Self {
        Self {
            generation: AtomicUsize::new(0),
            region: UnsafeCell::new(Region {
                tasks: 0,
                run: &|_| {},
            }),
            shares: (0..threads).map(|_| Share(AtomicUsize::new(0))).collect(),
            inside: AtomicUsize::new(0),
            panic: Mutex::new(None),
            left: AtomicBool::new(false),
            over: AtomicBool::new(false),
        }
    }

    /// Asks the pool's other threads to join. A thread that is busy elsewhere comes when the team is over, and goes.
    fn call(self: &Arc<Self>) {
        let leader = rayon::current_thread_index();
        let team: Weak<Self> = Arc::downgrade(self);
        rayon::spawn_broadcast(move |member| {
            if Some(member.index()) != leader
                && let Some(team) = team.upgrade()
            {
                team.join(member.index());
            }
        });
    }

    /// The first task of a thread's share.
    fn first(&self, thread: usize, tasks: usize) -> usize {
        tasks * thread / self.shares.len()
    }

    /// Leads the team through `run(0), …, run(tasks − 1)`. For the leader alone, one region after the other.
    fn region(self: &Arc<Self>, tasks: usize, run: &Run<'_>) {
        if self.left.swap(false, Ordering::Relaxed) {
            self.call();
        }
        // SAFETY: only the lifetime changes. Who calls `run` is the leader, below, or a member that `Open` waits for.
        let run = unsafe { std::mem::transmute::<*const Run<'_>, *const Run<'static>>(run) };
        let region = Region { tasks, run };
        // SAFETY: `Open` has waited for every member that read the region before; one that enters now finds none open and does not read.
        unsafe { *self.region.get() = region };
        for (thread, share) in self.shares.iter().enumerate() {
            share.0.store(self.first(thread, tasks), Ordering::Relaxed);
        }
        self.generation.fetch_add(1, Ordering::SeqCst);
        let open = Open(self);
        self.work(rayon::current_thread_index().unwrap_or(0), region);
        drop(open);
        let panic = self
            .panic
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }

    /// A thread's own share first, then what is left of the others'.
    fn work(&self, thread: usize, region: Region) {
        let threads = self.shares.len();
        for share in (thread..threads).chain(0..thread) {
            let end = self.first(share + 1, region.tasks);
            loop {
                let task = self.shares[share].0.fetch_add(1, Ordering::Relaxed);
                if task >= end {
                    break;
                }
                // SAFETY: the region is open, or this thread is inside.
                unsafe { (*region.run)(task) };
            }
        }
    }

    /// Works on every region until the team is over, or none has come for long.
    fn join(&self, thread: usize) {
        let (mut seen, mut patience) = (0, Patience::default());
        while !self.over.load(Ordering::Acquire) {
            let generation = self.generation.load(Ordering::Acquire);
            if generation.is_multiple_of(2) || generation == seen {
                if patience.wait() > STAY {
                    self.left.store(true, Ordering::Relaxed);
                    return;
                }
                continue;
            }
            (seen, patience) = (generation, Patience::default());
            // Either this thread finds the region closed, or the leader, when it has closed it, finds this thread inside: the order of
            // these two operations and of `Open`'s two is the same for everybody.
            self.inside.fetch_add(1, Ordering::SeqCst);
            if self.generation.load(Ordering::SeqCst) == generation {
                // SAFETY: the region was open after this thread had entered, so `Open` waits for it, and the leader does not write.
                let region = unsafe { *self.region.get() };
                let work = AssertUnwindSafe(|| self.work(thread, region));
                if let Err(panic) = catch_unwind(work) {
                    let mut first = self.panic.lock().unwrap_or_else(PoisonError::into_inner);
                    first.get_or_insert(panic);
                }
            }
            self.inside.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

/// Closes a region and waits until no member is inside.
struct Open<'a>(&'a Team);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.generation.fetch_add(1, Ordering::SeqCst);
        let mut patience = Patience::default();
        while self.0.inside.load(Ordering::SeqCst) > 0 {
            patience.wait();
        }
    }
}

/// A wait, round by round.
#[derive(Default)]
struct Patience {
    rounds: usize,
    since: Option<Instant>,
}

impl Patience {
    /// One round; how long they have taken, but for the first.
    fn wait(&mut self) -> Duration {
        if self.rounds < ROUNDS {
            self.rounds += 1;
            spin_loop();
            return Duration::ZERO;
        }
        thread::yield_now();
        self.since.get_or_insert_with(Instant::now).elapsed()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    fn pool(threads: usize) -> rayon::ThreadPool {
        let builder = rayon::ThreadPoolBuilder::new().num_threads(threads);
        builder.build().expect("a pool")
    }

    /// How often each item of a region was visited.
    fn visits(len: usize) -> Vec<usize> {
        let counts: Vec<AtomicUsize> = (0..len).map(|_| AtomicUsize::new(0)).collect();
        (counts.par_iter().enumerate()).on_team(|(i, count)| {
            assert!(std::ptr::eq(count, &counts[i]));
            count.fetch_add(1, Ordering::Relaxed);
        });
        counts.into_iter().map(AtomicUsize::into_inner).collect()
    }

    fn leads() -> bool {
        LED.with_borrow(Option::is_some)
    }

    #[test]
    fn every_item_is_visited_once_and_the_team_lasts() {
        for threads in 1..5 {
            pool(threads).install(|| {
                in_pool(|| {
                    for _ in 0..20 {
                        for len in [0, 1, 2, 3, TASKS - 1, TASKS, TASKS + 1, 1000] {
                            assert_eq!(visits(len), vec![1; len]);
                            assert_eq!(leads(), threads > 1, "after {len} items");
                        }
                    }
                });
                assert!(!leads());
            });
        }
    }

    /// Two tasks that wait for each other: both are under way at the same time.
    fn meet(here: &AtomicBool, there: &AtomicBool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        [(here, there), (there, here)]
            .into_par_iter()
            .on_team(|(own, other)| {
                own.store(true, Ordering::SeqCst);
                while !other.load(Ordering::SeqCst) {
                    assert!(Instant::now() < deadline, "nobody came");
                    thread::yield_now();
                }
            });
    }

    #[test]
    fn members_come() {
        let (here, there) = (AtomicBool::new(false), AtomicBool::new(false));
        pool(2).install(|| in_pool(|| meet(&here, &there)));
    }

    #[test]
    fn regions_and_passes_within_tasks_are_their_own() {
        pool(3).install(|| {
            in_pool(|| {
                (0..7usize).into_par_iter().on_team(|i| {
                    assert!(!leads());
                    assert_eq!(visits(100 + i), vec![1; 100 + i]);
                    in_pool(|| assert_eq!(visits(i), vec![1; i]));
                });
                assert!(leads());
                in_pool(|| assert_eq!(visits(9), vec![1; 9]));
                assert!(leads());
            });
        });
    }

    #[test]
    fn a_panic_reaches_the_caller_and_ends_the_team() {
        let pool = pool(2);
        for guilty in 0..50usize {
            let pass = || {
                in_pool(|| {
                    (0..50usize).into_par_iter().on_team(|i| {
                        assert_ne!(i, guilty, "as asked for");
                    });
                });
            };
            let panic = pool.install(|| catch_unwind(pass)).expect_err("a panic");
            let message = panic.downcast_ref::<String>().expect("its message");
            assert!(message.contains("as asked for"), "{message}");
            pool.install(|| assert!(!leads()));
            assert_eq!(pool.install(|| in_pool(|| visits(50))), vec![1; 50]);
        }
    }

    #[test]
    fn members_leave_a_pass_that_pauses_and_come_back() {
        let pool = pool(2);
        pool.install(|| {
            in_pool(|| {
                for _ in 0..3 {
                    assert_eq!(visits(50), vec![1; 50]);
                    let team = LED.with_borrow(Clone::clone).expect("a team");
                    while !team.left.load(Ordering::Relaxed) {
                        thread::yield_now();
                    }
                }
                let (here, there) = (AtomicBool::new(false), AtomicBool::new(false));
                meet(&here, &there);
            });
        });
    }

    #[test]
    fn a_pass_within_a_pass_has_the_same_team() {
        pool(2).install(|| {
            in_pool(|| {
                in_pool(|| meet(&AtomicBool::new(false), &AtomicBool::new(false)));
                assert!(leads());
            });
        });
    }

    #[test]
    fn leaders_that_wait_within_tasks_do_not_wait_for_each_other() {
        let pool = pool(4);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let pass = || {
                            (0..8usize).into_par_iter().on_team(|i| {
                                assert_eq!(visits(10 + i), vec![1; 10 + i]);
                            });
                        };
                        pool.install(|| in_pool(pass));
                    }
                });
            }
        });
    }

    #[test]
    fn a_busy_thread_is_not_waited_for() {
        let pool = pool(2);
        let (release, held) = channel::<()>();
        let (begun, began) = channel();
        pool.spawn(move || {
            begun.send(()).expect("the test");
            held.recv().expect("the test"); // as a lock that the pass' caller may hold
        });
        began.recv().expect("the busy thread");
        let counts = pool.install(|| in_pool(|| visits(300)));
        release.send(()).expect("the busy thread");
        assert_eq!(counts, vec![1; 300]);
    }

    #[test]
    fn passes_at_the_same_time_share_a_pool() {
        let pool = pool(3);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for len in 0..100 {
                        assert_eq!(pool.install(|| in_pool(|| visits(len))), vec![1; len]);
                    }
                });
            }
        });
    }
}
