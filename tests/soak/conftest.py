"""With sanitizers nothing but their own memory would be measured."""

import os

# What `make asan` sets; the other tests have the same connections.
collect_ignore = ['test_soak.py'] if 'TWSPY_TEST_BUILD' in os.environ else []
