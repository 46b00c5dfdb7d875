"""What we know of Sharegram's wire: signatures now, the client of its API next to them."""
