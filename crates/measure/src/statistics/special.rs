//! Distribution functions, to about twelve digits.
//!
//! Own code in place of a statistics crate: five functions are needed, and the
//! crates that have them bring a matrix library along.

use std::f64::consts::TAU;

/// Where series and fractions stop.
const PRECISION: f64 = 1e-16;
/// Terms at most; what needs more has not converged and is no number.
const MOST_TERMS: u32 = 100_000;

/// ln Γ(x) for x > 0 (C. Lanczos 1964, with P. Godfrey's coefficients).
pub(super) fn ln_gamma(x: f64) -> f64 {
    const G: f64 = 607.0 / 128.0;
    const COEFFICIENTS: [f64; 15] = [
        0.999_999_999_999_997_1,
        57.156_235_665_862_92,
        -59.597_960_355_475_49,
        14.136_097_974_741_746,
        -0.491_913_816_097_620_2,
        0.339_946_499_848_118_9e-4,
        0.465_236_289_270_485_8e-4,
        -0.983_744_753_048_795_6e-4,
        0.158_088_703_224_912_5e-3,
        -0.210_264_441_724_104_9e-3,
        0.217_439_618_115_212_6e-3,
        -0.164_318_106_536_763_9e-3,
        0.844_182_239_838_527_4e-4,
        -0.261_908_384_015_814_1e-4,
        0.368_991_826_595_316_2e-5,
    ];
    let sum = COEFFICIENTS[1..]
        .iter()
        .zip(1_u32..)
        .fold(COEFFICIENTS[0], |sum, (c, i)| sum + c / (x - 1.0 + f64::from(i)));
    let t = x - 0.5 + G;
    0.5 * TAU.ln() + (x - 0.5) * t.ln() - t + sum.ln()
}

/// The regularised upper incomplete gamma function Q(a, x): the series or the
/// continued fraction, whichever converges (W. Press et al., *Numerical Recipes*,
/// section 6.2).
pub(super) fn gamma_q(a: f64, x: f64) -> f64 {
    if !(a > 0.0 && x >= 0.0) {
        return f64::NAN;
    }
    if x == 0.0 {
        return 1.0;
    }
    let front = (a * x.ln() - x - ln_gamma(a)).exp();
    if x < a + 1.0 {
        let (mut term, mut sum) = (1.0 / a, 1.0 / a);
        for n in 1..MOST_TERMS {
            term *= x / (a + f64::from(n));
            sum += term;
            if term < PRECISION * sum {
                break;
            }
        }
        return (1.0 - front * sum).clamp(0.0, 1.0);
    }
    let fraction = continued(x + 1.0 - a, |n| {
        let n = f64::from(n);
        (-n * (n - a), x + 2.0 * n + 1.0 - a)
    });
    (front / fraction).clamp(0.0, 1.0)
}

/// The chance that a chi-square variable with `degrees` of freedom exceeds `x`.
pub(super) fn chi_square_tail(degrees: f64, x: f64) -> f64 {
    gamma_q(degrees / 2.0, x / 2.0)
}

/// The standard normal distribution function.
pub(super) fn normal_cdf(z: f64) -> f64 {
    // Q(1/2, z²/2) is the chance of both tails.
    let both = gamma_q(0.5, z * z / 2.0);
    if z > 0.0 { 1.0 - both / 2.0 } else { both / 2.0 }
}

/// The chance that a standard normal variable is further from 0 than `z`.
pub(super) fn normal_two_sided(z: f64) -> f64 {
    gamma_q(0.5, z * z / 2.0)
}

/// The value that a standard normal variable is below with chance `p`.
pub(super) fn normal_quantile(p: f64) -> f64 {
    // Newton's method on the upper half, where it converges from 0 without
    // overshooting, since the function is concave there.
    let (sign, tail) = if p < 0.5 { (-1.0, p) } else { (1.0, 1.0 - p) };
    if tail <= 0.0 {
        return sign * f64::INFINITY;
    }
    let mut z: f64 = 0.0;
    for _ in 0..100 {
        let error = normal_cdf(-z) - tail;
        let step = error * TAU.sqrt() * (z * z / 2.0).exp();
        z += step;
        if step.abs() < 1e-14 * (1.0 + z) {
            break;
        }
    }
    sign * z
}

/// The regularised incomplete beta function I_x(a, b) (*Numerical Recipes*,
/// section 6.4).
pub(super) fn beta(a: f64, b: f64, x: f64) -> f64 {
    if !(a > 0.0 && b > 0.0 && (0.0..=1.0).contains(&x)) {
        return f64::NAN;
    }
    if x == 0.0 || x == 1.0 {
        return x;
    }
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - beta(b, a, 1.0 - x);
    }
    let front = (ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b) + a * x.ln() + b * (-x).ln_1p()).exp();
    let fraction = continued(1.0, |n| {
        let m = f64::from(n / 2);
        let top = if n % 2 == 1 {
            -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0))
        } else {
            m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m))
        };
        (top, 1.0)
    });
    front / (a * fraction)
}

/// The value that Student's t with `degrees` of freedom is below with chance `p`.
pub(super) fn student_quantile(degrees: f64, p: f64) -> f64 {
    let (sign, tail) = if p < 0.5 { (-1.0, p) } else { (1.0, 1.0 - p) };
    let above = |t: f64| beta(degrees / 2.0, 0.5, degrees / (degrees + t * t)) / 2.0;
    let (mut low, mut high): (f64, f64) = (0.0, 1.0);
    while above(high) > tail && high < 1e12 {
        low = high;
        high *= 2.0;
    }
    while high - low > 1e-13 * high {
        let middle = f64::midpoint(low, high);
        if middle <= low || middle >= high {
            break;
        }
        if above(middle) > tail { low = middle } else { high = middle }
    }
    sign * f64::midpoint(low, high)
}

/// b_0 + a_1 / (b_1 + a_2 / (b_2 + ...)), by Lentz's method; `terms(n)` gives (a_n,
/// b_n) from n = 1.
fn continued(b_0: f64, terms: impl Fn(u32) -> (f64, f64)) -> f64 {
    const TINY: f64 = 1e-300;
    let mut value = if b_0 == 0.0 { TINY } else { b_0 };
    let (mut c, mut d) = (value, 0.0);
    for n in 1..MOST_TERMS {
        let (a, b) = terms(n);
        d = b + a * d;
        d = 1.0 / if d == 0.0 { TINY } else { d };
        c = b + a / c;
        if c == 0.0 {
            c = TINY;
        }
        value *= c * d;
        if (c * d - 1.0).abs() < PRECISION * 4.0 {
            return value;
        }
    }
    f64::NAN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_those_of_scipy() {
        let close = |found: f64, expected: f64| {
            assert!((found - expected).abs() <= 1e-11 * expected.abs(), "{found} {expected}");
        };
        close(ln_gamma(0.1), 2.252712651734206);
        close(ln_gamma(1.5), -0.12078223763524526);
        close(ln_gamma(10.0), 12.801827480081469);
        close(ln_gamma(1234.5), 7550.550901077894);
        close(gamma_q(0.5, 0.1), 0.6547208460185768);
        close(gamma_q(0.5, 20.0), 2.5396285894708634e-10);
        close(gamma_q(3.0, 2.5), 0.5438131158833297);
        close(gamma_q(50.0, 60.0), 0.08440668109369177);
        close(gamma_q(1000.0, 950.0), 0.9449453137692619);
        close(chi_square_tail(3.0, 7.8147), 0.050000625284760056);
        close(chi_square_tail(1.0, 3.84), 0.05004352124870519);
        close(chi_square_tail(63.0, 40.0), 0.9895217674632927);
        close(normal_cdf(-3.0), 0.0013498980316300933);
        close(normal_cdf(-0.4), 0.3445782583896758);
        close(normal_cdf(1.96), 0.9750021048517795);
        close(normal_cdf(6.0), 0.9999999990134123);
        close(normal_quantile(1e-06), -4.753424308822899);
        close(normal_quantile(0.025), -1.9599639845400545);
        close(normal_quantile(0.8), 0.8416212335729143);
        close(normal_quantile(0.975), 1.959963984540054);
        close(normal_two_sided(1.7), 0.08913092551708608);
        close(beta(2.0, 3.0, 0.4), 0.5247999999999999);
        close(beta(0.5, 9.5, 0.9), 0.9999999999400956);
        close(beta(100.0, 0.5, 0.99), 0.1567758654244408);
        close(student_quantile(1.0, 0.975), 12.706204736174694);
        close(student_quantile(2.0, 0.975), 4.302652729749462);
        close(student_quantile(4.0, 0.975), 2.7764451051977934);
        close(student_quantile(19.0, 0.025), -2.09302405440831);
        close(student_quantile(7.3, 0.9), 1.4089223177480423);
    }

    #[test]
    fn what_is_out_of_range_is_no_number() {
        assert!(gamma_q(-1.0, 1.0).is_nan());
        assert!(gamma_q(1.0, f64::NAN).is_nan());
        assert!(beta(1.0, 1.0, 1.5).is_nan());
        assert_eq!(normal_quantile(0.5), 0.0);
        assert_eq!(normal_quantile(1.0), f64::INFINITY);
    }
}
