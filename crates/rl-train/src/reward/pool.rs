//! Threads that compute scores, and that can be left behind.
//!
//! Rust cannot stop a thread. A worker that does not come back in time is therefore cut off: its late result is dropped,
//! a new thread takes its place, and the old one ends by itself if it ever finishes its call.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::thread::{Builder, JoinHandle};
use std::time::Instant;

use super::request::RewardRequest;
use super::score::Score;
use super::source::{Clock, Work};
use crate::{Error, Result};

/// A score to compute.
pub(super) struct Job {
    pub(super) work: Arc<Work>,
    pub(super) request: Arc<RewardRequest>,
}

/// How a job ended.
pub(super) struct Outcome {
    pub(super) score: Score,
    pub(super) retries: u64,
    /// False if no worker had taken it up when the step's deadline came.
    pub(super) started: bool,
}

/// What follows from an outcome.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    GoOn,
    /// Hand out no further jobs; wait for those under way.
    Stop,
}

/// At most `size` workers, started when first needed.
pub(super) struct Pool {
    size: usize,
    max_abandoned: usize,
    workers: Vec<Worker>,
    abandoned: Vec<JoinHandle<()>>,
    results_in: Sender<Done>,
    results: Receiver<Done>,
    started_workers: u64,
}

struct Worker {
    id: u64,
    tasks: SyncSender<Task>,
    thread: JoinHandle<()>,
    busy: Option<Busy>,
}

/// What an occupied worker is at.
struct Busy {
    job: usize,
    give_up_at: Instant,
}

struct Task {
    work: Arc<Work>,
    request: Arc<RewardRequest>,
    clock: Clock,
}

struct Done {
    worker: u64,
    score: Score,
    retries: u64,
}

impl Pool {
    pub(super) fn new(size: usize, max_abandoned: usize) -> Self {
        let (results_in, results) = channel();
        Pool {
            size,
            max_abandoned,
            workers: Vec::new(),
            abandoned: Vec::new(),
            results_in,
            results,
            started_workers: 0,
        }
    }

    /// Computes all jobs in order; `take` gets every outcome with its job's number, each job once unless it says
    /// [`Next::Stop`]. Returns how many threads were left behind.
    ///
    /// # Errors
    /// [`Error::RewardAbandoned`] if more than `max_abandoned` threads are still stuck, [`Error::RewardThread`] if the
    /// operating system gives no thread. Either way nothing that is under way is waited for.
    pub(super) fn run(
        &mut self,
        jobs: &[Job],
        step_end: Option<Instant>,
        take: impl FnMut(usize, Outcome) -> Next,
    ) -> Result<usize> {
        let result = self.run_until_refused(jobs, step_end, take);
        if result.is_err() {
            self.cut_off(|_| true); // what they still compute belongs to no later call
        }
        result
    }

    fn run_until_refused(
        &mut self,
        jobs: &[Job],
        step_end: Option<Instant>,
        mut take: impl FnMut(usize, Outcome) -> Next,
    ) -> Result<usize> {
        let mut next = 0;
        let mut num_abandoned = 0;
        let mut open = true;
        loop {
            while open && next < jobs.len() && !is_over(step_end) {
                let Some(worker) = self.idle_worker()? else { break };
                hand_out(worker, &jobs[next], next, step_end);
                next += 1;
            }
            let Some(wake) = self.workers.iter().filter_map(|worker| Some(worker.busy.as_ref()?.give_up_at)).min()
            else {
                break; // nobody is at work: all is done, or the time is over, or no more is wanted
            };
            let mut result = self.results.recv_timeout(wake.saturating_duration_since(Instant::now()));
            while let Ok(done) = result {
                if let Some(job) = self.release(done.worker) {
                    let outcome = Outcome { score: done.score, retries: done.retries, started: true };
                    open &= take(job, outcome) == Next::GoOn;
                }
                result = self.results.try_recv().map_err(|_| RecvTimeoutError::Timeout);
            }
            let now = Instant::now();
            for job in self.cut_off(|busy| busy.give_up_at <= now) {
                num_abandoned += 1;
                open &= take(job, Outcome { score: Score::TimedOut, retries: 0, started: true }) == Next::GoOn;
                let running = self.num_still_running();
                if self.max_abandoned < running {
                    let name = jobs[job].work.name.clone();
                    return Err(Error::RewardAbandoned { name, running, limit: self.max_abandoned });
                }
            }
        }
        if open {
            for job in next..jobs.len() {
                take(job, Outcome { score: Score::TimedOut, retries: 0, started: false });
            }
        }
        Ok(num_abandoned)
    }

    /// Threads left behind that have not come back yet.
    pub(super) fn num_still_running(&mut self) -> usize {
        self.abandoned.retain(|thread| !thread.is_finished());
        self.abandoned.len()
    }

    /// A worker without a job, a new one if there is room.
    fn idle_worker(&mut self) -> Result<Option<&mut Worker>> {
        let idle = self.workers.iter().position(|worker| worker.busy.is_none());
        if idle.is_none() && self.workers.len() < self.size {
            self.start_worker()?;
        }
        Ok(self.workers.iter_mut().find(|worker| worker.busy.is_none()))
    }

    fn start_worker(&mut self) -> Result<()> {
        self.started_workers += 1;
        let id = self.started_workers;
        let (tasks, inbox) = sync_channel::<Task>(1);
        let results = self.results_in.clone();
        let work = move || {
            for Task { work, request, clock } in inbox {
                let (score, retries) = work.score(&request, clock);
                drop((work, request));
                if results.send(Done { worker: id, score, retries }).is_err() {
                    return;
                }
            }
        };
        let thread = Builder::new().name(format!("reward-{id}")).spawn(work).map_err(Error::RewardThread)?;
        self.workers.push(Worker { id, tasks, thread, busy: None });
        Ok(())
    }

    /// The job of a worker that reports back; `None` if the worker had been given up.
    fn release(&mut self, id: u64) -> Option<usize> {
        let worker = self.workers.iter_mut().find(|worker| worker.id == id)?;
        worker.busy.take().map(|busy| busy.job)
    }

    /// Leaves behind the occupied workers that `is_meant` names and returns their jobs.
    fn cut_off(&mut self, is_meant: impl Fn(&Busy) -> bool) -> Vec<usize> {
        let is_meant = |worker: &mut Worker| worker.busy.as_ref().is_some_and(&is_meant);
        let meant: Vec<Worker> = self.workers.extract_if(.., is_meant).collect();
        let mut jobs = Vec::new();
        for Worker { thread, busy, .. } in meant {
            self.abandoned.push(thread);
            jobs.extend(busy.map(|busy| busy.job));
        }
        jobs
    }
}

fn hand_out(worker: &mut Worker, job: &Job, number: usize, step_end: Option<Instant>) {
    let clock = Clock::start(job.work.deadline, step_end);
    worker.busy = Some(Busy { job: number, give_up_at: job.work.give_up_at(&clock) });
    // A worker that is gone takes nothing; its job then times out like any other.
    let _ = worker.tasks.try_send(Task { work: Arc::clone(&job.work), request: Arc::clone(&job.request), clock });
}

fn is_over(step_end: Option<Instant>) -> bool {
    step_end.is_some_and(|end| end <= Instant::now())
}
