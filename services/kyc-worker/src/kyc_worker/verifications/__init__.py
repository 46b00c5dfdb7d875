"""KYC verification events: parsing and handling."""
