"""What was refused or parked: kept, explained, released or dismissed."""
