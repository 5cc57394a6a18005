//! Randomness seeded by the kernel.

use rand::RngCore;

use crate::env::Entropy;

pub(super) struct KernelEntropy;

impl Entropy for KernelEntropy {
    fn next_u64(&self) -> u64 {
        rand::rng().next_u64()
    }
}
