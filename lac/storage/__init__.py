"""A bucket that speaks S3: keeping recordings elsewhere than on this machine's disk."""
