"""Parts of the chaos tests: workers, event stream, lag."""
