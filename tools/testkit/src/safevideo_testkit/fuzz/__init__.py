"""Generated requests to webhook-ingest, malformed and forged ones too. A seed repeats them."""
