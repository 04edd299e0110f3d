//! Random draws that are the same on every machine, and the keys that are drawn.
//!
//! Only integer arithmetic and the four basic operations on floats are used, because a seed must give the same bytes
//! everywhere. Functions such as `powf` may differ in the last bit between platforms.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

#[derive(Debug, Clone)]
pub(super) struct Random(ChaCha8Rng);

impl Random {
    pub(super) fn new(seed: u64) -> Random {
        Random(ChaCha8Rng::seed_from_u64(seed))
    }

    /// Returns a number below `bound`, which is not 0. The bias is at most `bound` / 2^64, which is negligible here.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        let wide = u128::from(self.0.next_u64()) * u128::from(bound);
        (wide >> 64) as u64
    }

    pub(super) fn index(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }

    /// Returns a number of at least 0 and less than 1.
    pub(super) fn unit(&mut self) -> f64 {
        const STEPS: f64 = (1u64 << 53) as f64;
        (self.0.next_u64() >> 11) as f64 / STEPS
    }

    pub(super) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.index(choices.len())]
    }

    pub(super) fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }
}

/// Draws one of several choices by weight.
#[derive(Debug, Clone)]
pub(super) struct Weighted<T> {
    /// Each with the sum of the weights up to it.
    choices: Vec<(T, u64)>,
}

impl<T: Copy> Weighted<T> {
    pub(super) fn new(weights: &[(T, u32)]) -> Weighted<T> {
        let mut sum = 0;
        let add_up = |&(choice, weight): &(T, u32)| {
            sum += u64::from(weight);
            (choice, sum)
        };
        Weighted { choices: weights.iter().filter(|(_, weight)| *weight > 0).map(add_up).collect() }
    }

    /// Returns `None` if no choice has a weight.
    pub(super) fn draw(&self, random: &mut Random) -> Option<T> {
        let (_, total) = self.choices.last()?;
        let at = random.below(*total);
        let index = self.choices.partition_point(|(_, below)| *below <= at);
        Some(self.choices[index].0)
    }
}

/// How often each rank is drawn.
#[derive(Debug, Clone)]
enum Popularity {
    Uniform,
    /// Zipf's law: for each rank, the sum of the weights of all ranks up to it.
    Zipf(Vec<u64>),
}

impl Popularity {
    fn new(ranks: u64, exponent: f64) -> Popularity {
        if exponent == 0.0 {
            return Popularity::Uniform;
        }
        let mut sum = 0;
        let add_up = |rank: u64| {
            sum += zipf_weight(rank, exponent);
            sum
        };
        Popularity::Zipf((1..=ranks).map(add_up).collect())
    }

    /// Draws one of the first `ranks` ranks, counted from 0. `ranks` is not 0.
    fn draw(&self, ranks: usize, random: &mut Random) -> usize {
        match self {
            Popularity::Uniform => random.index(ranks),
            Popularity::Zipf(sums) => {
                let at = random.below(sums[ranks - 1]);
                sums[..ranks].partition_point(|sum| *sum <= at)
            }
        }
    }
}

/// Returns `rank` to the power of minus `exponent`, in units of 2^-32, at least 1.
fn zipf_weight(rank: u64, exponent: f64) -> u64 {
    let scaled = exp(-exponent * ln(rank as f64)) * (1u64 << 32) as f64;
    (scaled as u64).max(1)
}

/// Returns the natural logarithm of a number of at least 1, by halving and the series of the inverse hyperbolic tangent.
fn ln(number: f64) -> f64 {
    let (mut rest, mut halvings) = (number, 0.0);
    while rest > 1.5 {
        rest /= 2.0;
        halvings += 1.0;
    }
    let ratio = (rest - 1.0) / (rest + 1.0);
    let (mut power, mut sum, mut odd) = (ratio, 0.0, 1.0);
    for _ in 0..14 {
        sum += power / odd;
        power *= ratio * ratio;
        odd += 2.0;
    }
    halvings * std::f64::consts::LN_2 + 2.0 * sum
}

/// Returns e to the power of a number of at most 0, by halving and Taylor's series.
fn exp(number: f64) -> f64 {
    let (mut rest, mut halvings) = (number, 0);
    while rest < -std::f64::consts::LN_2 {
        rest += std::f64::consts::LN_2;
        halvings += 1;
    }
    let (mut term, mut sum, mut n) = (1.0, 1.0, 1.0);
    for _ in 0..18 {
        term *= rest / n;
        sum += term;
        n += 1.0;
    }
    for _ in 0..halvings {
        sum /= 2.0;
    }
    sum
}

/// The ids that exist and those that do not, so that an event is valid or not found as intended.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    first_id: u64,
    count: u64,
    popularity: Popularity,
    /// The ids that exist, the most frequent one first.
    live: Vec<u32>,
    absent: Vec<u32>,
}

/// An id and its index in `live` or `absent`, valid until the next change.
#[derive(Debug, Clone, Copy)]
pub(super) struct Drawn {
    pub(super) id: u64,
    index: usize,
}

impl Keys {
    pub(super) fn new(first_id: u64, count: u32, zipf_exponent: f64) -> Keys {
        let popularity = Popularity::new(u64::from(count), zipf_exponent);
        Keys { first_id, count: u64::from(count), popularity, live: Vec::new(), absent: (0..count).collect() }
    }

    /// Draws an id that exists, by popularity.
    pub(super) fn popular(&self, random: &mut Random) -> Option<Drawn> {
        (!self.live.is_empty()).then(|| {
            let index = self.popularity.draw(self.live.len(), random);
            Drawn { id: self.id(self.live[index]), index }
        })
    }

    /// Draws an id that exists, all equally often. A draw by popularity would delete popular ids too soon.
    pub(super) fn any_live(&self, random: &mut Random) -> Option<Drawn> {
        (!self.live.is_empty()).then(|| {
            let index = random.index(self.live.len());
            Drawn { id: self.id(self.live[index]), index }
        })
    }

    /// Draws an id that does not exist but may be created.
    pub(super) fn absent(&self, random: &mut Random) -> Option<Drawn> {
        (!self.absent.is_empty()).then(|| {
            let index = random.index(self.absent.len());
            Drawn { id: self.id(self.absent[index]), index }
        })
    }

    /// Draws an id that is never created.
    pub(super) fn spare(&self, random: &mut Random) -> u64 {
        self.first_id + self.count + random.below(self.count)
    }

    pub(super) fn create(&mut self, drawn: Drawn) {
        let key = self.absent.swap_remove(drawn.index);
        self.live.push(key);
    }

    pub(super) fn delete(&mut self, drawn: Drawn) {
        let key = self.live.swap_remove(drawn.index);
        self.absent.push(key);
    }

    fn id(&self, key: u32) -> u64 {
        self.first_id + u64::from(key)
    }
}
