"""The health of the integration."""
