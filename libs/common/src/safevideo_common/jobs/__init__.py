"""Work that takes long or calls Sharegram: rows of `batch_jobs` that survive their worker."""
