//! The logistic function and its logarithm, exact at both ends.

/// `1 / (1 + exp(-x))` without overflow.
pub(crate) fn sigmoid(x: f64) -> f64 {
    if x >= 0.0 {
        1.0 / (1.0 + (-x).exp())
    } else {
        let exp = x.exp();
        exp / (1.0 + exp)
    }
}

/// `ln(1 + exp(x))` without overflow, and without losing the small values of very negative `x`.
pub(crate) fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// `ln(1 - exp(x))` for `x < 0`, through whichever of the two forms does not cancel.
pub(crate) fn log_one_minus_exp(x: f64) -> f64 {
    if x > -std::f64::consts::LN_2 { (-x.exp_m1()).ln() } else { (-x.exp()).ln_1p() }
}

/// `ln(sigmoid(x))`.
pub(crate) fn log_sigmoid(x: f64) -> f64 {
    -softplus(-x)
}
