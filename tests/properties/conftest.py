"""How many examples Hypothesis tries: few in `make test`, the same ones each
time; EXAMPLES of them, drawn anew, in `make properties`."""

import os

from hypothesis import HealthCheck, settings

# Sockets and a busy machine make single examples slow now and then.
ALWAYS = {
    'deadline': None,
    'database': None,
    'suppress_health_check': [
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
        HealthCheck.filter_too_much,
    ],
}

settings.register_profile(
    'brief',
    max_examples=50,
    stateful_step_count=25,
    derandomize=True,
    **ALWAYS,
)
settings.register_profile(
    'long', max_examples=int(os.environ.get('EXAMPLES', '2000')), **ALWAYS
)
settings.load_profile('long' if 'EXAMPLES' in os.environ else 'brief')
