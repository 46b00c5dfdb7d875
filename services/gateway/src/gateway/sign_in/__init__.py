"""Sign-in of people: by a provider's token, and in the browser by the authorization code flow (contract, §3)."""
