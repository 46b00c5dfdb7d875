"""SQL of the job queue. Each module has the statements of one side of it."""
