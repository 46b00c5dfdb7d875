"""The base of tests and benchmarks: real backends, started on demand. No service imports it."""
