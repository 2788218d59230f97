//! Buckets of ids: a hash places each id, so that groups of members need no table and no state.

use ring::digest;

/// The bucket of an id, from 0 to `buckets - 1`: the first eight bytes of the SHA-256 of the salt, a
/// colon and the id, as an unsigned number with the highest byte first, modulo `buckets`. None: there
/// are no buckets.
pub fn of(id: &[u8], salt: &[u8], buckets: u64) -> Option<u64> {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(salt);
    context.update(b":");
    context.update(id);
    let hash = context.finish();
    let first = hash.as_ref().first_chunk::<8>()?;
    u64::from_be_bytes(*first).checked_rem(buckets)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(id: &str, salt: &str, buckets: u64) -> u64 {
        of(id.as_bytes(), salt.as_bytes(), buckets).expect("buckets")
    }

    /// Python: int.from_bytes(hashlib.sha256(f"{salt}:{id}".encode()).digest()[:8], "big") % buckets
    #[test]
    fn buckets_are_those_of_other_languages() {
        for (id, salt, buckets, expected) in [
            ("42", "", 10_000, 3763),
            ("42", "spring", 10_000, 386),
            ("42", "spring", 2_147_483_647, 1_282_517_207),
            // The highest bit of their hashes is set.
            ("", "", 10_000, 4368),
            ("user-1", "", 10_000, 821),
            ("наталья ☃", "весна", 10_000, 9837),
            ("7:b", "a", 997, 310),
            ("b", "a:7", 997, 310),
        ] {
            assert_eq!(bucket(id, salt, buckets), expected, "{id} {salt} {buckets}");
        }
        assert_eq!(of(b"42", b"", 0), None);
        assert_eq!(bucket("42", "", 1), 0);
    }

    /// Each bucket has its share of the ids: chi-square, which is nearly normal with so many degrees of
    /// freedom.
    #[test]
    fn ids_are_spread_evenly() {
        for (salt, buckets, ids) in
            [("spring", 100, 1_000_000), ("", 997, 100_000), ("holdout 2027", 10, 10_000)]
        {
            let mut counts = vec![0_u32; buckets];
            for id in 0..ids {
                counts[bucket(&id.to_string(), salt, buckets as u64) as usize] += 1;
            }
            assert!(is_even(&counts), "{salt} {buckets}");
        }
    }

    /// The groups of two experiments are independent of each other: all pairs are equally frequent.
    #[test]
    fn salts_are_independent() {
        let mut counts = vec![0_u32; 400];
        for id in 0..100_000 {
            let id = id.to_string();
            counts[(bucket(&id, "a", 20) * 20 + bucket(&id, "b", 20)) as usize] += 1;
        }
        assert!(is_even(&counts));
    }

    fn is_even(counts: &[u32]) -> bool {
        let expected = f64::from(counts.iter().sum::<u32>()) / counts.len() as f64;
        let square = counts.iter().map(|count| (f64::from(*count) - expected).powi(2) / expected);
        let freedom = (counts.len() - 1) as f64;
        (square.sum::<f64>() - freedom).abs() < 4.5 * (2.0 * freedom).sqrt()
    }
}
