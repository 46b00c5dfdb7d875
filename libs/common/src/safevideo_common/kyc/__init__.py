"""The jobs of KYC requests by name, and decisions on requests that are no results of the provider."""
