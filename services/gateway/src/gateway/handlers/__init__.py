"""What the API answers, without the HTTP of it."""
