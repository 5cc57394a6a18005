//! Random numbers as a function of a seed: one stream per concern, so that a new draw in one place does not shift all
//! the others. Our own generator (xoshiro256**), so that a seed means the same run for as long as this file stands.

/// A stream of random numbers.
#[derive(Clone, Debug)]
pub struct Dice {
    state: [u64; 4],
}

fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// FNV-1a, for names of streams and files.
pub fn hash_name(name: &str) -> u64 {
    name.bytes().fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3))
}

impl Dice {
    /// The stream `name` of `seed`.
    pub fn new(seed: u64, name: &str) -> Dice {
        let mut mix = seed ^ hash_name(name).rotate_left(17);
        Dice { state: std::array::from_fn(|_| split_mix(&mut mix)) }
    }

    /// A stream of its own, which leaves this one where it was but for one draw.
    pub fn fork(&mut self, name: &str) -> Dice {
        Dice::new(self.next(), name)
    }

    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> u64 {
        let result = self.state[1].wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let shifted = self.state[1] << 17;
        self.state[2] ^= self.state[0];
        self.state[3] ^= self.state[1];
        self.state[1] ^= self.state[2];
        self.state[0] ^= self.state[3];
        self.state[2] ^= shifted;
        self.state[3] = self.state[3].rotate_left(45);
        result
    }

    /// A number from 0 to `bound` − 1.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "there is no number below zero");
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// A number from `low` to `high`, both included.
    pub fn within(&mut self, low: u64, high: u64) -> u64 {
        assert!(low <= high);
        low + self.below(high - low + 1)
    }

    /// Like `within`, but every order of magnitude is equally likely.
    pub fn log_within(&mut self, low: u64, high: u64) -> u64 {
        assert!(0 < low && low <= high);
        let share = self.below(1 << 20) as f64 / (1u64 << 20) as f64;
        let value = (low as f64).ln() + share * ((high as f64).ln() - (low as f64).ln());
        (value.exp().round() as u64).clamp(low, high)
    }

    /// True `per_million` times in a million. Draws only where the answer is open.
    pub fn chance(&mut self, per_million: u32) -> bool {
        match per_million {
            0 => false,
            1_000_000.. => true,
            some => self.below(1_000_000) < u64::from(some),
        }
    }

    pub fn coin(&mut self) -> bool {
        self.next() >> 63 == 1
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }

    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            items.swap(at, self.below(at as u64 + 1) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_repeat_and_differ() {
        let draw =
            |seed, name| (0..4).map(|_| 0).scan(Dice::new(seed, name), |dice, _| Some(dice.next())).collect::<Vec<_>>();
        assert_eq!(draw(7, "disk"), draw(7, "disk"));
        assert_ne!(draw(7, "disk"), draw(7, "network"));
        assert_ne!(draw(7, "disk"), draw(8, "disk"));
    }

    #[test]
    fn draws_keep_their_bounds() {
        let mut dice = Dice::new(1, "bounds");
        for _ in 0..10_000 {
            assert!(dice.below(3) < 3);
            assert!((5..=9).contains(&dice.within(5, 9)));
            assert!((50..=2_000_000).contains(&dice.log_within(50, 2_000_000)));
        }
        assert!(!dice.chance(0) && dice.chance(1_000_000));
    }
}
