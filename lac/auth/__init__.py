"""Accounts: passwords, tokens and the service that uses them."""
