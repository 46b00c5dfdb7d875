"""The accounts of people: how an identity finds its account, and how duplicate accounts are merged."""
