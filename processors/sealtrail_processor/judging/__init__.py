"""What a message is and what becomes of it: pure, the same for the same records, whoever judges."""
