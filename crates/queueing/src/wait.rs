//! The sojourn time that models with exponential service share: a call waits
//! with some chance, for an exponential time, and is then served.

/// The law of waiting and service; rates are per second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct ExponentialWait {
    /// The chance of waiting at all.
    pub(crate) chance: f64,
    /// The rate of the wait of those who do.
    pub(crate) wait_rate: f64,
    /// The rate of service.
    pub(crate) service_rate: f64,
}

impl ExponentialWait {
    pub(crate) fn mean_wait_s(&self) -> f64 {
        self.chance / self.wait_rate
    }

    pub(crate) fn mean_s(&self) -> f64 {
        self.mean_wait_s() + 1.0 / self.service_rate
    }

    /// The chance of a sojourn longer than `t_s`.
    pub(crate) fn tail(&self, t_s: f64) -> f64 {
        if t_s < 0.0 {
            return 1.0;
        }
        let (theta, mu) = (self.wait_rate, self.service_rate);
        let served = (-mu * t_s).exp();
        let gap = mu - theta;
        // The tail of a sum of two exponentials; the two rates may be equal,
        // where the plain form is 0 / 0.
        let both = if (gap * t_s).abs() > 1.0 {
            (mu * (-theta * t_s).exp() - theta * served) / gap
        } else if gap == 0.0 {
            served * (1.0 + mu * t_s)
        } else {
            served * (1.0 + mu * (gap * t_s).exp_m1() / gap)
        };
        ((1.0 - self.chance) * served + self.chance * both).clamp(0.0, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_smooth_where_the_rates_meet() {
        for t_s in [0.1, 1.0, 5.0] {
            let at =
                |wait_rate| ExponentialWait { chance: 0.6, wait_rate, service_rate: 1.0 }.tail(t_s);
            let expected = (1.0_f64 + 0.6 * t_s) * (-t_s).exp();
            for wait_rate in [1.0, 1.0 - 1e-9, 1.0 + 1e-9] {
                assert!((at(wait_rate) - expected).abs() < 1e-8, "{wait_rate} {t_s}");
            }
        }
    }

    #[test]
    fn the_far_tail_is_zero_and_not_nan() {
        let law = ExponentialWait { chance: 0.5, wait_rate: 1.0, service_rate: 1e6 };
        assert_eq!(law.tail(1e4), 0.0);
        assert_eq!(law.tail(-1.0), 1.0);
        assert_eq!(law.tail(0.0), 1.0);
    }
}
