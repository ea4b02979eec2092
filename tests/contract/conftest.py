"""Hypothesis: the same examples each time; `--hypothesis-profile=long` looks further."""

from hypothesis import HealthCheck, settings

# A busy machine is no failure.
settings.register_profile(
    "sealtrail", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile(
    "long", deadline=None, max_examples=3000, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("sealtrail")
