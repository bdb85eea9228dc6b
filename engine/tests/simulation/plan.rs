//! What one seed is like: sizes, rates of faults, and when which disaster happens.
//! It must not know how a world takes it.

use clarion_engine::model::Millis;

use crate::rng::Rng;

/// When every world begins.
pub(crate) const BEGIN: Millis = 1_700_000_000_000;

/// A disaster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// kill -9 of an engine; its machine may go with it, so that the broker notices only after two heartbeats.
    Kill {
        slot: usize,
        noticed_at_once: bool,
        back_after: Millis,
    },
    /// A new process takes its place.
    Restart { slot: usize },
    /// As if by SIGSTOP and SIGCONT.
    Stall { slot: usize, millis: Millis },
    /// The broker drops an engine's connection; the engine hears of it so much later.
    CutOff { slot: usize, noticed_after: Millis },
    /// The broker restarts: every connection is gone, and it forgets which messages were handed out before.
    BrokerRestart,
    /// The store does not answer for so long.
    StoreOutage { millis: Millis },
    /// An operator suspends or resumes a tenant.
    Suspend { tenant: usize, resume: bool },
    /// An ack of an engine counts for nothing, though the connection stays.
    AckFails { slot: usize },
}

/// One seed's parameters.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) unrecorded_max: usize,
    /// Factor on all delays of the retry schedule.
    pub(crate) scale: f64,
    /// Recipients a second and at once.
    pub(crate) rate: (u32, u32),
    pub(crate) tenants: usize,
    /// The tenant that has no Google credential.
    pub(crate) without_fcm: Option<usize>,
    /// Pages reserved or fed at a time, rows released and unfinished at a time.
    pub(crate) pages_ahead: u32,
    pub(crate) release_ahead: u32,
    /// Slowest store and broker calls, and slowest provider answer.
    pub(crate) slow_call: Millis,
    pub(crate) slow_answer: Millis,
    /// Of a thousand calls, how many lose their answer after they were done, and how many are never done.
    pub(crate) answer_lost: u32,
    pub(crate) call_lost: u32,
    /// Of a thousand pushes, how the provider takes them.
    pub(crate) provider: ProviderRates,
    /// Nobody dies, stalls or is cut off: then nothing may be sent twice but for the provider's silence.
    pub(crate) calm: bool,
    /// When the disasters end.
    pub(crate) healed_at: Millis,
    pub(crate) faults: Vec<(Millis, Fault)>,
    pub(crate) submissions: u64,
    /// How long notifications live.
    pub(crate) life: (Millis, Millis),
    /// Unanswered requests are tried again so often.
    pub(crate) ambiguous_retries: u8,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ProviderRates {
    pub(crate) throttled: u32,
    pub(crate) throttled_credential: u32,
    pub(crate) unavailable: u32,
    pub(crate) not_sent: u32,
    pub(crate) silent: u32,
    pub(crate) unauthorized: u32,
}

impl Plan {
    pub(crate) fn of(rng: &mut Rng) -> Self {
        let calm = rng.permille(250);
        let horizon = if rng.permille(100) {
            240_000
        } else {
            rng.range(10_000, 90_000)
        };
        let rough = rng.permille(700);
        let tenants = 1 + rng.index(3);
        let slow_provider = rng.permille(100);
        let mut plan = Self {
            unrecorded_max: rng.pick(&[8, 16, 32, 64]),
            scale: rng.pick(&[0.02, 0.1, 0.1, 0.3, 1.0]),
            rate: rng.pick(&[(2_000, 2_000), (2_000, 2_000), (50, 10), (5, 5), (1, 2)]),
            tenants,
            without_fcm: rng.permille(100).then(|| rng.index(tenants)),
            pages_ahead: rng.pick(&[1, 2, 8]),
            release_ahead: rng.pick(&[1, 3, 64]),
            slow_call: rng.pick(&[2, 20, 200]),
            slow_answer: if slow_provider {
                25_000
            } else {
                rng.pick(&[50, 300, 2_000])
            },
            answer_lost: rng.pick(&[0, 10, 50]),
            call_lost: rng.pick(&[0, 10, 50]),
            provider: if rough {
                rates(rng)
            } else {
                ProviderRates::default()
            },
            calm,
            healed_at: BEGIN + horizon,
            faults: Vec::new(),
            submissions: 1 + rng.below(5),
            life: rng.pick(&[(600_000, 3_600_000), (600_000, 3_600_000), (5_000, 120_000)]),
            ambiguous_retries: rng.pick(&[0, 1, 1, 1, 3]),
        };
        plan.faults = plan.disasters(rng, horizon);
        plan
    }

    fn disasters(&self, rng: &mut Rng, horizon: Millis) -> Vec<(Millis, Fault)> {
        let mut faults = Vec::new();
        let kinds = rng.next();
        for _ in 0..rng.below(14) {
            let at = BEGIN + rng.range(0, horizon);
            let slot = rng.index(2);
            let wanted = rng.below(8);
            // Each seed knows only some kinds, so that rare combinations are not drowned by frequent ones.
            if kinds >> wanted & 1 == 0 {
                continue;
            }
            let fault = match wanted {
                0 | 1 => Fault::Kill {
                    slot,
                    noticed_at_once: rng.permille(800),
                    back_after: rng.pick(&[10, 1_000, 30_000]),
                },
                2 => Fault::Stall {
                    slot,
                    millis: rng.pick(&[500, 5_000, 15_000, 25_000, 45_000]),
                },
                3 => Fault::CutOff {
                    slot,
                    noticed_after: rng.pick(&[0, 10, 2_000, 9_000]),
                },
                4 => Fault::BrokerRestart,
                5 => Fault::StoreOutage {
                    millis: rng.pick(&[300, 5_000, 30_000]),
                },
                6 => Fault::AckFails { slot },
                _ => {
                    let tenant = rng.index(self.tenants);
                    faults.push((
                        at + rng.range(1, 60_000),
                        Fault::Suspend {
                            tenant,
                            resume: true,
                        },
                    ));
                    Fault::Suspend {
                        tenant,
                        resume: false,
                    }
                }
            };
            faults.push((at, fault));
        }
        if rng.permille(60) {
            faults.extend(crash_loop(rng));
        }
        if self.calm {
            faults.retain(|(_, fault)| matches!(fault, Fault::Suspend { .. }));
        }
        faults
    }
}

/// A job that seems to kill its processes, until it runs alone or becomes a dead row: the same process dies again and again
/// while the other sleeps.
fn crash_loop(rng: &mut Rng) -> Vec<(Millis, Fault)> {
    let slot = rng.index(2);
    let back_after = rng.pick(&[10, 25_000]);
    let every = rng.range(5_000, 25_000);
    let kill = |time| {
        let fault = Fault::Kill {
            slot,
            noticed_at_once: true,
            back_after,
        };
        (BEGIN + time * every, fault)
    };
    let sleep = Fault::Stall {
        slot: 1 - slot,
        millis: 9 * every,
    };
    (1..8).map(kill).chain([(BEGIN, sleep)]).collect()
}

fn rates(rng: &mut Rng) -> ProviderRates {
    let mut rate = |choices: &[u32]| {
        if rng.permille(500) {
            rng.pick(choices)
        } else {
            0
        }
    };
    ProviderRates {
        throttled: rate(&[20, 200]),
        throttled_credential: rate(&[5, 20]),
        unavailable: rate(&[20, 300]),
        not_sent: rate(&[20, 300]),
        silent: rate(&[20, 100, 600]),
        unauthorized: rate(&[5, 20]),
    }
}
