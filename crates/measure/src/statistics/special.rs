//! Distribution functions as the tests of this module ask for them, by `statrs`.

use statrs::{
    distribution::{ContinuousCDF, StudentsT},
    function::gamma::checked_gamma_ur,
};

/// The regularised upper incomplete gamma function Q(a, x); no number out of its range.
pub(super) fn gamma_q(a: f64, x: f64) -> f64 {
    match x {
        0.0 if a > 0.0 => 1.0,
        _ => checked_gamma_ur(a, x).unwrap_or(f64::NAN),
    }
}

/// The chance that a chi-square variable with `degrees` of freedom exceeds `x`.
pub(super) fn chi_square_tail(degrees: f64, x: f64) -> f64 {
    gamma_q(degrees / 2.0, x / 2.0)
}

/// The chance that a standard normal variable is further from 0 than `z`.
pub(super) fn normal_two_sided(z: f64) -> f64 {
    // More exact than the error function of `statrs`, which is off in the eleventh digit.
    gamma_q(0.5, z * z / 2.0)
}

/// The value that Student's t with `degrees` of freedom is below with chance `p`; no
/// number without degrees of freedom.
pub(super) fn student_quantile(degrees: f64, p: f64) -> f64 {
    StudentsT::new(0.0, 1.0, degrees).map_or(f64::NAN, |student| student.inverse_cdf(p))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_those_of_scipy() {
        let close = |found: f64, expected: f64| {
            assert!((found - expected).abs() <= 1e-11 * expected.abs(), "{found} {expected}");
        };
        close(gamma_q(0.5, 0.1), 0.6547208460185768);
        close(gamma_q(0.5, 20.0), 2.5396285894708634e-10);
        close(gamma_q(3.0, 2.5), 0.5438131158833297);
        close(gamma_q(50.0, 60.0), 0.08440668109369177);
        close(gamma_q(1000.0, 950.0), 0.9449453137692619);
        close(chi_square_tail(3.0, 7.8147), 0.050000625284760056);
        close(chi_square_tail(1.0, 3.84), 0.05004352124870519);
        close(chi_square_tail(63.0, 40.0), 0.9895217674632927);
        close(normal_two_sided(1.7), 0.08913092551708608);
        close(normal_two_sided(-3.0), 2.0 * 0.0013498980316300933);
        close(student_quantile(1.0, 0.975), 12.706204736174694);
        close(student_quantile(2.0, 0.975), 4.302652729749462);
        close(student_quantile(4.0, 0.975), 2.7764451051977934);
        close(student_quantile(19.0, 0.025), -2.09302405440831);
        close(student_quantile(7.3, 0.9), 1.4089223177480423);
        // At the levels of one comparison among many, and where it is the normal one.
        close(student_quantile(4.0, 0.99975), 10.306254681807806);
        close(student_quantile(1e4, 0.975), 1.9602012398906263);
    }

    #[test]
    fn what_is_out_of_range_is_no_number() {
        assert!(gamma_q(-1.0, 1.0).is_nan());
        assert!(gamma_q(1.0, f64::NAN).is_nan());
        assert_eq!(gamma_q(2.0, 0.0), 1.0);
        assert!(student_quantile(0.0, 0.9).is_nan());
    }
}
