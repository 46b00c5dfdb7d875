"""SQL of the inbox. Each module has the statements of one task."""
