"""`lac loadtest`: many real clients against a server of ours, and what came of them."""
