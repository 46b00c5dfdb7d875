"""The base of every process's HTTP side: error rendering, request ids, health, metrics, API keys."""
