"""Circuit breakers, fallback mode and feature flags, as operators see and set them."""
