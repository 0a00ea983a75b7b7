//! The only source of chance in a run: everything is drawn from it, in the order of the events.

/// A deterministic generator with the draws that the simulator needs.
#[derive(Clone, Debug)]
pub struct Rng(fastrand::Rng);

impl Rng {
    /// The generator of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Rng {
        Rng(fastrand::Rng::with_seed(seed ^ 0x9e37_79b9_7f4a_7c15))
    }

    /// A number of 64 bits.
    pub fn word(&mut self) -> u64 {
        self.0.u64(..)
    }

    /// A number below `n`; 0 if `n` is 0.
    pub fn below(&mut self, n: u32) -> u32 {
        if n == 0 { 0 } else { self.0.u32(..n) }
    }

    /// A number of `low..=high`.
    pub fn within(&mut self, low: u64, high: u64) -> u64 {
        self.0.u64(low..=high.max(low))
    }

    /// Whether something happens that happens `per_mille` times in a thousand.
    pub fn chance(&mut self, per_mille: u32) -> bool {
        per_mille != 0 && self.0.u32(..1000) < per_mille
    }

    /// Heads or tails.
    pub fn coin(&mut self) -> bool {
        self.0.bool()
    }

    /// One of several; `choices` is not empty.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.0.usize(..choices.len())]
    }

    /// A duration around `mean`, between a tenth of it and nearly twice, sometimes ten times.
    pub fn around(&mut self, mean: u64) -> u64 {
        let spread = mean / 10 + self.0.u64(..=mean.saturating_mul(9) / 5);
        if self.0.u8(..) == 0 {
            spread.saturating_mul(10)
        } else {
            spread
        }
    }

    /// An index drawn by weights; their sum is not 0.
    pub fn weighted(&mut self, weights: &[u32]) -> usize {
        let total = weights.iter().sum();
        let mut left = self.below(total);
        for (index, &weight) in weights.iter().enumerate() {
            if left < weight {
                return index;
            }
            left -= weight;
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use super::Rng;

    #[test]
    fn same_seed_gives_the_same_draws() {
        let mut one = Rng::new(7);
        let mut two = Rng::new(7);
        for _ in 0..100 {
            assert_eq!(one.word(), two.word());
            assert_eq!(one.weighted(&[1, 2, 3]), two.weighted(&[1, 2, 3]));
        }
        assert_ne!(Rng::new(8).word(), Rng::new(7).word());
    }

    #[test]
    fn weight_of_zero_is_never_drawn() {
        let mut rng = Rng::new(1);
        for _ in 0..1000 {
            assert_ne!(rng.weighted(&[3, 0, 5]), 1);
        }
    }
}
