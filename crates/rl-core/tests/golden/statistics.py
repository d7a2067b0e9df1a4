"""Prints the expected values of tests/it/statistics.rs: numpy and scipy on fixed inputs."""

import numpy as np
from scipy import stats

values = np.array([2.0, 3.5, -1.0, 4.0, 10.0, 0.5, 2.5])
print("mean", repr(float(values.mean())))
print("variance biased", repr(float(values.var())), "unbiased", repr(float(values.var(ddof=1))))
print("skewness", repr(float(stats.skew(values))), "excess kurtosis", repr(float(stats.kurtosis(values))))
print("quantiles", [float(np.quantile(values, q)) for q in (0.0, 0.1, 0.5, 0.95, 1.0)])
print("histogram", np.histogram(values, bins=4, range=(-1.0, 4.0)))
for successes, trials in ((57, 100), (41, 234), (0, 48), (48, 48), (1, 3)):
    interval = stats.binomtest(successes, trials).proportion_ci(method="wilson")
    print("wilson", successes, trials, repr(float(interval.low)), repr(float(interval.high)))
for only_first, only_second in ((2, 8), (5, 5), (0, 6), (30, 12), (700, 820)):
    fewer, total = min(only_first, only_second), only_first + only_second
    exact = stats.binomtest(fewer, total).pvalue
    mid_p = 2 * stats.binom.cdf(fewer, total, 0.5) - stats.binom.pmf(fewer, total, 0.5)
    print("mcnemar", only_first, only_second, repr(float(exact)), repr(float(min(mid_p, 1.0))))
