//! Randomness. In the simulator it is a function of the seed.

pub trait Entropy: Send + Sync {
    fn next_u64(&self) -> u64;

    /// A number below `bound`, which is above zero. The bias of the remainder is far below what its users could see.
    fn below(&self, bound: u64) -> u64 {
        assert!(bound > 0, "there is no number below zero");
        self.next_u64() % bound
    }
}
