"""The reference model: `stream` writes webhooks, `model` says what they must lead to, `checks` compares."""
