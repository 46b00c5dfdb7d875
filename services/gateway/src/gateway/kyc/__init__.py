"""KYC: performers submit a request and its documents, people decide what the provider does not."""
