//! Repeatable chance for the simulated vendors: the same seed gives the same calls on every machine.

/// SplitMix64: small, known, and ours, so that a new release of a crate never changes a plan.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Chance that belongs to `text` under this seed: an independent stream for every name.
    pub fn named(seed: u64, text: &str) -> Self {
        // FNV-1a over the name, stirred into the seed.
        let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        Self::new(Self::new(seed ^ hash).roll())
    }

    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`; 0 when `limit` is 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        if limit == 0 { 0 } else { self.roll() % limit }
    }

    /// True in `part` of `whole` cases.
    pub fn happens(&mut self, part: u64, whole: u64) -> bool {
        self.below(whole) < part
    }

    /// One of `choices`, which must not be empty.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }

    /// `len` characters out of `alphabet`.
    pub fn text(&mut self, alphabet: &[u8], len: usize) -> String {
        (0..len).map(|_| char::from(self.pick(alphabet))).collect()
    }

    /// Upper-case hexadecimal digits.
    pub fn hex(&mut self, len: usize) -> String {
        self.text(b"0123456789ABCDEF", len)
    }

    pub fn digits(&mut self, len: usize) -> String {
        self.text(b"0123456789", len)
    }

    /// Letters and digits of both cases, for secrets.
    pub fn token(&mut self, len: usize) -> String {
        self.text(
            b"ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789",
            len,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_name_under_the_same_seed_gives_the_same_chance() {
        let mut one = Dice::named(7, "feiyu-main");
        let mut two = Dice::named(7, "feiyu-main");
        let mut other = Dice::named(7, "feiyu-side");
        let rolls: Vec<u64> = (0..8).map(|_| one.roll()).collect();
        assert_eq!(rolls, (0..8).map(|_| two.roll()).collect::<Vec<_>>());
        assert_ne!(rolls, (0..8).map(|_| other.roll()).collect::<Vec<_>>());
    }

    #[test]
    fn texts_keep_to_their_alphabet_and_length() {
        let mut dice = Dice::new(1);
        let token = dice.token(32);
        assert_eq!(token.len(), 32);
        assert!(token.bytes().all(|b| b.is_ascii_alphanumeric()));
        assert!(dice.digits(12).bytes().all(|b| b.is_ascii_digit()));
    }
}
