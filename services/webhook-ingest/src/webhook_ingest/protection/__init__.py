"""Protection from hostile or slow senders."""
