"""Broadcasts: what they are, where they are kept, who may do what, and those on air."""
