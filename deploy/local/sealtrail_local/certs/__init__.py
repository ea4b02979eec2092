"""A development CA: certificates with short lives, and their rotation without downtime."""
