//! The few special functions the models need, chosen for holding their relative
//! precision far out in the tails. Poisson's are own code: `statrs` works them out from
//! ln Γ, which costs half of the digits where half a million are expected.

use std::f64::consts::TAU;

use statrs::function::gamma::gamma_ur;

/// ln(n!) less Stirling's approximation of it, to about 1e-15 (C. Loader, *Fast
/// and accurate computation of binomial probabilities*, 2000).
fn stirling_error(n: f64) -> f64 {
    if n < 16.0 {
        let log_factorial: f64 = (2..=n as u32).map(|i| f64::from(i).ln()).sum();
        return log_factorial - ((n + 0.5) * n.max(1.0).ln() - n + 0.5 * TAU.ln());
    }
    let n2 = n * n;
    (1.0 / 12.0 - (1.0 / 360.0 - (1.0 / 1260.0 - 1.0 / (1680.0 * n2)) / n2) / n2) / n
}

/// x ln(x / m) + m - x without cancellation where x is close to m (Loader 2000).
fn deviance(x: f64, m: f64) -> f64 {
    if (x - m).abs() >= 0.1 * (x + m) {
        return x * (x / m).ln() + m - x;
    }
    let v = (x - m) / (x + m);
    let mut sum = (x - m) * v;
    let mut power = 2.0 * x * v;
    for j in 1..1000 {
        power *= v * v;
        let next = sum + power / f64::from(2 * j + 1);
        if next == sum {
            break;
        }
        sum = next;
    }
    sum
}

/// The chance that a Poisson number of mean `mean` is `n`.
pub(crate) fn poisson_pmf(n: u64, mean: f64) -> f64 {
    let n = n as f64;
    if mean <= 0.0 {
        return f64::from(u8::from(n == 0.0));
    }
    if n == 0.0 {
        return (-mean).exp();
    }
    (-stirling_error(n) - deviance(n, mean)).exp() / (TAU * n).sqrt()
}

/// The chance that a Poisson number of mean `mean` is `n` or more, which is also
/// the chance that a sum of n exponentials of mean 1 is `mean` or less.
pub(crate) fn poisson_at_least(n: u64, mean: f64) -> f64 {
    if n == 0 {
        return 1.0;
    }
    if mean <= 0.0 {
        return 0.0;
    }
    if n as f64 > mean {
        return upward(n, mean);
    }
    1.0 - downward(n - 1, mean)
}

/// The chance that a Poisson number is below `n`: the tail of an Erlang
/// distribution of n stages of mean 1 each.
pub(crate) fn poisson_below(n: u64, mean: f64) -> f64 {
    if n == 0 {
        return 0.0;
    }
    if mean <= 0.0 {
        return 1.0;
    }
    if (n as f64) < mean { downward(n - 1, mean) } else { 1.0 - upward(n, mean) }
}

/// P(N >= n) for n above the mean, where the terms fall.
fn upward(n: u64, mean: f64) -> f64 {
    let mut term = poisson_pmf(n, mean);
    let (mut sum, mut i) = (term, n as f64);
    while term > 1e-18 * sum {
        i += 1.0;
        term *= mean / i;
        sum += term;
    }
    sum
}

/// P(N <= n) for n below the mean, where the terms fall towards zero.
fn downward(n: u64, mean: f64) -> f64 {
    let mut term = poisson_pmf(n, mean);
    let (mut sum, mut i) = (term, n as f64);
    while i > 0.0 && term > 1e-18 * sum {
        term *= i / mean;
        i -= 1.0;
        sum += term;
    }
    sum.min(1.0)
}

/// The standard normal distribution function.
pub(crate) fn normal_cdf(z: f64) -> f64 {
    // By the incomplete gamma function, which `statrs` has to the last digits even far out
    // in a tail; its error function is off in the eleventh digit.
    let tail = match z * z / 2.0 {
        0.0 => 0.5,
        f64::INFINITY => 0.0,
        x => gamma_ur(0.5, x) / 2.0,
    };
    if z > 0.0 { 1.0 - tail } else { tail }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() <= 1e-12 * b.abs(), "{a} is not {b}");
    }

    #[test]
    fn values_are_those_of_an_independent_library() {
        // scipy.stats.poisson.pmf / sf / cdf and scipy.stats.norm.cdf.
        close(poisson_pmf(0, 2.5), 0.0820849986238988);
        close(poisson_pmf(3, 2.5), 0.21376301724973645);
        close(poisson_pmf(40, 37.25), 0.05700809967196233);
        close(poisson_pmf(1000, 980.5), 0.010404333761858847);
        close(poisson_pmf(500000, 499000.25), 0.000207380604093685);
        close(poisson_at_least(3, 0.5), 0.014387677966970687);
        close(poisson_at_least(10, 40.25), 0.9999999967715293);
        close(poisson_at_least(60, 40.25), 0.0021497423713991003);
        close(poisson_below(10, 40.25), 3.2284706684823676e-09);
        close(poisson_below(60, 40.25), 0.9978502576286009);
        close(normal_cdf(-8.0), 6.220960574271784e-16);
        close(normal_cdf(-3.5), 0.00023262907903552504);
        close(normal_cdf(-1.0), 0.15865525393145705);
        close(normal_cdf(0.3), 0.6179114221889527);
        close(normal_cdf(2.326347874040841), 0.99);
        close(normal_cdf(5.0), 0.9999997133484281);
        assert_eq!([f64::NEG_INFINITY, 0.0].map(normal_cdf), [0.0, 0.5]);
    }

    #[test]
    fn poisson_parts_make_a_whole() {
        for mean in [0.1, 3.7, 40.0, 1_000.0] {
            for n in [0, 1, 5, 37, 40, 41, 1_200] {
                let whole = poisson_at_least(n, mean) + poisson_below(n, mean);
                assert!((whole - 1.0).abs() < 1e-13, "{n} {mean} {whole}");
            }
        }
    }
}
