//! Values counted by class, as histograms of monitoring systems have them.

/// Bounds that a spread may have; one more class is above all of them.
const BOUNDS_MAX: usize = 9;

/// Upper bounds, ascending; how many values were within each of them but not within the one before; and their sum.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    bounds: &'static [f64],
    counts: [u64; BOUNDS_MAX + 1],
    sum: f64,
}

impl Spread {
    pub fn new(bounds: &'static [f64]) -> Spread {
        assert!(bounds.len() <= BOUNDS_MAX, "{bounds:?}");
        Spread { bounds, counts: [0; BOUNDS_MAX + 1], sum: 0.0 }
    }

    /// As it was counted elsewhere, one more class than bounds.
    pub fn of(bounds: &'static [f64], counts: &[u64], sum: f64) -> Spread {
        assert_eq!(counts.len(), bounds.len() + 1, "{bounds:?}");
        let mut spread = Spread { sum, ..Spread::new(bounds) };
        spread.counts[..counts.len()].copy_from_slice(counts);
        spread
    }

    pub fn add(&mut self, value: f64) {
        self.counts[class(self.bounds, value)] += 1;
        self.sum += value;
    }

    /// Of the same bounds.
    pub fn merge(&mut self, other: &Spread) {
        self.counts.iter_mut().zip(other.counts).for_each(|(count, more)| *count += more);
        self.sum += other.sum;
    }

    pub fn bounds(&self) -> &'static [f64] {
        self.bounds
    }

    /// One more than bounds.
    pub fn counts(&self) -> &[u64] {
        &self.counts[..=self.bounds.len()]
    }

    pub fn is_empty(&self) -> bool {
        self.counts.iter().all(|count| *count == 0)
    }

    pub fn sum(&self) -> f64 {
        self.sum
    }
}

/// The class of a value: that of the first bound which is not below it.
pub fn class(bounds: &[f64], value: f64) -> usize {
    bounds.iter().position(|bound| value <= *bound).unwrap_or(bounds.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_on_a_bound_is_within_it() {
        let mut spread = Spread::new(&[1.0, 10.0]);
        [0.0, 1.0, 1.5, 10.0, 11.0].into_iter().for_each(|value| spread.add(value));
        assert_eq!((spread.counts(), spread.sum()), (&[2, 2, 1][..], 23.5));
        spread.merge(&spread.clone());
        assert_eq!((spread.counts(), spread.sum()), (&[4, 4, 2][..], 47.0));
    }
}
