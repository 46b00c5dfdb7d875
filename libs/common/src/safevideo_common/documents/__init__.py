"""Documents of KYC requests: encrypted files behind a port, and the rows that name them."""
