"""How files are fuzzed: the same ones in each run of the tests, however long one takes."""

from hypothesis import HealthCheck, settings

FUZZ = settings(
    deadline=None,
    derandomize=True,
    database=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)
MOST_MEMORY = 64e6  # bytes of arrays; the files have less than that
