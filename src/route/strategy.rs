//! Which of several deployments is asked: pure functions over what is known of each.

use serde::{Deserialize, Serialize};

/// By LiteLLM's names, and one of our own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// By chance, weighted by `weight`, else `rpm`, else `tpm`; in turn where nobody has a weight.
    #[default]
    SimpleShuffle,
    /// The one with the fewest calls under way.
    LeastBusy,
    /// The one with the fewest tokens in this minute.
    UsageBasedRouting,
    /// The same.
    #[serde(rename = "usage-based-routing-v2")]
    UsageBasedRoutingV2,
    /// The fastest of late; the time to the first token counts for streams.
    LatencyBasedRouting,
    /// The one with the lowest price.
    CostBasedRouting,
    /// Of two by chance the one with the smaller product of latency and calls under way.
    PeakEwma,
}

impl Strategy {
    /// Whether `rpm` and `tpm` are limits, and not weights alone.
    pub fn limits_rates(self) -> bool {
        matches!(self, Strategy::UsageBasedRouting | Strategy::UsageBasedRoutingV2)
    }
}

/// What a choice is made by.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Candidate {
    pub weight: Option<f64>,
    pub rpm: Option<u64>,
    pub tpm: Option<u64>,
    pub in_flight: u32,
    /// Tokens in this minute.
    pub tokens: u64,
    /// Milliseconds; `None` where it was never asked.
    pub latency: Option<f64>,
    /// Dollars for a token in and one out.
    pub price: Option<f64>,
}

/// A model without a price is taken to cost this, as in LiteLLM.
const UNKNOWN_PRICE: f64 = 1.0;

/// The place of the one to ask. `turn` counts the choices made before; `random` gives numbers from 0 to below 1;
/// `buffer` is the share of the lowest latency that others may be slower by.
///
/// `candidates` must not be empty.
pub fn choose(
    strategy: Strategy,
    candidates: &[Candidate],
    turn: usize,
    buffer: f64,
    mut random: impl FnMut() -> f64,
) -> usize {
    let count = candidates.len();
    match strategy {
        Strategy::SimpleShuffle => weighted(candidates, &mut random).unwrap_or(turn % count),
        Strategy::LeastBusy => least(candidates, turn, |c| f64::from(c.in_flight)),
        Strategy::UsageBasedRouting | Strategy::UsageBasedRoutingV2 => least(candidates, turn, |c| c.tokens as f64),
        Strategy::CostBasedRouting => least(candidates, turn, |c| c.price.unwrap_or(UNKNOWN_PRICE)),
        Strategy::LatencyBasedRouting => {
            // Who was never asked goes first: its latency is only known by asking.
            let latency = |c: &Candidate| c.latency.unwrap_or(0.0);
            let lowest = candidates.iter().map(latency).fold(f64::INFINITY, f64::min);
            let near = |c: &&Candidate| latency(c) <= lowest * (1.0 + buffer.max(0.0));
            let many = candidates.iter().filter(near).count();
            let wanted = place(random(), many);
            let mut fitting = candidates.iter().enumerate().filter(|(_, c)| near(c)).map(|(i, _)| i);
            fitting.nth(wanted).unwrap_or(0)
        }
        Strategy::PeakEwma => {
            let first = place(random(), count);
            // The second is another one than the first.
            let second = (first + 1 + place(random(), count.saturating_sub(1).max(1))) % count;
            let load = |i: usize| candidates[i].latency.unwrap_or(0.0) * f64::from(candidates[i].in_flight + 1);
            let (a, b) = ((load(first), candidates[first].in_flight), (load(second), candidates[second].in_flight));
            if b < a { second } else { first }
        }
    }
}

fn place(random: f64, count: usize) -> usize {
    ((random * count as f64) as usize).min(count.saturating_sub(1))
}

/// By chance in the proportion of the first sort of weight that any of them has.
fn weighted(candidates: &[Candidate], random: &mut impl FnMut() -> f64) -> Option<usize> {
    let sorts: [fn(&Candidate) -> Option<f64>; 3] =
        [|c| c.weight, |c| c.rpm.map(|rpm| rpm as f64), |c| c.tpm.map(|tpm| tpm as f64)];
    let weigh = sorts.into_iter().find(|weigh| candidates.iter().any(|c| weigh(c).is_some()))?;
    let weight = |c: &Candidate| weigh(c).unwrap_or(0.0).max(0.0);
    let sum: f64 = candidates.iter().map(weight).sum();
    if sum <= 0.0 {
        return None;
    }
    let mut left = random() * sum;
    for (i, candidate) in candidates.iter().enumerate() {
        left -= weight(candidate);
        if left < 0.0 {
            return Some(i);
        }
    }
    candidates.iter().rposition(|c| weight(c) > 0.0)
}

/// The smallest, and of equals the one whose turn it is.
fn least(candidates: &[Candidate], turn: usize, by: impl Fn(&Candidate) -> f64) -> usize {
    let count = candidates.len();
    let in_turn = (0..count).map(|i| (turn + i) % count);
    in_turn.min_by(|a, b| by(&candidates[*a]).total_cmp(&by(&candidates[*b]))).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, prop, prop_assert, prop_assume, proptest};
    use proptest::strategy::Strategy as _;
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    const ALL: [Strategy; 7] = [
        Strategy::SimpleShuffle,
        Strategy::LeastBusy,
        Strategy::UsageBasedRouting,
        Strategy::UsageBasedRoutingV2,
        Strategy::LatencyBasedRouting,
        Strategy::CostBasedRouting,
        Strategy::PeakEwma,
    ];

    fn candidate() -> impl proptest::strategy::Strategy<Value = Candidate> {
        let number = prop::option::of(0u64..1000);
        let real = || prop::option::of(0.0f64..1000.0);
        (real(), number.clone(), number, 0u32..50, 0u64..10_000, real(), real()).prop_map(
            |(weight, rpm, tpm, in_flight, tokens, latency, price)| Candidate {
                weight,
                rpm,
                tpm,
                in_flight,
                tokens,
                latency,
                price,
            },
        )
    }

    proptest! {
        #[test]
        fn whatever_is_known_a_candidate_is_chosen_that_is_there(
            candidates in prop::collection::vec(candidate(), 1..20), turn in any::<usize>(), seed in any::<u64>(),
        ) {
            let mut rng = StdRng::seed_from_u64(seed);
            for strategy in ALL {
                let chosen = choose(strategy, &candidates, turn, 0.2, || rng.random());
                prop_assert!(chosen < candidates.len());
            }
        }

        #[test]
        fn the_least_is_never_worse_than_another(
            candidates in prop::collection::vec(candidate(), 1..20), turn in any::<usize>(),
        ) {
            let at = |strategy| candidates[choose(strategy, &candidates, turn, 0.0, || 0.5)];
            for other in &candidates {
                prop_assert!(at(Strategy::LeastBusy).in_flight <= other.in_flight);
                prop_assert!(at(Strategy::UsageBasedRoutingV2).tokens <= other.tokens);
                prop_assert!(at(Strategy::LatencyBasedRouting).latency.unwrap_or(0.0) <= other.latency.unwrap_or(0.0));
                prop_assert!(
                    at(Strategy::CostBasedRouting).price.unwrap_or(UNKNOWN_PRICE) <= other.price.unwrap_or(UNKNOWN_PRICE)
                );
            }
        }

        #[test]
        fn who_weighs_nothing_is_not_chosen(
            weights in prop::collection::vec(0u32..4, 2..10), seed in any::<u64>(),
        ) {
            prop_assume!(weights.iter().any(|w| *w > 0));
            let candidates: Vec<_> =
                weights.iter().map(|w| Candidate { weight: Some(f64::from(*w)), ..Candidate::default() }).collect();
            let mut rng = StdRng::seed_from_u64(seed);
            for turn in 0..50 {
                let chosen = choose(Strategy::SimpleShuffle, &candidates, turn, 0.0, || rng.random());
                prop_assert!(weights[chosen] > 0);
            }
        }
    }

    /// How often each is chosen in 10,000 calls with a fixed seed.
    fn shares(strategy: Strategy, candidates: &[Candidate]) -> Vec<u32> {
        let mut rng = StdRng::seed_from_u64(8);
        let mut counts = vec![0; candidates.len()];
        for turn in 0..10_000 {
            counts[choose(strategy, candidates, turn, 0.1, || rng.random())] += 1;
        }
        counts
    }

    fn near(counts: &[u32], expected: &[u32]) {
        for (count, expected) in counts.iter().zip(expected) {
            assert!(count.abs_diff(*expected) <= 200, "{counts:?}, expected {expected:?}");
        }
    }

    #[test]
    fn shares_follow_weights_then_requests_then_tokens() {
        let plain = Candidate::default();
        assert_eq!(shares(Strategy::SimpleShuffle, &[plain; 4]), [2500; 4]);
        let weights = [1.0, 2.0, 7.0].map(|w| Candidate { weight: Some(w), rpm: Some(5), ..plain });
        near(&shares(Strategy::SimpleShuffle, &weights), &[1000, 2000, 7000]);
        let rpm = [60, 20].map(|rpm| Candidate { rpm: Some(rpm), tpm: Some(9), ..plain });
        near(&shares(Strategy::SimpleShuffle, &rpm), &[7500, 2500]);
        let tpm = [100, 300].map(|tpm| Candidate { tpm: Some(tpm), ..plain });
        near(&shares(Strategy::SimpleShuffle, &tpm), &[2500, 7500]);
    }

    #[test]
    fn equals_are_served_alike_and_the_slow_seldom() {
        let plain = Candidate { latency: Some(100.0), in_flight: 3, ..Candidate::default() };
        near(&shares(Strategy::LatencyBasedRouting, &[plain, Candidate { latency: Some(108.0), ..plain }]), &[5000; 2]);
        assert_eq!(
            shares(Strategy::LatencyBasedRouting, &[plain, Candidate { latency: Some(120.0), ..plain }]),
            [10_000, 0]
        );
        // Of three, two are looked at: the slow one is never the better of them.
        let slow = Candidate { latency: Some(900.0), ..plain };
        near(&shares(Strategy::PeakEwma, &[plain, plain, slow]), &[5000, 5000, 0]);
        for strategy in [Strategy::LeastBusy, Strategy::CostBasedRouting, Strategy::UsageBasedRouting] {
            assert_eq!(shares(strategy, &[plain; 4]), [2500; 4], "{strategy:?}");
        }
    }
}
