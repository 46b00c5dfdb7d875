"""What tests, benchmarks and `make run` stand on: real backends, started on demand. No service imports it."""
